//! PEFT LoRA folders (adapter_config.json + adapter_model.safetensors) to GGUF adapters and back.
//!
//! PEFT names modules as Transformers does and keeps the rows of q and k in Transformers' order; a GGUF adapter names
//! tensors of the base and keeps the base's row order. GGUF has one alpha and scales each update by alpha / rank; what
//! rsLoRA and alpha patterns make of that for single modules is folded into B.

mod config;
mod read;
mod write;

use std::path::Path;

use loam::adapter::{AdapterFile, BASE_DIGEST};
use loam::gguf::{Gguf, GgufFile};

pub use config::PeftConfig;

use crate::architecture::llama;
use crate::{Error, Result};

/// What every PEFT tensor name starts with.
const PREFIX: &str = "base_model.model.";
/// Key of `base_model_name_or_path`, kept for the way back.
const BASE_NAME: &str = "loam.peft.base_model_name_or_path";

/// Converts the PEFT folder `dir`, trained on the model that `base` was made from, to the GGUF adapter `out`.
/// A and B are stored in F32; plain configurations keep their bits. The adapter is not bound to this base's digest: it was
/// trained on the weights before quantisation, and fits every base made from them.
///
/// # Errors
/// Options that GGUF cannot express (DoRA, biases, embeddings, saved modules: named), tensors that do not fit the base,
/// NaN; errors of the files. A previous `out` stays as it was.
pub fn from_peft(dir: &Path, base: &GgufFile, out: &Path) -> Result<AdapterFile> {
    let adapter = read::read(dir, &Heads::of(&base.gguf)?)?;
    adapter.check_against(&base.gguf, dir)?;
    adapter.write(out)?;
    Ok(adapter)
}

/// Converts the GGUF adapter `adapter`, trained on `base`, to the PEFT folder `out_dir`, which is made if it is not there.
///
/// # Errors
/// The adapter is broken, does not fit the base, or names another base's digest; errors of the files.
pub fn to_peft(adapter: &Path, base: &GgufFile, out_dir: &Path) -> Result<()> {
    let file = AdapterFile::read(adapter)?;
    file.check_against(&base.gguf, adapter)?;
    check_digest(&file, adapter, base)?;
    write::write(&file, adapter, &Heads::of(&base.gguf)?, out_dir)
}

/// An adapter that says which base it was trained on is not exported with the names and row order of another.
fn check_digest(adapter: &AdapterFile, path: &Path, base: &GgufFile) -> Result<()> {
    match adapter.text(BASE_DIGEST) {
        Some(expected) if expected != base.content_digest() => Err(Error::Runtime(loam::Error::BaseMismatch {
            path: path.into(),
            what: "content digest",
            expected: loam::gguf::printable(expected.as_bytes()),
            found: base.content_digest().to_owned(),
        })),
        _ => Ok(()),
    }
}

/// What of the base decides names and row order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Heads {
    /// Width of a head.
    head_dim: usize,
    /// Number of layers.
    layers: usize,
}

impl Heads {
    fn of(base: &Gguf) -> Result<Heads> {
        let architecture = base.str("general.architecture")?;
        if architecture != llama::ARCHITECTURE {
            let found = loam::gguf::printable(architecture.as_bytes());
            return Err(Error::Architecture { path: base.path().into(), found, supported: llama::ARCHITECTURE });
        }
        let count = |key: &str| base.u32_in(key, 1..=1 << 24);
        let head_dim = match base.opt_u32_in("llama.attention.key_length", 2..=1 << 24)? {
            Some(n) => n,
            None => count("llama.embedding_length")? / count("llama.attention.head_count")?,
        };
        if head_dim == 0 || head_dim % 2 != 0 {
            return Err(base.metadata_error("llama.attention.key_length", format!("a head is {head_dim} wide")).into());
        }
        Ok(Heads { head_dim: head_dim as usize, layers: count("llama.block_count")? as usize })
    }

    /// Whether the rows of the GGUF matrix `name` are in another order than in Transformers.
    fn permutes(&self, name: &str) -> bool {
        name.ends_with(".attn_q.weight") || name.ends_with(".attn_k.weight")
    }

    /// For row `i` of the GGUF matrix `name`, its row in the Transformers matrix.
    fn source_row(&self, name: &str, i: usize) -> usize {
        match self.permutes(name) {
            true => llama::permuted_row(i as u64, self.head_dim as u64) as usize,
            false => i,
        }
    }

    /// Rows that are permuted must be whole heads.
    fn check_rows(&self, path: &Path, name: &str, rows: usize) -> Result<()> {
        if self.permutes(name) && !rows.is_multiple_of(self.head_dim) {
            let problem = format!("has {rows} rows, which are no whole heads of {} as the base has", self.head_dim);
            return Err(Error::tensor(path, name, problem));
        }
        Ok(())
    }
}

/// GGUF tensor name of a module such as `model.layers.3.self_attn.q_proj`, or `lm_head`.
fn tensor_name(module: &str) -> Option<String> {
    if module == "lm_head" {
        return Some("output.weight".into());
    }
    let (layer, rest) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let number: u32 = layer.parse().ok().filter(|n: &u32| n.to_string() == layer)?;
    Some(format!("blk.{number}.{}.weight", llama::linear_name(rest)?))
}

/// The inverse of [`tensor_name`].
fn module_of(tensor: &str) -> Option<String> {
    if tensor == "output.weight" {
        return Some("lm_head".into());
    }
    let (layer, rest) = tensor.strip_prefix("blk.")?.split_once('.')?;
    Some(format!("model.layers.{layer}.{}", llama::module_name(rest.strip_suffix(".weight")?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (module, tensor) in [
            ("model.layers.3.self_attn.q_proj", "blk.3.attn_q.weight"),
            ("model.layers.12.mlp.down_proj", "blk.12.ffn_down.weight"),
            ("lm_head", "output.weight"),
        ] {
            assert_eq!(tensor_name(module).as_deref(), Some(tensor));
            assert_eq!(module_of(tensor).as_deref(), Some(module));
        }
        for module in ["model.embed_tokens", "model.layers.x.mlp.up_proj", "model.layers.03.mlp.up_proj", "model.norm"]
        {
            assert_eq!(tensor_name(module), None, "{module}");
        }
    }
}
