//! How a repository is named: `OWNER/NAME[@REVISION][:FILE]`.

use std::fmt;
use std::str::FromStr;

use super::url::redacted;

/// Most characters of an owner, a name or a revision.
const MAX_PART: usize = 200;

/// A repository of a hub at some revision, or one file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repo {
    /// `OWNER/NAME`, or only `NAME` for the few that have no owner.
    pub name: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// A file name or pattern after a colon.
    pub file: Option<String>,
}

impl FromStr for Repo {
    type Err = String;

    fn from_str(text: &str) -> Result<Repo, String> {
        let none = || {
            let text = redacted(text);
            format!("`{text}` names no repository; write OWNER/NAME, OWNER/NAME@REVISION or OWNER/NAME:FILE")
        };
        if text.contains("://") {
            return Err(none());
        }
        let (repo, file) = match text.split_once(':') {
            Some((repo, file)) => (repo, Some(file.to_owned())),
            None => (text, None),
        };
        let (name, revision) = repo.split_once('@').unwrap_or((repo, "main"));
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_part(part)) {
            return Err(none());
        }
        if !revision.split('/').all(is_part) || revision.len() > MAX_PART {
            return Err(format!("`{revision}` is no branch, tag or commit"));
        }
        if file.as_deref().is_some_and(str::is_empty) {
            return Err(format!("there is no file name behind the colon of `{text}`"));
        }
        Ok(Repo { name: name.into(), revision: revision.into(), file })
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.revision)
    }
}

/// Letters, digits, `-`, `_` and `.`, but no dot first or last and none after another: such parts are safe in a
/// URL and as a folder's name.
fn is_part(part: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !part.is_empty()
        && part.len() <= MAX_PART
        && part.chars().all(known)
        && !part.starts_with(['.', '-'])
        && !part.ends_with('.')
        && !part.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_revisions_and_files_are_told_apart() {
        let repo = |text: &str| Repo::from_str(text).map(|r| (r.name, r.revision, r.file));
        assert_eq!(repo("a/b"), Ok(("a/b".into(), "main".into(), None)));
        assert_eq!(repo("gpt2@refs/pr/1"), Ok(("gpt2".into(), "refs/pr/1".into(), None)));
        assert_eq!(repo("a/b@v1:x/*.gguf"), Ok(("a/b".into(), "v1".into(), Some("x/*.gguf".into()))));
        for bad in [
            "",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "../b",
            "a/..",
            "a/b@",
            "a/b@../x",
            "a/b@x//y",
            "a/b:",
            "a b/c",
            "a/b\n",
            "-a/b",
            "a/b.",
            "https://hub/a/b",
        ] {
            assert!(repo(bad).is_err(), "{bad}");
        }
        assert!(repo(&format!("a/{}", "b".repeat(201))).is_err());
    }
}
