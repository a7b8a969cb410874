//! Arguments of `loam train`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use loam::Targets;
use loam::adapter::Tuning;
use loam::data::Mapping;
use loam::plan::Checkpointing;
use loam::train::{Keep, Objective};

use super::values::{above_zero, method, not_negative, objective, share, size, split};
use super::{AnyBaseArgs, BaseArgs, DeviceArgs, JsonArgs, UpkeepArgs};

/// Optimizers, by their names in Transformers.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum OptimArg {
    /// AdamW with moments in f32
    Adamw,
    /// AdamW with blockwise 8-bit moments
    #[value(name = "adamw_8bit")]
    Adamw8Bit,
    /// Lion; wants a learning rate three to ten times smaller than AdamW's
    Lion,
    /// Stochastic gradient descent
    Sgd,
}

/// How the learning rate changes after the warm-up.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ScheduleArg {
    /// Down to zero along half a cosine
    Cosine,
    /// Down to zero along a line
    Linear,
    /// Stays
    Constant,
}

/// Which adapter is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum KeepArg {
    /// The one with the lowest held-out loss
    Best,
    /// The one after the last step
    Last,
}

impl From<KeepArg> for Keep {
    fn from(keep: KeepArg) -> Self {
        match keep {
            KeepArg::Best => Keep::Best,
            KeepArg::Last => Keep::Last,
        }
    }
}

/// What the reverse pass finds of the forward one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckpointingArg {
    /// On if the memory would not do otherwise
    Auto,
    /// The inputs of layers; the rest is computed again
    On,
    /// Everything
    Off,
}

impl From<CheckpointingArg> for Option<Checkpointing> {
    fn from(checkpointing: CheckpointingArg) -> Self {
        match checkpointing {
            CheckpointingArg::Auto => None,
            CheckpointingArg::On => Some(Checkpointing::Layers),
            CheckpointingArg::Off => Some(Checkpointing::None),
        }
    }
}

/// `loam plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub train: TrainArgs,
    /// Run a few steps too, and say how long a step and the whole run take
    #[arg(long)]
    pub measure: bool,
}

