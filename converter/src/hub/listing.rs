//! What a repository holds at a commit: the answer of `GET /api/models/REPO/revision/REVISION?blobs=true`.

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

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

/// The parts of an answer that are read; the others take no memory.
#[derive(Deserialize)]
struct Wire {
    sha: Option<String>,
    siblings: Option<Files>,
}

/// A file as the hub describes it.
#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Large>,
}

/// What is said of a file that Git LFS keeps.
#[derive(Deserialize)]
struct Large {
    size: Option<u64>,
    sha256: Option<String>,
}

/// Files, each turned into what is kept of it before the next is read.
struct Files(Vec<Remote>);

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Siblings)
    }
}

struct Siblings;

impl<'de> Visitor<'de> for Siblings {
    type Value = Files;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Files, A::Error> {
        let mut files = Vec::new();
        while let Some(sibling) = list.next_element::<Sibling>()? {
            if files.len() == MAX_FILES {
                return Err(serde::de::Error::custom(format!("over {MAX_FILES} files")));
            }
            files.push(Remote::from(sibling));
        }
        Ok(Files(files))
    }
}

impl Listing {
    /// Reads the hub's JSON.
    ///
    /// # Errors
    /// [`HubProblem::Answer`]: no JSON, or not of this form.
    pub fn parse(json: &[u8]) -> Result<Listing, HubProblem> {
        let wrong = |what: &str| HubProblem::Answer(format!("the answer is no description of a repository: {what}"));
        let wire: Wire = serde_json::from_slice(json).map_err(|error| wrong(&error.to_string()))?;
        let commit = wire.sha.ok_or_else(|| wrong("sha is missing"))?;
        if !(40..=64).contains(&commit.len()) || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong("sha is no commit"));
        }
        let Files(files) = wire.siblings.ok_or_else(|| wrong("siblings is missing"))?;
        Ok(Listing { commit, files })
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

impl From<Sibling> for Remote {
    fn from(file: Sibling) -> Remote {
        let digest = |text: Option<String>| text.as_deref().and_then(Digest::parse);
        let (bytes, digest) = match file.lfs {
            // The blob id of a large file is that of a pointer to it: of no use here.
            Some(large) => (large.size.or(file.size), digest(large.sha256)),
            None => (file.size, digest(file.blob)),
        };
        Remote { name: file.rfilename, bytes, digest }
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
