//! Adapter -> PEFT folder.

use std::collections::BTreeMap;
use std::path::Path;

use loam_files::adapter::AdapterFile;
use loam_files::adapter::lora::{self, Pair, is_lookup};
use serde_json::{Map, Value, json};

use super::experts::{self, Halves};
use super::transposed;
use crate::Result;
use crate::peft::folder::{self, Tensor};
use crate::peft::{BASE_NAME, Layout, PREFIX};

/// An adapted module, or a parameter of one.
struct Module {
    /// Name in Transformers: "model.layers.0.self_attn.q_proj".
    name: String,
    /// Whether it is a parameter (`target_parameters`).
    parameter: bool,
    rank: usize,
    halves: [Tensor; 2],
}

/// Writes the folder `out`: the weights first, the configuration last. `path` is the adapter's file.
pub(super) fn write(adapter: &AdapterFile, path: &Path, layout: &Layout, out: &Path) -> Result<()> {
    let mut modules = Vec::new();
    let mut experts = Experts::default();
    let pairs = lora::pairs(adapter);
    for (tensor, pair) in &pairs {
        if !experts.take(tensor, pair) {
            modules.push(linear(path, layout, tensor, pair)?);
        }
    }
    modules.extend(experts.modules());
    let config = config(adapter, layout, &modules);
    let tensors: Vec<&Tensor> = modules.iter().flat_map(|module| &module.halves).collect();
    folder::write(path, &tensors, &config, out)
}

/// The update of a linear layer, the embedding or the head, B's rows in Transformers' order.
fn linear(path: &Path, layout: &Layout, tensor: &str, pair: &Pair) -> Result<Module> {
    let module = layout.need_module(path, tensor)?;
    layout.check_rows(path, tensor, pair.rows())?;
    let mut b = vec![0.0; pair.b.len()];
    for (row, values) in pair.b.chunks_exact(pair.rank).enumerate() {
        b[layout.source_row(tensor, row) * pair.rank..][..pair.rank].copy_from_slice(values);
    }
    let (a, names) = match is_lookup(tensor) {
        true => (transposed(&pair.a, pair.rank), ["lora_embedding_A", "lora_embedding_B"]),
        false => (pair.a.clone(), ["lora_A.weight", "lora_B.weight"]),
    };
    let half = |end: &str, shape, values| Tensor { name: format!("{PREFIX}{module}.{end}"), shape, values };
    let halves = [half(names[0], [pair.rank, pair.inner()], a), half(names[1], [pair.rows(), pair.rank], b)];
    let parameter = layout.is_parameter(tensor);
    let name = if parameter { format!("{module}.weight") } else { module };
    Ok(Module { name, parameter, rank: pair.rank, halves })
}

/// The updates on experts by layer: gate, up and down projection.
#[derive(Default)]
struct Experts<'a> {
    layers: BTreeMap<u64, [Option<&'a Pair>; 3]>,
}

impl<'a> Experts<'a> {
    /// Takes the update of `tensor` if it is one of experts.
    fn take(&mut self, tensor: &str, pair: &'a Pair) -> bool {
        let place = tensor.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let kinds = ["ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"];
        let found =
            place.and_then(|(layer, kind)| Some((layer.parse().ok()?, kinds.iter().position(|known| *known == kind)?)));
        let Some((layer, kind)) = found else { return false };
        self.layers.entry(layer).or_default()[kind] = Some(pair);
        true
    }

    /// PEFT wraps a module once for each of its parameters, in the order in which it has them.
    fn modules(self) -> Vec<Module> {
        let mut modules = Vec::new();
        for (layer, [gate, up, down]) in self.layers {
            let stem = format!("model.layers.{layer}.mlp.experts");
            // A projection without an update has one that does nothing.
            let still = |pair: &Pair| Pair { b: vec![0.0; pair.b.len()], ..pair.clone() };
            let both = match (gate, up) {
                (Some(gate), Some(up)) => Some(experts::fuse(gate, up)),
                (Some(gate), None) => Some(experts::fuse(gate, &still(gate))),
                (None, Some(up)) => Some(experts::fuse(&still(up), up)),
                (None, None) => None,
            };
            if let Some(both) = &both {
                let inside = if down.is_some() { ".base_layer" } else { "" };
                modules.push(parameter(&format!("{stem}.gate_up_proj"), &format!("{stem}{inside}"), both));
            }
            modules.extend(down.map(|down| parameter(&format!("{stem}.down_proj"), &stem, down)));
        }
        modules
    }
}

/// The update of a parameter of experts called `name`, whose halves are those of `module`.
fn parameter(name: &str, module: &str, pair: &Pair) -> Module {
    let Halves { a: (a, a_shape), b: (b, b_shape) } = experts::join(pair);
    let half = |half: &str, shape, values| {
        let name = format!("{PREFIX}{module}.lora_{half}.weight");
        Tensor { name, shape, values }
    };
    let halves = [half("A", a_shape, a), half("B", b_shape, b)];
    Module { name: name.to_owned(), parameter: true, rank: pair.rank, halves }
}

/// adapter_config.json. The rank that most modules have is `r`; the others are in `rank_pattern`. As alpha is the same
/// for all, PEFT's alpha / rank is the adapter's scale of each module.
fn config(adapter: &AdapterFile, layout: &Layout, modules: &[Module]) -> Value {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for module in modules {
        *counts.entry(module.rank).or_default() += 1;
    }
    let rank = counts.iter().max_by_key(|(_, count)| **count).map_or(0, |(rank, _)| *rank);
    let others = modules.iter().filter(|module| module.rank != rank);
    let pattern: Map<String, Value> = others.map(|m| (m.name.clone(), json!(m.rank))).collect();
    let alpha = f64::from(lora::alpha(&adapter.settings));
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
        "target_modules": targets(layout, modules, false),
        "target_parameters": Some(targets(layout, modules, true)).filter(|names| !names.is_empty()),
    })
}

/// Names of the modules, or of the parameters.
fn targets(layout: &Layout, modules: &[Module], parameters: bool) -> Vec<String> {
    let all: Vec<&str> = modules.iter().filter(|m| m.parameter == parameters).map(|m| m.name.as_str()).collect();
    folder::names(layout, &all, parameters)
}
