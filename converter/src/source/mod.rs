//! What is read: JSON and safetensors files of a Hugging Face folder, checked, whatever model they hold.

mod folder;
pub mod json;
pub mod quantised;
pub mod safetensors;

use std::path::{Path, PathBuf};

pub(crate) use folder::{Found, find, lacks};
pub use json::{Json, present};
pub use safetensors::{Checkpoint, View};

use crate::problem::SourceProblem;
use crate::{Error, Result};

/// Whether a file is called as PyTorch calls its pickles.
pub fn is_pickle(path: &Path) -> bool {
    path.extension().is_some_and(|e| ["bin", "pt", "pth", "ckpt", "pkl"].iter().any(|known| e == *known))
}

/// Whether a pickle is what a training leaves beside a model: its arguments, the state of its optimizer.
fn is_of_training(path: &Path) -> bool {
    const STATES: [&str; 5] = ["training_args", "optimizer", "scheduler", "scaler", "rng_state"];
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    STATES.iter().any(|state| name.starts_with(state))
}

/// The weights of the folder `dir`. One file wins over an index, as in Transformers. Without either, what is there
/// instead decides the message.
///
/// # Errors
/// No safetensors weights, or bad ones.
pub fn open_weights(dir: &Path) -> Result<Checkpoint> {
    let single = dir.join("model.safetensors");
    if present(&single)? {
        return Checkpoint::open(&single);
    }
    let index = dir.join("model.safetensors.index.json");
    if present(&index)? {
        return Checkpoint::open_sharded(&index);
    }
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(dir).map_err(Error::io("list", dir))?.filter_map(|e| Some(e.ok()?.path())).collect();
    names.sort();
    match names.iter().find(|path| is_pickle(path) && !is_of_training(path)) {
        Some(path) => Err(Error::Pickle { path: path.clone() }),
        None => Err(Error::source(dir, SourceProblem::NoWeights)),
    }
}
