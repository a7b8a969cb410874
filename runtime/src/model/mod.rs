//! The model: hyper-parameters and weights read from GGUF, and one decoder for all architectures.
//!
//! GGUF tensor names are the only names of weights, from the file to the gradient.

mod arch;
mod config;
mod decoder;
mod rope_table;
mod weights;

pub use config::{Activation, ModelConfig};
pub use decoder::{Cache, Inputs, Keys, forward, logits};
pub use rope_table::rope_table;
pub use weights::{Layer, Weight, WeightPart, Weights};
