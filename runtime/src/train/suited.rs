//! What suits a base and its data where nothing else is asked for: learning rate, passes over the data, packing.
//! `docs/training.md` has the measurements.

use super::{Optimizer, TrainOptions};
use crate::adapter::Tuning;
use crate::base::Base;
use crate::data::{Batches, Dataset, Records};
use crate::error::Result;

/// Steps that a small data set needs to be learned.
const STEPS: u64 = 60;
/// Passes over the data that make them, if it is not small.
const EPOCHS: u64 = 3;
/// Most passes: an adapter of more of them repeats its data.
const MOST_EPOCHS: u64 = 20;

/// The rate falls with the width to this power ("LoRA without regret", Thinking Machines 2025).
const SLOPE: f64 = 0.78;

/// Options that were asked for. The others are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Asked {
    /// Largest learning rate.
    pub lr: Option<f32>,
    /// Passes over the data.
    pub epochs: Option<u64>,
    /// Whether short examples share a row.
    pub pack: Option<bool>,
}

/// Options of which each was asked for or chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Suited {
    /// The options.
    pub options: TrainOptions,
    /// What a user should know of the choice.
    pub note: Option<String>,
}

impl TrainOptions {
    /// The same with everything chosen that was not `asked` for.
    ///
    /// # Errors
    /// As [`Batches::new`].
    pub fn suited(self, asked: Asked, base: &Base, data: &Dataset) -> Result<Suited> {
        let lr = asked.lr.unwrap_or_else(|| self.rate(base.config().embedding));
        let pack = match asked.pack {
            Some(pack) => pack,
            None => !self.group_by_length && self.may_pack(data)?,
        };
        let options = Self { lr, pack, ..self };
        let per_epoch = Batches::new(&data.examples, options.batches())?.steps_per_epoch() as u64;
        let enough = STEPS.div_ceil(per_epoch).clamp(EPOCHS, MOST_EPOCHS);
        let epochs = asked.epochs.unwrap_or(enough);
        let (examples, steps) = (data.examples.len(), epochs.saturating_mul(per_epoch));
        let is_short = options.steps.is_none() && asked.epochs.is_none() && steps < STEPS;
        let note = is_short.then(|| {
            format!(
                "{examples} examples make {steps} steps in {epochs} passes, which is few to learn from: more examples \
                 help most, then a smaller batch"
            )
        });
        Ok(Suited { options: Self { epochs, ..options }, note })
    }

    /// Whether rows that examples share are enough for a number of steps that learns something.
    fn may_pack(&self, data: &Dataset) -> Result<bool> {
        let packed = Self { pack: true, ..self.clone() }.batches();
        Ok(packed.pack && Batches::new(&data.examples, packed)?.steps_per_epoch() as u64 >= STEPS / EPOCHS)
    }

    /// The learning rate for a model of this width.
    fn rate(&self, width: usize) -> f32 {
        let Tuning { rate, .. } = *self.adapter.tuning;
        let optimizer = match self.optimizer {
            Optimizer::AdamW(_) | Optimizer::AdamW8Bit(_) => 1.0,
            Optimizer::Lion(_) => 0.4,
            Optimizer::Sgd(_) => 300.0,
        };
        // Preferences move a model further than answers do: TRL's rates differ by ten.
        let objective = if self.objective.objective.records == Records::Preferences { 0.1 } else { 1.0 };
        rounded(f64::from(rate) * optimizer * objective * (576.0 / width as f64).powf(SLOPE))
    }
}

/// The number with two digits.
fn rounded(value: f64) -> f32 {
    let unit = 10f64.powf(value.log10().floor() - 1.0);
    ((value / unit).round() * unit) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::TUNINGS;
    use crate::ops::{lion::Lion, sgd::Sgd};
    use crate::train::{ObjectiveOptions, objective};

    #[test]
    fn the_rate_falls_with_the_width_and_differs_by_method_and_optimizer() {
        let options = TrainOptions::default();
        let lion = TrainOptions { optimizer: Optimizer::Lion(Lion::default()), ..options.clone() };
        let sgd = TrainOptions { optimizer: Optimizer::Sgd(Sgd::default()), ..options.clone() };
        assert_eq!([256, 576, 4096].map(|width| options.rate(width)), [9.4e-4, 5e-4, 1.1e-4]);
        assert_eq!((lion.rate(576), sgd.rate(576)), (2e-4, 0.15));
        let dpo = TrainOptions { objective: ObjectiveOptions::new(&objective::DPO), ..options.clone() };
        assert_eq!(dpo.rate(576), 5e-5);
        let mut factors = options;
        factors.adapter.tuning = TUNINGS.into_iter().find(|tuning| tuning.method.name == "ia3").expect("IA3");
        assert_eq!(factors.rate(576), 1.5e-2);
    }
}
