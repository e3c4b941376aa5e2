//! Crates of a few files, with and without cycles.

use super::*;

const PACKAGE: &str = "a";

fn package() -> Package {
    Package { name: PACKAGE.into(), manifest_path: "a/Cargo.toml".into(), ..Package::default() }
}

fn files(sources: &[(&str, &str)]) -> Vec<File> {
    let file = |(path, text): &(&str, &str)| File { path: format!("a/src/{path}"), text: (*text).into() };
    sources.iter().map(file).collect()
}

/// The files of each cycle.
fn found(sources: &[(&str, &str)]) -> Vec<String> {
    let cycles = cycles(&package(), &files(sources));
    cycles.into_iter().map(|cycle| cycle.files.into_iter().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn two_modules_that_use_each_other_are_found() {
    for (b, c) in [
        ("use crate::c::C;", "use crate::b::B;"),
        ("use super::c::{self, C};", "fn f() { crate::b::f(); }"),
        ("struct B(crate::c::C);", "use super::b;"),
    ] {
        assert_eq!(
            found(&[("lib.rs", "mod b;\nmod c;"), ("b.rs", b), ("c.rs", c)]),
            ["b.rs c.rs"],
            "{b} {c}"
        );
    }
}

#[test]
fn a_parent_and_its_child_are_found() {
    let child = ("b/c.rs", "use super::B;");
    for parent in ["mod c;\nuse self::c::C;", "mod c;\nuse c::C;", "mod c;\nfn f() { c::f(); }"] {
        assert_eq!(found(&[("lib.rs", "mod b;"), ("b.rs", parent), child]), ["b.rs b/c.rs"], "{parent}");
    }
    let parent = "mod c { mod d; }\nstruct B;\nuse self::c::d::D;";
    let files = [("lib.rs", "mod b;"), ("b/mod.rs", parent), ("b/c/d.rs", "use super::super::B;")];
    assert_eq!(found(&files), ["b/c/d.rs b/mod.rs"]);
}

#[test]
fn declarations_reexports_and_tests_are_no_edges() {
    let child = ("b/c.rs", "use super::B;");
    for parent in [
        "mod c;\npub struct B;",
        "mod c;\npub use self::c::C;\npub struct B;",
        "mod c;\npub(crate) use c::*;\npub struct B;",
        "mod c;\n#[cfg(test)]\nmod tests { use super::c::C; }",
        "mod c;\nuse std::c::C;\nfn f() { d::c(); }",
    ] {
        assert_eq!(found(&[("lib.rs", "mod b;"), ("b.rs", parent), child]), [""; 0], "{parent}");
    }
}

#[test]
fn a_reexported_name_belongs_to_the_file_that_defines_it() {
    for parent in [
        "mod c;\nmod d;\npub use self::c::C;",
        "mod c;\nmod d;\npub use c::*;",
        "mod c;\nmod d;\nuse self::c::C;",
    ] {
        // Without the resolution, `d` would use `b`, which uses `d`.
        let parent = format!("{parent}\nfn f() {{ d::f(); }}");
        let files =
            |c| [("lib.rs", "mod b;"), ("b.rs", &*parent), ("b/c.rs", c), ("b/d.rs", "use super::C;")];
        assert!(found(&files("pub struct C;")).is_empty(), "{parent}");
        assert_eq!(found(&files("pub struct C;\nuse super::d;")), ["b/c.rs b/d.rs"], "{parent}");
    }
    let root = "mod b;\nmod c;\npub use b::B;\npub use crate::c::x::X as Y;";
    let files = [
        ("lib.rs", root),
        ("b.rs", "use crate::Y;"),
        ("c/mod.rs", "pub mod x;"),
        ("c/x.rs", "use crate::B;"),
    ];
    assert_eq!(found(&files), ["b.rs c/x.rs"]);
}

#[test]
fn circular_reexports_end() {
    assert_eq!(
        found(&[("lib.rs", "mod b;\npub use b::X;"), ("b.rs", "pub use crate::X;\nuse crate::X as Y;")]),
        [""; 0]
    );
}

#[test]
fn a_long_cycle_is_one() {
    let files = [
        ("lib.rs", "mod b;\nmod c;\nmod d;\nmod e;"),
        ("b.rs", "use crate::c::C;"),
        ("c.rs", "use crate::d::D;"),
        ("d.rs", "use crate::b::B;\nuse crate::e::E;"),
        ("e.rs", "struct E;"),
    ];
    assert_eq!(found(&files), ["b.rs c.rs d.rs"]);
}

fn messages(known: &[(&str, &[&str])]) -> Vec<String> {
    let files = files(&[
        ("lib.rs", "mod b;\nmod c;"),
        ("b.rs", "//! B.\nuse crate::c::C;"),
        ("c.rs", "use crate::b::B;"),
    ]);
    check_package(&package(), &files, known).iter().map(ToString::to_string).collect()
}

#[test]
fn a_new_cycle_is_a_finding_with_an_example_per_edge() {
    let found = messages(&[("other", &["b.rs", "c.rs"])]);
    assert_eq!(found.len(), 1, "{found:?}");
    for part in
        ["a/src/b.rs:2: 2 modules", "b.rs uses `crate::c::C` of c.rs", "c.rs uses `crate::b::B` of b.rs"]
    {
        assert!(found[0].contains(part), "{found:?}");
    }
}

#[test]
fn a_known_cycle_is_no_finding() {
    assert_eq!(messages(&[(PACKAGE, &["b.rs", "c.rs"])]), [""; 0]);
}

#[test]
fn a_cycle_that_changed_or_is_gone_is_a_finding() {
    let found = messages(&[(PACKAGE, &["b.rs", "c.rs", "d.rs"])]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("differs from the known one"), "{found:?}");
    assert!(found[1].contains("no longer exists"), "{found:?}");
    assert_eq!(messages(&[(PACKAGE, &["b.rs", "c.rs"]), (PACKAGE, &["x.rs", "y.rs"])]).len(), 1);
}
