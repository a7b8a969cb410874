//! Low-rank adapters.

mod file;

pub use file::{AdapterFile, Pair};
