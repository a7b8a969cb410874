//! Generation: a session with a KV cache, and the sampler that picks the next token.

pub mod sampler;
mod session;

pub use session::{GenerateOptions, Session};
