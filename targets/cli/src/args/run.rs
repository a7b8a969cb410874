//! Arguments of the verbs that run a model.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use loam::data::Mapping;
use loam::train::Objective;

use super::values::{AdapterSpec, DataSpec, TokenList, above_zero, fraction, not_negative, objective};
use super::{AnyBaseArgs, BaseArgs, DeviceArgs, JsonArgs, ModelArgs};

/// `loam demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Training steps
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Keep base.gguf and adapter.gguf in this folder
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    #[command(flatten)]
    pub json: JsonArgs,
}

/// `loam logits`.
#[derive(Debug, Args)]
pub struct LogitsArgs {
    #[command(flatten)]
    pub base: ModelArgs,
    /// Token ids, separated by commas
    #[arg(long, value_name = "1,2,3")]
    pub tokens: TokenList,
    /// Adapter to apply, with an optional factor
    #[arg(long, value_name = "A[:SCALE]")]
    pub adapter: Vec<AdapterSpec>,
    #[command(flatten)]
    pub origin: AnyBaseArgs,
    /// The file to write: float32 [tokens, vocabulary]
    #[arg(short, long, value_name = "OUT.npy")]
    pub output: PathBuf,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub json: JsonArgs,
}

/// `loam imatrix`.
#[derive(Debug, Args)]
pub struct ImatrixArgs {
    #[command(flatten)]
    pub base: BaseArgs,
    /// Calibration text: .txt, or .jsonl as for training
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// The importance matrix to write
    #[arg(short, long, value_name = "FILE.gguf")]
    pub output: PathBuf,
    /// Tokens of a piece of text that is run at once [default: 512, or the model's own limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    pub context: Option<u32>,
    /// Run at most so many pieces
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub chunks: Option<u32>,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub json: JsonArgs,
}

/// Numbers that `loam eval` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MetricArg {
    /// Mean cross entropy in nats per token
    Loss,
    /// exp(loss)
    Perplexity,
    /// Perplexity of .txt data as llama-perplexity has it: whole windows of --context tokens after BOS, the second half
    /// of each counts
    LlamaPerplexity,
    /// Words (rouge1), word pairs (rouge2) and word order (rougeL) that answers share with the references: mean F1
    Rouge,
    /// BLEU-4 of all answers, 0 to 100
    Bleu,
    /// Share of answers that are the reference
    Accuracy,
}

impl MetricArg {
    /// Whether it compares generated answers with the ones in the data.
    pub fn compares(self) -> bool {
        matches!(self, MetricArg::Rouge | MetricArg::Bleu | MetricArg::Accuracy)
    }
}

/// `loam eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub base: BaseArgs,
    /// Data, .jsonl or .txt; may be given several times, each with a label of its own [default label: the file's name]
    #[arg(long, required = true, value_name = "[LABEL=]FILE")]
    pub data: Vec<DataSpec>,
    /// Adapter to apply, with an optional factor; may be given several times
    #[arg(long, value_name = "A[:SCALE]")]
    pub adapter: Vec<AdapterSpec>,
    #[command(flatten)]
    pub origin: AnyBaseArgs,
    /// Measure the base without the adapters too, and what they change
    #[arg(long, requires = "adapter")]
    pub with_base: bool,
    /// Which tokens count [default: clm for .txt, else sft]
    #[arg(long, value_parser = objective(|objective| objective.weights.is_none()))]
    pub objective: Option<&'static Objective>,
    /// Numbers to print, separated by commas; rouge, bleu and accuracy let the model answer the last turn of each
    /// example [default: loss,perplexity, with llama-perplexity for .txt]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub metric: Vec<MetricArg>,
    /// Write a line for each example with the reference and the model's answer to this file
    #[arg(long, value_name = "FILE.jsonl")]
    pub answers: Option<PathBuf>,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    /// Longest sequence in tokens [default: 512, or the model's limit if that is less]
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..))]
    pub context: Option<u32>,
    /// With objective clm: start a window of --context tokens every N tokens, less than --context; a token counts in
    /// the first window that holds it [default: context - 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub stride: Option<u32>,
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
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub json: JsonArgs,
}

/// How the next token is chosen.
#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// Most tokens of an answer
    #[arg(short = 'n', long, visible_alias = "n-predict", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    /// 0 takes the most likely token; higher is more varied
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub temperature: f32,
    /// Choose among the K most likely tokens; 0 is all
    #[arg(long, default_value_t = 0)]
    pub top_k: u32,
    /// Choose among the most likely tokens that together have this probability
    #[arg(long, default_value_t = 1.0, value_parser = fraction)]
    pub top_p: f32,
    /// Drop tokens under this fraction of the most likely one's probability
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub min_p: f32,
    /// Divides the logits of tokens that were there; 1 is off
    #[arg(long, default_value_t = 1.0, value_parser = above_zero)]
    pub repeat_penalty: f32,
    /// Seed of the choice
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Stop before this text; may be given several times
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub stop: Vec<String>,
}

impl SamplingArgs {
    /// The most likely token each time, at most `max_tokens` of them.
    pub fn greedy(max_tokens: u32) -> Self {
        SamplingArgs {
            max_tokens,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            seed: 0,
            stop: Vec::new(),
        }
    }
}

/// `loam generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub base: BaseArgs,
    /// The question, or with --raw the text to continue
    #[arg(short, long, value_name = "T", allow_hyphen_values = true)]
    pub prompt: String,
    /// Adapter to apply, with an optional factor; may be given several times
    #[arg(long, value_name = "A[:SCALE]")]
    pub adapter: Vec<AdapterSpec>,
    #[command(flatten)]
    pub origin: AnyBaseArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Use the prompt as it is, without the chat template
    #[arg(long)]
    pub raw: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub json: JsonArgs,
}

/// `loam chat`.
#[derive(Debug, Args)]
pub struct ChatArgs {
    #[command(flatten)]
    pub base: BaseArgs,
    /// Adapter to apply, with an optional factor; may be given several times
    #[arg(long, value_name = "A[:SCALE]")]
    pub adapter: Vec<AdapterSpec>,
    #[command(flatten)]
    pub origin: AnyBaseArgs,
    /// Tokens of the conversation that the model sees [default: 4096, or the model's limit if that is less]
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..))]
    pub context: Option<u32>,
    /// System message
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub system: Option<String>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `loam bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub base: ModelArgs,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt: u32,
    /// Tokens to generate
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub generate: u32,
    /// Tokens of a training step
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(2..))]
    pub train: u32,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub json: JsonArgs,
}