/// `loam train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub base: BaseArgs,
    /// Training data, .jsonl or .txt
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// The adapter to write
    #[arg(short, long, value_name = "ADAPTER.gguf")]
    pub output: PathBuf,
    /// Training method [default: lora, or that of --init]
    #[arg(long, value_parser = method())]
    pub method: Option<&'static Tuning>,
    /// What is learned from an example [default: clm for .txt, else sft]
    #[arg(long, value_parser = objective(|_| true))]
    pub objective: Option<&'static Objective>,
    /// How strongly the rewards of --objective dpo count [default: 0.1]
    #[arg(long, value_name = "X", value_parser = above_zero)]
    pub beta: Option<f32>,
    /// Share of records of --objective dpo whose answers are taken to be in the wrong order [default: 0]
    #[arg(long, value_name = "X", value_parser = share)]
    pub label_smoothing: Option<f32>,
    /// Rank of the adapter [default: 8]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub rank: Option<u32>,
    /// Scale of the adapter: its output counts alpha / rank [default: 16]
    #[arg(long, value_parser = above_zero)]
    pub alpha: Option<f32>,
    /// all-linear, or some of attn_q, attn_k, attn_v (or attn_qkv), attn_output, ffn_gate, ffn_up, ffn_down,
    /// ffn_gate_inp (the router of a mixture of experts), ffn_gate_exps, ffn_up_exps, ffn_down_exps (its experts),
    /// token_embd, output (the head), also as PEFT calls them (q_proj, ..) [default: all-linear]
    #[arg(long)]
    pub targets: Option<Targets>,
    /// Times that the data is seen [default: 3, more of a small data set: until there are 60 steps, at most 20]
    #[arg(long, conflicts_with = "steps", value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: Option<u32>,
    /// Optimizer steps
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: Option<u32>,
    /// Sequences in a micro-batch
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,
    /// Micro-batches in a step
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub accumulate: u32,
    /// Longest sequence in tokens [default: 512, or the model's limit if that is less]
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..))]
    pub context: Option<u32>,
    /// Compute layers twice instead of keeping what they computed: less memory, more time, the same bits. auto: where
    /// it would not fit otherwise
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub gradient_checkpointing: CheckpointingArg,
    /// Rows of logits that exist at once [default: by the vocabulary, at most 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub loss_chunk: Option<u32>,
    /// Most memory that training may take (750M, 2G, ..): the process on a CPU or an integrated GPU, the buffers on a
    /// GPU with its own memory. Micro-batch (with --accumulate raised in turn), checkpointing and loss chunk are chosen
    /// so that it fits
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub budget: Option<u64>,
    /// Peak learning rate [default: by method, optimizer and the model's width]
    #[arg(long, value_parser = above_zero)]
    pub lr: Option<f32>,
    /// Learning rate after the warm-up
    #[arg(long, value_enum, default_value = "cosine")]
    pub schedule: ScheduleArg,
    /// Steps of linear warm-up
    #[arg(long, default_value_t = 0)]
    pub warmup: u32,
    /// Optimizer; its state takes 8, 2, 4 or no bytes per parameter of the adapter
    #[arg(long, value_enum, default_value = "adamw")]
    pub optim: OptimArg,
    /// Momentum of --optim sgd (4 bytes per parameter) [default: 0]
    #[arg(long, value_name = "X", value_parser = share)]
    pub momentum: Option<f32>,
    /// Factor on the learning rate of the B matrices (LoRA+)
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = above_zero)]
    pub loraplus_lr_ratio: f32,
    /// Decoupled weight decay of A and B
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub weight_decay: f32,
    /// Share of an adapter's input that is dropped in training; not with --targets on experts, which have none in PEFT
    /// either
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = share)]
    pub dropout: f32,
    /// Noise on the embeddings in training (NEFTune); 5 is usual, 0 turns it off
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = not_negative)]
    pub neftune_noise_alpha: f32,
    /// Largest gradient norm; 0 turns clipping off
    #[arg(long, default_value_t = 1.0, value_parser = not_negative)]
    pub clip: f32,
    /// Seed of the adapter's start, of the order of the data, of dropout and of noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Take the examples in the order of the files
    #[arg(long)]
    pub no_shuffle: bool,
    /// Put several short examples into one sequence [default: where that leaves 20 steps of an epoch]
    #[arg(long, overrides_with = "no_pack")]
    pub pack: bool,
    /// One example per sequence
    #[arg(long, overrides_with = "pack")]
    pub no_pack: bool,
    /// Examples of similar length share a batch, so that there is less to pad; implies --no-pack
    #[arg(long, conflicts_with = "pack")]
    pub group_by_length: bool,
    /// Held-out data, evaluated before and after
    #[arg(long, value_name = "FILE", conflicts_with = "eval_split")]
    pub eval_data: Option<PathBuf>,
    /// Fraction of the data that is held out
    #[arg(long, value_name = "X", value_parser = split)]
    pub eval_split: Option<f32>,
    /// Evaluate every N steps too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub eval_every: Option<u32>,
    /// End after N evaluations in a row without a lower held-out loss
    #[arg(long, value_name = "N", requires = "eval_every", value_parser = clap::value_parser!(u32).range(1..))]
    pub patience: Option<u32>,
    /// With held-out data: write the adapter with the lowest held-out loss, or the last one
    #[arg(long, value_enum, value_name = "WHICH", default_value = "best")]
    pub keep: KeepArg,
    /// Write the adapter even if it made the held-out loss worse or the run ended with a loss or gradient that is not
    /// finite; an adapter with values that are not finite is never written
    #[arg(long)]
    pub force: bool,
    /// Continue from this adapter, with its rank, alpha and targets
    #[arg(long, value_name = "ADAPTER")]
    pub init: Option<PathBuf>,
    #[command(flatten)]
    pub origin: AnyBaseArgs,
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
    /// Write a page with curves, options and answers before and after
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Write one JSON object per step to this file
    #[arg(long, value_name = "FILE.jsonl")]
    pub log: Option<PathBuf>,
    #[command(flatten)]
    pub upkeep: UpkeepArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub json: JsonArgs,
}
