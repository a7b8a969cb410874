//! PEFT folders (adapter_config.json + adapter_model.safetensors) to GGUF adapters and back. `EXCHANGES` has the
//! methods.
//!
//! PEFT names modules as Transformers does and keeps the rows of q and k in Transformers' order; a GGUF adapter names
//! tensors of the base and keeps the base's row order.

mod folder;
mod ia3;
mod lora;
mod options;
mod replace;

use std::path::Path;

use loam_files::adapter::{AdapterFile, BASE_NAME, Method};
use loam_files::gguf::{Gguf, GgufFile};
use loam_files::gguf::{OUTPUT, TOKEN_EMBD};

use lora::Sizes;

use crate::architecture::{FAMILIES, Family, by_architecture, permuted_row};
use crate::problem::SourceProblem;
use crate::source::{Json, find, lacks, present};
use crate::{Error, Result};

/// What every PEFT tensor name starts with.
const PREFIX: &str = "base_model.model.";

/// Modules outside of blocks, and their tensors.
const OUTSIDE: [(&str, &str); 2] = [("model.embed_tokens", TOKEN_EMBD), ("lm_head", OUTPUT)];

/// What says how an adapter is meant.
const CONFIG: &str = "adapter_config.json";

/// Programs whose adapters have an adapter_config.json too, with keys that tell them.
const FOREIGN: [(&str, &[&str]); 2] =
    [("mlx-lm", &["lora_parameters"]), ("AdapterHub", &["config", "model_class", "hidden_size"])];

/// Converts the PEFT folder `dir`, trained on the model that `base` was made from, to the GGUF adapter `out`. A and B
/// are stored in F32; plain configurations keep their bits. The adapter is not bound to this base's digest: it was
/// trained on the weights before quantisation, and fits every base made from them.
///
/// # Errors
/// Options that GGUF cannot express (DoRA, biases, saved modules: named), tensors that do not fit the base,
/// NaN; errors of the files. A previous `out` stays as it was.
pub fn from_peft(dir: &Path, base: &GgufFile, out: &Path) -> Result<AdapterFile> {
    let adapter = read_peft(dir, base)?;
    adapter.write(out)?;
    Ok(adapter)
}

/// As [`from_peft`], for a caller who writes the adapter.
///
/// # Errors
/// As [`from_peft`].
pub fn read_peft(dir: &Path, base: &GgufFile) -> Result<AdapterFile> {
    std::fs::metadata(dir).map_err(Error::io("open", dir))?;
    let found = find(dir, CONFIG)?;
    let dir = found.dir.as_path();
    if !present(&dir.join(CONFIG))? {
        return Err(Error::source(dir, lacks(dir, CONFIG)));
    }
    let config = Json::read(&dir.join(CONFIG))?;
    let adapter = (Exchange::of_config(&config)?.read)(dir, &config, base, &Layout::read(&base.gguf)?)?;
    adapter.check_against(&base.gguf, dir)?;
    Ok(adapter)
}

/// The method of the PEFT folder `dir`, by its adapter_config.json alone.
///
/// # Errors
/// It is an adapter of another program, or of a method that is not supported; errors of the file.
pub fn method(dir: &Path) -> Result<&'static Method> {
    Ok(Exchange::of_config(&Json::read(&dir.join(CONFIG))?)?.method)
}

/// Converts the GGUF adapter `adapter`, trained on `base`, to the PEFT folder `out_dir`, which is made if it is not
/// there.
///
/// # Errors
/// The adapter is broken, does not fit the base, or says that it was trained on another model's weights; errors of the
/// files.
pub fn to_peft(adapter: &Path, base: &GgufFile, out_dir: &Path) -> Result<()> {
    let file = AdapterFile::read(adapter)?;
    file.check_against(&base.gguf, adapter)?;
    file.weights(base, adapter)?;
    write_peft(&file, adapter, base, out_dir)
}

