//! The digests that a hub lists: SHA-256 of large files, the git blob id of small ones.

use std::io::Read;
use std::path::Path;

use loam_files::digest::{self, sha256_file};
use loam_files::file::{io_error, open_regular};
use sha1::Digest as _;

use crate::Result;

/// A digest in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256 of the bytes: what Git LFS names a file by.
    Sha256(String),
    /// SHA-1 of `blob LENGTH\0` and the bytes: what git names a file by.
    GitBlob(String),
}

impl Digest {
    /// By its length: 64 digits are a SHA-256, 40 a git blob id. Quotes of an entity tag are taken off.
    pub fn parse(text: &str) -> Option<Digest> {
        let text = text.trim().trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        let hex = text.bytes().all(|b| b.is_ascii_hexdigit());
        match text.len() {
            64 if hex => Some(Digest::Sha256(text)),
            40 if hex => Some(Digest::GitBlob(text)),
            _ => None,
        }
    }

    /// The hex digits.
    pub fn hex(&self) -> &str {
        match self {
            Digest::Sha256(hex) | Digest::GitBlob(hex) => hex,
        }
    }

    /// The digest of the same kind of the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn same_of(&self, path: &Path) -> Result<Digest> {
        match self {
            Digest::Sha256(_) => Ok(Digest::Sha256(sha256_file(path)?)),
            Digest::GitBlob(_) => git_blob(path).map(Digest::GitBlob),
        }
    }
}

fn git_blob(path: &Path) -> Result<String> {
    let mut file = open_regular(path)?;
    let length = file.metadata().map_err(io_error("read", path))?.len();
    let mut hash = sha1::Sha1::new();
    hash.update(format!("blob {length}\0"));
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).map_err(io_error("read", path))? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(digest::hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blob_ids_are_those_of_git() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        // `printf 'hello\n' | git hash-object --stdin`
        std::fs::write(file.path(), "hello\n").expect("written");
        let listed = Digest::parse("\"ce013625030ba8dba906f756967f9e9ca394464a\"").expect("a blob id");
        assert_eq!(listed.same_of(file.path()).expect("readable"), listed);
        assert_eq!(Digest::parse("W/\"abc\""), None);
        assert!(matches!(Digest::parse(&"AB".repeat(32)), Some(Digest::Sha256(hex)) if hex == "ab".repeat(32)));
    }
}
