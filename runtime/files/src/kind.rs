//! What a GGUF file holds: `general.type`. Models of before that key have none.

use crate::error::{Error, Result};
use crate::gguf::{Gguf, printable};

/// The key.
pub const TYPE: &str = "general.type";
/// A model, or a shard of one.
pub const MODEL: &str = "model";
/// An adapter.
pub const ADAPTER: &str = "adapter";
/// An importance matrix.
pub const IMPORTANCE: &str = "imatrix";

/// Checks that `gguf` is of the kind `wanted`, a value of [`TYPE`].
///
/// # Errors
/// [`Error::Kind`]; the key is no text.
pub fn check(gguf: &Gguf, wanted: &'static str) -> Result<()> {
    let found = gguf.opt_str(TYPE)?.unwrap_or(MODEL);
    if found == wanted {
        return Ok(());
    }
    Err(Error::Kind { path: gguf.path().to_owned(), found: printable(found.as_bytes()), wanted })
}

/// A kind as a piece of a sentence.
pub(crate) fn named(kind: &str) -> String {
    match kind {
        MODEL => "a model".to_owned(),
        ADAPTER => "an adapter".to_owned(),
        IMPORTANCE => "an importance matrix".to_owned(),
        "checkpoint" => "a checkpoint of a training".to_owned(),
        other => format!("of the kind {other:?}"),
    }
}
