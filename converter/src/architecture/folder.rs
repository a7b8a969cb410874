//! A Hugging Face model folder, opened: config.json as its family reads it, and mapped weights.

use std::path::{Path, PathBuf};

use super::Config;
use crate::source::{Checkpoint, is_pickle, open_weights, quantised};
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
