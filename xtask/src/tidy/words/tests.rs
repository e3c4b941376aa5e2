//! Refused and reviewed words in comments, texts, literals, names and paths.

use super::*;

fn file(path: &str, text: &str) -> File {
    File { path: path.into(), text: text.into() }
}

fn found(path: &str, text: &str) -> Vec<(usize, String)> {
    check(&file(path, text)).into_iter().map(|finding| (finding.line, finding.message)).collect()
}

/// The lines of the findings. `ONE` and `TWO` are the words of a refused phrase, so that this file does not contain it.
fn lines(path: &str, text: &str) -> Vec<usize> {
    let text = text.replace("ONE", "puts").replace("TWO", "away");
    found(path, &text).into_iter().map(|(line, _)| line).collect()
}

/// The first form of each refused term, which this file must not contain.
fn refused(index: usize) -> String {
    REFUSED[index].name()
}

#[test]
fn every_form_is_found_with_its_usual_word() {
    for term in REFUSED {
        // All words but one in their first form, and that one in each.
        for (at, forms) in term.words.iter().enumerate() {
            for form in *forms {
                let mut words: Vec<&str> = term.words.iter().map(|forms| forms[0]).collect();
                words[at] = form;
                let phrase = words.join(" ");
                let found = found("a.md", &format!("It is {phrase}, then.\n"));
                assert_eq!(found.len(), 1, "{phrase}: {found:?}");
                assert!(found[0].1.contains(&phrase) && found[0].1.contains(term.usual), "{found:?}");
            }
        }
    }
}

#[test]
fn similar_words_are_permitted() {
    for text in [
        "besides",
        "meander",
        "recommend",
        "amend",
        "renewed",
        "let us go",
        "taken aback",
        "counts, as",
        "data work",
        "a worker",
        "a workspace",
        "soldered",
        "stands, still",
        concat!("to", "ld apart"),
        concat!("to", "ld\napart"),
    ] {
        assert_eq!(found("a.md", &format!("It is {text}.\n")), [], "{text}");
    }
}

#[test]
fn names_are_split_into_words() {
    let word = refused(10);
    let capital = format!("{}{}", word[..1].to_uppercase(), &word[1..]);
    for code in [
        format!("fn is_{word}_it() {{}}"),
        format!("struct Was{capital};"),
        format!("let {word} = 1;"),
        format!("const {}_IT: u8 = 1;", word.to_uppercase()),
        "fn ONE_TWO() {}".to_owned(),
        "struct ONETwo;".replace("ONETwo", concat!("Puts", "Away")),
        "const ONE_TWO: u8 = 1;".to_uppercase(),
    ] {
        assert_eq!(lines("a.rs", &format!("//! A.\n{code}\n")), [2], "{code}");
    }
}

#[test]
fn words_of_code_do_not_form_phrases() {
    let cast = concat!("let n = cou", "nt as u64;");
    let binding = concat!("let", " go = 1;");
    for code in [cast, binding, "let a = work();", "f(ONE TWO)", "enum E { ONE, TWO }"] {
        assert_eq!(lines("a.rs", &format!("//! A.\n{code}\n")), [0; 0], "{code}");
    }
}

#[test]
fn phrases_are_found_across_line_breaks() {
    for (path, text, line) in [
        ("a.rs", "/// It ONE\n/// TWO.\nfn a() {}\n", 1),
        ("a.rs", "//! A.\n\n    // It ONE\n    // TWO.\n", 3),
        ("a.rs", "/* It ONE\n * TWO. */\n", 1),
        ("a.rs", "//! A.\nconst A: &str = \"it ONE \\\n    TWO\";\n", 2),
        ("a.rs", "//! A.\nconst A: &str = \"\nit ONE\nTWO\";\n", 3),
        ("a.md", "A.\n\nIt ONE\nTWO.\n", 3),
        ("a.md", "> It ONE\n> TWO.\n", 1),
        ("a.toml", "# It ONE\n# TWO.\n", 1),
    ] {
        assert_eq!(lines(path, text), [line], "{text}");
    }
}

#[test]
fn phrases_do_not_cross_paragraphs() {
    for (path, text) in [
        ("a.rs", "/// It ONE\n///\n/// TWO.\nfn a() {}\n"),
        ("a.rs", "// It ONE\n\n// TWO.\n"),
        ("a.rs", "f(); // It ONE\nlet TWO = 1;\n"),
        ("a.md", "It ONE\n\nTWO.\n"),
        ("a.md", "- It ONE\n- TWO.\n"),
        ("a.toml", "# It ONE\nTWO = 1\n"),
    ] {
        assert_eq!(lines(path, text), [0; 0], "{text}");
    }
}

#[test]
fn literals_are_searched_without_their_escapes() {
    let word = refused(10);
    assert_eq!(lines("a.rs", &format!("//! A.\nf(\"\\n{word}\\t\");\n")), [2]);
    assert_eq!(lines("a.rs", &format!("//! A.\nf(r#\"{word}\"#);\n")), [2]);
}

#[test]
fn paths_and_headers_of_patches_are_searched() {
    let word = refused(10);
    assert_eq!(lines(&format!("a/{word}-before.rs"), "//! A.\n"), [1]);
    assert_eq!(lines(&format!("a/tests/{word}.rs"), "//! A.\n"), [1]);
    let patch = |header: &str, code: &str| format!("Bug: {header}.\n\n--- a/x\n+++ b/x\n-{code}\n");
    assert_eq!(lines("a.patch", &patch(&word, "x")), [1]);
    assert_eq!(found("a.patch", &patch("x", &word)), []);
}

#[test]
fn exempt_files_are_not_searched() {
    let word = refused(10);
    for path in ["docs/glossary.md", "LICENSE-MIT", "Cargo.lock", "a/tests/fixtures/b.txt"] {
        assert_eq!(found(path, &word), [], "{path}");
    }
    for path in [".ci/run", "a/fixtures.md", "docs/a/glossary.md", "a.json"] {
        assert_eq!(found(path, &word).len(), 1, "{path}");
    }
}

#[test]
fn reviewed_words_are_counted_and_located() {
    let files = [file("a.md", "It goes\non, at once.\n"), file("b.rs", "//! A.\nfn went_on() {}\n")];
    let counts = review(&files, None).unwrap();
    assert_eq!(counts.lines().count(), REVIEWED.len());
    assert!(counts.contains("    2  go on "), "{counts}");
    assert!(counts.contains("    1  at once "), "{counts}");
    assert!(counts.contains("    0  nobody "), "{counts}");
    for word in ["go on", "goes on"] {
        assert_eq!(review(&files, Some(word)).unwrap(), "a.md:1: goes on\nb.rs:2: went on\n");
    }
    assert!(review(&files, Some("go")).unwrap_err().contains("go on"));
    assert!(files.iter().all(|file| check(file).is_empty()), "reviewed words are no findings");
}
