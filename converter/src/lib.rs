//! loam's converter: a Hugging Face model folder or a GGUF model becomes a quantised GGUF base, PEFT adapters go in and
//! out.
//!
//! # Layout
//! - [`source`]: files of a model folder: JSON and mapped safetensors
//! - [`architecture`], [`general`], [`tokenizer`]: config.json, and what becomes of names, rows and settings
//! - [`quantize`]: the type and the bytes of each tensor
//! - [`mod@convert`]: plan, stream, continue after a kill, verify, put in place; [`verify`]: the independent second
//!   reader
//! - `hub`: downloads from a model hub (feature `hub`)
//! - [`peft`]: PEFT LoRA folders to GGUF adapters and back
//! - [`error`]: the one error type; [`problem`]: what of it depends on what was found

pub mod architecture;
pub mod convert;
pub mod error;
pub mod general;
#[cfg(feature = "hub")]
pub mod hub;
pub mod peft;
pub mod problem;
pub mod quantize;
pub mod source;
pub mod tokenizer;
pub mod verify;

pub use architecture::Source;
pub use convert::{Options, Plan, Progress, Summary, convert, plan};
pub use error::{Error, Result};
pub use peft::{from_peft, read_peft, to_peft, write_peft};
pub use quantize::recipe::Recipe;
