//! `cargo xtask msrv`: the Rust versions that dependencies require, compared with the version that the crates promise.
//!
//! The code itself is checked by clippy (`incompatible_msrv`) and by the step of `cargo xtask ci` that builds with the
//! oldest toolchain.

use serde_json::Value;

use crate::args::Args;
use crate::console::Outcome;
use crate::subcommand::Subcommand;
use crate::workspace::{cargo, output};

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "msrv",
    usage: "",
    summary: "Check that no dependency requires a newer Rust than the crates promise",
    about: "\
Reads `rust-version` of every package in Cargo.lock and fails if one is newer than the version in
the workspace's Cargo.toml. Builds nothing. `cargo xtask ci` runs it, and also builds with the oldest
toolchain if it is installed.",
    options: &[],
    examples: &[("cargo xtask msrv", "after `cargo update`")],
    run,
};

fn run(args: Args) -> Outcome {
    args.finish()?;
    let metadata = output(cargo().args(["metadata", "--format-version", "1", "--locked", "--all-features"]))?;
    let (promised, newer) = too_new(&serde_json::from_slice(&metadata)?);
    if newer.is_empty() {
        return Ok(());
    }
    Err(format!(
        "Rust {promised} is promised; a newer one is required by {}: use an older version of that dependency, or raise `rust-version`",
        newer.join(", ")
    )
    .into())
}

/// Returns the lowest version that a crate of the workspace promises, and the packages that require a newer one.
fn too_new(metadata: &Value) -> (String, Vec<String>) {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |package: &Value, member: &str| package[member].as_str().unwrap_or_default().to_owned();
    let promised = packages
        .iter()
        .filter(|package| package["source"].is_null())
        .map(|package| text(package, "rust_version"))
        .min_by_key(|version| parts(version))
        .unwrap_or_default();
    let newer = packages
        .iter()
        .filter(|package| parts(&text(package, "rust_version")) > parts(&promised))
        .map(|package| {
            let (name, version) = (text(package, "name"), text(package, "version"));
            format!("{name} {version} ({})", text(package, "rust_version"))
        })
        .collect();
    (promised, newer)
}

/// Parses major, minor and patch. A missing part is 0.
fn parts(version: &str) -> [u64; 3] {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or_default());
    [(); 3].map(|()| parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_that_requires_more_is_named() {
        let of = |ours: &str, theirs: Value| {
            let metadata = serde_json::json!({"packages": [
                {"name": "a", "version": "0.1.0", "source": null, "rust_version": ours},
                {"name": "b", "version": "2.0.0", "source": "registry", "rust_version": theirs},
            ]});
            too_new(&metadata)
        };
        for fine in ["1.89".into(), "1.89.0".into(), "1.9".into(), "1".into(), Value::Null] {
            assert_eq!(of("1.89", fine), ("1.89".to_owned(), Vec::new()));
        }
        for bad in ["1.89.1", "1.90", "1.100.0", "2.0"] {
            assert_eq!(of("1.89", bad.into()).1, [format!("b 2.0.0 ({bad})")]);
        }
    }
}
