//! A GGUF model as the source: its tensors change their types and nothing else, whatever its architecture.

use std::path::Path;

use loam_files::gguf::{Gguf, TensorInfo};
use loam_files::option::OptionError;

use super::{Job, Options, Plan, PlannedTensor, peak_memory, shards};
use crate::architecture::{ModelTensor, Origin, Piece, order};
use crate::problem::SourceProblem;
use crate::quantize::importance::Calibration;
use crate::quantize::recipe::quantised;
use crate::source::Checkpoint;
use crate::{Error, Result, tokenizer, verify};

/// The last ggml type id that the independent reader of every output knows (MXFP4): it panics on newer ones.
const LAST_VERIFIED: u32 = 39;

/// Opens the GGUF model `path` and decides what becomes of it, as llama-quantize does: all keys stay but those that
/// name the types, and tensors are in its order.
///
/// # Errors
/// No model, types that cannot be decoded, and what `shards` refuses.
pub(super) fn open(path: &Path, out: &Path, options: &Options, calibration: Option<&Calibration>) -> Result<Job> {
    let (gguf, weights) = Checkpoint::open_gguf(path)?;
    refuse_other_kinds(&gguf)?;
    verify::check(path, gguf.metadata())?;
    let mut metadata = gguf.metadata().clone();
    if let Some(pre) = &options.pre {
        match gguf.opt_str("tokenizer.ggml.model")? {
            Some("gpt2") => metadata.set("tokenizer.ggml.pre", tokenizer::check_override(pre)?),
            Some(_) if pre == "default" => {}
            Some(_) => return Err(tokenizer::only_bytes(pre)),
            None => return Err(OptionError::new("pre", "is given, but the file has no tokenizer").into()),
        }
    }
    // After all others, where llama-quantize has them.
    for (key, value) in [("general.quantization_version", 2), ("general.file_type", options.recipe.file_type)] {
        metadata.remove(key);
        metadata.set(key, value);
    }
    let mut infos: Vec<&TensorInfo> = gguf.tensors().iter().collect();
    infos.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
    let shapes: Vec<(&str, &[u64])> = infos.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
    let choices = options.recipe.choose(&metadata, &shapes, calibration.is_some());
    let mut notes = Vec::new();
    if let Some(calibration) = calibration {
        calibration.describe(&mut metadata);
        notes = calibration.notes(&shapes, &choices)?;
    }
    let mut planned = Vec::with_capacity(infos.len());
    for (info, choice) in infos.iter().zip(choices) {
        // What is no weight to be quantised stays what it is.
        let quantised = quantised(&info.name, &info.shape);
        let ty = if quantised { choice.format.into() } else { info.ty };
        if ty != info.ty && info.ty.format().is_none() {
            let problem = format!("is {}, which loam cannot decode; convert the original model", info.ty.name());
            return Err(gguf.tensor_error(&info.name, problem).into());
        }
        if ty.id() > LAST_VERIFIED {
            let problem = format!("is {}, which the independent reader of the output does not know", ty.name());
            return Err(gguf.tensor_error(&info.name, problem).into());
        }
        let bytes = ty.bytes(info.elements()).unwrap_or(0);
        let fallback = quantised && choice.fallback;
        planned.push(PlannedTensor { name: info.name.clone(), shape: info.shape.clone(), ty, fallback, bytes });
    }
    let shards = shards::distribute(out, &metadata, &planned, options.split_bytes)?;
    let largest = infos.iter().map(|info| info.bytes).max().unwrap_or(0);
    let peak_host_bytes = peak_memory(largest, 0, &shards, &planned);
    notes.extend(twice(&infos, &planned));
    let copied = infos.iter().zip(&planned).map(|(info, t)| info.ty == t.ty && info.ty.block_len() > 1).collect();
    let tensors = infos.iter().map(|info| whole(info)).collect();
    let plan = Plan { metadata, tensors: planned, shards, peak_host_bytes, notes };
    Ok(Job { path: path.into(), weights, tensors, copied, plan })
}

fn whole(info: &TensorInfo) -> ModelTensor {
    let pieces = vec![Piece { name: info.name.clone(), row: 0 }];
    let origin = Origin::Checkpoint { pieces, permuted_heads: None, plus: 0.0 };
    ModelTensor { name: info.name.clone(), shape: info.shape.clone(), origin }
}

/// A note if weights are quantised a second time.
fn twice(infos: &[&TensorInfo], planned: &[PlannedTensor]) -> Option<String> {
    let again = infos.iter().zip(planned).filter(|(info, t)| info.ty != t.ty && info.ty.block_len() > 1);
    let mut types: Vec<&str> = again.map(|(info, _)| info.ty.name()).collect();
    let count = types.len();
    types.sort_unstable();
    types.dedup();
    (count > 0).then(|| {
        let types = types.join(", ");
        format!(
            "{count} tensors are quantised already ({types}) and lose precision a second time: convert from f32, f16 or \
             bf16 where there is such a file"
        )
    })
}

/// Adapters and importance matrices are GGUF files too.
fn refuse_other_kinds(gguf: &Gguf) -> Result<()> {
    let problem = match gguf.opt_str("general.type")? {
        Some("adapter") => SourceProblem::GgufAdapter,
        Some("imatrix") => SourceProblem::ImportanceMatrix,
        _ if gguf.tensors().is_empty() => SourceProblem::NoTensors,
        _ => return Ok(()),
    };
    Err(Error::source(gguf.path(), problem))
}
