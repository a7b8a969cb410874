//! The keys of an architecture in a base's metadata, with their ranges.

use crate::error::{Error, Result};
use crate::gguf::Gguf;

/// Metadata of `gguf` under the prefix of its architecture.
pub(super) struct Fields<'a> {
    pub gguf: &'a Gguf,
    pub prefix: &'static str,
}

impl Fields<'_> {
    pub fn key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.prefix)
    }

    /// A number from 1 to `max`.
    pub fn count(&self, suffix: &str, max: u32) -> Result<usize> {
        Ok(self.gguf.u32_in(&self.key(suffix), 1..=max)? as usize)
    }

    /// As [`Self::count`], if the key is there.
    pub fn opt_count(&self, suffix: &str, max: u32) -> Result<Option<usize>> {
        Ok(self.gguf.opt_u32_in(&self.key(suffix), 1..=max)?.map(|n| n as usize))
    }

    /// A positive number.
    pub fn positive(&self, suffix: &str) -> Result<f32> {
        match self.opt_positive(suffix)? {
            Some(value) => Ok(value),
            None => Ok(self.gguf.f32(&self.key(suffix))?),
        }
    }

    /// As [`Self::positive`], if the key is there.
    pub fn opt_positive(&self, suffix: &str) -> Result<Option<f32>> {
        match self.gguf.opt_f32(&self.key(suffix))? {
            Some(value) if !(value.is_finite() && value > 0.0) => {
                Err(self.bad(suffix, format!("{value} is not a positive number")))
            }
            value => Ok(value),
        }
    }

    /// As [`Self::opt_positive`]; 0, which llama.cpp takes for "not there", is none too.
    pub fn positive_or_zero(&self, suffix: &str) -> Result<Option<f32>> {
        match self.gguf.opt_f32(&self.key(suffix))? {
            Some(0.0) => Ok(None),
            _ => self.opt_positive(suffix),
        }
    }

    pub fn bad(&self, suffix: &str, problem: String) -> Error {
        self.gguf.metadata_error(&self.key(suffix), problem).into()
    }
}
