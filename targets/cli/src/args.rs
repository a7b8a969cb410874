//! The arguments as typed. What they mean is decided by the verb that gets them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValue;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use loam::backend::Precision;
use loam_convert::Recipe;

mod base;
mod compare;
mod data;
mod pull;
mod run;
mod train;
mod upkeep;
mod values;

pub use base::{BaseArgs, ModelArgs};
pub use compare::CompareArgs;
pub use data::{DataCommand, DataInspectArgs};
pub use pull::PullArgs;
pub use run::{
    BenchArgs, ChatArgs, DemoArgs, EvalArgs, GenerateArgs, ImatrixArgs, LogitsArgs, MetricArg, SamplingArgs,
};
pub use train::{OptimArg, PlanArgs, ScheduleArg, TrainArgs};
pub use upkeep::UpkeepArgs;
pub use values::{AdapterSpec, DataSpec};

/// Turns a server model into a small GGUF base, trains adapters on it and runs both.
#[derive(Debug, Parser)]
#[command(name = "loam", version, about, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The arguments of this process, also as clap has found them.
    ///
    /// # Errors
    /// What clap cannot take.
    pub fn from_process() -> clap::error::Result<(Self, ArgMatches)> {
        let words: Vec<OsString> = std::env::args_os().collect();
        Self::from_words(&words)
    }

    /// These arguments. A model that stands after the files of `--data`, which take all that follows, is not one of
    /// them.
    fn from_words(words: &[OsString]) -> clap::error::Result<(Self, ArgMatches)> {
        // `-1` is a value that is out of range, and not an unknown flag.
        let parse = |words: &[OsString]| {
            let command = Self::command().mut_subcommands(|verb| verb.mut_args(signed));
            let matches = command.try_get_matches_from(words)?;
            Ok((Self::from_arg_matches(&matches)?, matches))
        };
        parse(words).or_else(|error: clap::Error| match model_among_data(words) {
            Some(words) if error.kind() == ErrorKind::MissingRequiredArgument => parse(&words).map_err(|_| error),
            _ => Err(error),
        })
    }
}

/// The argument, whose value may be a number below zero.
fn signed(argument: Arg) -> Arg {
    let takes_values = argument.get_action().takes_values() && !argument.is_positional();
    if takes_values { argument.allow_negative_numbers(true) } else { argument }
}

/// The words with a model among the files of `--data` moved to follow the verb, if there is one.
fn model_among_data(words: &[OsString]) -> Option<Vec<OsString>> {
    let flag = words.iter().position(|word| word == "--data")?;
    let files = words[flag + 1..].iter().take_while(|word| !word.to_string_lossy().starts_with('-'));
    let model =
        flag + 1 + files.clone().position(|word| Path::new(word).extension().is_some_and(|end| end == "gguf"))?;
    let mut words = words.to_vec();
    let model = words.remove(model);
    words.insert(2.min(words.len()), model);
    Some(words)
}

/// The verbs, one file each in `verbs/`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole main job on the embedded model: convert, evaluate, train, evaluate, generate
    Demo(DemoArgs),
    /// List the devices that loam can run on
    Devices(DevicesArgs),
    /// Download a model from a hub: resumable, with every digest checked
    Pull(PullArgs),
    /// Convert a Hugging Face model folder, a repository, or a GGUF model to a GGUF base
    Convert(ConvertArgs),
    /// Measure on calibration text how much each weight is used: `convert --imatrix` rounds by it
    Imatrix(ImatrixArgs),
    /// Show what a GGUF file holds: a base, an adapter, a checkpoint, anything
    Inspect(InspectArgs),
    /// Print the token ids of a text
    Tokenize(TokenizeArgs),
    /// Write the logits of a token sequence as a .npy file
    Logits(LogitsArgs),
    /// Predict the memory of a training before anything is allocated, and measure its time if asked
    #[command(mut_arg("data", |arg| arg.required(false)))]
    #[command(mut_arg("output", |arg| arg.required(false).default_value("unused").hide_default_value(true)))]
    Plan(PlanArgs),
    /// Train an adapter on a base
    Train(TrainArgs),
    /// Measure loss, perplexity and the quality of answers on a data file
    Eval(EvalArgs),
    /// Compare quantised models with the one they were made from: size, perplexity, divergence, speed, which to take
    Compare(CompareArgs),
    /// Answer one prompt
    Generate(GenerateArgs),
    /// Talk to a model
    Chat(ChatArgs),
    /// Import, export or check an adapter
    #[command(subcommand)]
    Adapter(AdapterCommand),
    /// Look into data files
    #[command(subcommand)]
    Data(DataCommand),
    /// Measure load time, prompt, generation and training speed
    Bench(BenchArgs),
}

