//! Downloads from a model hub with the interface of huggingface.co: `loam pull`.
//!
//! A pull pins the commit first, takes only what a conversion needs, continues where an earlier one ended, and puts a
//! file in place only after its digest was checked. Nothing that the server says can lead out of the folder.
//!
//! # Layout
//! - [`repo`], [`names`]: how repositories are named; which files are taken, and which names are refused
//! - [`url`], [`client`], [`retry`]: addresses, requests with redirections and time limits, bounded repetition
//! - [`listing`]: what a repository holds; [`digest`]: what its files must be
//! - [`folder`], [`transfer`]: the locked folder; one file on its way
//! - [`problem`]: what can be wrong

pub mod client;
pub mod digest;
pub mod folder;
pub mod listing;
pub mod names;
pub mod problem;
pub mod repo;
pub mod retry;
pub mod transfer;
pub mod url;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use problem::{HubProblem, Kept};
pub use repo::Repo;
pub use url::{redacted, redacted_text};

use self::client::{Client, hub};
use self::folder::{Folder, Record};
use self::listing::{Listing, Remote};
use self::transfer::{Fetched, Transfer};
use self::url::escape;
use crate::source::json::Json;
use crate::{Error, Result};

/// Where models come from unless told otherwise.
pub const ENDPOINT: &str = "https://huggingface.co";

/// What to pull and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address of the hub.
    pub endpoint: String,
    /// Sent to the hub's own host only.
    pub token: Option<String>,
    /// Names or patterns (`*`, `?`) of the files to pull instead of what a conversion needs.
    pub files: Vec<String>,
    /// Replace files in the folder that did not come with an earlier pull, or were changed since.
    pub force: bool,
    /// Time limits.
    pub pace: Pace,
}

impl Default for Options {
    fn default() -> Self {
        Options { endpoint: ENDPOINT.into(), token: None, files: Vec::new(), force: false, pace: Pace::default() }
    }
}

/// How long to wait for what, and how often.
#[derive(Debug, Clone)]
pub struct Pace {
    /// For a connection.
    pub connect: Duration,
    /// For the next byte.
    pub idle: Duration,
    /// Over this time ...
    pub window: Duration,
    /// ... at least so many bytes must come.
    pub least_per_window: u64,
    /// Failures in a row after the first one.
    pub retries: u32,
    /// Wait after the first failure; it doubles with each one.
    pub backoff: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        let backoff = Duration::from_millis(500);
        Pace {
            connect: seconds(20),
            idle: seconds(30),
            window: seconds(30),
            least_per_window: 30 << 10,
            retries: 5,
            backoff,
        }
    }
}

/// What happens during a pull.
#[derive(Debug)]
pub enum Event<'a> {
    /// The revision is pinned to `commit`.
    Pinned {
        /// The commit.
        commit: &'a str,
    },
    /// Work on a file begins.
    File {
        /// Its name.
        name: &'a str,
        /// Its number, from 0.
        index: usize,
        /// Number of all files, as far as known.
        files: usize,
    },
    /// Bytes arrived.
    Bytes {
        /// The file.
        name: &'a str,
        /// Bytes of it so far, with those of earlier pulls.
        done: u64,
        /// All its bytes, if known.
        total: Option<u64>,
    },
    /// All bytes are there and are being checked.
    Check {
        /// The file.
        name: &'a str,
    },
    /// The file was there already, with the right bytes.
    Present {
        /// The file.
        name: &'a str,
    },
    /// Something failed and will be tried again after `wait`.
    Retry {
        /// What failed.
        problem: String,
        /// How long loam waits.
        wait: Duration,
    },
    /// Something a user should know.
    Note(String),
}

/// What a pull left in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The folder.
    pub path: PathBuf,
    /// The commit that all files are of.
    pub commit: String,
    /// The files, with their digests and sizes.
    pub files: Vec<(String, Fetched)>,
}

impl Pulled {
    /// What `loam convert` takes: the folder of a model, or the (first) GGUF file.
    pub fn model(&self) -> PathBuf {
        let gguf = self.files.iter().map(|(name, _)| name).filter(|name| name.ends_with(".gguf")).min();
        let weights = self.files.iter().any(|(name, _)| name.ends_with(".safetensors"));
        match gguf {
            Some(name) if !weights => self.path.join(name),
            _ => self.path.clone(),
        }
    }
}

