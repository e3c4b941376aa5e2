//! Suggestions for mistyped words.

/// Minimum Jaro-Winkler similarity of a suggestion: 1 is equality, and one inserted, missing or transposed letter of
/// eight yields about 0.95.
const MIN_SIMILARITY: f64 = 0.85;

/// Returns `true` if the typed word may have been meant as this one.
pub(crate) fn is_similar(typed: &str, word: &str) -> bool {
    strsim::jaro_winkler(typed, word) > MIN_SIMILARITY
}