/// As [`to_peft`], for a caller who has read `file` from `adapter` and knows that it is for `base`.
///
/// # Errors
/// As [`to_peft`].
pub fn write_peft(file: &AdapterFile, adapter: &Path, base: &GgufFile, out_dir: &Path) -> Result<()> {
    file.check_sites(&base.gguf, adapter)?;
    let exchange = EXCHANGES.into_iter().find(|exchange| exchange.method == file.method);
    let exchange = exchange.ok_or_else(|| {
        let problem = format!("PEFT folders of {} cannot be written", file.method.name);
        loam_files::Error::Adapter { path: adapter.into(), problem }
    })?;
    (exchange.write)(file, adapter, &Layout::read(&base.gguf)?, out_dir)
}

/// The methods whose folders are read and written.
const EXCHANGES: [Exchange; 2] = [lora::EXCHANGE, ia3::EXCHANGE];

/// How the folders of a method are read and written.
#[derive(Clone, Copy)]
struct Exchange {
    method: &'static Method,
    /// `peft_type` in adapter_config.json.
    peft_type: &'static str,
    /// Reads a folder with this adapter_config.json into the base's names and row order.
    read: fn(&Path, &Json, &GgufFile, &Layout) -> Result<AdapterFile>,
    /// Writes the adapter that was read from a path as a folder.
    write: fn(&AdapterFile, &Path, &Layout, &Path) -> Result<()>,
}

impl Exchange {
    /// The one for folders with this adapter_config.json.
    fn of_config(config: &Json) -> Result<Exchange> {
        let known = || EXCHANGES.map(|exchange| exchange.peft_type).join(" and ");
        let foreign = FOREIGN.iter().find(|(_, keys)| keys.iter().all(|key| config.get(key).is_some()));
        match (config.text("peft_type")?, foreign) {
            (Some(found), _) => EXCHANGES.into_iter().find(|exchange| exchange.peft_type == found).ok_or_else(|| {
                let found: String = found.escape_debug().take(60).collect();
                config.error("peft_type", format!("{found} is not supported, only {}", known()))
            }),
            (None, Some((program, _))) => {
                let folder = config.path.parent().unwrap_or(&config.path);
                Err(Error::source(folder, SourceProblem::ForeignAdapter { program }))
            }
            (None, None) => {
                Err(config.error("peft_type", format!("is missing; of PEFT's adapters {} is supported", known())))
            }
        }
    }
}

/// What of the base decides names and row order.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// The base's table.
    family: &'static Family,
    /// Width of a head.
    head_dim: usize,
    /// Number of layers.
    layers: usize,
    /// Its experts, if layers are made of them.
    experts: Option<Sizes>,
}

impl Layout {
    fn read(base: &Gguf) -> Result<Layout> {
        let architecture = base.str("general.architecture")?;
        let Some(family) = by_architecture(architecture) else {
            let found = loam_files::gguf::printable(architecture.as_bytes());
            let known: Vec<&str> = FAMILIES.iter().map(|family| family.architecture).collect();
            let supported = known.join(", ");
            return Err(Error::Architecture { path: base.path().into(), found, supported });
        };
        let key = |suffix: &str| format!("{architecture}.{suffix}");
        let count = |suffix: &str| base.u32_in(&key(suffix), 1..=1 << 24);
        let key_length = key("attention.key_length");
        let head_dim = match base.opt_u32_in(&key_length, 2..=1 << 24)? {
            Some(n) => n,
            None => count("embedding_length")? / count("attention.head_count")?,
        };
        if head_dim == 0 || head_dim % 2 != 0 {
            return Err(base.metadata_error(&key_length, format!("a head is {head_dim} wide")).into());
        }
        let experts = if family.experts { Some(Sizes::read(base, architecture)?) } else { None };
        Ok(Layout { family, head_dim: head_dim as usize, layers: count("block_count")? as usize, experts })
    }

    /// Whether Transformers 5 has the weight `name` as a parameter without a linear layer around it: a router.
    fn is_parameter(&self, name: &str) -> bool {
        self.experts.is_some() && name.ends_with(".ffn_gate_inp.weight")
    }

    /// Whether the rows of the GGUF matrix `name` are in another order than in Transformers.
    fn permutes(&self, name: &str) -> bool {
        let module = name.strip_suffix(".weight").and_then(|name| name.rsplit('.').next());
        module.is_some_and(|module| self.family.permutes(module))
    }

