//! PEFT folder -> adapter.

use std::collections::BTreeMap;
use std::path::Path;

use loam_files::adapter::AdapterFile;
use loam_files::adapter::lora::{self, Pair, is_lookup};
use loam_files::gguf::{GgufFile, Value};

use super::experts::{self, Halves, OneExpert, Place, Stacks};
use super::{PeftConfig, copies, transposed};
use crate::architecture::order;
use crate::peft::folder::{open, plain, view};
use crate::peft::{BASE_NAME, Layout, OUTSIDE, PREFIX};
use crate::source::{Checkpoint, Json, View};
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

impl<'n> Module<'n> {
    /// Names of A and B.
    fn both(&self, dir: &Path) -> Result<[&'n str; 2]> {
        match self.halves {
            [Some(a), Some(b)] => Ok([a, b]),
            _ => Err(Error::tensor(dir, self.name, "has only one of lora_A and lora_B")),
        }
    }
}

/// Reads the folder `dir` into the base's names and row order.
pub(super) fn read(dir: &Path, config: &Json, base: &GgufFile, layout: &Layout) -> Result<AdapterFile> {
    let config = PeftConfig::parse(config)?;
    let weights = open(dir)?;
    let reader = Reader { dir, base, layout, alpha: config.gguf_alpha(), config: &config, weights: &weights };
    let mut tensors = Vec::new();
    let mut stacks = Stacks::default();
    for (plain, module) in modules(dir, &weights)? {
        if let Module { halves: [None, None], copy: Some(copy), .. } = module {
            reader.unchanged(&plain, copy)?;
            continue;
        }
        let place = experts::place(&plain).filter(|_| layout.experts.is_some());
        match place {
            Some(place) => reader.experts(&module, place, &mut stacks, &mut tensors)?,
            None => tensors.push(reader.linear(&plain, &module)?),
        }
    }
    if let Some(sizes) = layout.experts {
        tensors.extend(stacks.finish(dir, sizes)?);
    }
    tensors.sort_by(|(a, _), (b, _)| order(a).cmp(&order(b)));
    if let Some(pair) = tensors.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Error::tensor(dir, pair[0].0.as_str(), "has two updates"));
    }
    let name = config.base_name.as_deref();
    let metadata = name.map(|name| (BASE_NAME.to_owned(), Value::from(name))).into_iter().collect();
    Ok(AdapterFile { metadata, ..lora::adapter(layout.family.architecture, reader.alpha, tensors) })
}

/// What modules are read with.
struct Reader<'a> {
    dir: &'a Path,
    base: &'a GgufFile,
    layout: &'a Layout,
    /// The adapter's alpha.
    alpha: f32,
    config: &'a PeftConfig,
    weights: &'a Checkpoint,
}

