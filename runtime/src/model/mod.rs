//! The model: hyper-parameters and weights read from GGUF, and one decoder for all architectures.
//!
//! GGUF tensor names are the only names of weights, from the file to the gradient.

mod arch;
mod config;
mod declare;
mod decoder;
mod facts;
mod fields;
mod linear;
mod moe;
mod rope;
mod rope_keys;
mod watch;
mod weights;

pub use arch::{Activation, HeadNorms, Windowed};
pub use config::ModelConfig;
pub use decoder::{Inputs, Keys, Paged, Pass, forward, logits, loss_logits};
pub use moe::{Experts, ExpertsConfig};
pub use rope::{RopeConfig, RopeScaling};
pub use watch::{Watch, Watches};
pub use weights::{FeedForward, Layer, Projections, RopeFactors, Weights};
