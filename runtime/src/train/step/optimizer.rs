//! Optimizers: their names and constants, the state that each keeps, and the update of all trained parameters.

use std::ops::Range;
use std::str::FromStr;

use loam_shaders::adamw_8bit::map;

use crate::engine::{Engine, Resources};
use crate::error::{Error, Result};
use crate::ops::adamw::{self, AdamW};
use crate::ops::adamw_8bit::{self, Moments, absmax_words, code_words};
use crate::ops::elementwise;
use crate::ops::gradient_norm::{Part, gradient_norm, ranges, slice};
use crate::ops::lion::{self, Lion};
use crate::ops::sgd::{self, Sgd};
use crate::option::OptionError;
use crate::plan::{Content, Pool, Recorder, StorageId, Tensor};

/// How gradients become steps. All decay weights apart from the gradient (decoupled).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimizer {
    /// AdamW with two moments in f32.
    AdamW(AdamW),
    /// AdamW with two moments of eight bits.
    AdamW8Bit(AdamW),
    /// Lion with one momentum in f32.
    Lion(Lion),
    /// SGD with one momentum in f32, or without any state.
    Sgd(Sgd),
}

impl Default for Optimizer {
    /// AdamW without weight decay, as in Transformers (AdamW's own default is PyTorch's 0.01).
    fn default() -> Self {
        Optimizer::AdamW(AdamW { weight_decay: 0.0, ..AdamW::default() })
    }
}

impl FromStr for Optimizer {
    type Err = Error;

    /// An optimizer by its name, without weight decay.
    fn from_str(name: &str) -> Result<Self> {
        let adamw = AdamW { weight_decay: 0.0, ..AdamW::default() };
        match name {
            "adamw" => Ok(Optimizer::AdamW(adamw)),
            "adamw_8bit" => Ok(Optimizer::AdamW8Bit(adamw)),
            "lion" => Ok(Optimizer::Lion(Lion::default())),
            "sgd" => Ok(Optimizer::Sgd(Sgd::default())),
            _ => Err(OptionError::unknown("optimizer", name, "adamw, adamw_8bit, lion, sgd").into()),
        }
    }
}

impl Optimizer {
    /// Its name, as Transformers has it.
    pub fn name(&self) -> &'static str {
        match self {
            Optimizer::AdamW(_) => "adamw",
            Optimizer::AdamW8Bit(_) => "adamw_8bit",
            Optimizer::Lion(_) => "lion",
            Optimizer::Sgd(_) => "sgd",
        }
    }

    /// The same with another weight decay.
    #[must_use]
    pub fn with_weight_decay(self, weight_decay: f32) -> Self {
        match self {
            Optimizer::AdamW(adamw) => Optimizer::AdamW(AdamW { weight_decay, ..adamw }),
            Optimizer::AdamW8Bit(adamw) => Optimizer::AdamW8Bit(AdamW { weight_decay, ..adamw }),
            Optimizer::Lion(lion) => Optimizer::Lion(Lion { weight_decay, ..lion }),
            Optimizer::Sgd(sgd) => Optimizer::Sgd(Sgd { weight_decay, ..sgd }),
        }
    }

    /// Checks every constant.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the option.
    pub fn check(&self) -> Result<()> {
        let (shares, eps, weight_decay) = match *self {
            Optimizer::AdamW(a) | Optimizer::AdamW8Bit(a) => {
                (vec![("beta1", a.beta1), ("beta2", a.beta2)], a.eps, a.weight_decay)
            }
            Optimizer::Lion(l) => (vec![("beta1", l.beta1), ("beta2", l.beta2)], 1.0, l.weight_decay),
            Optimizer::Sgd(s) => (vec![("momentum", s.momentum)], 1.0, s.weight_decay),
        };
        if let Some((name, share)) = shares.into_iter().find(|(_, share)| !(0.0..1.0).contains(share)) {
            return Err(OptionError::range(name, share, "at least 0 and below 1").into());
        }
        if !(eps.is_finite() && eps > 0.0) {
            return Err(OptionError::range("eps", eps, "positive").into());
        }
        if !(weight_decay.is_finite() && weight_decay >= 0.0) {
            return Err(OptionError::range("weight_decay", weight_decay, "0 or positive").into());
        }
        Ok(())
    }

    /// `1 - beta^step` of both moments (Kingma & Ba 2015, section 3), 1 without moments.
    pub fn corrections(&self, step: u64) -> (f32, f32) {
        let correction = |beta: f32| (1.0 - f64::from(beta).powf(step as f64)) as f32;
        match self {
            Optimizer::AdamW(a) | Optimizer::AdamW8Bit(a) => (correction(a.beta1), correction(a.beta2)),
            Optimizer::Lion(_) | Optimizer::Sgd(_) => (1.0, 1.0),
        }
    }

    /// Name and length in words of each buffer that is kept from step to step for `words` trained parameters. All start
    /// with zeros.
    fn state(&self, words: u64) -> Vec<(&'static str, u64)> {
        match self {
            Optimizer::AdamW(_) => vec![("adamw.m", words), ("adamw.v", words)],
            Optimizer::AdamW8Bit(_) => vec![
                ("adamw_8bit.m", code_words(words)),
                ("adamw_8bit.v", code_words(words)),
                ("adamw_8bit.absmax", absmax_words(words)),
            ],
            Optimizer::Lion(_) => vec![("lion.m", words)],
            Optimizer::Sgd(Sgd { momentum: 0.0, .. }) => Vec::new(),
            Optimizer::Sgd(_) => vec![("sgd.m", words)],
        }
    }

    /// Declares what is kept from step to step for `words` trained parameters, in [`Pool::Optimizer`], and constants.
    ///
    /// # Errors
    /// Over a limit of the device.
    pub fn declare(&self, engine: &mut Engine, resources: &mut Resources, words: u64) -> Result<Vec<Tensor>> {
        let mut all = Vec::new();
        for (name, words) in self.state(words) {
            all.push(whole(engine.add(resources, name, Pool::Optimizer, words, Content::Zeros)?, words));
        }
        if let Optimizer::AdamW8Bit(_) = self {
            let map: Vec<u32> = map().iter().map(|entry| entry.to_bits()).collect();
            let words = map.len() as u64;
            let id = engine.add(resources, "adamw_8bit.map", Pool::Inputs, words, Content::Words(map))?;
            all.push(whole(id, words));
        }
        Ok(all)
    }

    /// Records the update of one part; `state` is what [`Self::declare`] returned.
    fn update(&self, r: &mut Recorder, part: &Part, state: &[Tensor]) {
        match (*self, state) {
            (Optimizer::AdamW(adamw), &[m, v]) => adamw::update(r, part, adamw, (m, v)),
            (Optimizer::AdamW8Bit(adamw), &[m, v, absmax, map]) => {
                adamw_8bit::update(r, part, adamw, Moments { m, v, absmax, map });
            }
            (Optimizer::Lion(lion), &[m]) => lion::update(r, part, lion, m),
            (Optimizer::Sgd(sgd), state) => sgd::update(r, part, sgd, state.first().copied()),
            (optimizer, state) => panic!("{} does not keep {} buffers", optimizer.name(), state.len()),
        }
    }
}

