//! The statistics of a base on calibration text.

use loam_shaders::Step;

use super::{Entry, Importance};
use crate::adapter::Sites;
use crate::backend::{Backend, ProgramId};
use crate::base::Base;
use crate::engine::{Engine, InputBuffers, Resources, list};
use crate::error::{Error, Result};
use crate::gguf::TensorInfo;
use crate::model::{Inputs, Keys, Pass, Watch, Watches, forward};
use crate::plan::{Checkpointing, Content, Location, Plan, Pool, StorageId, Tensor, View};
use crate::tokenizer::Tokenizer;

/// Sums up the squares of what goes into the products of a base's blocks, on an engine.
pub struct Collector {
    resources: Resources,
    program: ProgramId,
    inputs: InputBuffers,
    watched: Vec<Watched>,
    context: usize,
    chunks: u32,
}

/// One weight whose inputs are summed up.
struct Watched {
    name: String,
    /// Sums of the last chunk, on the device, [matrices, inputs].
    sums: StorageId,
    /// Sums of all chunks.
    totals: Vec<f64>,
    /// Of a stack of experts: the inputs that each has seen in the last chunk, on the device.
    seen: Option<StorageId>,
    /// Inputs that each matrix has seen in all chunks.
    counts: Vec<u64>,
}

impl Collector {
    /// For chunks of `context` tokens of `base`, which is on `engine`.
    ///
    /// # Errors
    /// A base without products that could be quantised, or a device without enough memory.
    pub async fn new(base: &Base, engine: &mut Engine, context: usize) -> Result<Collector> {
        let mut resources = engine.resources();
        let inputs = InputBuffers::new(engine, &mut resources, context, context)?;
        // All tokens of a chunk see it from its first one on.
        let starts = engine.add(&mut resources, "starts", Pool::Inputs, context as u64, Content::Zeros)?;
        let (mut watches, mut watched) = (Watches::default(), Vec::new());
        for tensor in base.file().gguf.tensors().iter().filter(|t| may_be_product(t)) {
            watched.push(watch(engine, &mut resources, &mut watches, tensor)?);
        }
        let plan = plan(engine, &watches, (inputs.first(context), list(starts, context)));
        // Other matrices are no linear layers.
        watched.retain(|w| {
            plan.nodes.iter().any(|node| node.operands.iter().any(|o| o.location == Location::Stored(w.sums)))
        });
        if watched.is_empty() {
            return Err(Error::Argument("the model has no linear layer whose inputs could be watched".into()));
        }
        engine.allocate(&[&plan]).await?;
        let program = engine.compile(&mut resources, &plan).await?;
        Ok(Collector { resources, program, inputs, watched, context, chunks: 0 })
    }

    /// Runs one chunk of exactly as many tokens as the context.
    ///
    /// # Errors
    /// Another engine, tokens that the model does not have, a device failure, or activations that are infinite or NaN.
    pub async fn run(&mut self, engine: &mut Engine, tokens: &[u32]) -> Result<()> {
        engine.owns(&self.resources)?;
        engine.config.check_tokens(tokens)?;
        assert_eq!(tokens.len(), self.context, "tokens of a chunk");
        let positions: Vec<u32> = (0..tokens.len() as u32).collect();
        let backend = &mut engine.backend;
        backend.write(self.inputs.tokens, 0, tokens)?;
        backend.write(self.inputs.positions, 0, &positions)?;
        engine.run(self.program, &Step::default())?;
        for watched in &mut self.watched {
            watched.collect(engine.backend.as_mut(), self.context).await?;
        }
        self.chunks += 1;
        Ok(())
    }

    /// What all chunks together showed.
    pub fn finish(self, datasets: Vec<String>) -> Importance {
        let entry = |watched: Watched| {
            let sums = watched.totals.into_iter().map(|total| total as f32).collect();
            (watched.name, Entry { sums, counts: watched.counts.into_iter().map(|count| count as f32).collect() })
        };
        let entries = self.watched.into_iter().map(entry).collect();
        Importance { datasets, chunks: self.chunks, chunk_size: self.context as u32, entries }
    }
}

impl Watched {
    /// Adds what the last chunk of `tokens` showed.
    async fn collect(&mut self, backend: &mut dyn Backend, tokens: usize) -> Result<()> {
        let sums = backend.read(self.sums, 0, self.totals.len() as u64).await?;
        for (total, sum) in self.totals.iter_mut().zip(sums) {
            *total += f64::from(f32::from_bits(sum));
        }
        if self.totals.iter().any(|total| !total.is_finite()) {
            return Err(Error::NonFinite(format!("the inputs of {}", self.name)));
        }
        let seen = match self.seen {
            Some(seen) => backend.read(seen, 0, self.counts.len() as u64).await?,
            None => vec![tokens as u32],
        };
        self.counts.iter_mut().zip(seen).for_each(|(count, seen)| *count += u64::from(seen));
        Ok(())
    }
}

/// Makes room for the statistics of a matrix, or of each matrix of a stack of experts.
fn watch(
    engine: &mut Engine,
    resources: &mut Resources,
    watches: &mut Watches,
    tensor: &TensorInfo,
) -> Result<Watched> {
    let (name, cols) = (&tensor.name, tensor.cols() as usize);
    let matrices = tensor.shape.get(2).map(|experts| *experts as usize);
    let rows = matrices.unwrap_or(1);
    let sums = engine.add(resources, &format!("{name} sums"), Pool::Inputs, (rows * cols) as u64, Content::Zeros)?;
    let add = |rows| engine.add(resources, &format!("{name} counts"), Pool::Inputs, rows as u64, Content::Zeros);
    let seen = matrices.map(add).transpose()?;
    let counts = seen.map(|seen| Tensor::stored(seen, 0, 1, rows));
    watches.add(name, Watch { sums: Tensor::stored(sums, 0, rows, cols), counts });
    Ok(Watched { name: name.clone(), sums, totals: vec![0.0; rows * cols], seen, counts: vec![0; rows] })
}

/// Whether a tensor is a matrix of a block, or a stack of them.
fn may_be_product(tensor: &TensorInfo) -> bool {
    let matrix = (2..=3).contains(&tensor.shape.len()) && tensor.rows() > 1 && tensor.ty.format().is_some();
    matrix && tensor.name.starts_with("blk.") && tensor.name.ends_with(".weight")
}

/// The forward without a head.
fn plan(engine: &Engine, watches: &Watches, (inputs, starts): (Inputs, View)) -> Plan {
    let sites = Sites::default();
    let mut r = engine.recorder(Checkpointing::None);
    let Engine { config, weights, .. } = engine;
    let keys = Keys::Own { batch: 1, starts };
    forward(&mut r, Pass { config, weights, sites: &sites, watches: Some(watches), inputs, keys });
    r.finish(format!("importance {}", starts.words))
}

/// The chunks of `context` tokens that llama-imatrix makes of a text's tokens: one after the other without overlap,
/// each with BOS in its first place if the model wants one before a text. What remains at the end is not run.
pub fn chunks(tokenizer: &Tokenizer, tokens: &[u32], context: usize) -> Vec<Vec<u32>> {
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let mut chunks: Vec<Vec<u32>> = tokens.chunks_exact(context).map(<[u32]>::to_vec).collect();
    for chunk in &mut chunks {
        chunk[0] = bos.unwrap_or(chunk[0]);
    }
    chunks
}
