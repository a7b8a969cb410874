//! What is converted: a Hugging Face folder with config.json, safetensors weights and a tokenizer.

pub mod config;
pub mod json;
pub mod quantised;
pub mod rope;
pub mod safetensors;

use std::path::{Path, PathBuf};

pub use config::Config;
pub use json::Json;
pub use safetensors::{Checkpoint, View};

use crate::{Error, Result};

/// An opened model folder.
#[derive(Debug)]
pub struct Source {
    /// The folder.
    pub dir: PathBuf,
    /// The model's shape and options.
    pub config: Config,
    /// The weights, mapped.
    pub weights: Checkpoint,
}

impl Source {
    /// Opens the folder `dir`: reads its config.json and the headers of its safetensors files.
    ///
    /// # Errors
    /// No such folder, no or a bad config.json, an unsupported architecture, no safetensors weights or bad ones.
    pub fn open(dir: &Path) -> Result<Source> {
        let meta = std::fs::metadata(dir).map_err(Error::io("open", dir))?;
        if !meta.is_dir() {
            if is_pickle(dir) {
                return Err(Error::Pickle { path: dir.into() });
            }
            let problem = "is no folder and no GGUF file; give a Hugging Face model folder with config.json and \
                           model.safetensors, or a .gguf file";
            return Err(Error::Source { path: dir.into(), problem: problem.into() });
        }
        let adapter = dir.join("adapter_config.json");
        if adapter.is_file() && !dir.join("config.json").exists() {
            let problem = "is a PEFT adapter, not a model; use `loam adapter from-peft`";
            return Err(Error::Source { path: dir.into(), problem: problem.into() });
        }
        let config = Config::read(&dir.join("config.json"))?;
        let weights = open_weights(dir)?;
        quantised::check_names(&weights)?;
        Ok(Source { dir: dir.into(), config, weights })
    }
}

/// Whether a file is called as PyTorch calls its pickles.
fn is_pickle(path: &Path) -> bool {
    path.extension().is_some_and(|e| ["bin", "pt", "pth", "ckpt", "pkl"].iter().any(|known| e == *known))
}

/// One file wins over an index, as in Transformers. Without either, what is there instead decides the message.
fn open_weights(dir: &Path) -> Result<Checkpoint> {
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
