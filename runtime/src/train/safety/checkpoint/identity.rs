//! What a run is: everything that its result depends on, by name. A checkpoint continues only the same run.

use std::path::Path;

use crate::adapter::AdapterFile;
use crate::backend::{DeviceInfo, Kind};
use crate::base::Base;
use crate::chat::ChatTemplate;
use crate::data::{Dataset, Example};
use crate::digest::Sha256;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Value, printable};
use crate::train::TrainOptions;

/// Prefix of the keys in files.
const PREFIX: &str = "loam.run.";
/// What the names of the base's hyper-parameters begin with.
const MODEL: &str = "model.";
/// What the names of options begin with.
const OPTION: &str = "option.";
/// Version of the program that writes.
const VERSION: &str = "loam.version";
/// The time that the chat template is told.
pub(super) const CLOCK: &str = "loam.checkpoint.clock";

/// Names and values of what must not change. The seed is one of the options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    all: Vec<(String, String)>,
    /// What may change, and with it the last bits of the result: keys, what they are to a user, values.
    around: Vec<(&'static str, &'static str, String)>,
    /// The time that the chat template is told, in seconds since 1970, if it is told one.
    clock: Option<u64>,
}

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
        // First: what a person has changed in a base is to be named, not a digest.
        let mut all: Vec<_> =
            base.facts().into_iter().map(|fact| (format!("{MODEL}{}", fact.name), fact.value)).collect();
        all.extend([
            ("base".to_owned(), base.digest()?.to_owned()),
            ("tokenizer".to_owned(), base.tokenizer()?.digest().to_owned()),
            ("chat_template".to_owned(), template),
            ("device".to_owned(), format!("{} {}", device.backend, device.name)),
            ("precision".to_owned(), device.precision.name().to_owned()),
            ("start".to_owned(), start.map_or_else(none, digest_of_adapter)),
            ("data".to_owned(), data.digest.clone()),
        ]);
        // What is kept for the reverse pass changes memory and time, not the result; what a budget chose is kept; which
        // adapter is the result changes no step.
        let same = TrainOptions::default();
        let (keep, force) = (same.keep, same.force);
        let options = TrainOptions { checkpointing: None, budget: None, keep, force, ..options.clone() };
        all.extend(options.fields().into_iter().map(|(name, value)| (format!("{OPTION}{name}"), value)));
        // Last: what they depend on is reported before. Lines that were skipped, say, are no option of the run.
        all.push(("examples".to_owned(), digest_of_examples(&data.examples)));
        all.push(("held_out".to_owned(), held_out.map_or_else(none, |data| digest_of_examples(&data.examples))));
        let clock = base.template()?.and_then(ChatTemplate::clock);
        Ok(Self { all, around: around(device), clock })
    }

    /// Keys and values for a file.
    pub fn fields(&self) -> impl Iterator<Item = (String, Value)> {
        let all = self.all.iter().map(|(name, value)| (format!("{PREFIX}{name}"), Value::from(value.as_str())));
        let around = self.around.iter().map(|(key, _, value)| ((*key).to_owned(), Value::from(value.as_str())));
        all.chain(around).chain(self.clock.map(|clock| (CLOCK.to_owned(), Value::U64(clock))))
    }

    /// What is not as it was when the checkpoint `found` was written, so that bits of the result may differ, one line
    /// each.
    pub fn differences(&self, found: &Gguf) -> Vec<String> {
        let of = |(key, what, now): &(&str, &str, String)| {
            let then = found.opt_byte_string(key).ok().flatten().map(printable);
            let same = then.as_deref() == Some(printable(now.as_bytes()).as_str());
            let then = then.map_or_else(|| "not told".to_owned(), |then| format!("{then:?}"));
            let message = format!("{what} was {then} and is {now:?} now: the adapter may differ in its last bits");
            (!same).then_some(message)
        };
        self.around.iter().filter_map(of).collect()
    }

    /// Checks that the checkpoint `found` is of this run.
    ///
    /// # Errors
    /// [`Error::CheckpointMismatch`] naming the first thing that differs.
    pub fn check(&self, found: &Gguf) -> Result<()> {
        for (name, now) in &self.all {
            let then = found.opt_byte_string(&format!("{PREFIX}{name}"))?;
            if then != Some(now.as_bytes()) {
                let then = then.map_or_else(|| "not there".to_owned(), printable);
                return Err(mismatch(found.path(), name, then, now.clone()));
            }
        }
        let known = |name: &str| self.all.iter().any(|(known, _)| known == name);
        let mut stored = found.metadata().iter().filter_map(|(key, _)| key.strip_prefix(PREFIX));
        match stored.find(|name| !known(name)) {
            Some(name) => Err(mismatch(found.path(), &printable(name.as_bytes()), "there".into(), "not known".into())),
            None => Ok(()),
        }
    }
}

/// What the last bits depend on besides the device's name. The CPU's threads are not among it.
fn around(device: &DeviceInfo) -> Vec<(&'static str, &'static str, String)> {
    let mut around = vec![
        (VERSION, "the version of loam", env!("CARGO_PKG_VERSION").to_owned()),
        ("loam.checkpoint.features", "what is used of the device", device.features.join(" ")),
    ];
    if device.kind != Kind::Cpu {
        around.push(("loam.checkpoint.driver", "the device's driver", device.driver.clone()));
    }
    around
}

fn mismatch(path: &Path, name: &str, expected: String, found: String) -> Error {
    let what = name.strip_prefix(OPTION).or(name.strip_prefix(MODEL)).unwrap_or(name).to_owned();
    Error::CheckpointMismatch { path: path.into(), what, expected, found }
}

fn digest_of_adapter(adapter: &AdapterFile) -> String {
    let mut hash = Sha256::new();
    hash.update(adapter.architecture.as_bytes());
    hash.update(adapter.method.name.as_bytes());
    adapter.settings.iter().for_each(|setting| hash.update(&setting.value.to_le_bytes()));
    for parameter in &adapter.parameters {
        let name = parameter.name();
        hash.update(&(name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        parameter.shape.iter().for_each(|n| hash.update(&n.to_le_bytes()));
        parameter.values.iter().for_each(|value| hash.update(&value.to_le_bytes()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_free_and_drivers_are_told_of() {
        let cpu = crate::backend::cpu::info();
        assert_eq!(around(&cpu), around(&DeviceInfo { driver: "1 thread".into(), ..cpu.clone() }));
        let gpu = DeviceInfo { kind: Kind::DiscreteGpu, driver: "driver 7".into(), ..cpu.clone() };
        assert_ne!(around(&gpu), around(&DeviceInfo { driver: "driver 8".into(), ..gpu.clone() }));
        assert_ne!(around(&cpu), around(&DeviceInfo { features: Vec::new(), ..cpu.clone() }));
    }
}
