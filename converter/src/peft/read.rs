//! PEFT folder -> adapter.

use std::collections::BTreeMap;
use std::path::Path;

use loam::adapter::{AdapterFile, Pair, is_lookup};
use loam::gguf::{GgufFile, Value};

use super::{BASE_NAME, Layout, PREFIX, PeftConfig, copies, transposed};
use crate::architecture::order;
use crate::source::{Checkpoint, View};
use crate::{Error, Result};

/// The tensors of one adapted module, by their names in the file.
struct Module<'n> {
    /// The module's name in the file, which patterns are matched with.
    name: &'n str,
    /// Both halves, A first.
    halves: [Option<&'n str>; 2],
    /// Whether they are those of an embedding.
    lookup: bool,
    /// A copy of the base's weight, which PEFT saves beside adapters on the embedding and the head.
    copy: Option<&'n str>,
}

/// Reads the folder `dir` into the base's names and row order.
pub(super) fn read(dir: &Path, base: &GgufFile, layout: &Layout) -> Result<AdapterFile> {
    let config = PeftConfig::read(&dir.join("adapter_config.json"))?;
    let weights = open(dir)?;
    let alpha = config.gguf_alpha();
    let mut tensors = Vec::new();
    for (plain, module) in modules(dir, &weights)? {
        let name = layout.tensor_name(&plain).filter(|name| is_lookup(name) == module.lookup).ok_or_else(|| {
            let family = layout.family.architecture;
            let problem = format!(
                "is no layer of a {family} model that takes such an adapter; experts and other modules cannot be converted"
            );
            Error::tensor(dir, module.name, problem)
        })?;
        let [Some(a), Some(b)] = module.halves else {
            return Err(Error::tensor(dir, module.name, "has only one of lora_A and lora_B"));
        };
        if let Some(copy) = module.copy {
            copies::check(dir, &view(dir, &weights, copy)?, copy, base, &name)?;
        }
        let mut pair = pair(dir, &weights, [a, b], layout, &name)?;
        rescale(&mut pair, alpha, &config, module.name);
        tensors.push((name, pair));
    }
    tensors.sort_by(|(a, _), (b, _)| order(a).cmp(&order(b)));
    let metadata = config.base_name.map(|name| (BASE_NAME.to_owned(), Value::from(name))).into_iter().collect();
    Ok(AdapterFile { architecture: layout.family.architecture.into(), alpha, tensors, metadata })
}

/// All modules by their plain names.
fn modules<'n>(dir: &Path, weights: &'n Checkpoint) -> Result<BTreeMap<String, Module<'n>>> {
    let mut modules: BTreeMap<String, Module<'n>> = BTreeMap::new();
    for name in weights.names() {
        let (module, part) = split(dir, name)?;
        let new = Module { name: module, halves: [None, None], lookup: false, copy: None };
        let module = modules.entry(plain(module)).or_insert(new);
        let place = match part {
            Part::Half(half) => &mut module.halves[half],
            Part::LookupHalf(half) => {
                module.lookup = true;
                &mut module.halves[half]
            }
            Part::Copy => &mut module.copy,
        };
        if let Some(first) = place.replace(name) {
            return Err(Error::tensor(dir, name, format!("is there twice, as {first} too")));
        }
    }
    Ok(modules)
}

fn open(dir: &Path) -> Result<Checkpoint> {
    let path = dir.join("adapter_model.safetensors");
    let pickle = dir.join("adapter_model.bin");
    if !path.exists() && pickle.exists() {
        return Err(Error::Pickle { path: pickle });
    }
    Checkpoint::open(&path)
}

/// What of a module a tensor is.
#[derive(Clone, Copy)]
enum Part {
    /// A (0) or B (1).
    Half(usize),
    /// The same of an embedding.
    LookupHalf(usize),
    /// The base's weight.
    Copy,
}

/// Ends of PEFT's tensor names.
const ENDS: [(&str, Part); 9] = [
    (".lora_A.weight", Part::Half(0)),
    (".lora_B.weight", Part::Half(1)),
    (".lora_A.default.weight", Part::Half(0)),
    (".lora_B.default.weight", Part::Half(1)),
    (".lora_embedding_A", Part::LookupHalf(0)),
    (".lora_embedding_B", Part::LookupHalf(1)),
    (".lora_embedding_A.default", Part::LookupHalf(0)),
    (".lora_embedding_B.default", Part::LookupHalf(1)),
    (".base_layer.weight", Part::Copy),
];

/// Module name and part of a PEFT tensor name.
fn split<'n>(dir: &Path, name: &'n str) -> Result<(&'n str, Part)> {
    let inner = name.strip_prefix(PREFIX).unwrap_or(name);
    for (end, part) in ENDS {
        if let Some(module) = inner.strip_suffix(end) {
            return Ok((module, part));
        }
    }
    let problem = if name.contains("lora_magnitude_vector") {
        "is a DoRA magnitude, which GGUF adapters cannot hold"
    } else if name.contains("modules_to_save") {
        "is a whole module that was trained besides the adapter (modules_to_save), which GGUF adapters cannot hold"
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
    let known = |rest: &&str| rest.starts_with("layers.") || *rest == "embed_tokens";
    let rest = bodies.iter().find_map(|body| module.strip_prefix(body).filter(known));
    rest.map_or_else(|| module.to_owned(), |rest| format!("model.{rest}"))
}

/// A [rank, in] and B [out, rank], with B's rows in the base's order; of the embedding A's transpose.
fn pair(dir: &Path, weights: &Checkpoint, names: [&str; 2], layout: &Layout, tensor: &str) -> Result<Pair> {
    let (a, b) = (view(dir, weights, names[0])?, view(dir, weights, names[1])?);
    let ([rank, inner], [rows, columns]) = (sides(dir, &a, names[0])?, sides(dir, &b, names[1])?);
    if columns != rank || rank == 0 {
        return Err(Error::tensor(dir, names[1], format!("has rank {columns}, lora_A has rank {rank}")));
    }
    layout.check_rows(dir, tensor, rows)?;
    let theirs = b.to_f32();
    let mut ours = Vec::with_capacity(theirs.len());
    for row in 0..rows {
        ours.extend_from_slice(&theirs[layout.source_row(tensor, row) * rank..][..rank]);
    }
    let a = if is_lookup(tensor) { transposed(&a.to_f32(), inner) } else { a.to_f32() };
    Ok(Pair { a, b: ours, rank, matrices: 1 })
}

fn view<'w>(dir: &Path, weights: &'w Checkpoint, name: &str) -> Result<View<'w>> {
    weights.tensor(name)?.ok_or_else(|| Error::tensor(dir, name, "is missing"))
}

/// Rows and columns.
fn sides(dir: &Path, view: &View<'_>, name: &str) -> Result<[usize; 2]> {
    let problem = |_| Error::tensor(dir, name, format!("has shape {:?}, needs two dimensions", view.shape));
    view.shape.try_into().map_err(problem)
}

/// Folds into B what `alpha / rank` lacks of the module's scale. A factor of one up to rounding leaves B's bits alone.
fn rescale(pair: &mut Pair, alpha: f32, config: &PeftConfig, module: &str) {
    let factor = config.scale(module, pair.rank) * pair.rank as f64 / f64::from(alpha);
    if (factor - 1.0).abs() > 1e-6 {
        pair.b.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
    }
}
