//! A small repository as a hub shows it, and pulls of it into a temporary folder.

use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use loam::digest::sha256_hex;
use loam_convert::hub::{self, Event, HubProblem, Options, Pace, Pulled, Repo};
use loam_convert::{Error, Result};
use loam_tests::Random;
use serde_json::json;

use crate::server::{Reply, Request, Server};

/// The commit of the repository.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Its large file.
pub const WEIGHTS: &str = "model.safetensors";
/// Size of the large file.
pub const SIZE: usize = 300_000;

/// A repository with a small and a large file.
#[derive(Debug, Clone)]
pub struct Repository {
    pub files: Vec<(String, Vec<u8>)>,
    /// Whether the listing tells sizes and digests.
    pub lists: bool,
}

impl Repository {
    /// config.json and [`WEIGHTS`] of [`SIZE`] random bytes.
    pub fn new() -> Repository {
        let mut random = Random::new(53);
        let weights: Vec<u8> = (0..SIZE).map(|_| random.bits() as u8).collect();
        Repository { files: vec![("config.json".into(), b"{}\n".to_vec()), (WEIGHTS.into(), weights)], lists: true }
    }

    /// The bytes of a file.
    pub fn bytes(&self, name: &str) -> &[u8] {
        &self.files.iter().find(|(n, _)| n == name).expect("a file of the repository").1
    }

    /// What a sound hub answers.
    pub fn reply(&self, request: &Request) -> Reply {
        if request.path.starts_with("/api/models/owner/name/revision/") {
            return Reply::new(200, self.listing().to_string()).header("content-type", "application/json");
        }
        let prefix = format!("/owner/name/resolve/{COMMIT}/");
        let name = request.path.strip_prefix(&prefix);
        match self.files.iter().find(|(n, _)| Some(&**n) == name) {
            Some((name, bytes)) => self.file(request, name, bytes),
            None => Reply::new(404, "Entry not found").header("x-error-code", "EntryNotFound"),
        }
    }

    fn listing(&self) -> serde_json::Value {
        let sibling = |(name, bytes): &(String, Vec<u8>)| match self.lists {
            false => json!({"rfilename": name}),
            true if bytes.len() < 1000 => json!({"rfilename": name, "size": bytes.len(), "blobId": blob(bytes)}),
            true => {
                let lfs = json!({"sha256": sha256_hex(bytes), "size": bytes.len(), "pointerSize": 134});
                json!({"rfilename": name, "size": bytes.len(), "blobId": "d".repeat(40), "lfs": lfs})
            }
        };
        json!({"id": "owner/name", "sha": COMMIT, "siblings": self.files.iter().map(sibling).collect::<Vec<_>>()})
    }

    /// A file, or what is asked of it, with the headers of a hub.
    pub fn file(&self, request: &Request, name: &str, bytes: &[u8]) -> Reply {
        let digest = if name == "config.json" { blob(bytes) } else { sha256_hex(bytes) };
        let etag = format!("\"{digest}\"");
        let same = request.header("if-range").is_none_or(|tag| tag == etag);
        let reply = match request.start().filter(|_| same) {
            Some(start) if start >= bytes.len() => {
                Reply::new(416, "").header("content-range", format!("bytes */{}", bytes.len()))
            }
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
                Reply::new(206, &bytes[start..]).header("content-range", range)
            }
            None => Reply::new(200, bytes),
        };
        let reply = reply.header("etag", etag.clone()).header("x-linked-etag", etag);
        reply.header("x-repo-commit", COMMIT).header("x-linked-size", bytes.len().to_string())
    }

    /// A hub that is sound but for what `fault` says, which gets the sound answer.
    pub fn serve(&self, fault: impl Fn(&Request, usize, Reply) -> Reply + Send + Sync + 'static) -> Server {
        let repository = self.clone();
        Server::start(move |request, before| {
            let reply = repository.reply(request);
            fault(request, before, reply)
        })
    }
}

/// The git blob id.
pub fn blob(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("written");
    let kind = hub::digest::Digest::GitBlob(String::new());
    kind.same_of(file.path()).expect("readable").hex().to_owned()
}

/// Time limits that fit tests.
pub fn options(server: &Server) -> Options {
    let pace = Pace {
        connect: Duration::from_secs(2),
        idle: Duration::from_millis(400),
        window: Duration::from_millis(300),
        least_per_window: 1000,
        retries: 3,
        backoff: Duration::from_millis(2),
    };
    Options { endpoint: server.url(), pace, ..Options::default() }
}

/// Pulls `owner/name` and returns what happened, too; never longer than half a minute.
pub fn pull_with(options: &Options, folder: &Path) -> (Result<Pulled>, Vec<String>) {
    let start = Instant::now();
    let mut told = Vec::new();
    let mut tell = |event: Event<'_>| match event {
        Event::Bytes { .. } => {}
        event => told.push(format!("{event:?}")),
    };
    let repo = Repo::from_str("owner/name").expect("a name");
    let result = hub::pull(&repo, folder, options, &mut tell);
    assert!(start.elapsed() < Duration::from_secs(30), "took {:?}: {told:?}", start.elapsed());
    (result, told)
}

/// As [`pull_with`] from `server`.
pub fn pull(server: &Server, folder: &Path) -> Result<Pulled> {
    pull_with(&options(server), folder).0
}

/// A pull that must fail in a way that `expected` accepts; nothing may be in place but `config.json`.
#[track_caller]
pub fn refused(server: &Server, expected: impl Fn(&HubProblem) -> bool) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let error = pull(server, folder.path()).expect_err("must fail");
    let message = error.to_string();
    match error {
        Error::Hub { url, problem } => {
            assert!(expected(&problem), "{problem:?}");
            assert!(!url.contains('?'), "{url}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!folder.path().join(WEIGHTS).exists(), "a file that was not checked is in place");
    message
}

/// The folder holds the repository's files, byte for byte, and nothing unfinished.
#[track_caller]
pub fn whole(repository: &Repository, folder: &Path) {
    for (name, bytes) in &repository.files {
        assert!(std::fs::read(folder.join(name)).expect("in place") == *bytes, "{name}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.join(".loam-pull"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .filter(|name| name != "lock" && name != "pulled.json")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
