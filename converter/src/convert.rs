//! The conversion: plan, encode, write, verify, put in place.

use std::path::Path;

use loam::file::AtomicFile;
use loam::gguf::{GgmlType, Metadata, TensorDeclaration, Writer, file_size};
use loam_shaders::Format;

use crate::architecture::{self, Model, ModelTensor};
use crate::quantize::Encoder;
use crate::quantize::recipe::{Choice, Recipe};
use crate::source::Source;
use crate::verify::{Expected, verify};
use crate::{Error, Result, general, tokenizer};

/// What to make of the model.
#[derive(Debug, Clone)]
pub struct Options {
    /// The types of the weights.
    pub recipe: Recipe,
    /// Threads that encode; `None`: as many as rayon's default.
    pub threads: Option<usize>,
    /// Value of `tokenizer.ggml.pre` if tokenizer.json does not tell.
    pub pre: Option<String>,
    /// Convert NaN, infinity and overflow instead of failing.
    pub allow_nonfinite: bool,
}

impl Options {
    /// Plain conversion by `recipe`, or with every weight in one format.
    pub fn new(recipe: impl Into<Recipe>) -> Options {
        Options { recipe: recipe.into(), threads: None, pre: None, allow_nonfinite: false }
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

/// A tensor of a [`Plan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// GGUF name.
    pub name: String,
    /// Dimensions in ggml's order.
    pub shape: Vec<u64>,
    /// What it becomes.
    pub choice: Choice,
    /// Size in bytes.
    pub bytes: u64,
}

/// All decisions of a conversion, before any work: `--plan`.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Metadata of the file.
    pub metadata: Metadata,
    /// Tensors in the order of the file.
    pub tensors: Vec<PlannedTensor>,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// What a conversion did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Number of tensors.
    pub tensors: usize,
    /// Number of weights.
    pub parameters: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// How many tensors have each type, in order of first use.
    pub types: Vec<(Format, usize)>,
    /// Tensors that could not be stored in the asked format, with what they are stored in.
    pub fallbacks: Vec<(String, Format)>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Converts the Hugging Face folder `dir` to the GGUF file `out`, which is replaced only when the new file is complete
/// and verified. `progress` is called before each band of a tensor and at the end.
///
/// Holds a band of one tensor in memory at a time; the weights stay in the mapped files.
///
/// # Errors
/// Anything wrong with the folder, its tokenizer or its weights; [`Error::Verify`]; errors of the output file.
pub fn convert(dir: &Path, out: &Path, options: &Options, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Summary> {
    let source = Source::open(dir)?;
    let (model, plan) = prepare(&source, out, options)?;
    refuse_overwriting_the_source(&source, out)?;
    let mut builder = rayon::ThreadPoolBuilder::new();
    if let Some(threads) = options.threads {
        builder = builder.num_threads(threads.max(1));
    }
    let pool = builder.build().map_err(|e| Error::Argument(format!("cannot start threads: {e}")))?;
    let encoder = Encoder { source: &source, pool: &pool, allow_nonfinite: options.allow_nonfinite };
    write(&encoder, &model, &plan, out, progress)?;
    Ok(plan.summary())
}

/// The decisions of [`convert`] without the work. `out` is only named in errors.
///
/// # Errors
/// As [`convert`], but for the values of the weights and the output.
pub fn plan(dir: &Path, out: &Path, options: &Options) -> Result<Plan> {
    let source = Source::open(dir)?;
    Ok(prepare(&source, out, options)?.1)
}

fn prepare(source: &Source, out: &Path, options: &Options) -> Result<(Model, Plan)> {
    let model = architecture::describe(source)?;
    let tokenizer = tokenizer::read(source, options.pre.as_deref())?;
    let mut metadata = general::metadata(source, &model)?;
    for (key, value) in model.metadata.iter().chain(tokenizer.metadata.iter()) {
        metadata.set(key, value.clone());
    }
    metadata.set("general.quantization_version", 2u32);
    metadata.set("general.file_type", options.recipe.file_type);
    let shapes: Vec<(&str, &[u64])> = model.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    let choices = options.recipe.choose(&metadata, &shapes, false);
    let planned = |(tensor, choice): (&ModelTensor, Choice)| PlannedTensor {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        choice,
        bytes: GgmlType::from(choice.format).bytes(tensor.cols() * tensor.rows()).unwrap_or(0),
    };
    let tensors = model.tensors.iter().zip(choices).map(planned).collect();
    let mut plan = Plan { metadata, tensors, file_bytes: 0, notes: [model.notes.clone(), tokenizer.notes].concat() };
    plan.file_bytes = file_size(out, &plan.metadata, &plan.declarations())?;
    Ok((model, plan))
}

/// Writing over a mapped weight file would be caught by the rename, but destroy the source all the same.
fn refuse_overwriting_the_source(source: &Source, out: &Path) -> Result<()> {
    let same = |path: &Path| matches!((path.canonicalize(), out.canonicalize()), (Ok(a), Ok(b)) if a == b);
    match source.weights.paths().find(|path| same(path)) {
        Some(path) => {
            Err(Error::Argument(format!("{} is a file of the source; choose another output", path.display())))
        }
        None => Ok(()),
    }
}

fn write(
    encoder: &Encoder<'_>,
    model: &Model,
    plan: &Plan,
    out: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<()> {
    let file = AtomicFile::create(out)?;
    let mut writer = Writer::new(file, out, &plan.metadata, &plan.declarations())?;
    let placed = writer.tensors().to_vec();
    let total_bytes = plan.tensors.iter().map(|t| t.bytes).sum();
    let (tensors, mut bytes) = (plan.tensors.len(), 0);
    for (index, (tensor, planned)) in model.tensors.iter().zip(&plan.tensors).enumerate() {
        encoder.encode(tensor, planned.choice.format, |band| {
            progress(Progress { tensor: &tensor.name, index, tensors, bytes, total_bytes });
            bytes += band.len() as u64;
            Ok(writer.write(&tensor.name, band)?)
        })?;
    }
    // Flushes, so that the reader sees everything.
    let file = writer.finish()?;
    verify(file.temporary(), out, &Expected { metadata: &plan.metadata, tensors: &placed })?;
    file.commit()?;
    progress(Progress { tensor: "", index: tensors, tensors, bytes, total_bytes });
    Ok(())
}

impl Plan {
    fn declarations(&self) -> Vec<TensorDeclaration> {
        let declare = |t: &PlannedTensor| TensorDeclaration {
            name: t.name.clone(),
            shape: t.shape.clone(),
            ty: t.choice.format.into(),
        };
        self.tensors.iter().map(declare).collect()
    }

    /// What a conversion by this plan reports.
    pub fn summary(&self) -> Summary {
        let mut types: Vec<(Format, usize)> = Vec::new();
        for tensor in &self.tensors {
            match types.iter_mut().find(|(format, _)| *format == tensor.choice.format) {
                Some((_, count)) => *count += 1,
                None => types.push((tensor.choice.format, 1)),
            }
        }
        let fallbacks = self.tensors.iter().filter(|t| t.choice.fallback);
        Summary {
            tensors: self.tensors.len(),
            parameters: self.tensors.iter().map(|t| t.shape.iter().product::<u64>()).sum(),
            bytes: self.file_bytes,
            types,
            fallbacks: fallbacks.map(|t| (t.name.clone(), t.choice.format)).collect(),
            notes: self.notes.clone(),
        }
    }
}
