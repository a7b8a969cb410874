//! The conversion: plan, encode, write, verify, put in place.

mod journal;
mod output;
mod plan;
mod requantise;
mod set;
mod shards;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use loam_files::digest::Sha256;
use loam_files::gguf::{GgmlType, Value, place};

use crate::architecture::{self, ModelTensor, Origin, Source};
use crate::quantize::Encoder;
use crate::quantize::importance::Calibration;
use crate::quantize::recipe::{Choice, Recipe};
use crate::source::Checkpoint;
use crate::{Error, Result, general, tokenizer, verify};

use output::Output;
pub use plan::{Plan, PlannedTensor, Summary};
pub use shards::Shard;

/// After so many bytes of output the pages of the source are given back: mapped pages count as memory of the process.
const RELEASE: usize = 32 << 20;

/// What to make of the model.
#[derive(Debug, Clone)]
pub struct Options {
    /// The types of the weights.
    pub recipe: Recipe,
    /// An importance matrix, which encoders weigh their errors by.
    pub imatrix: Option<PathBuf>,
    /// Threads that encode; `None`: as many as the process may use.
    pub threads: Option<usize>,
    /// Value of `tokenizer.ggml.pre` if tokenizer.json does not tell.
    pub pre: Option<String>,
    /// Convert NaN, infinity and overflow instead of failing.
    pub allow_nonfinite: bool,
    /// Split the output into files of at most so many bytes.
    pub split_bytes: Option<u64>,
    /// Start over even if an earlier run of the same conversion was killed and left something to continue with.
    pub restart: bool,
    /// How long work may take before it is made durable, so that a kill costs no more than that.
    pub sync_every: Duration,
}

impl Default for Options {
    /// The types that are made where none is asked for.
    fn default() -> Options {
        Options::new(Recipe::DEFAULT)
    }
}

impl Options {
    /// Plain conversion by `recipe`, or with every weight in one format.
    pub fn new(recipe: impl Into<Recipe>) -> Options {
        Options {
            recipe: recipe.into(),
            imatrix: None,
            threads: None,
            pre: None,
            allow_nonfinite: false,
            split_bytes: None,
            restart: false,
            sync_every: Duration::from_secs(2),
        }
    }
}

/// How far a conversion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'p> {
    /// Tensor that is being written.
    pub tensor: &'p str,
    /// Its number from 0.
    pub index: usize,
    /// How many there are.
    pub tensors: usize,
    /// Bytes of tensor data written so far.
    pub bytes: u64,
    /// Bytes of tensor data in all.
    pub total_bytes: u64,
}

/// A source that was opened, and what becomes of it.
struct Job {
    /// The folder or file.
    path: PathBuf,
    weights: Checkpoint,
    /// Where the tensors of the plan come from.
    tensors: Vec<ModelTensor>,
    /// Whose blocks stay as they are.
    copied: Vec<bool>,
    plan: Plan,
}

