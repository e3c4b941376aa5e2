//! Completeness: every verb that `--help` lists is in the pages, in the JSON schema test, and in the hostile-text test.

use crate::support::Fixture;

const README: &str = include_str!("../../../README.md");
const JSON_PAGE: &str = include_str!("../../../docs/json.md");
const SCHEMA_TEST: &str = include_str!("schema.rs");
const HOSTILE_TEST: &str = include_str!("hostile.rs");

/// Verbs whose output is a file for another program, that of their command, or an answer.
const NOT_IN_THE_SCHEMA: &[&str] = &["completions", "man", "step", "each", "ask", "sleep"];
/// Verbs that print no text of a session, or pass the output of its program on unchanged, as a shell does.
const WITHOUT_SESSION_TEXT: &[&str] = &["completions", "export", "migrate", "report", "retry"];

/// Returns the verbs that `sessionctl --help` lists.
fn verbs() -> Vec<String> {
    let help = Fixture::new().ctl(["--help"]).exits(0).stdout;
    let (_, list) = help.split_once("Commands:\n").expect("the help lists the commands");
    let list = list.lines().take_while(|line| !line.trim().is_empty());
    let entries = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    entries.filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
}

/// Asserts that `holds` is true for every verb outside of `exempt`, and false for those in it.
#[track_caller]
fn assert_complete(place: &str, exempt: &[&str], holds: impl Fn(&str) -> bool) {
    let verbs = verbs();
    assert!(verbs.len() > 15 && verbs.iter().any(|verb| verb == "run"), "{verbs:?}");
    let missing: Vec<_> = verbs.iter().filter(|verb| !exempt.contains(&&***verb) && !holds(verb)).collect();
    assert!(missing.is_empty(), "not in {place}: {missing:?}");
    let needless: Vec<_> =
        exempt.iter().filter(|verb| holds(verb) || verbs.iter().all(|known| known != **verb)).collect();
    assert!(needless.is_empty(), "exempt without need in {place}: {needless:?}");
}

/// Returns `true` if the first cell of a table row of the page names the verb.
fn is_in_table(page: &str, verb: &str) -> bool {
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let mut code = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    code.any(|code| code.split_whitespace().next() == Some(verb))
}

#[test]
fn every_verb_is_in_the_readme() {
    assert_complete("the table of README.md", &[], |verb| is_in_table(README, verb));
}

#[test]
fn every_verb_is_in_the_page_about_json() {
    assert_complete("the table of docs/json.md", &[], |verb| is_in_table(JSON_PAGE, verb));
}

#[test]
fn the_output_of_every_verb_is_validated() {
    assert_complete("tests/ctl/schema.rs", NOT_IN_THE_SCHEMA, |verb| {
        SCHEMA_TEST.contains(&format!("[\"{verb}\"")) || SCHEMA_TEST.contains(&format!("{{}} {verb} "))
    });
}

#[test]
fn every_verb_that_prints_session_text_meets_hostile_text() {
    assert_complete("tests/ctl/hostile.rs", WITHOUT_SESSION_TEXT, |verb| {
        HOSTILE_TEST.contains(&format!("&[\"{verb}\"")) || HOSTILE_TEST.contains(&format!("[\"{verb}\","))
    });
}
