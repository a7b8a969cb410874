//! Weights by their GGUF names: shapes checked, split by rows where a device cannot bind them whole.

use std::collections::HashSet;

use loam_shaders::Format;

use super::ModelConfig;
use crate::backend::Limits;
use crate::error::{Error, Result};
use crate::gguf::{GgufFile, TensorInfo};
use crate::plan::storage::SharedBytes;
use crate::plan::{Content, Entry, Location, Pool, Storage, StorageId, Tensor, View};

/// Some rows of a weight in one stored buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightPart {
    /// The buffer.
    pub storage: StorageId,
    /// First row.
    pub row0: usize,
    /// Number of rows.
    pub rows: usize,
    /// Length in words as a device binds it.
    pub words: u64,
}

impl WeightPart {
    /// The whole part.
    pub fn view(&self) -> View {
        View { location: Location::Stored(self.storage), offset: 0, words: self.words }
    }
}

/// A frozen matrix [rows (out), cols (in)].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// GGUF tensor name.
    pub name: String,
    /// Block format.
    pub format: Format,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// All rows in order; one part unless the device's binding limit asks for more.
    pub parts: Vec<WeightPart>,
    /// f32[1, rows], added to every output row, and f32[1], the number 1 that it is multiplied with.
    pub bias: Option<(Tensor, Tensor)>,
}

/// The weights of one decoder layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Norm before attention, f32[1, D].
    pub attn_norm: Tensor,
    /// Query projection.
    pub attn_q: Weight,
    /// Key projection.
    pub attn_k: Weight,
    /// Value projection.
    pub attn_v: Weight,
    /// Output projection of the attention.
    pub attn_output: Weight,
    /// Norm before the feed-forward layer, f32[1, D].
    pub ffn_norm: Tensor,
    /// Gate projection.
    pub ffn_gate: Weight,
    /// Up projection.
    pub ffn_up: Weight,
    /// Down projection.
    pub ffn_down: Weight,
}

/// All weights of a model.
#[derive(Debug, Clone)]
pub struct Weights {
    /// Token embedding [V, D].
    pub token_embd: Weight,
    /// Decoder layers.
    pub layers: Vec<Layer>,
    /// Norm before the head, f32[1, D].
    pub output_norm: Tensor,
    /// Head [V, D]: the token embedding itself where the file has no `output.weight`.
    pub output: Weight,
    /// Divisors of the rotation frequencies (`rope_freqs.weight`), one per pair.
    pub rope_factors: Option<Vec<f32>>,
}

impl Weights {
    /// Declares every weight of `file` in `storage`.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming a tensor that is missing or has another shape or type than `config` says.
    pub fn declare(file: &GgufFile, config: &ModelConfig, limits: Limits, storage: &mut Storage) -> Result<Self> {
        let mut d = Declarer { file, limits, storage, used: HashSet::new(), one: None };
        let (width, vocab) = (config.embedding, config.vocabulary);
        let token_embd = d.matrix("token_embd.weight", vocab, width)?;
        let output = match file.gguf.opt_tensor("output.weight") {
            Some(_) => d.matrix("output.weight", vocab, width)?,
            None => token_embd.clone(),
        };
        let one = Content::Words(vec![1.0_f32.to_bits()]);
        d.one = Some(d.storage.add(Entry { name: "one".into(), pool: Pool::Inputs, words: 1, content: one }));
        let layers = (0..config.layers).map(|l| d.layer(l, config)).collect::<Result<_>>()?;
        let output_norm = d.vector("output_norm.weight", width)?;
        let rope_factors = match file.gguf.opt_tensor("rope_freqs.weight") {
            Some(_) => Some(d.values("rope_freqs.weight", config.rotary / 2)?),
            None => None,
        };
        d.refuse_unused()?;
        Ok(Self { token_embd, layers, output_norm, output, rope_factors })
    }

    /// Every linear layer that an adapter may target, by GGUF name.
    pub fn linears(&self) -> impl Iterator<Item = &Weight> {
        self.layers
            .iter()
            .flat_map(|l| [&l.attn_q, &l.attn_k, &l.attn_v, &l.attn_output, &l.ffn_gate, &l.ffn_up, &l.ffn_down])
    }
}

struct Declarer<'a> {
    file: &'a GgufFile,
    limits: Limits,
    storage: &'a mut Storage,
    /// Names that were asked for.
    used: HashSet<String>,
    /// The number 1, for biases; only linear layers of blocks, declared after it, have them.
    one: Option<StorageId>,
}

