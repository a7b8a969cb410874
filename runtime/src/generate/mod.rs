//! Generation.

pub mod sampler;
