//! PEFT folder -> adapter.

use std::collections::BTreeMap;
use std::path::Path;

use loam::adapter::{AdapterFile, Pair};
use loam::gguf::Value;

use super::{BASE_NAME, Layout, PREFIX, PeftConfig};
use crate::architecture::order;
use crate::source::Checkpoint;
use crate::{Error, Result};

/// Reads the folder `dir` into the base's names and row order.
pub(super) fn read(dir: &Path, layout: &Layout) -> Result<AdapterFile> {
    let config = PeftConfig::read(&dir.join("adapter_config.json"))?;
    let weights = open(dir)?;
    // By plain name: the name in the file, which patterns are matched with, and both tensors.
    let mut modules: BTreeMap<String, (&str, [Option<&str>; 2])> = BTreeMap::new();
    for name in weights.names() {
        let (module, half) = split(dir, name)?;
        let halves = &mut modules.entry(plain(module)).or_insert((module, [None, None])).1;
        if let Some(first) = halves[half].replace(name) {
            return Err(Error::tensor(dir, name, format!("is there twice, as {first} too")));
        }
    }
    let alpha = config.gguf_alpha();
    let mut tensors = Vec::new();
    for (plain, (module, halves)) in modules {
        let name = layout.tensor_name(&plain).ok_or_else(|| {
            let family = layout.family.architecture;
            let problem = format!(
                "is no linear layer of a {family} model that takes an adapter; embeddings, experts and other modules \
                 cannot be converted"
            );
            Error::tensor(dir, module, problem)
        })?;
        let [Some(a), Some(b)] = halves else {
            return Err(Error::tensor(dir, module, "has only one of lora_A and lora_B"));
        };
        let mut pair = pair(dir, &weights, [a, b], layout, &name)?;
        rescale(&mut pair, alpha, &config, module);
        tensors.push((name, pair));
    }
    tensors.sort_by(|(a, _), (b, _)| order(a).cmp(&order(b)));
    let metadata = config.base_name.map(|name| (BASE_NAME.to_owned(), Value::from(name))).into_iter().collect();
    Ok(AdapterFile { architecture: layout.family.architecture.into(), alpha, tensors, metadata })
}

fn open(dir: &Path) -> Result<Checkpoint> {
    let path = dir.join("adapter_model.safetensors");
    let pickle = dir.join("adapter_model.bin");
    if !path.exists() && pickle.exists() {
        return Err(Error::Pickle { path: pickle });
    }
    Checkpoint::open(&path)
}

/// Module name and half (0 = A, 1 = B) of a PEFT tensor name.
fn split<'n>(dir: &Path, name: &'n str) -> Result<(&'n str, usize)> {
    let inner = name.strip_prefix(PREFIX).unwrap_or(name);
    let ends = [".lora_A.weight", ".lora_B.weight", ".lora_A.default.weight", ".lora_B.default.weight"];
    for (i, end) in ends.into_iter().enumerate() {
        if let Some(module) = inner.strip_suffix(end) {
            return Ok((module, i % 2));
        }
    }
    let problem = if name.contains("lora_magnitude_vector") {
        "is a DoRA magnitude, which GGUF adapters cannot hold"
    } else if name.contains("lora_embedding_") {
        "adapts an embedding, which cannot be converted"
    } else {
        "is neither base_model.model.<module>.lora_A.weight nor .lora_B.weight; nothing of an adapter may be ignored"
    };
    Err(Error::tensor(dir, name, problem))
}

/// The module as a causal language model names it: without what models with images, or adapters of a model without its
/// head, have in front.
fn plain(module: &str) -> String {
    if ["lm_head", "language_model.lm_head"].contains(&module) {
        return "lm_head".into();
    }
    let bodies = ["model.language_model.", "language_model.model.", "language_model.", "model.", ""];
    let rest = bodies.iter().find_map(|body| module.strip_prefix(body).filter(|rest| rest.starts_with("layers.")));
    rest.map_or_else(|| module.to_owned(), |rest| format!("model.{rest}"))
}

/// A [rank, in] and B [out, rank], with B's rows in the base's order.
fn pair(dir: &Path, weights: &Checkpoint, names: [&str; 2], layout: &Layout, tensor: &str) -> Result<Pair> {
    let view = |name: &str| {
        let view = weights.tensor(name)?.ok_or_else(|| Error::tensor(dir, name, "is missing"))?;
        match view.shape {
            [rows, cols] => Ok((view, *rows, *cols)),
            shape => Err(Error::tensor(dir, name, format!("has shape {shape:?}, needs two dimensions"))),
        }
    };
    let (a, rank, _) = view(names[0])?;
    let (b, rows, columns) = view(names[1])?;
    if columns != rank || rank == 0 {
        return Err(Error::tensor(dir, names[1], format!("has rank {columns}, lora_A has rank {rank}")));
    }
    layout.check_rows(dir, tensor, rows)?;
    let theirs = b.to_f32();
    let mut ours = Vec::with_capacity(theirs.len());
    for row in 0..rows {
        ours.extend_from_slice(&theirs[layout.source_row(tensor, row) * rank..][..rank]);
    }
    Ok(Pair { a: a.to_f32(), b: ours, rank })
}

/// Folds into B what `alpha / rank` lacks of the module's scale. A factor of one up to rounding leaves B's bits alone.
fn rescale(pair: &mut Pair, alpha: f32, config: &PeftConfig, module: &str) {
    let factor = config.scale(module, pair.rank) * pair.rank as f64 / f64::from(alpha);
    if (factor - 1.0).abs() > 1e-6 {
        pair.b.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
    }
}