/// Converts the Hugging Face folder or the GGUF model `source` to the GGUF file `out`, or to shards named after it,
/// which are replaced only when the new ones are complete and verified. `progress` is called before each band of a
/// tensor and at the end.
///
/// Holds a band of one tensor in memory at a time; the weights stay in the mapped files, whose pages are given back. If
/// the process is killed, the next call with the same arguments continues where it was.
///
/// # Errors
/// Anything wrong with the source, its tokenizer or its weights; [`Error::Verify`]; errors of the output file.
pub fn convert(
    source: &Path,
    out: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Summary> {
    let calibration = calibration(options)?;
    let job = open(source, out, options, calibration.as_ref())?;
    refuse_overwriting_the_source(&job)?;
    let pool = loam_files::threads::pool(options.threads)?;
    let (allow_nonfinite, calibration) = (options.allow_nonfinite, calibration.as_ref());
    let encoder = Encoder { weights: &job.weights, path: &job.path, pool: &pool, allow_nonfinite, calibration };
    let output = Output {
        plan: &job.plan,
        source: format!("{}{allow_nonfinite}{}", job.weights.identity()?, calibration.map_or("", Calibration::digest)),
        origins: &|index| job.made_from(index),
        sync_every: options.sync_every,
        restart: options.restart,
    };
    let resumed = output.write(&mut |index, put| job.encode(index, &encoder, put), progress)?;
    Ok(Summary { resumed, ..job.plan.summary() })
}

/// The decisions of [`convert`] without the work. `out` is only named in errors.
///
/// # Errors
/// As [`convert`], but for the values of the weights and the output.
pub fn plan(source: &Path, out: &Path, options: &Options) -> Result<Plan> {
    Ok(open(source, out, options, calibration(options)?.as_ref())?.plan)
}

fn calibration(options: &Options) -> Result<Option<Calibration>> {
    options.imatrix.as_deref().map(Calibration::open).transpose()
}

/// Opens a folder, or a GGUF file: told by its first bytes, or else by its name.
fn open(source: &Path, out: &Path, options: &Options, calibration: Option<&Calibration>) -> Result<Job> {
    let open = if is_gguf(source)? { requantise::open } else { describe };
    let job = open(source, out, options, calibration)?;
    // Headers and heads were looked at.
    job.weights.release();
    Ok(job)
}

fn is_gguf(path: &Path) -> Result<bool> {
    let path = &place(path);
    if std::fs::metadata(path).map_err(Error::io("open", path))?.is_dir() {
        return Ok(false);
    }
    let mut magic = [0; 4];
    let read = loam_files::file::open_regular(path)?.read(&mut magic).map_err(Error::io("read", path))?;
    Ok(&magic[..read] == b"GGUF" || path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")))
}

/// Describes the Hugging Face folder `dir`.
fn describe(dir: &Path, out: &Path, options: &Options, calibration: Option<&Calibration>) -> Result<Job> {
    let source = Source::open(dir)?;
    let model = architecture::describe(&source)?;
    let tokenizer = tokenizer::read(&source, options.pre.as_deref())?;
    let mut notes = source.notes.clone();
    let mut metadata = general::metadata(&source, &model, &mut notes)?;
    for (key, value) in model.metadata.iter().chain(tokenizer.metadata.iter()) {
        metadata.set(key, value.clone());
    }
    verify::check(&source.dir, &metadata)?;
    metadata.set("general.quantization_version", 2u32);
    metadata.set("general.file_type", options.recipe.file_type);
    let shapes: Vec<(&str, &[u64])> = model.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    let choices = options.recipe.choose(&metadata, &shapes, calibration.is_some());
    notes.extend(model.notes.iter().cloned().chain(tokenizer.notes));
    if let Some(calibration) = calibration {
        calibration.describe(&mut metadata);
        notes.extend(calibration.notes(&shapes, &choices)?);
    }
    let planned = |(tensor, choice): (&ModelTensor, Choice)| PlannedTensor {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        ty: choice.format.into(),
        fallback: choice.fallback,
        bytes: GgmlType::from(choice.format).bytes(tensor.cols() * tensor.rows()).unwrap_or(0),
    };
    let tensors: Vec<PlannedTensor> = model.tensors.iter().zip(choices).map(planned).collect();
    let shards = shards::distribute(out, &metadata, &tensors, options.split_bytes)?;
    let mut largest = 0;
    for tensor in &model.tensors {
        largest = largest.max(source_bytes(&source.weights, tensor)?);
    }
    let tokenizer = std::fs::metadata(source.dir.join("tokenizer.json")).map_or(0, |found| found.len());
    let peak_host_bytes = peak_memory(largest, tokenizer, &shards, &tensors);
    let plan = Plan { metadata, tensors, shards, peak_host_bytes, notes };
    let copied = vec![false; model.tensors.len()];
    Ok(Job { path: source.dir, weights: source.weights, tensors: model.tensors, copied, plan })
}

/// An upper estimate: the pages of the largest tensor, which are given back when it is done, a band of blocks, the
/// headers and what they are made of, and the program itself.
fn peak_memory(largest: u64, tokenizer: u64, shards: &[Shard], tensors: &[PlannedTensor]) -> u64 {
    /// Code, threads, a band of blocks in f32, buffers of the output.
    const PROGRAM: u64 = 64 << 20;
    /// The tree of a tokenizer.json takes about so many times its length.
    const TREE: u64 = 12;
    let data: u64 = tensors.iter().map(|t| t.bytes).sum();
    let elements = |value: &Value| if let Value::Array(array) = value { array.len() as u64 } else { 0 };
    let elements: u64 = shards.iter().flat_map(|shard| shard.metadata.iter()).map(|(_, value)| elements(value)).sum();
    let headers = shards.iter().map(|shard| shard.bytes).sum::<u64>() - data;
    PROGRAM + largest + TREE * tokenizer + 4 * headers + verify::PER_ELEMENT * elements
}

/// Bytes of the checkpoint that a tensor is made of.
fn source_bytes(weights: &Checkpoint, tensor: &ModelTensor) -> Result<u64> {
    let Origin::Checkpoint { pieces, .. } = &tensor.origin else { return Ok(0) };
    let first = pieces.first().map_or(Ok(None), |piece| weights.tensor(&piece.name))?;
    Ok(first.map_or(0, |view| view.row_bytes(tensor.cols() as usize) as u64 * tensor.rows()))
}

/// Writing over a mapped weight file would be caught by the rename, but destroy the source all the same.
fn refuse_overwriting_the_source(job: &Job) -> Result<()> {
    let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    let output = |path: &Path| job.plan.shards.iter().any(|shard| same(path, &shard.path));
    match job.weights.paths().find(|path| output(path)) {
        Some(path) => {
            Err(Error::Argument(format!("{} is a file of the source; choose another output", path.display())))
        }
        None => Ok(()),
    }
}

impl Job {
    /// Digest of what tensor `index` is made from: bytes of the checkpoint and how they are taken, or values.
    fn made_from(&self, index: usize) -> String {
        let mut hash = Sha256::new();
        match &self.tensors[index].origin {
            Origin::Values(values) => values.iter().for_each(|value| hash.update(&value.to_le_bytes())),
            Origin::Checkpoint { pieces, permuted_heads, plus } => {
                hash.update(format!("{permuted_heads:?} {plus}\n").as_bytes());
                for (at, piece) in pieces.iter().enumerate() {
                    hash.update(format!("{} {}\n", piece.name, piece.row).as_bytes());
                    let read = pieces[..at].iter().any(|before| before.name == piece.name);
                    let bytes = self.weights.bytes(&piece.name).filter(|_| !read).unwrap_or_default();
                    for band in bytes.chunks(RELEASE) {
                        hash.update(band);
                        self.weights.release();
                    }
                }
            }
        }
        hash.hex()
    }

    /// Gives the bytes of tensor `index` to `put`, and its pages back to the system.
    fn encode(&self, index: usize, encoder: &Encoder<'_>, put: &mut output::Put<'_>) -> Result<()> {
        let mut since = 0;
        let mut put = |band: &[u8]| {
            put(band)?;
            since += band.len();
            if since >= RELEASE {
                self.weights.release();
                since = 0;
            }
            Ok(())
        };
        let (tensor, planned) = (&self.tensors[index], &self.plan.tensors[index]);
        match planned.ty.format() {
            Some(format) if !self.copied[index] => encoder.encode(tensor, format, put)?,
            // The reader has seen that the bytes are there.
            _ => self.weights.bytes(&tensor.name).unwrap_or_default().chunks(1 << 20).try_for_each(&mut put)?,
        }
        self.weights.release();
        Ok(())
    }
}
