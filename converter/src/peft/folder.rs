//! The files of a PEFT folder.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::Value;

use super::replace::replace;
use super::{CONFIG, Layout, OUTSIDE};
use crate::source::{Checkpoint, View, present};
use crate::{Error, Result};

const WEIGHTS: &str = "adapter_model.safetensors";

/// A tensor of a folder.
pub(super) struct Tensor {
    /// Name.
    pub name: String,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Values, row-major.
    pub values: Vec<f32>,
}

/// The weights in the folder `dir`.
pub(super) fn open(dir: &Path) -> Result<Checkpoint> {
    let path = dir.join(WEIGHTS);
    let pickle = dir.join("adapter_model.bin");
    if !present(&path)? && pickle.exists() {
        return Err(Error::Pickle { path: pickle });
    }
    Checkpoint::open(&path)
}

/// The tensor called `name`.
pub(super) fn view<'w>(dir: &Path, weights: &'w Checkpoint, name: &str) -> Result<View<'w>> {
    weights.tensor(name)?.ok_or_else(|| Error::tensor(dir, name, "is missing"))
}

/// The module as a causal language model names it: without what models with images, or adapters of a model without its
/// head, have before it.
pub(super) fn plain(module: &str) -> String {
    if ["lm_head", "language_model.lm_head"].contains(&module) {
        return "lm_head".into();
    }
    let bodies = ["model.language_model.", "language_model.model.", "language_model.", "model.", ""];
    let known = |rest: &&str| rest.starts_with("layers.") || *rest == "embed_tokens";
    let rest = bodies.iter().find_map(|body| module.strip_prefix(body).filter(known));
    rest.map_or_else(|| module.to_owned(), |rest| format!("model.{rest}"))
}

/// Makes the folder `out` of both files at once, the weights in F32. `path` is the adapter's file.
pub(super) fn write(path: &Path, tensors: &[&Tensor], config: &Value, out: &Path) -> Result<()> {
    let files = [(WEIGHTS, weights(path, tensors)?), (CONFIG, format!("{config:#}\n").into_bytes())];
    replace(out, &files)
}

fn weights(path: &Path, tensors: &[&Tensor]) -> Result<Vec<u8>> {
    let failed = |e: safetensors::SafeTensorError| Error::Safetensors { path: path.into(), problem: e.to_string() };
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let data: Vec<_> =
        tensors.iter().map(|tensor| (&tensor.name, tensor.shape.to_vec(), bytes(&tensor.values))).collect();
    let mut views = Vec::with_capacity(data.len());
    for (name, shape, bytes) in &data {
        views.push((name, TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(failed)?));
    }
    serialize(views, Some(HashMap::from([("format".to_owned(), "pt".to_owned())]))).map_err(failed)
}

/// The modules, or `parameters`, that an adapter is on, as a configuration names them: short ones ("q_proj",
/// "mlp.gate.weight") if each of those in layers is adapted in every layer, else full ones.
pub(super) fn names(layout: &Layout, all: &[&str], parameters: bool) -> Vec<String> {
    // A parameter's last name alone says little.
    let short = |name: &str| match name.splitn(4, '.').nth(3) {
        Some(inside) if parameters => inside.to_owned(),
        _ => name.rsplit('.').next().unwrap_or_default().to_owned(),
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    all.iter().for_each(|name| *counts.entry(short(name)).or_default() += 1);
    let outside = |name: &str| OUTSIDE.iter().any(|(module, _)| module.rsplit('.').next() == Some(name));
    match counts.iter().all(|(name, count)| *count == layout.layers || outside(name)) {
        true => counts.into_keys().collect(),
        false => all.iter().map(|name| (*name).to_owned()).collect(),
    }
}
