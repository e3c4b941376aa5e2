//! The workspace: its root, crates and files, from Cargo and git.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A crate of the workspace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// The text of its `Cargo.toml`, and that file's path from the root.
    pub(crate) manifest: String,
    pub(crate) manifest_path: String,
    pub(crate) features: Vec<String>,
    /// Dependencies that are crates of the workspace; `true` for those of the tests only.
    pub(crate) dependencies: Vec<(String, bool)>,
}

/// A text file of the repository.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Relative to the root, with `/` as the separator.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// Returns `true` if the file's name has this extension.
    pub(crate) fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }
}

/// Returns the root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}

/// Returns a command that runs the same Cargo as this process, at the root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Reads the crates of the workspace.
///
/// # Errors
/// A failed `cargo metadata`.
pub(crate) fn packages() -> Result<Vec<Package>, Box<dyn Error>> {
    let metadata = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_slice(&metadata)?;
    let mut packages = parse_packages(&metadata);
    for package in &mut packages {
        package.manifest = fs::read_to_string(root().join(&package.manifest_path))?;
    }
    Ok(packages)
}

fn parse_packages(metadata: &Value) -> Vec<Package> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = list(&metadata["packages"]);
    let members: Vec<_> = all.iter().map(|package| text(&package["name"])).collect();
    all.iter()
        .map(|package| Package {
            name: text(&package["name"]),
            manifest: String::new(),
            manifest_path: from_root(&metadata["workspace_root"], &package["manifest_path"]),
            features: package["features"]
                .as_object()
                .map(|features| features.keys().filter(|name| *name != "default").cloned().collect())
                .unwrap_or_default(),
            dependencies: list(&package["dependencies"])
                .iter()
                .map(|dependency| (text(&dependency["name"]), dependency["kind"] == "dev"))
                .filter(|(name, _)| members.contains(name))
                .collect(),
        })
        .collect()
}

fn from_root(root: &Value, path: &Value) -> String {
    let path = Path::new(path.as_str().unwrap_or_default());
    let path = path.strip_prefix(root.as_str().unwrap_or_default()).unwrap_or(path);
    path.to_string_lossy().replace('\\', "/")
}

/// Reads all text files that git tracks or would add.
///
/// # Errors
/// A failed `git ls-files`.
pub(crate) fn files() -> Result<Vec<File>, Box<dyn Error>> {
    // Binary files, and tracked files that were deleted, are left out.
    let read = |path: &str| fs::read_to_string(root().join(path)).ok();
    Ok(paths()?.into_iter().filter_map(|path| read(&path).map(|text| File { path, text })).collect())
}

/// Lists the paths, relative to the root and sorted, of all files that git tracks or would add.
///
/// # Errors
/// A failed `git ls-files`.
pub(crate) fn paths() -> Result<Vec<String>, Box<dyn Error>> {
    let listed = git(&["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
    let mut paths: Vec<_> = listed.split_terminator('\0').map(str::to_owned).collect();
    paths.sort_unstable();
    paths.dedup();
    Ok(paths)
}

/// Runs git at the root and returns its output.
///
/// # Errors
/// A failed call, or output that is not UTF-8.
pub(crate) fn git(args: &[&str]) -> Result<String, Box<dyn Error>> {
    let mut git = Command::new("git");
    git.current_dir(root()).args(args);
    Ok(String::from_utf8(output(&mut git)?)?)
}

/// Returns `true` if a path, relative to the root, exists.
pub(crate) fn exists(path: &Path) -> bool {
    root().join(path).exists()
}

/// Removes `.` and `..` from a path. Returns `None` if it leaves the root.
pub(crate) fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                if !normal.pop() {
                    return None;
                }
            }
            std::path::Component::Normal(name) => normal.push(name),
            std::path::Component::RootDir | std::path::Component::Prefix(_) => return None,
        }
    }
    Some(normal)
}

/// Runs a command and returns its stdout.
///
/// # Errors
/// A command that cannot start or fails, with its stderr.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>, Box<dyn Error>> {
    let output = command.output().map_err(|error| format!("{command:?} did not start: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_crates_of_the_workspace_are_read() {
        let metadata = serde_json::json!({
            "workspace_root": "/ws",
            "packages": [
                {"name": "a", "manifest_path": "/ws/a/Cargo.toml", "features": {"default": [], "x": []},
                 "dependencies": [{"name": "b", "kind": null}, {"name": "serde", "kind": null}]},
                {"name": "b", "manifest_path": "/ws/b/Cargo.toml", "features": {},
                 "dependencies": [{"name": "a", "kind": "dev"}]},
            ],
        });
        let packages = parse_packages(&metadata);
        assert_eq!(packages[0].manifest_path, "a/Cargo.toml");
        assert_eq!(packages[0].features, ["x"]);
        assert_eq!(packages[0].dependencies, [("b".to_owned(), false)]);
        assert_eq!(packages[1].dependencies, [("a".to_owned(), true)]);
    }

    #[test]
    fn a_path_outside_of_the_workspace_is_refused() {
        assert_eq!(normal(Path::new("docs/../README.md")), Some(PathBuf::from("README.md")));
        assert_eq!(normal(Path::new("docs/../../README.md")), None);
        assert_eq!(normal(Path::new("/etc/passwd")), None);
    }
}