fn whole(id: StorageId, words: u64) -> Tensor {
    Tensor::stored(id, 0, 1, words as usize)
}

/// The buffers of all trained parameters.
#[derive(Debug, Clone, Copy)]
pub struct Arenas<'a> {
    /// Parameters, `f32[len]`.
    pub parameters: Tensor,
    /// Summed gradients, `f32[len]`; zeroed after the update.
    pub gradients: Tensor,
    /// `f32[1]`: the global gradient norm before clipping.
    pub norm: Tensor,
    /// What the optimizer keeps.
    pub state: &'a [Tensor],
    /// All parameters in order.
    pub groups: &'a [Group],
}

/// Parameters that are updated in the same way.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Their words.
    pub range: Range<usize>,
    /// Factor on the step's learning rate.
    pub rate: f32,
    /// Whether they decay.
    pub decays: bool,
}

impl Group {
    /// `groups` with neighbours that are updated in the same way as one.
    pub fn merged(groups: impl IntoIterator<Item = Group>) -> Vec<Group> {
        let mut merged: Vec<Group> = Vec::new();
        for group in groups {
            match merged.last_mut() {
                Some(last) if (last.rate, last.decays) == (group.rate, group.decays) => {
                    last.range.end = group.range.end
                }
                _ => merged.push(group),
            }
        }
        merged
    }
}

/// Records the gradient norm, clipping to `step.clip`, the optimizer's update, and zeroed gradients for the next step.
/// No binding is longer than `limit` words: larger arenas are walked in ranges.
pub fn update(r: &mut Recorder, arenas: &Arenas<'_>, optimizer: &Optimizer, limit: u64) {
    let Arenas { parameters, gradients, norm, .. } = *arenas;
    let len = parameters.len();
    gradient_norm(r, gradients, &ranges(0..len, limit), norm);
    for group in arenas.groups {
        let optimizer = if group.decays { *optimizer } else { optimizer.with_weight_decay(0.0) };
        for range in ranges(group.range.clone(), limit) {
            let gradients = slice(gradients, &range);
            let part = Part {
                first: range.start,
                parameters: slice(parameters, &range).view(),
                gradients: gradients.view(),
                norm: norm.view(),
                len: range.len(),
                lr_factor: group.rate,
            };
            optimizer.update(r, &part, arenas.state);
            elementwise::fill(r, "gradients", gradients, 0.0);
        }
    }
}