    /// For row `i` of the GGUF matrix `name`, its row in the Transformers matrix.
    fn source_row(&self, name: &str, i: usize) -> usize {
        match self.permutes(name) {
            true => permuted_row(i as u64, self.head_dim as u64) as usize,
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

    /// GGUF tensor name of a module such as `model.layers.3.self_attn.q_proj`, `model.embed_tokens` or `lm_head`.
    fn tensor_name(&self, module: &str) -> Option<String> {
        if let Some((_, tensor)) = OUTSIDE.iter().find(|(name, _)| *name == module) {
            return Some((*tensor).into());
        }
        let (layer, rest) = module.strip_prefix("model.layers.")?.split_once('.')?;
        let number: u32 = layer.parse().ok().filter(|n: &u32| n.to_string() == layer)?;
        Some(format!("blk.{number}.{}.weight", self.family.linear_name(rest)?))
    }

    /// The module of `tensor`, which is in the adapter `path`.
    fn need_module(&self, path: &Path, tensor: &str) -> Result<String> {
        self.module_of(tensor).ok_or_else(|| {
            let problem = format!("has no counterpart in a Transformers {} model", self.family.architecture);
            Error::tensor(path, tensor, problem)
        })
    }

    /// The inverse of [`Layout::tensor_name`].
    fn module_of(&self, tensor: &str) -> Option<String> {
        if let Some((module, _)) = OUTSIDE.iter().find(|(_, name)| *name == tensor) {
            return Some((*module).into());
        }
        let (layer, rest) = tensor.strip_prefix("blk.")?.split_once('.')?;
        Some(format!("model.layers.{layer}.{}", self.family.module_name(rest.strip_suffix(".weight")?)?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn adapters_of_others_are_told_by_their_keys() {
        let told = |value: Value| {
            let json = Json::from_value(Path::new("mine/adapter_config.json"), "", value);
            Exchange::of_config(&json).err().expect("not of PEFT").to_string()
        };
        let mlx = json!({"fine_tune_type": "lora", "num_layers": 3, "lora_parameters": {"rank": 4, "scale": 2.0}});
        assert_eq!(told(mlx), "mine is an adapter of mlx-lm, not of PEFT");
        let hub = json!({"config": {"reduction_factor": 16}, "hidden_size": 64, "model_class": "LlamaModel"});
        assert_eq!(told(hub), "mine is an adapter of AdapterHub, not of PEFT");
        let peft = "mine/adapter_config.json: peft_type: ";
        assert_eq!(told(json!({"peft_type": "LOHA"})), format!("{peft}LOHA is not supported, only LORA and IA3"));
        assert_eq!(told(json!({"r": 8})), format!("{peft}is missing; of PEFT's adapters LORA and IA3 is supported"));
    }

    #[test]
    fn names_go_both_ways() {
        let layout = |name| Layout { family: by_architecture(name).unwrap(), head_dim: 4, layers: 13, experts: None };
        for (family, module, tensor) in [
            ("llama", "model.layers.3.self_attn.q_proj", "blk.3.attn_q.weight"),
            ("gemma2", "model.layers.12.mlp.down_proj", "blk.12.ffn_down.weight"),
            ("phi3", "model.layers.0.self_attn.qkv_proj", "blk.0.attn_qkv.weight"),
            ("phi3", "model.layers.0.mlp.gate_up_proj", "blk.0.ffn_up.weight"),
            ("llama", "lm_head", "output.weight"),
            ("gemma3", "model.embed_tokens", "token_embd.weight"),
        ] {
            assert_eq!(layout(family).tensor_name(module).as_deref(), Some(tensor));
            assert_eq!(layout(family).module_of(tensor).as_deref(), Some(module));
        }
        for module in ["embed_tokens", "model.layers.x.mlp.up_proj", "model.layers.03.mlp.up_proj", "model.norm"] {
            assert_eq!(layout("llama").tensor_name(module), None, "{module}");
        }
        assert_eq!(layout("phi3").tensor_name("model.layers.0.mlp.up_proj"), None);
        assert!(layout("smollm3").permutes("blk.0.attn_k.weight") && !layout("qwen3").permutes("blk.0.attn_k.weight"));
    }
}
