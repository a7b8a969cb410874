//! Learning-rate schedules.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::option::OptionError;

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Schedule {
    /// Half a cosine down to 0.
    #[default]
    Cosine,
    /// A straight line down to 0.
    Linear,
    /// No fall.
    Constant,
}

impl Schedule {
    /// Factor on the learning rate at `step` (from 1) of `total`. The first `warmup` steps rise in a straight line and
    /// the last of them has the full rate; afterwards the rate falls so that it would reach 0 one step after the end:
    /// no step is wasted at rate 0.
    pub fn factor(self, step: u64, warmup: u64, total: u64) -> f32 {
        if step <= warmup {
            return step as f32 / warmup.max(1) as f32;
        }
        let progress = (step - 1 - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
        let progress = progress.min(1.0);
        match self {
            Schedule::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())) as f32,
            Schedule::Linear => (1.0 - progress) as f32,
            Schedule::Constant => 1.0,
        }
    }
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "cosine" => Ok(Schedule::Cosine),
            "linear" => Ok(Schedule::Linear),
            "constant" => Ok(Schedule::Constant),
            _ => Err(OptionError::unknown("schedule", text, "cosine, linear, constant").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_fall_without_a_wasted_step() {
        let at = |schedule: Schedule, step| schedule.factor(step, 2, 10);
        assert_eq!([at(Schedule::Linear, 1), at(Schedule::Linear, 2), at(Schedule::Linear, 3)], [0.5, 1.0, 1.0]);
        assert_eq!(at(Schedule::Linear, 10), 0.125);
        assert!((at(Schedule::Cosine, 7) - 0.5).abs() < 1e-6);
        assert!(at(Schedule::Cosine, 10) > 0.0);
        assert_eq!(at(Schedule::Constant, 10), 1.0);
        assert_eq!(Schedule::Constant.factor(1, 0, 10), 1.0);
        assert_eq!(Schedule::Linear.factor(50, 0, 10), 0.0, "behind the end");
    }
}
