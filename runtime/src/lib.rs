//! loam: opens GGUF bases, trains low-rank adapters on them and runs both, on any GPU or on the CPU.
//!
//! # Layout
//! - [`gguf`], [`mod@file`], [`tokenizer`], [`chat`], [`data`]: what comes from disk, all of it checked
//! - [`base`]: an opened base; [`adapter`]: low-rank updates on it; [`model`]: its hyper-parameters, weights and
//!   decoder
//! - [`ops`], [`plan`], [`backend`]: a recorded list of kernel calls, and what runs it; [`engine`] puts a model on a
//!   device
//! - [`loss`]: forward, log-probabilities and back, for a whole batch
//! - [`generate`], [`train`], [`evaluate`], [`importance`]: what is done with it

pub mod adapter;
pub mod backend;
pub mod base;
pub mod data;
pub mod engine;
pub mod error;
pub mod evaluate;
pub mod generate;
pub mod host;
pub mod importance;
pub mod loss;
pub mod model;
pub mod ops;
pub mod plan;
pub mod problem;
pub mod random;
pub mod train;

pub use loam_files::{FileRange, ReadRange, SharedBytes, digest, file, gguf, option};
pub use loam_text::{chat, tokenizer};

pub use adapter::{AdapterFile, NewAdapter, Targets};
pub use base::Base;
pub use engine::Engine;
pub use error::{Error, Result};
pub use generate::Session;
pub use importance::Importance;
pub use train::{TrainOptions, Trainer};
