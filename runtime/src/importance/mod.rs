//! Importance matrices of a base on a text, collected through the same plans that evaluation runs.

mod collect;

pub use collect::{Collector, chunks};
pub use loam_files::importance::{Entry, Importance};
