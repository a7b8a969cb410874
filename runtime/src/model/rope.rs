//! Rotary position embedding: how its angles follow from metadata, and their tables, computed once on the host.

use super::arch::{Architecture, LocalRope};
use super::fields::Fields;
use super::rope_keys;
use crate::error::Result;

/// Largest accepted original context.
const MAX_CONTEXT: u32 = 1 << 24;

/// How positions beyond those of the first training are mapped to angles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions are divided by this.
    Linear(f32),
    /// Fast pairs keep their frequency, slow ones are divided by `factor`, with a ramp between (Peng et al. 2023).
    Yarn {
        /// Divisor of slow pairs.
        factor: f32,
        /// Pairs with more turns than this in `original_context` are fast.
        beta_fast: f32,
        /// Pairs with fewer turns than this in `original_context` are slow.
        beta_slow: f32,
    },
    /// Frequencies are divided by `rope_factors_short.weight` or, beyond the original context,
    /// `rope_factors_long.weight`.
    LongRope,
}

/// The rotation of one kind of layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeConfig {
    /// Values per head that are rotated.
    pub rotary: usize,
    /// Base of the frequencies.
    pub base: f32,
    /// Scaling of positions.
    pub scaling: RopeScaling,
    /// Factor on cosines and sines.
    pub magnitude: f32,
    /// Context length before scaling: yarn's ramp, and the choice between long and short factors.
    pub original_context: usize,
}

impl RopeConfig {
    /// Reads the rotation of layers that see all keys. `context` is the model's, `rotary` values per head turn.
    pub(super) fn read(fields: &Fields<'_>, arch: &Architecture, context: usize, rotary: usize) -> Result<Self> {
        rope_keys::check(fields, matches!(arch.local_rope, LocalRope::Base(_)))?;
        let scaling = scaling(fields)?;
        // As ggml: yarn's own factor on top of the file's.
        let own = match scaling {
            RopeScaling::Yarn { factor, .. } => 1.0 + 0.1 * factor.ln(),
            _ => 1.0,
        };
        let attn_factor = fields.opt_positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
        Ok(Self {
            rotary,
            base: fields.opt_positive("rope.freq_base")?.unwrap_or(10_000.0),
            scaling,
            magnitude: own * attn_factor,
            original_context: fields.opt_count("rope.scaling.original_context_length", MAX_CONTEXT)?.unwrap_or(context),
        })
    }

    /// The rotation of windowed layers, of which `self` is that of the others; `None`: the same.
    pub(super) fn local(&self, fields: &Fields<'_>, arch: &Architecture) -> Result<Option<Self>> {
        let unscaled = Self { scaling: RopeScaling::None, magnitude: 1.0, ..*self };
        match arch.local_rope {
            LocalRope::Same => Ok(None),
            LocalRope::Unscaled => Ok(Some(unscaled)),
            LocalRope::Base(base) => {
                Ok(Some(Self { base: fields.opt_positive("rope.freq_base_swa")?.unwrap_or(base), ..unscaled }))
            }
        }
    }

    /// (cos, sin) for every position below `positions` and every rotated pair: f32[positions, rotary / 2, 2].
    ///
    /// A table, because WGSL's sin and cos have an absolute error of 2^-11 and only within [-pi, pi]. `factors` are
    /// divisors of the frequencies, one per pair.
    pub fn table(&self, positions: usize, factors: Option<&[f32]>) -> Vec<f32> {
        let pairs = self.rotary / 2;
        let frequencies: Vec<f64> =
            (0..pairs).map(|i| f64::from(self.frequency(i, factors.map_or(1.0, |f| f[i])))).collect();
        let mut table = Vec::with_capacity(positions * pairs * 2);
        for position in 0..positions {
            for frequency in &frequencies {
                // The angle is rounded to f32 before the exact sine, as the reference implementations do.
                let angle = f64::from((position as f64 * frequency) as f32);
                table.push(angle.cos() as f32 * self.magnitude);
                table.push(angle.sin() as f32 * self.magnitude);
            }
        }
        table
    }

    /// Angle per position of pair `i`, in f32 as Transformers and ggml have it, so that angles at far positions agree.
    fn frequency(&self, i: usize, divisor: f32) -> f32 {
        let plain = f64::from(self.base).powf(-2.0 * i as f64 / self.rotary as f64) as f32 / divisor;
        match self.scaling {
            RopeScaling::None | RopeScaling::LongRope => plain,
            RopeScaling::Linear(factor) => plain / factor,
            RopeScaling::Yarn { factor, beta_fast, beta_slow } => {
                let low = self.pair_of(beta_fast).floor().max(0.0);
                let high = self.pair_of(beta_slow).ceil().min(self.rotary as f64 - 1.0);
                // The smallest width is ggml's.
                let slow = ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0) as f32;
                plain / factor * slow + plain * (1.0 - slow)
            }
        }
    }

    /// The pair, with fraction, that turns `turns` times in the original context.
    fn pair_of(&self, turns: f32) -> f64 {
        let period = self.original_context as f64 / (f64::from(turns) * std::f64::consts::TAU);
        self.rotary as f64 * period.ln() / (2.0 * f64::from(self.base).ln())
    }
}

fn scaling(fields: &Fields<'_>) -> Result<RopeScaling> {
    let name = "rope.scaling.type";
    let number = |suffix: &str, default: f32| -> Result<f32> { Ok(fields.opt_positive(suffix)?.unwrap_or(default)) };
    match fields.gguf.opt_str(&fields.key(name))? {
        Some("none") => Ok(RopeScaling::None),
        // As llama.cpp has it: linear unless the file says otherwise. The factors of llama3 are a tensor, and need no
        // key.
        None | Some("linear") => Ok(match linear_factor(fields)? {
            Some(factor) if factor != 1.0 => RopeScaling::Linear(factor),
            _ => RopeScaling::None,
        }),
        Some("longrope") => match linear_factor(fields)? {
            Some(factor) if factor != 1.0 => {
                Err(fields.bad("rope.scaling.factor", format!("{factor} is not supported beside longrope, only 1")))
            }
            _ => Ok(RopeScaling::LongRope),
        },
        Some("yarn") => Ok(RopeScaling::Yarn {
            factor: match linear_factor(fields)? {
                Some(factor) => factor,
                None => fields.positive("rope.scaling.factor")?,
            },
            beta_fast: number("rope.scaling.yarn_beta_fast", 32.0)?,
            beta_slow: number("rope.scaling.yarn_beta_slow", 1.0)?,
        }),
        Some(other) => {
            let other = crate::gguf::printable(other.as_bytes());
            Err(fields.bad(name, format!("{other} is not supported (none, linear, yarn, longrope)")))
        }
    }
}

/// What positions are divided by: the key, or that of old files. 0 stands for "not at all".
fn linear_factor(fields: &Fields<'_>) -> Result<Option<f32>> {
    let new = "rope.scaling.factor";
    let is_there = fields.gguf.metadata().get(&fields.key(new)).is_some();
    fields.positive_or_zero(if is_there { new } else { "rope.scale_linear" })
}
