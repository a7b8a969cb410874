//! loam's converter: a Hugging Face model folder becomes a quantised GGUF base, PEFT adapters go in and out.
//!
//! # Layout
//! - [`source`]: the folder: config.json and mapped safetensors
//! - [`error`]: the one error type

pub mod error;
pub mod source;

pub use error::{Error, Result};
pub use source::Source;
