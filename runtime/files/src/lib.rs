//! loam's files: [`gguf`] read and written as what strangers may send, [`adapter`]s and [`importance`] matrices in it,
//! [`mod@file`]s replaced atomically, [`digest`]s and [`sketch`]es; what is wrong with an [`option`], and [`threads`].
//!
//! Nothing here knows what a model computes. Everything that is read is checked: errors name file, field and offset.

pub mod adapter;
mod bytes;
pub mod digest;
pub mod error;
pub mod file;
pub mod gguf;
pub mod importance;
pub mod kind;
pub mod option;
pub mod threads;

pub use bytes::{FileRange, ReadRange, SharedBytes};
pub use error::{Error, GgufProblem, Result, TensorProblem};
pub use gguf::sketch;
