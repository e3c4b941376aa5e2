//! Proofs that another branch has what a commit brought: nothing that a person would miss is lost with its branch.
//!
//! A squash, a rebase or a cherry-pick leaves other commits than the original ones, so that `git branch -d` refuses. The proofs
//! compare contents, and none depends on the settings of a person: what they cannot decide is not merged.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::repository::Repository;
use crate::worktree::Worktree;

/// Commits of a branch whose patches are compared, at most.
const COMPARED: usize = 5_000;

/// The proof that a branch has what a commit brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MergeProof {
    /// The commit.
    pub commit: String,
    /// The full name of the branch.
    pub into: String,
    /// The commit that this branch pointed to.
    pub target: String,
    /// The kind of the proof.
    pub kind: MergeProofKind,
}

/// The kinds of proofs, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MergeProofKind {
    /// The commit is in the history of the branch.
    Ancestor,
    /// Both have the same files.
    EqualTrees,
    /// The commit has the files of the commit from which both started.
    NoChange,
    /// A merge would change nothing: a squashed branch.
    NothingToMerge,
    /// Each commit has a counterpart with the same patch: a rebased or cherry-picked branch.
    EqualPatches,
}

/// Proves that a branch from which a worktree started, or the default branch, has the commit that is checked out, or what it
/// brought; `None` if that cannot be proven.
pub(crate) fn proof(repository: &Repository, worktree: &Worktree, head: &str) -> Result<Option<MergeProof>> {
    let own = worktree.branch()?.map(|branch| format!("refs/heads/{branch}"));
    let base = worktree.mark.base_branch.as_deref();
    for into in targets(repository, base)? {
        if Some(&into) == own.as_ref() {
            continue;
        }
        let Some(target) = repository.ref_target(&format!("{into}^{{commit}}"))? else { continue };
        if let Some(kind) = kind(repository, head, &target)? {
            return Ok(Some(MergeProof { commit: head.to_owned(), into, target, kind }));
        }
    }
    Ok(None)
}

/// Returns the full names of the branches into which a worktree may have been merged: the one that it started from, the default
/// branch, and the upstreams of both, or the local branches that follow them.
fn targets(repository: &Repository, base: Option<&str>) -> Result<Vec<String>> {
    let args = ["for-each-ref", "--format=%(refname) %(upstream)", "refs/heads/"];
    let listed = repository.call("list branches").args(args).run()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let branches: Vec<(&str, &str)> = listed.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut wanted: Vec<String> = Vec::new();
    for name in base.into_iter().map(str::to_owned).chain(repository.default_branches()?) {
        for full in [format!("refs/heads/{name}"), format!("refs/remotes/{name}")] {
            let related = branches.iter().filter_map(|(local, upstream)| {
                let other = if *local == full { *upstream } else { *local };
                (*local == full || *upstream == full).then_some(other).filter(|other| !other.is_empty())
            });
            let related: Vec<String> = related.map(str::to_owned).collect();
            for found in [full].into_iter().chain(related) {
                if !wanted.contains(&found) {
                    wanted.push(found);
                }
            }
        }
    }
    Ok(wanted)
}

/// Tries all proofs that a commit is merged into another one.
fn kind(repository: &Repository, commit: &str, target: &str) -> Result<Option<MergeProofKind>> {
    let call = |args: &[&str]| repository.call("compare commits").args(args).offline();
    let is_ancestor = call(&["merge-base", "--is-ancestor", commit, target]).output()?;
    if is_ancestor.code == Some(0) {
        return Ok(Some(MergeProofKind::Ancestor));
    }
    let tree = |of: &str| repository.ref_target(&format!("{of}^{{tree}}"));
    let (own, theirs) = (tree(commit)?, tree(target)?);
    if own.is_some() && own == theirs {
        return Ok(Some(MergeProofKind::EqualTrees));
    }
    let bases = call(&["merge-base", "--all", commit, target]).output()?;
    let bases = String::from_utf8_lossy(&bases.stdout).into_owned();
    for base in bases.lines() {
        if tree(base)? == own {
            return Ok(Some(MergeProofKind::NoChange));
        }
    }
    if bases.is_empty() {
        // Without a common history, nothing else can be compared.
        return Ok(None);
    }
    if merged_tree(repository, target, commit)? == theirs {
        return Ok(Some(MergeProofKind::NothingToMerge));
    }
    Ok(has_equal_patches(repository, commit, target)?.then_some(MergeProofKind::EqualPatches))
}

/// Returns the tree of a simulated merge; `None` if it has conflicts. No driver takes part: one that keeps our side of a file
/// would prove anything.
fn merged_tree(repository: &Repository, target: &str, commit: &str) -> Result<Option<String>> {
    let drivers = repository.call("read the configuration");
    let drivers =
        drivers.args(["config", "-z", "--name-only", "--get-regexp", r"^merge\..*\.driver$"]).output()?;
    let disabled = drivers.fields().map(|name| format!("{}=false", String::from_utf8_lossy(name)));
    let call = repository
        .call("simulate a merge")
        .settings(disabled)
        .settings(["merge.renormalize=false", "core.attributesFile=/dev/null"])
        .arg(format!("--attr-source={}", repository.empty_tree()?))
        .args(["merge-tree", "--write-tree", "--no-messages", target, commit])
        .offline();
    let merged = call.output()?;
    let tree = merged.stdout.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok((merged.code == Some(0)).then(|| String::from_utf8_lossy(tree).into_owned()))
}

/// Returns `true` if each commit that the target lacks has a counterpart with the same patch there. A merge among them may have
/// changes of its own, so it has none.
fn has_equal_patches(repository: &Repository, commit: &str, target: &str) -> Result<bool> {
    let list = |of: &str, without: &str, merges: &str| {
        let range = format!("^{without}");
        let most = format!("--max-count={}", COMPARED + 1);
        let args = ["rev-list", merges, &most, of, &range, "--"];
        let listed = repository.call("list commits").args(args).offline().run()?;
        Ok(String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let own = list(commit, target, "--no-merges")?;
    let theirs = list(target, commit, "--no-merges")?;
    if !list(commit, target, "--merges")?.is_empty() || own.len() > COMPARED || theirs.len() > COMPARED {
        return Ok(false);
    }
    Ok(patches(repository, &own)?.is_subset(&patches(repository, &theirs)?))
}

/// Returns a hash of the patch of each commit; none for one without a change. Blanks count, since they do in
/// some languages, and no setting changes the patch.
fn patches(repository: &Repository, commits: &[String]) -> Result<BTreeSet<String>> {
    if commits.is_empty() {
        return Ok(BTreeSet::new());
    }
    let args = [
        "diff-tree",
        "--stdin",
        "--root",
        "-r",
        "--patch",
        "--unified=3",
        "--inter-hunk-context=0",
        "--full-index",
        "--binary",
        "--text",
        "--no-renames",
        "--no-ext-diff",
        "--no-textconv",
        "--no-relative",
        "--no-indent-heuristic",
        "--diff-algorithm=myers",
        "--ignore-submodules=none",
        "--submodule=short",
        "--src-prefix=a/",
        "--dst-prefix=b/",
        "--no-color",
    ];
    let shown =
        repository.call("compare commits").args(args).offline().input((commits.join("\n") + "\n").into());
    let hashed = shown.pipe_into(repository.call("compare patches").args(["patch-id", "--verbatim"]))?;
    let text = String::from_utf8_lossy(&hashed.stdout).into_owned();
    Ok(text.lines().filter_map(|line| line.split_once(' ')).map(|(patch, _)| patch.to_owned()).collect())
}
