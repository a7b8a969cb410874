//! What can be wrong with an answer of a hub.

/// Why a file in the folder that is pulled into is not replaced. The option `force` replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Kept {
    /// It did not come with an earlier pull.
    #[error("is there already and did not come with an earlier pull")]
    NotPulled,
    /// It came with an earlier pull and has other bytes now.
    #[error("was changed after it was pulled")]
    Edited,
}

/// Why a hub, or the way to it, did not give what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HubProblem {
    /// Not reached: name, connection, certificate, proxy, or an answer that broke off before its body.
    #[error("no connection: {0}")]
    Network(String),
    /// Nothing came for too long, or too little of it.
    #[error("timed out: {0}")]
    Timeout(String),
    /// An HTTP status other than success.
    #[error("the server answers {code}: {meaning}")]
    Status {
        /// The status code.
        code: u16,
        /// What it means here and what to do.
        meaning: String,
    },
    /// A redirection that is not followed.
    #[error("redirected {0}")]
    Redirect(String),
    /// An answer that breaks the rules of HTTP or of the hub's interface.
    #[error("{0}")]
    Answer(String),
    /// The body ended early.
    #[error("the connection ended after {found} of {expected} bytes")]
    Short {
        /// Bytes there are.
        found: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// The server announces, or sends, another number of bytes than the repository lists.
    #[error("the server sends {found} bytes, the repository lists {expected}")]
    Length {
        /// Bytes announced or sent.
        found: u64,
        /// Bytes listed.
        expected: u64,
    },
    /// All bytes came, but they are not the file's.
    #[error("the bytes have the digest {found}, the repository lists {expected}; they were put aside, twice")]
    Digest {
        /// Digest of what came.
        found: String,
        /// Digest listed.
        expected: String,
    },
    /// The repository changed between two answers.
    #[error("changed on the server while it was pulled: {0}; pull again")]
    Changed(String),
    /// A file name that could leave the folder or that some system cannot store.
    #[error("the file name {name:?} is refused: {why}")]
    Name {
        /// The name as sent.
        name: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The repository holds several GGUF files: the option `files` chooses among them.
    #[error("holds these GGUF files: {files}")]
    Choose {
        /// Their names.
        files: String,
    },
    /// None of the repository's files fits what the option `files` asks for.
    #[error("holds no file {pattern:?}; {there}")]
    NoMatch {
        /// The name or pattern.
        pattern: String,
        /// What there is instead.
        there: Box<HubProblem>,
    },
    /// The repository holds nothing that was asked for, or nothing that loam reads.
    #[error("{0}")]
    Nothing(String),
}