impl Reader<'_> {
    /// The update of a linear layer, the embedding or the head, with the name of the base's tensor.
    fn linear(&self, plain: &str, module: &Module<'_>) -> Result<(String, Pair)> {
        let (dir, layout) = (self.dir, self.layout);
        let name = layout.tensor_name(plain).filter(|name| is_lookup(name) == module.lookup).ok_or_else(|| {
            let family = layout.family.architecture;
            let problem =
                format!("is no layer of a {family} model that takes such an adapter, and none may be left out");
            Error::tensor(dir, module.name, problem)
        })?;
        let halves = module.both(dir)?;
        if let Some(copy) = module.copy {
            copies::check(dir, &view(dir, self.weights, copy)?, copy, self.base, &name)?;
        }
        let mut pair = pair(dir, self.weights, halves, layout, &name)?;
        // Of a router that is a parameter, patterns match the parameter.
        let parameter = self.config.parameters && layout.is_parameter(&name);
        let pattern = if parameter { format!("{}.weight", module.name) } else { module.name.to_owned() };
        self.rescale(&mut pair, &pattern);
        Ok((name, pair))
    }

    /// Checks that a weight which is saved without an update is the base's own: nothing is lost without it then.
    fn unchanged(&self, plain: &str, copy: &str) -> Result<()> {
        let outside = OUTSIDE.iter().find(|(module, _)| *module == plain);
        let (_, name) = outside.ok_or_else(|| Error::tensor(self.dir, copy, NEITHER))?;
        copies::check_unchanged(self.dir, &view(self.dir, self.weights, copy)?, copy, self.base, name)
    }

    /// The updates of experts: those of a whole layer go to `tensors`, those of one expert to `stacks`.
    fn experts(
        &self,
        module: &Module<'_>,
        place: Place,
        stacks: &mut Stacks,
        tensors: &mut Vec<(String, Pair)>,
    ) -> Result<()> {
        let Some(sizes) = self.layout.experts else { return Ok(()) };
        let names = module.both(self.dir)?;
        if module.lookup || module.copy.is_some() {
            return Err(Error::tensor(self.dir, module.name, "is no embedding"));
        }
        match place {
            Place::One { layer, expert, gguf } => {
                let mut pair = pair(self.dir, self.weights, names, self.layout, gguf)?;
                self.rescale(&mut pair, module.name);
                stacks.add(self.dir, module.name, OneExpert { layer, expert, gguf }, pair, sizes)
            }
            Place::All { layer } => {
                let half = |name: &str| {
                    let view = view(self.dir, self.weights, name)?;
                    sides(self.dir, &view, name).map(|sides| (view.to_f32(), sides))
                };
                let halves = Halves { a: half(names[0])?, b: half(names[1])? };
                let bad = |problem| Error::tensor(self.dir, module.name, problem);
                let (parameter, parts) = experts::split(&halves, sizes).map_err(bad)?;
                let stem = module.name.strip_suffix(".base_layer").unwrap_or(module.name);
                for (gguf, mut pair) in parts {
                    self.rescale(&mut pair, &format!("{stem}.{parameter}"));
                    tensors.push((format!("blk.{layer}.{gguf}.weight"), pair));
                }
                Ok(())
            }
        }
    }

    /// Folds into B what `alpha / rank` lacks of the scale of `module`. A factor of one up to rounding leaves B's bits
    /// alone.
    fn rescale(&self, pair: &mut Pair, module: &str) {
        let factor = self.config.scale(module, pair.rank) * pair.rank as f64 / f64::from(self.alpha);
        if (factor - 1.0).abs() > 1e-6 {
            pair.b.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
        }
    }
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

/// What is wrong with a tensor that is no part of an update.
const NEITHER: &str =
    "is neither base_model.model.<module>.lora_A.weight nor .lora_B.weight; nothing of an adapter may be ignored";

/// Module name and part of a PEFT tensor name.
fn split<'n>(dir: &Path, name: &'n str) -> Result<(&'n str, Part)> {
    let inner = name.strip_prefix(PREFIX).unwrap_or(name);
    for (end, part) in ENDS {
        if let Some(module) = inner.strip_suffix(end) {
            return Ok((module, part));
        }
    }
    // As PEFT's `save_embedding_layers` has them.
    let whole = inner.strip_suffix(".weight").filter(|module| OUTSIDE.iter().any(|(name, _)| *name == plain(module)));
    if let Some(module) = whole {
        return Ok((module, Part::Copy));
    }
    let problem = if name.contains("lora_magnitude_vector") {
        "is a DoRA magnitude, which GGUF adapters cannot hold"
    } else if name.contains("modules_to_save") {
        "is a whole module that was trained besides the adapter (modules_to_save), which GGUF adapters cannot hold"
    } else {
        NEITHER
    };
    Err(Error::tensor(dir, name, problem))
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

/// Rows and columns.
fn sides(dir: &Path, view: &View<'_>, name: &str) -> Result<[usize; 2]> {
    let problem = |_| Error::tensor(dir, name, format!("has shape {:?}, needs two dimensions", view.shape));
    view.shape.try_into().map_err(problem)
}
