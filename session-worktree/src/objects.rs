//! The objects of git that a worktree names: in its registration, and in its index.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::error::{IoContext as _, Result};
use crate::files;
use crate::git::Output;
use crate::registration::Registration;
use crate::repository::Repository;
use crate::worktree::Worktree;

/// Returns every object id that a small file of the registration names: heads, reflogs, refs of its own, and the state of
/// a rebase, merge or bisection.
pub(crate) fn named_objects(registration: &Registration) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut pending: Vec<PathBuf> = vec![registration.dir.clone()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).context("list", &directory)? {
            let path = entry.context("list", &directory)?.path();
            let metadata = path.symlink_metadata().context("read", &path)?;
            // Submodules keep their own objects.
            if metadata.is_dir() && path != registration.dir.join("modules") {
                pending.push(path);
            } else if metadata.is_file() && path.file_name().is_some_and(|name| name != "index") {
                let content =
                    if metadata.len() <= files::SMALL || path.starts_with(registration.dir.join("logs")) {
                        files::read_whole(&path)?.unwrap_or_default()
                    } else {
                        Vec::new()
                    };
                found.extend(object_ids(&content));
            }
        }
    }
    Ok(found)
}

/// Returns the words that can be ids of objects: 40 or 64 hexadecimal digits, not all zero.
fn object_ids(content: &[u8]) -> impl Iterator<Item = String> {
    content
        .split(|byte| !byte.is_ascii_hexdigit())
        .filter(|word| matches!(word.len(), 40 | 64) && word.iter().any(|byte| *byte != b'0'))
        .map(|word| String::from_utf8_lossy(word).into_owned())
}

/// Returns the type of each object; `missing` for one that does not exist.
pub(crate) fn types(repository: &Repository, objects: &BTreeSet<String>) -> Result<Vec<(String, String)>> {
    if objects.is_empty() {
        return Ok(Vec::new());
    }
    let mut input = Vec::new();
    for object in objects {
        input.extend_from_slice(format!("{object}\n").as_bytes());
    }
    let args = ["cat-file", "--batch-check=%(objectname) %(objecttype)", "--buffer"];
    let output = repository.call("read objects").args(args).offline().input(input).run()?;
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(found
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(id, kind)| (id.to_owned(), kind.to_owned()))
        .collect())
}

/// Returns those of these commits or trees of which every object exists. What is incomplete was so before.
pub(crate) fn complete(repository: &Repository, mut objects: Vec<String>) -> Result<Vec<String>> {
    // Nearly always all are, so that one call of git is enough for any number.
    if objects.is_empty() || are_complete(repository, &objects)? {
        return Ok(objects);
    }
    let mut failed = None;
    objects.retain(|object| {
        are_complete(repository, std::slice::from_ref(object)).unwrap_or_else(|error| {
            failed.get_or_insert(error);
            false
        })
    });
    failed.map_or(Ok(objects), Err)
}

/// Returns `true` if git has every object of these commits or trees, but for what branches have, and what a remote has promised.
fn are_complete(repository: &Repository, objects: &[String]) -> Result<bool> {
    let promised = if repository.is_partial()? { "--exclude-promisor-objects" } else { "--missing=print" };
    let output = list(repository, objects, promised)?;
    Ok(output.code == Some(0) && !names_missing(&output))
}

/// Returns `true` if git says that an object of a commit is missing. If it cannot say that, nothing is known to be.
pub(crate) fn is_missing_any(repository: &Repository, commit: &str) -> Result<bool> {
    // Branches with missing commits are named, too, whatever the commit.
    if repository.is_partial()? || names_missing(&list(repository, &[], "--missing=print")?) {
        return Ok(false);
    }
    let output = list(repository, &[commit.to_owned()], "--missing=print")?;
    Ok(output.code == Some(0) && names_missing(&output))
}

/// Lists the objects of commits or trees, without what branches have.
fn list(repository: &Repository, objects: &[String], missing: &str) -> Result<Output> {
    let input = objects.iter().flat_map(|object| [object.as_bytes(), b"\n"].concat()).collect();
    let args = ["rev-list", "--objects", missing, "--no-object-names", "--stdin"];
    let kept = ["--not", "--branches", "--tags", "--remotes"];
    repository.call("read objects").args(args).args(kept).offline().input(input).output()
}

fn names_missing(output: &Output) -> bool {
    output.stdout.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"?"))
}

/// Returns the blobs of the index in all stages.
pub(crate) fn staged(repository: &Repository, worktree: &Worktree) -> Result<BTreeSet<String>> {
    let args = ["ls-files", "-z", "--stage"];
    let output = repository.git().call(&worktree.path, "read the index").args(args).offline().run()?;
    let mut blobs = BTreeSet::new();
    for entry in output.fields() {
        let mut words = entry.split(|byte| *byte == b' ');
        let (mode, blob) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        // A submodule's commit is in its own repository.
        if mode != b"160000" && mode != b"040000" {
            blobs.insert(String::from_utf8_lossy(blob).into_owned());
        }
    }
    Ok(blobs)
}