/// Pulls `repo` into the folder `path`, which is made if it is not there.
///
/// # Errors
/// [`Error::Hub`] for all that the hub or the network does wrong, [`Error::Busy`] if another pull works there,
/// [`Error::Argument`] for malformed options, and I/O errors.
pub fn pull(repo: &Repo, path: &Path, options: &Options, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Pulled> {
    let client = Client::new(options)?;
    let listing = Listing::fetch(&client, repo, &options.pace, on_event)?;
    on_event(Event::Pinned { commit: &listing.commit });
    let patterns: Vec<String> = repo.file.iter().chain(&options.files).cloned().collect();
    let all: Vec<String> = listing.files.iter().map(|file| file.name.clone()).collect();
    let about = |problem| hub_error(&client, repo, problem);
    let chosen = names::select(&all, &patterns).map_err(about)?;
    for pickle in &chosen.pickles {
        on_event(Event::Note(format!("{pickle} is not pulled: it may be a Python pickle, which can run code")));
    }
    names::check_all(&chosen.files).map_err(about)?;
    // Not before there is something to put in it.
    let folder = Folder::open(path)?;
    let job = Job { client: &client, options, repo, folder: &folder, listing: &listing };
    let mut record = job.record()?;
    let mut files = job.fetch(&chosen.files, 0, &mut record, on_event)?;
    if let Some(index) = &chosen.index {
        let shards = shards(&folder.path.join(index), &listing).map_err(|error| match error {
            Shards::Hub(problem) => about(problem),
            Shards::Json(error) => error,
        })?;
        files.extend(job.fetch(&shards, files.len(), &mut record, on_event)?);
    }
    job.prune(record, on_event)?;
    Ok(Pulled { path: path.to_owned(), commit: listing.commit, files })
}

fn hub_error(client: &Client, repo: &Repo, problem: HubProblem) -> Error {
    match client.endpoint().join(&format!("/{}", repo.name)) {
        Ok(url) => hub(&url, problem),
        Err(_) => hub(client.endpoint(), problem),
    }
}

/// What is wrong with an index.
enum Shards {
    Hub(HubProblem),
    Json(Error),
}

/// The weight files that an index names, all of them listed and with harmless names.
fn shards(index: &Path, listing: &Listing) -> Result<Vec<String>, Shards> {
    let map = Json::read(index).and_then(|json| json.object("weight_map")).map_err(Shards::Json)?;
    let map = map.ok_or_else(|| Shards::Hub(HubProblem::Nothing("the safetensors index has no weight_map".into())))?;
    let mut files = Vec::new();
    for tensor in map.keys() {
        files.extend(map.text(tensor).map_err(Shards::Json)?.map(str::to_owned));
    }
    files.sort();
    files.dedup();
    names::check_all(&files).map_err(Shards::Hub)?;
    match files.iter().find(|name| !name.ends_with(".safetensors") || listing.file(name).is_none()) {
        Some(name) => Err(Shards::Hub(HubProblem::Nothing(format!("holds no shard {name:?}, which its index names")))),
        None => Ok(files),
    }
}

/// A pull whose commit is pinned.
struct Job<'a> {
    client: &'a Client,
    options: &'a Options,
    repo: &'a Repo,
    folder: &'a Folder,
    listing: &'a Listing,
}

impl Job<'_> {
    /// What is in the folder already, which must be of the same repository.
    fn record(&self) -> Result<Record> {
        let record = self.folder.record();
        if record.repo.is_empty() || record.repo == self.repo.name {
            return Ok(Record { repo: self.repo.name.clone(), ..record });
        }
        let (path, other) = (self.folder.path.display(), &record.repo);
        Err(Error::Argument(format!("{path} holds {other}; pull {} into another folder", self.repo.name)))
    }

    /// Fetches `names`, one after the other, and notes each in `record`.
    fn fetch(
        &self,
        names: &[String],
        first: usize,
        record: &mut Record,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Vec<(String, Fetched)>> {
        let remotes: Vec<&Remote> = names.iter().filter_map(|name| self.listing.file(name)).collect();
        let transfers = remotes.iter().map(|remote| self.transfer(remote)).collect::<Result<Vec<_>>>()?;
        if !self.options.force {
            for (remote, transfer) in remotes.iter().zip(&transfers) {
                transfer.check_ours(record.files.get(&remote.name).map(String::as_str))?;
            }
        }
        let missing = remotes.iter().zip(&transfers).map(|(r, t)| r.bytes.unwrap_or(0).saturating_sub(t.on_disk()));
        self.folder.need_space(missing.fold(0, u64::saturating_add))?;
        let mut fetched = Vec::new();
        for (index, (remote, transfer)) in remotes.iter().zip(transfers).enumerate() {
            on_event(Event::File { name: &remote.name, index: first + index, files: first + remotes.len() });
            let file = transfer.run(on_event)?;
            record.files.insert(remote.name.clone(), file.digest.hex().to_owned());
            self.folder.set_record(record)?;
            fetched.push((remote.name.clone(), file));
        }
        Ok(fetched)
    }

    fn transfer<'a>(&'a self, remote: &'a Remote) -> Result<Transfer<'a>> {
        let path = format!("/{}/resolve/{}/{}", self.repo.name, self.listing.commit, escape(&remote.name, false));
        let url = self.client.endpoint().join(&path).map_err(|problem| hub_error(self.client, self.repo, problem))?;
        Transfer::new(self.client, &self.options.pace, self.folder, &self.listing.commit, remote, url)
    }

    /// Files of an earlier commit that this one does not have would mix two models: they go.
    fn prune(&self, mut record: Record, on_event: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        for (name, digest) in std::mem::take(&mut record.files) {
            let listed = self.listing.file(&name);
            // What was fetched now is right, also where the hub lists no digests.
            let right = listed.is_some_and(|file| file.digest.as_ref().is_none_or(|listed| listed.hex() == digest));
            if right {
                record.files.insert(name, digest);
            } else if names::check(&name).is_ok() {
                let path = self.folder.path.join(&name);
                let gone = std::fs::symlink_metadata(&path).is_err();
                let edited = || Ok::<_, Error>(transfer::standing(&path, Some(&digest))?.is_some());
                if !gone && !self.options.force && edited()? {
                    on_event(Event::Note(format!(
                        "{name} is not of this commit, and stays: it was changed after an earlier pull"
                    )));
                    continue;
                }
                on_event(Event::Note(format!(
                    "{name} is removed: it came with an earlier pull and is not of this commit"
                )));
                transfer::remove(&path)?;
            }
        }
        record.commit = self.listing.commit.clone();
        self.folder.set_record(&record)
    }
}
