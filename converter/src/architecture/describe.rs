//! From a family's table and a configuration to the tensors and keys of the file, checked against the checkpoint.

use std::collections::{BTreeMap, HashSet};

use loam_files::gguf::Metadata;

use super::family::{Bias, Head};
use super::rope::RopeScaling;
use super::{Config, Model, ModelTensor, Origin, Piece, Source, experts, order};
use crate::source::Checkpoint;
use crate::{Error, Result};

/// Tensors of a model so far, and what the checkpoint must hold for them: shapes in PyTorch's order by name. Checked
/// from time to time, so that a configuration that claims much is refused at the first tensor that is not there.
struct Tensors {
    list: Vec<ModelTensor>,
    needs: BTreeMap<String, Vec<u64>>,
    /// Names that were there.
    found: HashSet<String>,
}

impl Tensors {
    /// A tensor of the checkpoint as it is, but for the order of its rows and what is added.
    fn add(&mut self, name: String, hf: String, shape: Vec<u64>, permuted_heads: Option<u64>, plus: f32) {
        self.needs.insert(hf.clone(), shape.iter().rev().copied().collect());
        let origin = Origin::Checkpoint { pieces: vec![Piece { name: hf, row: 0 }], permuted_heads, plus };
        self.list.push(ModelTensor { name, shape, origin });
    }

    /// Every tensor that is needed is there with its shape.
    fn check(&mut self, source: &Source, names: &Names) -> Result<()> {
        for (name, shape) in std::mem::take(&mut self.needs) {
            let Some(view) = source.weights.tensor(&name)? else {
                let hint = if name == names.head { " (tie_word_embeddings is false)" } else { "" };
                return Err(Error::tensor(&source.dir, name, format!("is missing{hint}")));
            };
            if !view.shape.iter().map(|&n| n as u64).eq(shape.iter().copied()) {
                let problem = format!("has shape {:?}, config.json implies {shape:?}", view.shape);
                return Err(Error::tensor(view.path, name, problem));
            }
            self.found.insert(name);
        }
        Ok(())
    }

    fn values(&mut self, name: &str, values: Vec<f32>) {
        let shape = vec![values.len() as u64];
        self.list.push(ModelTensor { name: name.into(), shape, origin: Origin::Values(values) });
    }
}

/// Where the text model's tensors are in a checkpoint: prefix of the body, name of the head.
struct Names {
    body: &'static str,
    head: &'static str,
}

/// Describes the model in `source` by the table of its family: every tensor with its shape checked.
///
/// # Errors
/// A tensor is missing, unexpected, or of another shape than config.json says; a setting that GGUF cannot express.
pub fn describe(source: &Source) -> Result<Model> {
    let config = &source.config;
    let mut notes = config.notes.clone();
    let names = names(&source.weights);
    let mut tensors = tensors(source, &names)?;
    head(source, &names, &mut tensors, &mut notes)?;
    tensors.check(source, &names)?;
    refuse_others(source, &names, &tensors.found, &mut notes)?;
    rope_tensors(config, &mut tensors);
    let mut list = tensors.list;
    list.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
    let metadata = metadata(config);
    notes.extend(unread(config, &metadata));
    Ok(Model { architecture: config.architecture(), tensors: list, metadata, notes })
}

/// What a stock llama.cpp leaves out of account.
fn unread<'m>(config: &'m Config, metadata: &'m Metadata) -> impl Iterator<Item = String> + 'm {
    let keys = config.family.unread.iter().map(|key| format!("{}.{key}", config.architecture()));
    let written = keys.filter(|key| metadata.get(key).is_some());
    written.map(|key| format!("{key} is followed as in Transformers; a stock llama.cpp does not read it"))
}

/// Models with images keep their text part under another name.
fn names(weights: &Checkpoint) -> Names {
    let known = [
        Names { body: "language_model.model.", head: "language_model.lm_head.weight" },
        Names { body: "model.language_model.", head: "lm_head.weight" },
    ];
    let is = |names: &Names| weights.contains(&format!("{}embed_tokens.weight", names.body));
    known.into_iter().find(is).unwrap_or(Names { body: "model.", head: "lm_head.weight" })
}

