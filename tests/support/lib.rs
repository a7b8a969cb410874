//! What the conformance tests share: shared inputs, random values, a plain GPU device, and the check of a kernel
//! against its reference.

pub mod adapter;
pub mod budget;
pub mod check;
pub mod counted;
pub mod folder;
pub mod gpu;
pub mod gradient;
pub mod limited;
pub mod model;
pub mod peft;
pub mod plans;
pub mod rewrite;
pub mod tenants;
pub mod watched;

pub use adapter::{fill_b, flat, parameter_errors};
pub use check::{check_kernel, check_kernel_at};
pub use gpu::{Gpu, gpu};
pub use gradient::check_gradient;
pub use limited::Limited;
pub use loam_shaders::check::{Operand, Random};
pub use model::{asset, back_ends, back_ends_with, convert_asset, full_batch, relative, some_rows};
pub use peft::golden_adapter;
pub use tenants::{new_scorer, new_session, new_trainer};
pub use watched::Watched;

use std::io::Write;
use std::path::PathBuf;

/// A file of the shared inputs (golden values, models): under `$LOAM_SHARED`, or `../shared` beside the repository.
/// `None`, after a line on standard error, where there is no such file: the test skips.
pub fn shared(path: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared"));
    let file = std::env::var_os("LOAM_SHARED").map_or_else(beside, PathBuf::from).join(path);
    if !file.exists() {
        skipped(&format!("there is no shared input {path}; set LOAM_SHARED"));
        return None;
    }
    Some(file)
}

/// Says on standard error that a test does not run, and why: not through `eprintln!`, whose output the test runner
/// hides when a test passes.
pub fn skipped(why: &str) {
    // A closed standard error is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
