//! Arguments of `loam train` about what surrounds the training: checkpoints and pace.

use std::path::PathBuf;

use clap::Args;
use embassy_time::Duration;

use super::values::{fraction, time};

/// What surrounds a run.
#[derive(Debug, Args)]
pub struct UpkeepArgs {
    /// Keep two checkpoints of the run in this folder: whatever ends it, --resume continues it
    #[arg(long, value_name = "DIR")]
    pub checkpoint_dir: Option<PathBuf>,
    /// Write a checkpoint every N steps [default: 10]
    #[arg(long, value_name = "N", requires = "checkpoint_dir", value_parser = clap::value_parser!(u32).range(1..))]
    pub checkpoint_every: Option<u32>,
    /// Continue from the newest checkpoint in --checkpoint-dir; from the start if there is none yet
    #[arg(long, requires = "checkpoint_dir")]
    pub resume: bool,
    /// Let the device work this fraction of the time only
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = fraction)]
    pub duty: f32,
    /// End in time: 90s, 30m, 8h. The adapter is written with the steps that were done, and a checkpoint if there is a
    /// folder for it
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub deadline: Option<Duration>,
    /// Aim at submissions to the device below 8 ms, one at a time, so that the screen stays responsive
    #[arg(long)]
    pub foreground: bool,
}