impl Declarer<'_> {
    fn layer(&mut self, index: usize, config: &ModelConfig) -> Result<Layer> {
        let name = |suffix: &str| format!("blk.{index}.{suffix}.weight");
        let (width, ff) = (config.embedding, config.feed_forward);
        Ok(Layer {
            attn_norm: self.vector(&name("attn_norm"), width)?,
            attn_q: self.matrix(&name("attn_q"), config.q_width(), width)?,
            attn_k: self.matrix(&name("attn_k"), config.kv_width(), width)?,
            attn_v: self.matrix(&name("attn_v"), config.kv_width(), width)?,
            attn_output: self.matrix(&name("attn_output"), width, config.q_width())?,
            ffn_norm: self.vector(&name("ffn_norm"), width)?,
            ffn_gate: self.matrix(&name("ffn_gate"), ff, width)?,
            ffn_up: self.matrix(&name("ffn_up"), ff, width)?,
            ffn_down: self.matrix(&name("ffn_down"), width, ff)?,
        })
    }

    fn info(&mut self, name: &str, shape: &[usize]) -> Result<TensorInfo> {
        let info = self.file.gguf.tensor(name)?;
        self.used.insert(name.to_owned());
        // GGUF lists the row length first.
        let expected: Vec<u64> = shape.iter().rev().map(|&n| n as u64).collect();
        if info.shape != expected {
            return Err(self.bad(name, format!("has shape {:?}, expected {expected:?}", info.shape)));
        }
        Ok(info.clone())
    }

    /// A tensor that the decoder does not use (a bias, say) would be left out silently, and the model would be another.
    fn refuse_unused(&self) -> Result<()> {
        match self.file.gguf.tensors().iter().find(|info| !self.used.contains(&info.name)) {
            Some(info) => Err(self.bad(&info.name, "is not known to this architecture in loam".into())),
            None => Ok(()),
        }
    }

    fn format(&self, info: &TensorInfo) -> Result<Format> {
        let problem = || format!("has type {}, which loam cannot compute with yet", info.ty.name());
        info.ty.format().ok_or_else(|| self.bad(&info.name, problem()))
    }

    /// Values of a 1-D tensor.
    fn values(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        let info = self.info(name, &[len])?;
        let format = self.format(&info)?;
        let mut values = vec![0.0; len];
        format.decode_row(self.file.bytes(&info).bytes(), &mut values);
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Err(self.bad(name, format!("value {i} is {}", values[i])));
        }
        Ok(values)
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor> {
        let words = bytemuck::cast_vec(self.values(name, len)?);
        let entry = Entry { name: name.into(), pool: Pool::Weights, words: len as u64, content: Content::Words(words) };
        Ok(Tensor::stored(self.storage.add(entry), 0, 1, len))
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Weight> {
        let info = self.info(name, &[rows, cols])?;
        let format = self.format(&info)?;
        let row_bytes = format.row_bytes(cols).ok_or_else(|| self.bad(name, format!("rows of {cols} weights")))?;
        if !cols.is_multiple_of(4) {
            return Err(self.bad(name, format!("rows of {cols} weights: loam needs a multiple of 4")));
        }
        let per_part = self.rows_per_part(name, format, cols)?;
        let all = self.file.bytes(&info);
        let mut parts = Vec::new();
        for row0 in (0..rows).step_by(per_part) {
            let rows = per_part.min(rows - row0);
            let start = all.range.start + row0 * row_bytes;
            let blocks = SharedBytes { source: all.source.clone(), range: start..start + rows * row_bytes };
            let words = format.packed_words(rows, cols);
            let content = Content::Weight { format, rows, cols, blocks };
            let entry = Entry { name: name.into(), pool: Pool::Weights, words, content };
            parts.push(WeightPart { storage: self.storage.add(entry), row0, rows, words });
        }
        let bias = self.bias(name, rows)?;
        Ok(Weight { name: name.into(), format, rows, cols, parts, bias })
    }

    /// The bias beside the weight `name`, if the file has one.
    fn bias(&mut self, name: &str, rows: usize) -> Result<Option<(Tensor, Tensor)>> {
        let (Some(one), Some(stem)) = (self.one, name.strip_suffix(".weight")) else { return Ok(None) };
        let bias = format!("{stem}.bias");
        if self.file.gguf.opt_tensor(&bias).is_none() {
            return Ok(None);
        }
        Ok(Some((self.vector(&bias, rows)?, Tensor::stored(one, 0, 1, 1))))
    }

    /// How many rows fit into one binding: a multiple of 64, so that tiles do not straddle parts needlessly.
    fn rows_per_part(&self, name: &str, format: Format, cols: usize) -> Result<usize> {
        let limit = self.limits.max_binding_bytes.min(self.limits.max_buffer_bytes);
        let block = format.packed_words(64, cols) * 4;
        let blocks = limit / block;
        if blocks == 0 {
            return Err(Error::Limit { what: format!("64 rows of {name} in bytes"), value: block, limit });
        }
        Ok(usize::try_from(blocks.saturating_mul(64)).unwrap_or(usize::MAX))
    }

    fn bad(&self, name: &str, problem: String) -> Error {
        self.file.gguf.tensor_error(name, problem)
    }
}
