//! Arguments of `loam compare`.

use std::path::PathBuf;

use clap::Args;

use super::{DeviceArgs, JsonArgs};

/// `loam compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The model that the others are compared with, such as an f16 conversion
    #[arg(value_name = "REFERENCE")]
    pub reference: PathBuf,
    /// Models with the same tokenizer: quantisations of the reference
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Text that neither was calibrated on: .txt, or .jsonl as for training
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Tokens of a window [default: 512, or the models' limit if that is less]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..=1 << 20))]
    pub context: Option<u32>,
    /// Run at most so many windows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub chunks: Option<u32>,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub json: JsonArgs,
}
