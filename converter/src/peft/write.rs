//! Adapter -> PEFT folder.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use loam::adapter::{AdapterFile, Pair, is_lookup};
use loam::file::{io_error, write_atomic};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Map, Value, json};

use super::{BASE_NAME, Layout, OUTSIDE, PREFIX, transposed};
use crate::{Error, Result};

/// An update with both names of its weight.
struct Module<'a> {
    /// Name in Transformers: "model.layers.0.self_attn.q_proj".
    name: String,
    /// Name in GGUF: "blk.0.attn_q.weight".
    tensor: &'a str,
    pair: &'a Pair,
}

/// Writes the folder `out`: the weights first, the configuration last. `path` is the adapter's file.
pub(super) fn write(adapter: &AdapterFile, path: &Path, layout: &Layout, out: &Path) -> Result<()> {
    let mut modules = Vec::new();
    for (tensor, pair) in &adapter.tensors {
        let name = layout.module_of(tensor).ok_or_else(|| {
            let problem = format!("has no counterpart in a Transformers {} model", layout.family.architecture);
            Error::tensor(path, tensor, problem)
        })?;
        layout.check_rows(path, tensor, pair.rows())?;
        modules.push(Module { name, tensor, pair });
    }
    let config = config(adapter, layout, &modules);
    let weights = weights(path, layout, &modules)?;
    if !out.is_dir() {
        std::fs::create_dir(out).map_err(Error::io("create", out))?;
    }
    let put = |name: &str, bytes: &[u8]| {
        let file = out.join(name);
        write_atomic(&file, |w| w.write_all(bytes).map_err(io_error("write", &file)))
    };
    put("adapter_model.safetensors", &weights)?;
    Ok(put("adapter_config.json", format!("{config:#}\n").as_bytes())?)
}

/// A and B in F32, B's rows in Transformers' order.
fn weights(path: &Path, layout: &Layout, modules: &[Module<'_>]) -> Result<Vec<u8>> {
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut data: Vec<(String, [usize; 2], Vec<u8>)> = Vec::new();
    for Module { name, tensor, pair } in modules {
        let mut b = vec![0.0; pair.b.len()];
        for (row, values) in pair.b.chunks_exact(pair.rank).enumerate() {
            b[layout.source_row(tensor, row) * pair.rank..][..pair.rank].copy_from_slice(values);
        }
        let (a, [a_name, b_name]) = match is_lookup(tensor) {
            true => (&transposed(&pair.a, pair.rank), ["lora_embedding_A", "lora_embedding_B"]),
            false => (&pair.a, ["lora_A.weight", "lora_B.weight"]),
        };
        data.push((format!("{PREFIX}{name}.{a_name}"), [pair.rank, pair.inner()], bytes(a)));
        data.push((format!("{PREFIX}{name}.{b_name}"), [pair.rows(), pair.rank], bytes(&b)));
    }
    let failed = |e: safetensors::SafeTensorError| Error::Safetensors { path: path.into(), problem: e.to_string() };
    let mut views = Vec::with_capacity(data.len());
    for (name, shape, bytes) in &data {
        views.push((name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).map_err(failed)?));
    }
    serialize(views, Some(HashMap::from([("format".to_owned(), "pt".to_owned())]))).map_err(failed)
}

/// adapter_config.json. The rank that most modules have is `r`; the others are in `rank_pattern`. As alpha is the same for
/// all, PEFT's alpha / rank is the adapter's scale of each module.
fn config(adapter: &AdapterFile, layout: &Layout, modules: &[Module<'_>]) -> Value {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for module in modules {
        *counts.entry(module.pair.rank).or_default() += 1;
    }
    let rank = counts.iter().max_by_key(|(_, count)| **count).map_or(0, |(rank, _)| *rank);
    let others = modules.iter().filter(|module| module.pair.rank != rank);
    let pattern: Map<String, Value> = others.map(|m| (m.name.clone(), json!(m.pair.rank))).collect();
    let alpha = f64::from(adapter.alpha);
    let alpha = if alpha.fract() == 0.0 { json!(alpha as i64) } else { json!(alpha) };
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.text(BASE_NAME),
        "inference_mode": true,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "use_rslora": false,
        "use_dora": false,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "modules_to_save": null,
        "rank_pattern": pattern,
        "alpha_pattern": {},
        "target_modules": targets(layout, modules),
    })
}

/// Short names ("q_proj", "lm_head") if each of those in layers is adapted in every layer, else the full names of the modules.
fn targets(layout: &Layout, modules: &[Module<'_>]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for module in modules {
        *counts.entry(module.name.rsplit('.').next().unwrap_or_default()).or_default() += 1;
    }
    let outside = |name: &str| OUTSIDE.iter().any(|(module, _)| module.rsplit('.').next() == Some(name));
    match counts.iter().all(|(name, count)| *count == layout.layers || outside(name)) {
        true => counts.keys().map(|name| (*name).to_owned()).collect(),
        false => modules.iter().map(|module| module.name.clone()).collect(),
    }
}