/// Which processor runs the model.
#[derive(Debug, Clone, Args)]
pub struct DeviceArgs {
    /// auto, cpu, gpu, gpu:N or a part of a name in `loam devices` [default: $LOAM_DEVICE, else auto]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Measure which of the kernels that compute the same bits is the fastest, and remember it. auto: on real GPUs
    #[arg(long, value_enum, default_value = "auto")]
    pub tune: TuneArg,
    /// What products of weights with more than four tokens are multiplied in, on GPUs. Sums stay in single precision
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: PrecisionArg,
}

/// Precision of products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArg {
    /// Single precision
    F32,
    /// Half precision, by cooperative matrices where the device has them: errors of about 4e-4
    F16,
    /// 8-bit integers, forward only, for GPUs without f16: errors of about 4e-3
    Int8,
}

impl From<PrecisionArg> for Precision {
    fn from(arg: PrecisionArg) -> Self {
        match arg {
            PrecisionArg::F32 => Self::F32,
            PrecisionArg::F16 => Self::F16,
            PrecisionArg::Int8 => Self::Int8,
        }
    }
}

/// Whether kernels are chosen by measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TuneArg {
    /// On real GPUs
    Auto,
    /// On every device that has a choice
    On,
    /// Not at all
    Off,
}

impl DeviceArgs {
    /// The flag, else `LOAM_DEVICE`, else `auto`.
    pub fn name(&self) -> String {
        let named = self.device.clone().or_else(|| std::env::var("LOAM_DEVICE").ok());
        named.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| "auto".to_owned())
    }
}

/// `--any-base`, of every verb that puts adapters on a base.
#[derive(Debug, Clone, Copy, Args)]
pub struct AnyBaseArgs {
    /// Take adapters of another model too, as far as the shapes of their tensors fit: answers may make no sense
    #[arg(long)]
    pub any_base: bool,
}

/// `--json`, of every verb that has results.
#[derive(Debug, Args)]
pub struct JsonArgs {
    /// Print JSON on standard output, one object a line
    #[arg(long)]
    pub json: bool,
}

/// `loam devices`.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    #[command(flatten)]
    pub json: JsonArgs,
}

/// What `loam convert` writes: one of [`Recipe::ALL`].
#[derive(Debug, Clone, Copy)]
pub struct FormatArg(pub Recipe);

static FORMATS: [FormatArg; Recipe::ALL.len()] = {
    let mut list = [FormatArg(Recipe::ALL[0]); Recipe::ALL.len()];
    let mut i = 0;
    while i < list.len() {
        list[i] = FormatArg(Recipe::ALL[i]);
        i += 1;
    }
    list
};

impl ValueEnum for FormatArg {
    fn value_variants<'a>() -> &'a [FormatArg] {
        &FORMATS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let aliases = Recipe::ALIASES.into_iter().filter(|(_, name)| *name == self.0.name).map(|(alias, _)| alias);
        Some(PossibleValue::new(self.0.name).aliases(aliases))
    }
}

