//! Arguments of `loam train` about what surrounds the training: checkpoints.

use std::path::PathBuf;

use clap::Args;

/// What does not change the adapter that comes out.
#[derive(Debug, Args)]
pub struct UpkeepArgs {
    /// Keep two checkpoints of the run in this folder: whatever ends it, --resume goes on
    #[arg(long, value_name = "DIR")]
    pub checkpoint_dir: Option<PathBuf>,
    /// Write a checkpoint every N steps [default: 10]
    #[arg(long, value_name = "N", requires = "checkpoint_dir", value_parser = clap::value_parser!(u32).range(1..))]
    pub checkpoint_every: Option<u32>,
    /// Go on from the newest checkpoint in --checkpoint-dir; from the start if there is none yet
    #[arg(long, requires = "checkpoint_dir")]
    pub resume: bool,
}
