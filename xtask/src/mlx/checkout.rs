//! Sources from git, at a pinned tag or at a revision that was asked for.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::process;

/// What `mlx_src/pin.json` says of a repository.
#[derive(Debug, Clone, Copy)]
pub struct Tagged<'pin> {
    pub git: &'pin str,
    pub tag: &'pin str,
    /// The commit that the tag must stand for, where one is pinned.
    pub revision: Option<&'pin str>,
}

impl Tagged<'_> {
    /// Clones the tag into a fresh folder within `parent`; returns it with the commit it holds.
    pub fn clone_into(&self, parent: &Path) -> Result<(TempDir, String)> {
        let draft = tempfile::Builder::new()
            .prefix(".clone-")
            .tempdir_in(parent)
            .with_context(|| format!("making a folder in {}", parent.display()))?;
        process::output(
            Command::new("git")
                .args(["clone", "--quiet", "--depth=1", "--branch", self.tag])
                .arg(self.git)
                .arg(draft.path()),
        )?;
        let revision = commit(draft.path(), "HEAD")?;
        ensure!(
            self.revision.is_none_or(|pinned| pinned == revision),
            "the tag {} of {} is not what mlx_src/pin.json pins: expected {}, got: {revision}",
            self.tag,
            self.git,
            self.revision.unwrap_or_default()
        );
        Ok((draft, revision))
    }

    /// The commit that `folder` holds, if that is the one wanted.
    pub fn held_by(&self, folder: &Path) -> Option<String> {
        // Without this, git would answer for a repository around the folder.
        if !folder.join(".git").exists() {
            return None;
        }
        let head = commit(folder, "HEAD").ok()?;
        let tagged = commit(folder, &format!("refs/tags/{}", self.tag)).ok()?;
        let wanted = head == tagged && self.revision.is_none_or(|pinned| pinned == head);
        wanted.then_some(head)
    }
}

/// Clones `rev`, a commit, a tag or a branch, into a fresh folder within `parent`; returns it with the
/// commit it holds.
pub fn clone_at(git: &str, rev: &str, parent: &Path) -> Result<(TempDir, String)> {
    let draft = tempfile::Builder::new()
        .prefix(".clone-")
        .tempdir_in(parent)
        .with_context(|| format!("making a folder in {}", parent.display()))?;
    // All of the history, since no server has to answer for a commit alone, but not its files.
    process::output(
        Command::new("git")
            .args([
                "clone",
                "--quiet",
                "--no-checkout",
                "--filter=blob:none",
                git,
            ])
            .arg(draft.path()),
    )?;
    let named = [rev.to_owned(), format!("origin/{rev}")];
    let revision = named
        .iter()
        .find_map(|name| commit(draft.path(), name).ok())
        .with_context(|| format!("expected --rev to be a revision of {git}, got: {rev}"))?;
    process::output(
        Command::new("git")
            .arg("-C")
            .arg(draft.path())
            .args(["checkout", "--quiet", "--detach", &revision]),
    )?;
    Ok((draft, revision))
}

/// The commit that `folder` holds, if that is the one that `rev` is; a branch may have moved on, so it
/// never is.
pub fn held_at(folder: &Path, rev: &str) -> Option<String> {
    if !folder.join(".git").exists() {
        return None;
    }
    let head = commit(folder, "HEAD").ok()?;
    let tag = || commit(folder, &format!("refs/tags/{rev}")).ok();
    (head == rev || tag().as_ref() == Some(&head)).then_some(head)
}

