//! loam: opens GGUF bases, trains low-rank adapters on them and runs both, on any GPU or on the CPU.
//!
//! # Layout
//! - [`gguf`], [`file`], [`tokenizer`], [`chat`], [`data`]: what comes from disk, all of it checked
//! - [`adapter`]: low-rank updates and their file
//! - [`plan`], [`backend`]: a recorded list of kernel calls, and what runs it

pub mod adapter;
pub mod backend;
pub mod chat;
pub mod data;
pub mod error;
pub mod file;
pub mod generate;
pub mod gguf;
pub mod plan;
pub mod tokenizer;

pub use error::{Error, Result};
