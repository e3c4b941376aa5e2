//! Suggestions for mistyped words.

/// Minimum Jaro-Winkler similarity of a suggestion: 1 is equality, and one inserted, missing or transposed letter of
/// eight yields about 0.95.
const MIN_SIMILARITY: f64 = 0.85;

/// Returns `true` if the typed word may have been meant as this one.
pub(crate) fn is_similar(typed: &str, word: &str) -> bool {
    strsim::jaro_winkler(typed, word) > MIN_SIMILARITY
}

/// Returns the word that the typed one was most likely meant as.
pub(crate) fn most_similar<'a>(typed: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let similarity = |word: &str| strsim::jaro_winkler(typed, word);
    let similar = words.into_iter().filter(|word| is_similar(typed, word));
    similar.max_by(|one, other| similarity(one).total_cmp(&similarity(other)))
}

#[cfg(test)]
mod tests {
    use super::most_similar;

    #[test]
    fn the_most_similar_word_is_suggested() {
        let words = ["always", "never", "allow"];
        assert_eq!(most_similar("alway", words), Some("always"));
        assert_eq!(most_similar("sometimes", words), None);
    }
}