/// The commit that a name stands for; an annotated tag is an object of its own.
fn commit(folder: &Path, name: &str) -> Result<String> {
    let printed = process::output(
        Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(["rev-parse", "--verify", "--quiet"])
            .arg(format!("{name}^{{commit}}")),
    )?;
    Ok(printed.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn git(folder: &Path, arguments: &[&str]) -> String {
        process::output(
            Command::new("git")
                .args(["-c", "user.name=Test", "-c", "user.email=test@localhost"])
                .args(["-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"])
                .arg("-C")
                .arg(folder)
                .args(arguments),
        )
        .unwrap()
    }

    /// A bare repository whose tag v1 is one commit behind its branch: its URL, and both commits.
    fn repository(root: &Path) -> (String, String, String) {
        let work = root.join("work");
        fs::create_dir(&work).unwrap();
        git(&work, &["init", "--quiet"]);
        let commit = |text: &str| {
            fs::write(work.join("file"), text).unwrap();
            git(&work, &["add", "file"]);
            git(&work, &["commit", "--quiet", "--message", text]);
            git(&work, &["rev-parse", "HEAD"]).trim().to_owned()
        };
        let tagged = commit("one");
        git(&work, &["tag", "--annotate", "--message", "one", "v1"]);
        let later = commit("two");
        git(root, &["clone", "--quiet", "--bare", "work", "bare.git"]);
        let url = format!("file://{}", root.join("bare.git").display());
        (url, tagged, later)
    }

    #[test]
    fn a_clone_is_fresh_and_at_the_tag() {
        let root = tempfile::tempdir().unwrap();
        let (url, tagged, later) = repository(root.path());
        let at = |tag, revision| Tagged {
            git: &url,
            tag,
            revision,
        };
        let parent = root.path().join("parent");
        fs::create_dir(&parent).unwrap();
        let entries = || fs::read_dir(&parent).unwrap().count();

        for revision in [None, Some(tagged.as_str())] {
            let (draft, held) = at("v1", revision).clone_into(&parent).unwrap();
            assert_eq!(held, tagged);
            assert_eq!(
                fs::read_to_string(draft.path().join("file")).unwrap(),
                "one"
            );
            assert_eq!(draft.path().parent(), Some(parent.as_path()));
            let held = at("v1", revision).held_by(draft.path());
            assert_eq!(held.as_ref(), Some(&tagged));
            assert_eq!(at("v2", revision).held_by(draft.path()), None);
            assert_eq!(at("v1", Some(&later)).held_by(draft.path()), None);
        }

        let moved = at("v1", Some(&later)).clone_into(&parent).unwrap_err();
        assert_eq!(
            moved.to_string(),
            format!(
                "the tag v1 of {url} is not what mlx_src/pin.json pins: \
                 expected {later}, got: {tagged}"
            )
        );
        let absent = at("v2", None).clone_into(&parent).unwrap_err().to_string();
        assert!(absent.contains("v2"), "{absent}");
        assert_eq!(entries(), 0, "what failed or was dropped leaves nothing");
    }

    #[test]
    fn a_revision_is_a_commit_a_tag_or_a_branch() {
        let root = tempfile::tempdir().unwrap();
        let (url, tagged, later) = repository(root.path());
        let branch = git(
            &root.path().join("work"),
            &["rev-parse", "--abbrev-ref", "HEAD"],
        );
        let parent = root.path().join("parent");
        fs::create_dir(&parent).unwrap();
        for (rev, commit, text) in [
            (tagged.as_str(), &tagged, "one"),
            ("v1", &tagged, "one"),
            (later.as_str(), &later, "two"),
            (branch.trim(), &later, "two"),
        ] {
            let (draft, held) = clone_at(&url, rev, &parent).unwrap();
            assert_eq!(&held, commit, "{rev}");
            let file = draft.path().join("file");
            assert_eq!(fs::read_to_string(file).unwrap(), text, "{rev}");
            let known = (rev != branch.trim()).then_some(held);
            assert_eq!(held_at(draft.path(), rev), known, "{rev}");
        }
        let absent = clone_at(&url, "v2", &parent).unwrap_err().to_string();
        assert_eq!(
            absent,
            format!("expected --rev to be a revision of {url}, got: v2")
        );
        assert_eq!(held_at(&parent, &tagged), None);
    }

    #[test]
    fn a_folder_within_another_checkout_holds_nothing() {
        let root = tempfile::tempdir().unwrap();
        let (url, ..) = repository(root.path());
        let inner = root.path().join("work/inner");
        fs::create_dir(&inner).unwrap();
        git(
            &root.path().join("work"),
            &["checkout", "--quiet", "--detach", "v1"],
        );
        let tagged = Tagged {
            git: &url,
            tag: "v1",
            revision: None,
        };
        assert_eq!(tagged.held_by(&inner), None);
        assert!(tagged.held_by(&root.path().join("work")).is_some());
    }
}
