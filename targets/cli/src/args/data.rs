//! Arguments about data files.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use loam::data::Mapping;
use loam::train::Objective;

use super::JsonArgs;
use super::values::objective;

/// `loam data`.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Show what training sees of a data file: the rendered conversations with the trained tokens marked
    Inspect(DataInspectArgs),
}

/// `loam data inspect`.
#[derive(Debug, Args)]
pub struct DataInspectArgs {
    /// Data, .jsonl or .txt
    pub file: PathBuf,
    /// GGUF base whose tokenizer and chat template are used
    #[arg(short, long, visible_alias = "base", value_name = "MODEL")]
    pub model: PathBuf,
    /// Use this Jinja file instead of the base's own chat template
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    /// Which tokens are trained [default: clm for .txt, else sft]
    #[arg(long, value_parser = objective(|_| true))]
    pub objective: Option<&'static Objective>,
    /// Longest sequence in tokens [default: 512, or the model's limit if that is less]
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..))]
    pub context: Option<u32>,
    /// Wrong data lines to put up with
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip_bad: usize,
    /// What the keys of the data stand for: prompt=instruction+input,completion=output, or
    /// messages=conversations,role=from,content=value
    #[arg(long, value_name = "KEY=KEYS,..")]
    pub map: Option<Mapping>,
    /// Take control tokens that trained answers spell (<think>, ..) as tokens, not as their letters
    #[arg(long)]
    pub control_tokens: bool,
    /// Show the first N examples only; all are counted
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub json: JsonArgs,
}
