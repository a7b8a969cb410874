//! loam's files: [`gguf`] read and written as what strangers may send, [`adapter`]s and [`importance`] matrices in it,
//! [`file`]s replaced atomically, [`digest`]s.
//!
//! Nothing here knows what a model computes. Everything that is read is checked: errors name file, field and offset.

pub mod adapter;
mod bytes;
pub mod digest;
pub mod error;
pub mod file;
pub mod gguf;
pub mod importance;

pub use bytes::SharedBytes;
pub use error::{Error, GgufProblem, Result};
