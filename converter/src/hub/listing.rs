//! What a repository holds at a commit: the answer of `GET /api/models/REPO/revision/REVISION?blobs=true`.

use serde_json::Value;

use super::client::Client;
use super::digest::Digest;
use super::problem::HubProblem;
use super::repo::Repo;
use super::retry::Patience;
use super::url::{Url, escape};
use super::{Event, Pace};
use crate::Result;

/// Longest answer that is read.
const MAX_BYTES: usize = 64 << 20;
/// Most files of a repository.
const MAX_FILES: usize = 200_000;

/// A repository at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The commit that the revision stood for.
    pub commit: String,
    /// All files.
    pub files: Vec<Remote>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Path in the repository, unchecked.
    pub name: String,
    /// Size, if listed.
    pub bytes: Option<u64>,
    /// Digest, if listed.
    pub digest: Option<Digest>,
}

impl Listing {
    /// Reads the hub's JSON.
    ///
    /// # Errors
    /// [`HubProblem::Answer`]: no JSON, or not of this form.
    pub fn parse(json: &[u8]) -> Result<Listing, HubProblem> {
        let wrong = |what: &str| HubProblem::Answer(format!("the answer is no description of a repository: {what}"));
        let value: Value = serde_json::from_slice(json).map_err(|error| wrong(&format!("no JSON: {error}")))?;
        let commit = value["sha"].as_str().ok_or_else(|| wrong("sha is missing"))?;
        if !(40..=64).contains(&commit.len()) || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong("sha is no commit"));
        }
        let siblings = value["siblings"].as_array().ok_or_else(|| wrong("siblings is missing"))?;
        if siblings.len() > MAX_FILES {
            return Err(wrong(&format!("over {MAX_FILES} files")));
        }
        let files = siblings.iter().map(Remote::parse).collect::<Option<Vec<Remote>>>();
        Ok(Listing { commit: commit.to_owned(), files: files.ok_or_else(|| wrong("a file has no rfilename"))? })
    }

    /// Asks the hub.
    ///
    /// # Errors
    /// No connection, a refusal, or an answer of another form.
    pub fn fetch(client: &Client, repo: &Repo, pace: &Pace, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Listing> {
        let path = format!("/api/models/{}/revision/{}?blobs=true", repo.name, escape(&repo.revision, true));
        let url: Url = client.endpoint().join(&path).map_err(|p| super::client::hub(client.endpoint(), p))?;
        Patience::new(pace).run(on_event, || {
            let answer = client.get(&url, &[])?;
            let page = answer.header("content-type").is_some_and(|t| t.trim_start().starts_with("text/html"));
            if page || answer.status != 200 {
                let problem = "the answer is a web page: a login page of the network, or no hub at all";
                return Err(answer.error(HubProblem::Answer(problem.into())).into());
            }
            let from = answer.url.clone();
            let mut json = Vec::new();
            client.drain(answer, |bytes| {
                json.extend_from_slice(bytes);
                let short = json.len() <= MAX_BYTES;
                let problem = || HubProblem::Answer(format!("the answer is over {MAX_BYTES} bytes"));
                if short { Ok(()) } else { Err(super::client::hub(&from, problem()).into()) }
            })?;
            Ok(Listing::parse(&json).map_err(|problem| super::client::hub(&from, problem))?)
        })
    }

    /// The file `name`.
    pub fn file(&self, name: &str) -> Option<&Remote> {
        self.files.iter().find(|file| file.name == name)
    }
}

impl Remote {
    fn parse(value: &Value) -> Option<Remote> {
        let name = value["rfilename"].as_str()?.to_owned();
        let large = &value["lfs"];
        let digest = |value: &Value| value.as_str().and_then(Digest::parse);
        // The blob id of a large file is that of a pointer to it: of no use here.
        let digest = if large.is_object() { digest(&large["sha256"]) } else { digest(&value["blobId"]) };
        let bytes = large["size"].as_u64().or_else(|| value["size"].as_u64());
        Some(Remote { name, bytes, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_files_have_their_own_digest_small_ones_the_blob_id() {
        let (commit, blob, sha) = ("c".repeat(40), "b".repeat(40), "a".repeat(64));
        let json = format!(
            r#"{{"sha":"{commit}","siblings":[{{"rfilename":"x","size":3,"blobId":"{blob}"}},
            {{"rfilename":"y","size":9,"blobId":"{blob}","lfs":{{"sha256":"{sha}","size":9,"pointerSize":1}}}},{{"rfilename":"z"}}]}}"#
        );
        let listing = Listing::parse(json.as_bytes()).expect("well-formed");
        let found: Vec<_> = listing.files.into_iter().map(|f| (f.name, f.bytes, f.digest)).collect();
        let expected = [
            ("x".to_owned(), Some(3), Some(Digest::GitBlob(blob))),
            ("y".to_owned(), Some(9), Some(Digest::Sha256(sha))),
            ("z".to_owned(), None, None),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn other_answers_are_refused() {
        let commit = "c".repeat(40);
        for json in [
            String::new(),
            "[]".into(),
            "<html>".into(),
            r#"{"sha":"main","siblings":[]}"#.into(),
            format!(r#"{{"sha":"{commit}"}}"#),
            format!(r#"{{"sha":"{commit}","siblings":[{{"size":1}}]}}"#),
            format!(r#"{{"sha":"{commit}","siblings":{}"#, "[".repeat(100_000)),
        ] {
            assert!(matches!(Listing::parse(json.as_bytes()), Err(HubProblem::Answer(_))));
        }
    }
}
