//! One file: resumed where it ended, checked whole, then put in place.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use loam_files::file::{io_error, put_in_place};

use super::client::{Answer, Client, Failure, hub};
use super::digest::Digest;
use super::folder::{Begun, Folder, load, save};
use super::listing::Remote;
use super::problem::{HubProblem, Kept};
use super::retry::Patience;
use super::url::Url;
use super::{Event, Pace};
use crate::{Error, Result};

/// As many new bytes show that a connection is of use, however often it broke before.
const USEFUL: u64 = 1 << 20;

/// Most bytes of a file whose size is not known.
const MAX_UNLISTED: u64 = 1 << 30;

/// A file on its way.
#[derive(Debug)]
pub struct Transfer<'a> {
    client: &'a Client,
    pace: &'a Pace,
    url: Url,
    commit: &'a str,
    name: &'a str,
    digest: Option<Digest>,
    bytes: Option<u64>,
    target: PathBuf,
    /// The file, if it is in place with the right bytes.
    present: Option<Fetched>,
    part: PathBuf,
    begun: PathBuf,
    bad: PathBuf,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// Whether it was there before.
    pub present: bool,
}

impl<'a> Transfer<'a> {
    /// Prepares the transfer of `remote`, whose name was checked, from `url`.
    ///
    /// # Errors
    /// The folder for it cannot be made.
    pub fn new(
        client: &'a Client,
        pace: &'a Pace,
        folder: &Folder,
        commit: &'a str,
        remote: &'a Remote,
        url: Url,
    ) -> Result<Self> {
        let name = &remote.name;
        let mut transfer = Transfer {
            client,
            pace,
            url,
            commit,
            name,
            digest: remote.digest.clone(),
            bytes: remote.bytes,
            target: folder.target(name)?,
            present: None,
            part: folder.unfinished(name, "part"),
            begun: folder.unfinished(name, "json"),
            bad: folder.unfinished(name, "bad"),
        };
        transfer.present = transfer.present()?;
        Ok(transfer)
    }

    /// Fails if what is in place is not the file that an earlier pull has `recorded` the digest of: it is the user's.
    ///
    /// # Errors
    /// [`Error::Kept`]; it cannot be read.
    pub fn check_ours(&self, recorded: Option<&str>) -> Result<()> {
        if self.present.is_some() || fs::symlink_metadata(&self.target).is_err() {
            return Ok(());
        }
        match standing(&self.target, recorded)? {
            None => Ok(()),
            Some(why) => Err(Error::Kept { path: self.target.clone(), why }),
        }
    }

    /// Bytes of it that are on the disk already, in place or unfinished.
    pub fn on_disk(&self) -> u64 {
        let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        size(&self.part).max(if Some(size(&self.target)) == self.bytes { size(&self.target) } else { 0 })
    }

    /// Sees to it that the file is in place with the listed digest.
    ///
    /// # Errors
    /// All that can go wrong on the way and on the disk. What came so far stays for the next pull.
    pub fn run(mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Fetched> {
        if let Some(fetched) = self.present.take() {
            on_event(Event::Present { name: self.name });
            return Ok(fetched);
        }
        self.discard_foreign()?;
        let mut wrong = None;
        // Wrong bytes are fetched once more, whole.
        for _ in 0..2 {
            self.complete(on_event)?;
            on_event(Event::Check { name: self.name });
            let expected = self.digest.clone().ok_or_else(|| {
                self.error(HubProblem::Answer(
                    "the server lists no checksum of the file; loam does not pull what it cannot check".into(),
                ))
            })?;
            let found = expected.same_of(&self.part)?;
            if found == expected {
                return self.promote(found);
            }
            self.quarantine()?;
            let problem = HubProblem::Digest { found: found.hex().into(), expected: expected.hex().into() };
            on_event(Event::Note(format!("{}: the bytes do not have the listed digest; fetching again", self.name)));
            wrong = Some(problem);
        }
        Err(self.error(wrong.unwrap_or_else(|| HubProblem::Answer("nothing came".into()))))
    }

    /// The file, if it is in place with the right bytes.
    fn present(&self) -> Result<Option<Fetched>> {
        let Some(expected) = &self.digest else { return Ok(None) };
        match fs::symlink_metadata(&self.target) {
            Ok(found) if found.is_file() && self.bytes.is_none_or(|bytes| bytes == found.len()) => {
                let digest = expected.same_of(&self.target)?;
                let bytes = found.len();
                Ok((digest == *expected).then_some(Fetched { digest, bytes, present: true }))
            }
            _ => Ok(None),
        }
    }

    /// Removes an unfinished file that belongs to other bytes.
    fn discard_foreign(&mut self) -> Result<()> {
        let begun: Begun = load(&self.begun).unwrap_or_default();
        let same = match (&self.digest, &begun.digest) {
            (Some(listed), Some(begun)) => listed.hex() == begun,
            _ => begun.commit == self.commit,
        };
        if !same {
            remove(&self.part)?;
            return remove(&self.begun);
        }
        // Without a listing of its own the repository was asked about before.
        self.digest = self.digest.take().or_else(|| begun.digest.as_deref().and_then(Digest::parse));
        self.bytes = self.bytes.or(begun.bytes);
        Ok(())
    }

    /// Repeats until the unfinished file has all its bytes.
    fn complete(&mut self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let mut patience = Patience::new(self.pace);
        let mut most = self.have()?;
        loop {
            let before = self.have()?;
            if self.bytes.is_some_and(|bytes| before == bytes) && before > 0 {
                return Ok(());
            }
            match self.attempt(before, on_event) {
                Ok(()) => return Ok(()),
                Err(failure) => {
                    let have = self.have()?;
                    if have >= most.saturating_add(USEFUL) {
                        most = have;
                        patience.restore();
                    }
                    patience.wait(failure, on_event)?;
                }
            }
        }
    }

    /// Length of the unfinished file; one that is too long is of no use.
    fn have(&self) -> Result<u64> {
        let have = match fs::metadata(&self.part) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(io_error("read", &self.part)(error).into()),
        };
        if self.bytes.is_some_and(|bytes| have > bytes) {
            remove(&self.part)?;
            return Ok(0);
        }
        Ok(have)
    }

