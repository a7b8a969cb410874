//! loam's text: [`tokenizer`]s and [`chat`] templates as model files carry them.
//!
//! Templates and vocabularies come from strangers: both run within bounds, and bytes of messages never become control
//! tokens.

pub mod chat;
pub mod error;
pub mod object;
pub mod tokenizer;
#[cfg(feature = "work")]
pub mod work;

pub use error::{Error, Result, TokenizerProblem};
