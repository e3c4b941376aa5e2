//! The workspace as Cargo and git see it: its root, its crates, its files.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A crate of ours.
#[derive(Debug, Clone, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// The text of its `Cargo.toml`, and that file's path from the root.
    pub(crate) manifest: String,
    pub(crate) manifest_path: String,
    pub(crate) features: Vec<String>,
    /// Crates of ours that it names, with whether only its tests do.
    pub(crate) needs: Vec<(String, bool)>,
}

/// A text file of the repository.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// From the root, with `/` between the parts.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// Whether the file's name ends with a dot and this.
    pub(crate) fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }
}

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}

/// The Cargo that runs this.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// All crates of the workspace.
///
/// # Errors
/// Where Cargo does not say.
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
    let ours: Vec<_> = all.iter().map(|package| text(&package["name"])).collect();
    all.iter()
        .map(|package| Package {
            name: text(&package["name"]),
            manifest: String::new(),
            manifest_path: from_root(&metadata["workspace_root"], &package["manifest_path"]),
            features: package["features"]
                .as_object()
                .map(|features| features.keys().filter(|name| *name != "default").cloned().collect())
                .unwrap_or_default(),
            needs: list(&package["dependencies"])
                .iter()
                .map(|need| (text(&need["name"]), need["kind"] == "dev"))
                .filter(|(name, _)| ours.contains(name))
                .collect(),
        })
        .collect()
}

fn from_root(root: &Value, path: &Value) -> String {
    let path = Path::new(path.as_str().unwrap_or_default());
    let path = path.strip_prefix(root.as_str().unwrap_or_default()).unwrap_or(path);
    path.to_string_lossy().replace('\\', "/")
}

/// All text files that git tracks, or would if they were added.
///
/// # Errors
/// Where git does not say: tidiness is about what is in the repository.
pub(crate) fn files() -> Result<Vec<File>, Box<dyn Error>> {
    let mut git = Command::new("git");
    git.current_dir(root()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = String::from_utf8(output(&mut git)?)?;
    let mut paths: Vec<_> = listed.split_terminator('\0').collect();
    paths.sort_unstable();
    paths.dedup();
    // A file that is not text, or is tracked and gone, has nothing to read.
    let read = |path: &str| fs::read_to_string(root().join(path)).ok();
    Ok(paths
        .into_iter()
        .filter_map(|path| read(path).map(|text| File { path: path.to_owned(), text }))
        .collect())
}

/// Whether something is there, by its path from the root.
pub(crate) fn exists(path: &Path) -> bool {
    root().join(path).exists()
}

/// The path without `.` and `..`; `None` where it leaves the root.
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

/// What a command prints.
///
/// # Errors
/// Where it fails, with what it said of that.
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
    fn metadata_is_read_for_what_is_ours() {
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
        assert_eq!(packages[0].needs, [("b".to_owned(), false)]);
        assert_eq!(packages[1].needs, [("a".to_owned(), true)]);
    }

    #[test]
    fn a_path_stays_in_the_workspace() {
        assert_eq!(normal(Path::new("docs/../README.md")), Some(PathBuf::from("README.md")));
        assert_eq!(normal(Path::new("docs/../../README.md")), None);
        assert_eq!(normal(Path::new("/etc/passwd")), None);
    }
}