    /// One request and its body.
    fn attempt(&mut self, have: u64, on_event: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        let begun: Begun = load(&self.begun).unwrap_or_default();
        let mut headers = Vec::new();
        if have > 0 {
            headers.push(("range", format!("bytes={have}-")));
            // Weak tags do not promise equal bytes. Whatever comes, the digest decides.
            if let Some(etag) = begun.etag.as_ref().filter(|etag| !etag.starts_with("W/")) {
                headers.push(("if-range", etag.clone()));
            }
        }
        let answer = self.client.get(&self.url, &headers)?;
        self.agree(&answer)?;
        let from = match answer.status {
            206 => self.continued(&answer, have, &begun)?,
            416 => return self.beyond(&answer, have),
            // 200: the whole file, whatever was asked for.
            _ => 0,
        };
        let expected = self.expected(&answer, from)?;
        if from == 0 {
            let etag = answer.header("etag").map(str::to_owned);
            let digest = self.digest.as_ref().map(|digest| digest.hex().to_owned());
            save(&self.begun, &Begun { commit: self.commit.into(), digest, bytes: self.bytes, etag })?;
        }
        self.receive(answer, from, expected, on_event)
    }

    /// Compares what the hub says of the file now with what it listed, and keeps what is new.
    fn agree(&mut self, answer: &Answer) -> Result<(), Failure> {
        let changed = |what: String| Failure::Final(answer.error(HubProblem::Changed(what)));
        let linked = &answer.linked;
        if let Some(commit) = linked.commit.as_deref().filter(|commit| *commit != self.commit) {
            return Err(changed(format!("commit {commit} instead of {}", self.commit)));
        }
        if let (Some(listed), Some(now)) = (&self.digest, &linked.digest)
            && std::mem::discriminant(listed) == std::mem::discriminant(now)
            && listed != now
        {
            return Err(changed(format!("digest {} instead of {}", now.hex(), listed.hex())));
        }
        if let (Some(listed), Some(now)) = (self.bytes, linked.bytes)
            && listed != now
        {
            return Err(changed(format!("{now} bytes instead of {listed}")));
        }
        self.digest = self.digest.take().or_else(|| linked.digest.clone());
        self.bytes = self.bytes.or(linked.bytes);
        let page = answer.header("content-type").is_some_and(|t| t.trim_start().starts_with("text/html"));
        if page && answer.status == 200 && !self.name.ends_with(".html") {
            let problem = "the answer is a web page: a login page of the network, or no hub at all";
            return Err(answer.error(HubProblem::Answer(problem.into())).into());
        }
        Ok(())
    }