/// Everything but the head and what is computed.
fn tensors(source: &Source, names: &Names) -> Result<Tensors> {
    let (config, family, body) = (&source.config, source.config.family, names.body);
    let mut out = Tensors { list: Vec::new(), needs: BTreeMap::new(), found: HashSet::new() };
    let embedding = vec![config.hidden, config.vocab_size];
    out.add("token_embd.weight".into(), format!("{body}embed_tokens.weight"), embedding, None, 0.0);
    let norm = format!("{body}norm.weight");
    out.add("output_norm.weight".into(), norm, vec![config.hidden], None, family.norm_plus);
    for layer in 0..config.layers {
        let hf = format!("{body}layers.{layer}.");
        for (module, gguf, width) in family.norms {
            let name = format!("blk.{layer}.{gguf}.weight");
            out.add(name, format!("{hf}{module}.weight"), vec![config.width(*width)], None, family.norm_plus);
        }
        for linear in family.linears() {
            let (inner, rows) = (config.width(linear.inner), config.width(linear.outer));
            let heads = match linear.gguf {
                "attn_q" => Some(config.heads),
                _ => Some(config.kv_heads),
            };
            let heads = heads.filter(|_| family.permutes(linear.gguf));
            let bias = match linear.bias {
                Bias::Never => false,
                Bias::Always => true,
                Bias::Attention => config.attention_bias,
                Bias::FeedForward => config.mlp_bias,
            };
            let parts = [("weight", vec![inner, rows]), ("bias", vec![rows])];
            for (part, shape) in parts.into_iter().take(1 + usize::from(bias)) {
                let name = format!("blk.{layer}.{}.{part}", linear.gguf);
                out.add(name, format!("{hf}{}.{part}", linear.hf), shape, heads, 0.0);
            }
        }
        if family.experts {
            for (tensor, needs) in experts::stacks(config, &source.weights, layer, &hf) {
                out.list.push(tensor);
                out.needs.extend(needs);
            }
        }
        out.check(source, names)?;
    }
    Ok(out)
}

/// The head: a tensor of its own, the embedding, or a copy of it.
fn head(source: &Source, names: &Names, tensors: &mut Tensors, notes: &mut Vec<String>) -> Result<()> {
    let config = &source.config;
    let shape = vec![config.hidden, config.vocab_size];
    if !config.tied {
        if config.family.head == Head::Never {
            let problem = format!("must be true: llama.cpp's {} has no head of its own", config.architecture());
            return Err(config.text.error("tie_word_embeddings", problem));
        }
        tensors.add("output.weight".into(), names.head.into(), shape, None, 0.0);
        return Ok(());
    }
    check_tied_head(&source.weights, names, notes)?;
    if config.family.head == Head::Always {
        tensors.add("output.weight".into(), format!("{}embed_tokens.weight", names.body), shape, None, 0.0);
    }
    Ok(())
}

/// A tied model may still carry its head: it must be the embedding, and is left out.
fn check_tied_head(weights: &Checkpoint, names: &Names, notes: &mut Vec<String>) -> Result<()> {
    let Some(head) = weights.tensor(names.head)? else { return Ok(()) };
    let body = format!("{}embed_tokens.weight", names.body);
    if weights.tensor(&body)?.is_some_and(|e| e.format == head.format && e.shape == head.shape && e.bytes == head.bytes)
    {
        notes.push(format!("{} equals the embedding and is left out (tie_word_embeddings)", names.head));
        return Ok(());
    }
    let problem = format!(
        "differs from {body} although config.json says tie_word_embeddings: true; set it to false to keep the head, or \
         remove the tensor"
    );
    Err(Error::tensor(head.path, names.head, problem))
}

