//! What a run is: everything that its result depends on, by name. A checkpoint goes on only in the same run.

use std::path::Path;

use crate::adapter::AdapterFile;
use crate::backend::{DeviceInfo, Precision};
use crate::base::Base;
use crate::data::{Dataset, Example};
use crate::error::{Error, Result};
use crate::file::Sha256;
use crate::gguf::{Gguf, Value, printable};
use crate::train::TrainOptions;

/// Prefix of the keys in files.
const PREFIX: &str = "loam.run.";

/// Names and values of what must not change. The seed is one of the options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(Vec<(String, String)>);

impl Identity {
    /// Of a run of `options` on `base` and `device` from `start`, or from a new adapter.
    ///
    /// # Errors
    /// A tokenizer or template that cannot be read.
    pub fn new(
        base: &Base,
        device: &DeviceInfo,
        start: Option<&AdapterFile>,
        (data, held_out): (&Dataset, Option<&Dataset>),
        options: &TrainOptions,
    ) -> Result<Self> {
        let none = || "none".to_owned();
        let template = base.template()?.map_or_else(none, |template| template.digest().to_owned());
        let mut all = vec![
            ("base".to_owned(), base.digest().to_owned()),
            ("tokenizer".to_owned(), base.tokenizer()?.digest().to_owned()),
            ("chat_template".to_owned(), template),
            ("device".to_owned(), format!("{} {}{}", device.backend, device.name, precision_of(device))),
            ("start".to_owned(), start.map_or_else(none, digest_of_adapter)),
            ("data".to_owned(), data.digest.clone()),
        ];
        // What is kept for the reverse pass changes memory and time, not the result; what a budget chose is kept; which
        // adapter is the result changes no step.
        let same = TrainOptions::default();
        let (keep, force) = (same.keep, same.force);
        let options = TrainOptions { checkpointing: None, budget: None, keep, force, ..options.clone() };
        all.extend(options.flags().into_iter().map(|(name, value)| (format!("option.{name}"), value)));
        // Last: what they depend on is told of before. Lines that were skipped, say, are no option of the run.
        all.push(("examples".to_owned(), digest_of_examples(&data.examples)));
        all.push(("held_out".to_owned(), held_out.map_or_else(none, |data| digest_of_examples(&data.examples))));
        Ok(Self(all))
    }

    /// Keys and values for a file.
    pub fn fields(&self) -> impl Iterator<Item = (String, Value)> {
        self.0.iter().map(|(name, value)| (format!("{PREFIX}{name}"), Value::from(value.as_str())))
    }

    /// Checks that the checkpoint `found` is of this run.
    ///
    /// # Errors
    /// [`Error::CheckpointMismatch`] naming the first thing that differs.
    pub fn check(&self, found: &Gguf) -> Result<()> {
        for (name, now) in &self.0 {
            let then = found.opt_byte_string(&format!("{PREFIX}{name}"))?;
            if then != Some(now.as_bytes()) {
                let then = then.map_or_else(|| "not there".to_owned(), printable);
                return Err(mismatch(found.path(), name, then, now.clone()));
            }
        }
        let known = |name: &str| self.0.iter().any(|(known, _)| known == name);
        let mut stored = found.metadata().iter().filter_map(|(key, _)| key.strip_prefix(PREFIX));
        match stored.find(|name| !known(name)) {
            Some(name) => Err(mismatch(found.path(), &printable(name.as_bytes()), "there".into(), "not known".into())),
            None => Ok(()),
        }
    }
}

/// Behind the device's name: other precisions have other bits.
fn precision_of(device: &DeviceInfo) -> &'static str {
    match device.precision {
        Precision::F32 => "",
        Precision::F16 => " (f16)",
        Precision::Int8 => " (int8)",
    }
}

fn mismatch(path: &Path, name: &str, expected: String, found: String) -> Error {
    // Flags are known by their dashes.
    let what = name.replacen("option.--", "--", 1).replacen("option.", "option ", 1);
    Error::CheckpointMismatch { path: path.into(), what, expected, found }
}

fn digest_of_adapter(adapter: &AdapterFile) -> String {
    let mut hash = Sha256::new();
    hash.update(adapter.architecture.as_bytes());
    hash.update(&adapter.alpha.to_le_bytes());
    for (name, pair) in &adapter.tensors {
        hash.update(&(name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update(&(pair.rank as u64).to_le_bytes());
        pair.a.iter().chain(&pair.b).for_each(|value| hash.update(&value.to_le_bytes()));
    }
    hash.hex()
}

fn digest_of_examples(examples: &[Example]) -> String {
    let mut hash = Sha256::new();
    for example in examples {
        hash.update(&(example.tokens.len() as u64).to_le_bytes());
        example.tokens.iter().for_each(|token| hash.update(&token.to_le_bytes()));
        example.trained.iter().for_each(|&trained| hash.update(&[u8::from(trained)]));
    }
    hash.hex()
}
