//! Weights of a file declared as stored buffers: shapes checked, split by rows where a device cannot bind them whole.

use std::collections::HashSet;

use loam_shaders::Format;

use super::ModelConfig;
use super::arch::HeadNorms;
use super::moe::{Experts, ExpertsConfig};
use super::rope::RopeScaling;
use super::weights::{FeedForward, Layer, Projections, RopeFactors, Weights};
use crate::backend::Limits;
use crate::error::{Error, Result};
use crate::gguf::{GgufFile, TensorInfo};
use crate::plan::{Content, Entry, Pool, Storage, StorageId, Tensor, Weight, WeightPart};
use loam_files::TensorProblem;

impl Weights {
    /// Declares every weight of `file` in `storage`.
    ///
    /// # Errors
    /// [`Error::File`] naming a tensor that is missing or has another shape or type than `config` says.
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
        let rope_factors = d.rope_factors(config)?;
        d.refuse_unused()?;
        Ok(Self { token_embd, layers, output_norm, output, rope_factors })
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
        let (width, q_width) = (config.embedding, config.q_width());
        let head_norms = match config.head_norms {
            HeadNorms::None => None,
            HeadNorms::Each => Some((config.head_dim, config.head_dim)),
            HeadNorms::Whole => Some((q_width, config.kv_width())),
        };
        let (pre, post) = (config.pre_norms, config.post_norms);
        Ok(Layer {
            attn_norm: self.vector_if(pre, &name("attn_norm"), width)?,
            attn_qkv: self.projections(&name, config)?,
            head_norms: match head_norms {
                Some((q, k)) => Some((self.vector(&name("attn_q_norm"), q)?, self.vector(&name("attn_k_norm"), k)?)),
                None => None,
            },
            attn_output: self.matrix(&name("attn_output"), width, q_width)?,
            post_attention_norm: self.vector_if(post, &name("post_attention_norm"), width)?,
            ffn_norm: self.vector_if(pre, &name("ffn_norm"), width)?,
            ffn: self.feed_forward(&name, config)?,
            post_ffw_norm: self.vector_if(post, &name("post_ffw_norm"), width)?,
        })
    }

    fn projections(&mut self, name: &dyn Fn(&str) -> String, config: &ModelConfig) -> Result<Projections> {
        let (width, q_width, kv_width) = (config.embedding, config.q_width(), config.kv_width());
        if config.fused {
            return Ok(Projections::Fused(self.matrix(&name("attn_qkv"), q_width + 2 * kv_width, width)?));
        }
        let mut one = |kind: &str, rows: usize| {
            let weight = self.matrix(&name(kind), rows, width)?;
            match weight.bias {
                None if config.biased => Err(self.bad(&weight.name, "has no bias beside it")),
                _ => Ok(weight),
            }
        };
        Ok(Projections::Separate {
            q: one("attn_q", q_width)?,
            k: one("attn_k", kv_width)?,
            v: one("attn_v", kv_width)?,
        })
    }

    fn feed_forward(&mut self, name: &dyn Fn(&str) -> String, config: &ModelConfig) -> Result<FeedForward> {
        let (width, ff) = (config.embedding, config.feed_forward);
        if let Some(shape) = config.experts {
            return Ok(FeedForward::Experts(self.experts(name, width, shape)?));
        }
        let mut one = |kind: &str, rows: usize, cols: usize| self.matrix(&name(kind), rows, cols);
        if config.fused {
            return Ok(FeedForward::Fused { up: one("ffn_up", 2 * ff, width)?, down: one("ffn_down", width, ff)? });
        }
        let (gate, up) = (one("ffn_gate", ff, width)?, one("ffn_up", ff, width)?);
        Ok(FeedForward::Separate { gate, up, down: one("ffn_down", width, ff)? })
    }

    fn experts(&mut self, name: &dyn Fn(&str) -> String, width: usize, shape: ExpertsConfig) -> Result<Experts> {
        let ExpertsConfig { count, used, feed_forward, normalised } = shape;
        Ok(Experts {
            router: self.matrix(&name("ffn_gate_inp"), count, width)?,
            gate: self.stack(&name("ffn_gate_exps"), [count, feed_forward, width])?,
            up: self.stack(&name("ffn_up_exps"), [count, feed_forward, width])?,
            down: self.stack(&name("ffn_down_exps"), [count, width, feed_forward])?,
            used,
            normalised,
        })
    }

    fn rope_factors(&mut self, config: &ModelConfig) -> Result<RopeFactors> {
        let has = |name: &str| self.file.gguf.opt_tensor(name).is_some();
        let (short, long) = ("rope_factors_short.weight", "rope_factors_long.weight");
        let by_context = has(short) || has(long) || config.rope.scaling == RopeScaling::LongRope;
        match (has("rope_freqs.weight"), by_context) {
            (true, _) => Ok(RopeFactors::All(self.factors("rope_freqs.weight", config)?)),
            (false, true) => {
                Ok(RopeFactors::ByContext { short: self.factors(short, config)?, long: self.factors(long, config)? })
            }
            (false, false) => Ok(RopeFactors::None),
        }
    }

    fn factors(&mut self, name: &str, config: &ModelConfig) -> Result<Vec<f32>> {
        let values = self.values(name, config.rope.rotary / 2)?;
        match values.iter().find(|v| **v <= 0.0) {
            Some(v) => Err(self.bad(name, format!("holds {v}, a divisor of a frequency must be positive"))),
            None => Ok(values),
        }
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
            Some(info) => Err(self.bad(&info.name, TensorProblem::Unknown)),
            None => Ok(()),
        }
    }

    fn format(&self, info: &TensorInfo) -> Result<Format> {
        let problem = || TensorProblem::Type { ty: info.ty.name() };
        info.ty.format().ok_or_else(|| self.bad(&info.name, problem()))
    }

    /// Values of a 1-D tensor.
    fn values(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        let info = self.info(name, &[len])?;
        let format = self.format(&info)?;
        let mut values = vec![0.0; len];
        format.decode_row(self.file.bytes(&info)?.bytes(), &mut values);
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

    fn vector_if(&mut self, there: bool, name: &str, len: usize) -> Result<Option<Tensor>> {
        if there { self.vector(name, len).map(Some) } else { Ok(None) }
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Weight> {
        let info = self.info(name, &[rows, cols])?;
        self.weight(name, &info, rows, cols)
    }

    /// `count` matrices of one tensor, one below the other.
    fn stack(&mut self, name: &str, [count, rows, cols]: [usize; 3]) -> Result<Weight> {
        let info = self.info(name, &[count, rows, cols])?;
        self.weight(name, &info, count * rows, cols)
    }

    fn weight(&mut self, name: &str, info: &TensorInfo, rows: usize, cols: usize) -> Result<Weight> {
        let format = self.format(info)?;
        let row_bytes = format.row_bytes(cols).ok_or_else(|| self.bad(name, format!("rows of {cols} weights")))?;
        if !cols.is_multiple_of(4) {
            return Err(self.bad(name, format!("rows of {cols} weights: loam needs a multiple of 4")));
        }
        let per_part = self.rows_per_part(name, format, cols)?;
        let all = self.file.range(info);
        let mut parts = Vec::new();
        for row0 in (0..rows).step_by(per_part) {
            let rows = per_part.min(rows - row0);
            let start = (row0 * row_bytes) as u64;
            let blocks = all.part(start..start + (rows * row_bytes) as u64);
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

    fn bad(&self, name: &str, problem: impl Into<TensorProblem>) -> Error {
        self.file.gguf.tensor_error(name, problem).into()
    }
}