/// Nothing is in the checkpoint but what was used and what is known to be left out.
fn refuse_others(source: &Source, names: &Names, used: &HashSet<String>, notes: &mut Vec<String>) -> Result<()> {
    let images = |name: &str| {
        let name = name.strip_prefix("model.").unwrap_or(name);
        names.body != "model." && (name.starts_with("vision_tower.") || name.starts_with("multi_modal_projector."))
    };
    let left_out = source.weights.names().filter(|name| images(name)).count();
    if left_out > 0 {
        notes.push(format!("{left_out} tensors of the image encoder are left out: the text model is converted"));
    }
    let known = |name: &str| {
        name.ends_with(".rotary_emb.inv_freq") || name == names.head || used.contains(name) || images(name)
    };
    match source.weights.names().find(|name| !known(name)) {
        None => Ok(()),
        Some(extra) => {
            let problem = format!("is no part of a {} model as config.json describes it", source.config.architecture());
            Err(Error::tensor(&source.dir, extra, problem))
        }
    }
}

/// Tensors that rope scaling is stored in.
fn rope_tensors(config: &Config, tensors: &mut Tensors) {
    match &config.rope.scaling {
        RopeScaling::Llama3 { .. } => tensors.values("rope_freqs.weight", llama3_factors(config)),
        RopeScaling::LongRope { long, short, .. } => {
            tensors.values("rope_factors_long.weight", long.clone());
            tensors.values("rope_factors_short.weight", short.clone());
        }
        _ => {}
    }
}

/// Divisors of the rotary frequencies for rope type llama3 (Llama 3.1), one per pair of a head.
/// `low_freq_wavelen = original / low`, `high_freq_wavelen = original / high`, blended linearly in between.
fn llama3_factors(config: &Config) -> Vec<f32> {
    let RopeScaling::Llama3 { factor, low, high, original_context } = config.rope.scaling else { return Vec::new() };
    let original = original_context as f64;
    let factor_of = |i: u64| {
        let frequency = config.rope.theta.powf(-(2.0 * i as f64) / config.rotary as f64);
        let wavelength = 2.0 * std::f64::consts::PI / frequency;
        if wavelength < original / high {
            return 1.0;
        }
        if wavelength > original / low {
            return factor;
        }
        let smooth = (original / wavelength - low) / (high - low);
        1.0 / ((1.0 - smooth) / factor + smooth)
    };
    (0..config.rotary / 2).map(|i| factor_of(i) as f32).collect()
}

/// The `<architecture>.*` keys.
fn metadata(config: &Config) -> Metadata {
    let mut out = Metadata::new();
    let architecture = config.architecture();
    // Every count is at most 2^24, so it fits.
    let mut count = |key: &str, value: u64| out.set(format!("{architecture}.{key}"), value as u32);
    count("block_count", config.layers);
    count("context_length", config.context);
    count("embedding_length", config.hidden);
    count("feed_forward_length", config.intermediate);
    count("attention.head_count", config.heads);
    count("attention.head_count_kv", config.kv_heads);
    count("attention.key_length", config.head_dim);
    count("attention.value_length", config.head_dim);
    count("vocab_size", config.vocab_size);
    count("rope.dimension_count", config.rotary);
    let mut number = |key: &str, value: f64| out.set(format!("{architecture}.{key}"), value as f32);
    number("attention.layer_norm_rms_epsilon", config.eps);
    number("rope.freq_base", config.rope.theta);
    rope_metadata(config, &mut out);
    for (key, value) in config.extras.iter() {
        out.set(key, value.clone());
    }
    out
}

fn rope_metadata(config: &Config, out: &mut Metadata) {
    let key = |suffix: &str| format!("{}.rope.scaling.{suffix}", config.architecture());
    match &config.rope.scaling {
        RopeScaling::None | RopeScaling::Llama3 { .. } => {}
        RopeScaling::Linear { factor } => {
            out.set(key("type"), "linear");
            out.set(key("factor"), *factor as f32);
        }
        RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow } => {
            out.set(key("type"), "yarn");
            out.set(key("factor"), *factor as f32);
            out.set(key("original_context_length"), *original_context as u32);
            out.set(key("yarn_beta_fast"), *beta_fast as f32);
            out.set(key("yarn_beta_slow"), *beta_slow as f32);
        }
        RopeScaling::LongRope { attention_factor, .. } => out.set(key("attn_factor"), *attention_factor as f32),
    }
}
