//! What is read: JSON and safetensors files of a Hugging Face folder, checked, whatever model they hold.

pub mod json;
pub mod quantised;
pub mod safetensors;

use std::path::{Path, PathBuf};

pub use json::Json;
pub use safetensors::{Checkpoint, View};

use crate::{Error, Result};

/// Whether a file is called as PyTorch calls its pickles.
pub fn is_pickle(path: &Path) -> bool {
    path.extension().is_some_and(|e| ["bin", "pt", "pth", "ckpt", "pkl"].iter().any(|known| e == *known))
}

/// The weights of the folder `dir`. One file wins over an index, as in Transformers. Without either, what is there instead
/// decides the message.
///
/// # Errors
/// No safetensors weights, or bad ones.
pub fn open_weights(dir: &Path) -> Result<Checkpoint> {
    let single = dir.join("model.safetensors");
    if single.exists() {
        return Checkpoint::open(&single);
    }
    let index = dir.join("model.safetensors.index.json");
    if index.exists() {
        return Checkpoint::open_sharded(&index);
    }
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(dir).map_err(Error::io("list", dir))?.filter_map(|e| Some(e.ok()?.path())).collect();
    names.sort();
    match names.iter().find(|path| is_pickle(path)) {
        Some(path) => Err(Error::Pickle { path: path.clone() }),
        None => {
            let problem = "has neither model.safetensors nor model.safetensors.index.json";
            Err(Error::Source { path: dir.into(), problem: problem.into() })
        }
    }
}