/// `loam convert`.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// Hugging Face model folder (config.json, *.safetensors, tokenizer.json or tokenizer.model), OWNER/NAME[@REVISION]
    /// or OWNER/NAME:FILE to pull it first, or a .gguf model to quantise again (of a split one the first shard)
    #[arg(value_name = "SRC")]
    pub source: PathBuf,
    /// The GGUF file to write
    #[arg(short, long, value_name = "OUT.gguf")]
    pub output: PathBuf,
    /// What llama-quantize makes by this name (q4_k is q4_k_m, q5_k is q5_k_m): most weights in the type, some in a
    /// better one
    #[arg(long, value_enum, ignore_case = true, default_value = Recipe::DEFAULT.name)]
    pub format: FormatArg,
    /// Every weight in the type of --format, where its shape allows it: smaller, and more is lost
    #[arg(long)]
    pub pure: bool,
    /// Importance matrix, from `loam imatrix` or llama-imatrix: errors count by how much a weight is used
    #[arg(long, value_name = "FILE")]
    pub imatrix: Option<PathBuf>,
    /// Threads that quantise [default: all cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Pre-tokenizer name (tokenizer.ggml.pre) where the source does not tell, or tells a wrong one
    #[arg(long, value_name = "NAME")]
    pub pre: Option<String>,
    /// Convert weights that are NaN, infinite or too large for the format, instead of failing
    #[arg(long)]
    pub allow_nonfinite: bool,
    /// Split the output into OUT-00001-of-0000N.gguf of at most so many bytes (500M, 2G, ..) if it is larger
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    pub split_size: Option<u64>,
    /// Print types, sizes, fallbacks and memory, and write nothing
    #[arg(long)]
    pub plan: bool,
    /// Start over instead of continuing where a killed run of the same conversion ended
    #[arg(long)]
    pub restart: bool,
    #[command(flatten)]
    pub json: JsonArgs,
}

/// `loam inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Any .gguf file
    pub file: PathBuf,
    /// List every tensor
    #[arg(long)]
    pub tensors: bool,
    /// Compute the content digest that adapters name their base by (reads the whole file)
    #[arg(long)]
    pub digest: bool,
    /// Decode every weight and fail if one is NaN or infinite (reads the whole file)
    #[arg(long)]
    pub verify: bool,
    #[command(flatten)]
    pub json: JsonArgs,
}

/// `loam tokenize`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["text", "file"]))]
pub struct TokenizeArgs {
    #[command(flatten)]
    pub base: ModelArgs,
    /// The text
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub text: Option<String>,
    /// A UTF-8 text file
    #[arg(long, value_name = "F")]
    pub file: Option<PathBuf>,
    /// Treat the spelling of special tokens as plain text
    #[arg(long)]
    pub no_special: bool,
    /// Put no beginning-of-sequence token before the text
    #[arg(long)]
    pub no_bos: bool,
    #[command(flatten)]
    pub json: JsonArgs,
}

/// `loam adapter ..`.
#[derive(Debug, Subcommand)]
pub enum AdapterCommand {
    /// Turn a PEFT folder (LoRA or IA3) into a GGUF adapter
    FromPeft(ExchangeArgs),
    /// Turn a GGUF adapter into a PEFT folder; an earlier one is replaced as a whole
    ToPeft(ExchangeArgs),
    /// Check that an adapter fits a base
    Verify(VerifyArgs),
}

/// `loam adapter from-peft` and `to-peft`.
#[derive(Debug, Args)]
pub struct ExchangeArgs {
    /// The adapter: a PEFT folder, or a .gguf file
    pub source: PathBuf,
    /// The GGUF base that the adapter belongs to
    #[arg(short = 'm', long, visible_alias = "model", value_name = "MODEL")]
    pub base: PathBuf,
    /// What to write: a .gguf file, or a folder
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    #[command(flatten)]
    pub origin: AnyBaseArgs,
    #[command(flatten)]
    pub json: JsonArgs,
}

/// `loam adapter verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The GGUF adapter
    pub adapter: PathBuf,
    /// The GGUF base
    #[arg(short = 'm', long, visible_alias = "model", value_name = "MODEL")]
    pub base: PathBuf,
    #[command(flatten)]
    pub origin: AnyBaseArgs,
    #[command(flatten)]
    pub json: JsonArgs,
}
