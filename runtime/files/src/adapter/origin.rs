//! What an adapter says of the base that it was trained on: which model it was, and which bytes.

use std::path::Path;

use super::{AdapterFile, BASE_DIGEST};
use crate::error::{Error, Result};
use crate::gguf::{Array, GgufFile, Strings, Value, printable};
use crate::sketch::Sketch;

/// Metadata key: what decides what the base computes besides its weights, as texts "name=value".
const MODEL: &str = "loam.base.model";

/// Something that decides what a model computes besides its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact<N = String> {
    /// A metadata key without the architecture, or "architecture".
    pub name: N,
    /// Its value as text.
    pub value: String,
}

/// How the weights of a base compare with those that an adapter was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// The very same bytes.
    Same,
    /// Those of the same model, quantised otherwise.
    Requantised,
    /// Those of the same model; which bytes they were the adapter does not say.
    OfModel,
    /// The adapter says nothing of them.
    Unknown,
}

/// The metadata of an adapter of a model of which `facts` hold.
pub fn model(facts: &[Fact<&str>]) -> (String, Value) {
    let texts: Strings = facts.iter().map(|fact| format!("{}={}", fact.name, fact.value)).collect();
    (MODEL.into(), texts.into())
}

impl AdapterFile {
    /// What it says of its base besides the weights. `None` for an adapter of another program, or of a loam that did
    /// not note it yet.
    pub fn model(&self) -> Option<Vec<Fact>> {
        let Value::Array(Array::String(texts)) = self.get(MODEL)? else { return None };
        let fact = |text: &[u8]| {
            let text = printable(text);
            let (name, value) = text.split_once('=').unwrap_or((&text, ""));
            Fact { name: name.to_owned(), value: value.to_owned() }
        };
        Some(texts.iter().map(fact).collect())
    }

    /// Compares the weights of `base` with what the adapter says of its own. `path` is the adapter's file, named in
    /// errors.
    ///
    /// # Errors
    /// [`Error::OtherWeights`]; [`Error::BaseMismatch`] for other bytes where the adapter knows nothing else; errors of
    /// reading.
    pub fn weights(&self, base: &GgufFile, path: &Path) -> Result<Weights> {
        let digest = self.text(BASE_DIGEST);
        if let Some(expected) = digest
            && base.content_digest()? == expected
        {
            return Ok(Weights::Same);
        }
        match (Sketch::from_metadata(|key| self.get(key)), digest) {
            (Some(sketch), digest) => {
                let is_vector = |name: &str| base.gguf.opt_tensor(name).is_none_or(|tensor| tensor.shape.len() == 1);
                match sketch.difference(base.sketch()?, is_vector) {
                    Some(tensor) => {
                        Err(Error::OtherWeights { path: path.into(), tensor: printable(tensor.as_bytes()) })
                    }
                    None => Ok(if digest.is_some() { Weights::Requantised } else { Weights::OfModel }),
                }
            }
            (None, Some(expected)) => Err(Error::BaseMismatch {
                path: path.into(),
                what: "content digest",
                expected: printable(expected.as_bytes()),
                found: base.content_digest()?.to_owned(),
            }),
            (None, None) => Ok(Weights::Unknown),
        }
    }

    /// The metadata value of `key`.
    fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.iter().find(|(found, _)| found == key).map(|(_, value)| value)
    }
}