    /// The position from which a 206 continues; it must be the one asked for, of the same file.
    fn continued(&mut self, answer: &Answer, have: u64, begun: &Begun) -> Result<u64, Failure> {
        let (start, total) = answer.header("content-range").and_then(content_range).unzip();
        let total = total.flatten();
        let other_size = matches!((total, self.bytes), (Some(total), Some(bytes)) if total != bytes);
        let other_tag = matches!((answer.header("etag"), &begun.etag), (Some(now), Some(then)) if now != then);
        if have == 0 || start != Some(have) || other_size || other_tag {
            remove(&self.part)?;
            let problem = HubProblem::Answer("the server continues another file, or elsewhere than asked".into());
            return Err(Failure::Again(answer.error(problem), None));
        }
        self.bytes = self.bytes.or(total);
        Ok(have)
    }

    /// 416: nothing after what is there. True only if that is all; a server may also just be wrong.
    fn beyond(&mut self, answer: &Answer, have: u64) -> Result<(), Failure> {
        let total = answer.header("content-range").and_then(|r| r.trim().strip_prefix("bytes */")?.parse::<u64>().ok());
        if have > 0 && self.bytes.or(total) == Some(have) {
            return Ok(());
        }
        remove(&self.part)?;
        let problem = HubProblem::Answer("the server says that the file ends before it does".into());
        Err(Failure::Again(answer.error(problem), None))
    }

    /// The size that the file will have, if anyone says so; nothing is written by a claim that contradicts the listing.
    fn expected(&mut self, answer: &Answer, from: u64) -> Result<Option<u64>, Failure> {
        let announced = answer.length().map(|length| length.saturating_add(from));
        if let (Some(found), Some(expected)) = (announced, self.bytes)
            && found != expected
        {
            return Err(answer.error(HubProblem::Length { found, expected }).into());
        }
        self.bytes = self.bytes.or(announced);
        Ok(self.bytes)
    }

    fn receive(
        &self,
        answer: Answer,
        from: u64,
        expected: Option<u64>,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Failure> {
        let part = &self.part;
        let mut file = open_part(part, from)?;
        let mut done = from;
        let url = answer.url.clone();
        let result = self.client.drain(answer, |bytes| {
            done += bytes.len() as u64;
            let most = expected.unwrap_or(MAX_UNLISTED);
            if done > most {
                return Err(hub(&url, HubProblem::Length { found: done, expected: most }).into());
            }
            file.write_all(bytes).map_err(io_error("write", part))?;
            on_event(Event::Bytes { name: self.name, done, total: expected });
            Ok(())
        });
        result?;
        match expected {
            Some(expected) if done < expected => {
                Err(Failure::Again(hub(&url, HubProblem::Short { found: done, expected }), None))
            }
            _ => Ok(()),
        }
    }

    fn promote(&self, digest: Digest) -> Result<Fetched> {
        let bytes = fs::metadata(&self.part).map_err(io_error("read", &self.part))?.len();
        put_in_place(&self.part, &self.target)?;
        remove(&self.begun)?;
        remove(&self.bad)?;
        Ok(Fetched { digest, bytes, present: false })
    }

    /// Puts wrong bytes aside, for whoever wants to look at them.
    fn quarantine(&self) -> Result<()> {
        fs::rename(&self.part, &self.bad).map_err(io_error("put aside", &self.part))?;
        remove(&self.begun)
    }

    fn error(&self, problem: HubProblem) -> Error {
        hub(&self.url, problem)
    }
}

/// Why the file at `path` is the user's own, if it is: no pull has `recorded` its digest, or it has other bytes since.
///
/// # Errors
/// It cannot be read.
pub fn standing(path: &Path, recorded: Option<&str>) -> Result<Option<Kept>> {
    let Some(recorded) = recorded.and_then(Digest::parse) else { return Ok(Some(Kept::NotPulled)) };
    let is_file = fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    let same = is_file && recorded.same_of(path)? == recorded;
    Ok((!same).then_some(Kept::Edited))
}

/// Opens the unfinished file to be written from byte `from` on.
fn open_part(path: &Path, from: u64) -> Result<File> {
    let mut options = OpenOptions::new();
    let file = if from == 0 { options.write(true).create(true).truncate(true) } else { options.append(true) };
    Ok(file.open(path).map_err(io_error("write", path))?)
}

/// Removes a file that may not be there.
///
/// # Errors
/// I/O errors.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove", path)(error).into()),
        _ => Ok(()),
    }
}

/// First byte and size of the whole of `bytes 5-9/10`; the size may be `*`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
    let total = if total.trim() == "*" { None } else { Some(total.trim().parse().ok()?) };
    (start <= end && total.is_none_or(|total| end < total)).then_some((start, total))
}
