//! Reads a text file line by line: bounded memory, checked encoding, a digest of what was read.
//!
//! Policy: a UTF-8 byte-order mark at the start is skipped; lines end with LF or CRLF, the last one needs no end; blank
//! lines are skipped but counted. UTF-16 and compressed files are errors, not garbage.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::digest::Sha256;
use crate::file::{io_error, is_lfs_pointer, open_regular};
use crate::problem::DataProblem;
use crate::{Error, Result};

/// Longest line of a .jsonl file in bytes.
pub(super) const LINE_LIMIT: u64 = 16 << 20;

/// An error about `line` of `path`; 0 means the whole file.
pub(super) fn bad(path: &Path, line: usize, problem: impl Into<DataProblem>) -> Error {
    Error::Data { path: path.to_owned(), line, problem: problem.into() }
}

/// The lines of a file.
pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    hash: Sha256,
    number: usize,
    buffer: Vec<u8>,
}

impl Lines {
    /// # Errors
    /// [`Error::File`]; [`Error::Data`] for a file that is no UTF-8 text by its first bytes.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut reader = BufReader::with_capacity(1 << 16, open_regular(path)?);
        let start = reader.fill_buf().map_err(io_error("read", path))?;
        check_start(path, start)?;
        let mut hash = Sha256::new();
        if start.starts_with(b"\xef\xbb\xbf") {
            hash.update(&start[..3]);
            reader.consume(3);
        }
        Ok(Lines { path: path.to_owned(), reader, hash, number: 0, buffer: Vec::new() })
    }

    /// The next line that is not blank, with its number from 1, without its end.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Data`] for a line over the limit.
    pub(super) fn next(&mut self) -> Result<Option<(usize, &[u8])>> {
        loop {
            self.buffer.clear();
            let mut limited = (&mut self.reader).take(LINE_LIMIT + 1);
            let read = limited.read_until(b'\n', &mut self.buffer).map_err(io_error("read", &self.path))?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.hash.update(&self.buffer);
            if read as u64 > LINE_LIMIT {
                return Err(bad(&self.path, self.number, format!("the line is longer than {LINE_LIMIT} bytes")));
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        Ok(Some((self.number, line.strip_suffix(b"\r").unwrap_or(line))))
    }

    /// SHA-256 (hex) of the file, after the last line.
    pub(super) fn digest(self) -> String {
        self.hash.hex()
    }
}

/// Refuses what a text file cannot start with.
pub(super) fn check_start(path: &Path, start: &[u8]) -> Result<()> {
    let what = match start {
        [0x1f, 0x8b, ..] => "a gzip file: decompress it first",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "a zstd file: decompress it first",
        [b'P', b'K', 3, 4, ..] => "a zip archive: unpack it first",
        _ if is_lfs_pointer(start) => "a Git LFS pointer, not the file that it stands for",
        [b'P', b'A', b'R', b'1', ..] => "a Parquet file: convert it to .jsonl first",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16 text: convert it to UTF-8 first",
        [_, 0, _, 0, ..] | [0, _, 0, _, ..] => "UTF-16 text or binary: UTF-8 text is expected",
        _ => return Ok(()),
    };
    Err(bad(path, 0, format!("this is {what}")))
}
