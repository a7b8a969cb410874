//! A Hugging Face model folder, opened: config.json as its family reads it, and mapped weights.

use std::path::{Path, PathBuf};

use super::Config;
use crate::problem::SourceProblem;
use crate::source::{Checkpoint, Found, find, is_pickle, lacks, open_weights, present, quantised};
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
    /// What the user should know of the folder.
    pub notes: Vec<String>,
}

/// What says which model a folder holds.
const CONFIG: &str = "config.json";

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
            return Err(Error::source(dir, SourceProblem::NoModel));
        }
        let Found { dir, note } = find(dir, CONFIG)?;
        let path = dir.join(CONFIG);
        if !present(&path)? {
            let adapter = present(&dir.join("adapter_config.json"))?;
            let problem = if adapter { SourceProblem::PeftAdapter } else { lacks(&dir, CONFIG) };
            return Err(Error::source(&dir, problem));
        }
        let config = Config::read(&path)?;
        let weights = open_weights(&dir)?;
        let left_over = quantised::check(&config.json, &weights)?;
        Ok(Source { dir, config, weights, notes: note.into_iter().chain(left_over).collect() })
    }
}
