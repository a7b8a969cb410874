//! A new adapter: its method, where it is put, and what it starts from.

use loam_files::adapter::{AdapterFile, Method, Setting};

use super::method::{Tuning, lora};
use super::targets::{Targets, kinds};
use crate::error::Result;
use crate::option::OptionError;

/// A weight that an adapter may target.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Name of the update, in general the weight's.
    pub name: &'a str,
    /// Rows of a matrix.
    pub rows: usize,
    /// Columns of a matrix.
    pub cols: usize,
    /// How many matrices there are: 1, or experts.
    pub matrices: usize,
}

/// Options of a new adapter, named as in PEFT.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAdapter {
    /// Its method, which does not read all of the others: [`Tuning::options`].
    pub tuning: &'static Tuning,
    /// Which layers. `None`: [`Tuning::targets`].
    pub targets: Option<Targets>,
    /// Seed of values that are drawn at random.
    pub seed: u64,
    /// Rank of low-rank updates.
    pub rank: usize,
    /// Low-rank updates are scaled by alpha / rank.
    pub alpha: f32,
}

impl Default for NewAdapter {
    fn default() -> Self {
        Self { tuning: &lora::TUNING, targets: None, seed: 0, rank: 8, alpha: 16.0 }
    }
}

/// What a method starts the parameters of one target with.
#[derive(Debug, Clone, Copy)]
pub struct Starting<'a> {
    /// What is asked for.
    pub new: &'a NewAdapter,
    /// The target.
    pub target: Target<'a>,
    /// Its number: random values of different targets come from different streams.
    pub stream: u32,
}

impl NewAdapter {
    /// The adapter for a model of this architecture with these weights, which changes nothing yet.
    ///
    /// # Errors
    /// [`crate::Error::Option`] for an option that the method or a target does not allow, or if the model has no layer
    /// of a kind that is asked for.
    pub fn start(&self, architecture: &str, model: &[Target<'_>]) -> Result<AdapterFile> {
        let tuning = self.tuning;
        let (method, values): (&'static Method, _) = (tuning.method, (tuning.set)(self)?);
        let targets = self.targets(model)?;
        let mut parameters = Vec::new();
        for (stream, target) in model.iter().enumerate().filter(|(_, target)| targets.contains(target.name)) {
            if !(method.takes)(target.name) {
                let problem = format!("name {}, which {} is not for", target.name, method.name);
                return Err(OptionError::new("targets", problem).into());
            }
            parameters.extend((tuning.start)(&Starting { new: self, target: *target, stream: stream as u32 })?);
        }
        let settings = method.settings.iter().zip(values).map(|(&key, value)| Setting { key, value }).collect();
        let architecture = architecture.to_owned();
        Ok(AdapterFile { architecture, method, settings, parameters, metadata: Vec::new() })
    }

    /// The targets that are asked for, which the model must have, or those of the method that it has.
    fn targets(&self, model: &[Target<'_>]) -> Result<Targets> {
        let present = kinds(model.iter().map(|target| target.name));
        match (&self.targets, self.tuning.targets.parse()?) {
            (Some(Targets::Kinds(asked)), _) => match asked.iter().find(|kind| !present.contains(kind)) {
                None => Ok(Targets::Kinds(asked.clone())),
                Some(kind) => {
                    let problem = format!("name {kind}, this model has {}", present.join(", "));
                    Err(OptionError::new("targets", problem).into())
                }
            },
            (Some(Targets::AllLinear), _) | (None, Targets::AllLinear) => Ok(Targets::AllLinear),
            (None, Targets::Kinds(usual)) => {
                Ok(Targets::Kinds(usual.into_iter().filter(|kind| present.contains(kind)).collect()))
            }
        }
    }
}
