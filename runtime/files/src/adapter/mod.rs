//! Adapter files: GGUF as llama.cpp loads it (`src/llama-adapter.cpp`): `general.type` = "adapter", `adapter.type` = "lora",
//! `adapter.lora.alpha`, and for each weight W [out, in] the tensors `<name of W>.lora_a` and `<name of W>.lora_b`.
//!
//! The update is `alpha / rank * B A`, with A [rank, in] and B [out, rank] row-major, as PyTorch has them; in GGUF's order
//! `lora_a` is {in, rank} and `lora_b` {rank, out}. Experts have {in, rank, experts} and {rank, out, experts}; of the token
//! embedding [D, V] `lora_a` is {rank, V} and `lora_b` {rank, D}. [`AdapterFile::read`] refuses what llama.cpp would ignore
//! or misread.

mod pair;
pub mod weights;

use std::collections::HashMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::file::AtomicFile;
use crate::gguf::{
    GgmlType, Gguf, GgufFile, Metadata, OUTPUT, TOKEN_EMBD, TensorDeclaration, TensorInfo, Value, Writer, printable,
};

use pair::MAX_VALUE;
pub use pair::{Pair, is_lookup};

/// Metadata key: content digest of the base that the adapter was trained on.
pub const BASE_DIGEST: &str = "loam.base.digest";
/// Metadata key: digest of that base's tokenizer.
pub const TOKENIZER_DIGEST: &str = "loam.tokenizer.digest";
/// Metadata key: digest of the chat template that rendered the data.
pub const TEMPLATE_DIGEST: &str = "loam.chat_template.digest";
/// Architecture of the base, e.g. "llama".
const ARCHITECTURE: &str = "general.architecture";
const TYPE: &str = "general.type";
const ADAPTER_TYPE: &str = "adapter.type";
const ALPHA: &str = "adapter.lora.alpha";
/// Keys that are fields of [`AdapterFile`] or belong to the container.
const OWN_KEYS: [&str; 5] = [ARCHITECTURE, TYPE, ADAPTER_TYPE, ALPHA, crate::gguf::ALIGNMENT_KEY];
/// Elements converted at a time while writing.
const CHUNK: usize = 16_384;

/// The contents of an adapter file.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterFile {
    /// Architecture of the base: "llama".
    pub architecture: String,
    /// The update of each weight is scaled by alpha / rank.
    pub alpha: f32,
    /// Updates by the name of the base's tensor ("blk.0.attn_q.weight"), in the order of the file.
    pub tensors: Vec<(String, Pair)>,
    /// All other metadata in the order of the file, `loam.*` keys among it.
    pub metadata: Vec<(String, Value)>,
}

impl AdapterFile {
    /// The rank of all updates, if they have the same.
    pub fn rank(&self) -> Option<usize> {
        let mut ranks = self.tensors.iter().map(|(_, pair)| pair.rank);
        let first = ranks.next()?;
        ranks.all(|rank| rank == first).then_some(first)
    }

    /// Reads and checks an adapter: complete pairs of matching rank, finite values, nothing that would be ignored.
    /// A and B may be F32, F16, BF16 or any other type that loam computes with.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Gguf`] if the file cannot be read, [`Error::Adapter`] if it is something else than a LoRA
    /// adapter or a pair is unusable, [`Error::NonFinite`] for NaN or infinity.
    pub fn read(path: &Path) -> Result<AdapterFile> {
        let file = GgufFile::open(path)?;
        check_kind(&file.gguf)?;
        let alpha = check_alpha(path, file.gguf.f32(ALPHA)?)?;
        let architecture = file.gguf.str(ARCHITECTURE)?.to_owned();
        let mut tensors = Vec::new();
        for (name, (a, b)) in pair_up(&file.gguf)? {
            tensors.push((name.to_owned(), Pair::read(&file, name, [a, b])?));
        }
        let own = |key: &str| OWN_KEYS.contains(&key);
        let metadata = file.gguf.metadata().iter().filter(|(key, _)| !own(key));
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.clone())).collect();
        let adapter = AdapterFile { architecture, alpha, tensors, metadata };
        adapter.check(path)?;
        Ok(adapter)
    }

    /// Writes the adapter, atomically, with A and B in F32. A previous file stays as it was if anything fails.
    ///
    /// # Errors
    /// [`Error::Adapter`] and [`Error::NonFinite`] for what [`AdapterFile::read`] would refuse, [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        self.check(path)?;
        let mut metadata = Metadata::new();
        metadata.set(ARCHITECTURE, self.architecture.as_str());
        metadata.set(TYPE, "adapter");
        metadata.set(ADAPTER_TYPE, "lora");
        metadata.set(ALPHA, self.alpha);
        for (key, value) in self.metadata.iter().filter(|(key, _)| !OWN_KEYS.contains(&key.as_str())) {
            metadata.set(key.as_str(), value.clone());
        }
        let mut halves = Vec::with_capacity(self.tensors.len() * 2);
        for (name, pair) in &self.tensors {
            let [a, b] = pair.shapes(name);
            halves.push((format!("{name}.lora_a"), a, &pair.a));
            halves.push((format!("{name}.lora_b"), b, &pair.b));
        }
        let declare = |(name, shape, _): &(String, Vec<u64>, _)| TensorDeclaration {
            name: name.clone(),
            shape: shape.clone(),
            ty: GgmlType::F32,
        };
        let declarations: Vec<_> = halves.iter().map(declare).collect();
        let mut writer = Writer::new(AtomicFile::create(path)?, path, &metadata, &declarations)?;
        for (name, _, values) in &halves {
            for chunk in values.chunks(CHUNK) {
                let bytes: Vec<u8> = chunk.iter().flat_map(|x| x.to_le_bytes()).collect();
                writer.write(name, &bytes)?;
            }
        }
        writer.finish()?.commit()
    }

    /// Checks that every weight is in `base` with the shape that its pair fits. `path` is the adapter's file, named in
    /// errors.
    ///
    /// # Errors
    /// [`Error::BaseMismatch`] for another architecture, [`Error::Adapter`] for a weight that is missing, of another
    /// shape, or whose update loam cannot apply.
    pub fn check_against(&self, base: &Gguf, path: &Path) -> Result<()> {
        let found = base.str(ARCHITECTURE)?;
        if found != self.architecture {
            let expected = printable(self.architecture.as_bytes());
            let found = printable(found.as_bytes());
            return Err(Error::BaseMismatch { path: path.into(), what: "architecture", expected, found });
        }
        for (name, pair) in &self.tensors {
            let bad =
                |problem: String| adapter_error(path, format!("tensor {}: {problem}", printable(name.as_bytes())));
            let weight = match base.opt_tensor(name) {
                // A tied head is the embedding, but an update of it is not one of the embedding.
                None if name == OUTPUT => base.opt_tensor(TOKEN_EMBD),
                weight => weight,
            };
            let weight = weight.ok_or_else(|| bad("is not in the base".into()))?;
            if weights::kind_of(name).is_none() {
                // Norms, say: applying the rest without them would be another model.
                return Err(bad("loam updates the embedding, the head and linear layers, and ignores nothing".into()));
            }
            pair.check_fit(name, weight).map_err(bad)?;
        }
        Ok(())
    }

    /// What a user of the adapter on `base` should know: updates that a stock llama.cpp does not apply.
    pub fn notes(&self, base: &Gguf) -> Vec<String> {
        let tied = base.opt_tensor(OUTPUT).is_none();
        let apart = self.tensors.iter().filter(|(name, _)| tied && [TOKEN_EMBD, OUTPUT].contains(&name.as_str()));
        let note = |name: &str| {
            format!(
                "{name}: the base's head is its embedding; a stock llama.cpp cannot run an update of one of them alone"
            )
        };
        apart.map(|(name, _)| note(name)).collect()
    }

    /// The metadata value of `key`, if it is UTF-8 text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.iter().find(|(k, _)| k == key)? {
            (_, Value::String(bytes)) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// What must hold of every adapter, read or about to be written.
    fn check(&self, path: &Path) -> Result<()> {
        check_alpha(path, self.alpha)?;
        if self.tensors.is_empty() {
            return Err(adapter_error(path, "has no tensors".into()));
        }
        for (name, pair) in &self.tensors {
            pair.check(path, name)?;
        }
        Ok(())
    }
}

fn adapter_error(path: &Path, problem: String) -> Error {
    Error::Adapter { path: path.into(), problem }
}

fn check_kind(gguf: &Gguf) -> Result<()> {
    let kind = gguf.opt_str(TYPE)?.unwrap_or("model");
    if kind != "adapter" {
        let kind = printable(kind.as_bytes());
        return Err(adapter_error(gguf.path(), format!("is no adapter: its general.type is {kind:?}")));
    }
    let method = gguf.str(ADAPTER_TYPE)?;
    if method != "lora" {
        let method = printable(method.as_bytes());
        return Err(adapter_error(gguf.path(), format!("has the adapter.type {method:?}, only \"lora\" is supported")));
    }
    let gate = "adapter.alora.invocation_tokens";
    if gguf.metadata().get(gate).is_some() {
        return Err(adapter_error(gguf.path(), format!("is an activated LoRA ({gate}), which is not supported")));
    }
    Ok(())
}

fn check_alpha(path: &Path, alpha: f32) -> Result<f32> {
    if alpha.is_finite() && alpha > 0.0 && alpha <= MAX_VALUE {
        return Ok(alpha);
    }
    Err(adapter_error(path, format!("{ALPHA} is {alpha}, must be a positive number")))
}

/// Names of the weights with their two tensors, in the order in which the first of each is in the file.
fn pair_up(gguf: &Gguf) -> Result<Vec<(&str, (&TensorInfo, &TensorInfo))>> {
    let mut order: Vec<&str> = Vec::new();
    let mut halves: HashMap<&str, [Option<&TensorInfo>; 2]> = HashMap::new();
    for tensor in gguf.tensors() {
        let parts = [tensor.name.strip_suffix(".lora_a"), tensor.name.strip_suffix(".lora_b")];
        let Some((half, name)) = parts.iter().enumerate().find_map(|(i, name)| Some((i, (*name)?))) else {
            let problem = "is neither a .lora_a nor a .lora_b; nothing in an adapter may be ignored";
            return Err(gguf.tensor_error(&tensor.name, problem));
        };
        let entry = halves.entry(name).or_insert_with(|| {
            order.push(name);
            [None, None]
        });
        entry[half] = Some(tensor);
    }
    order.into_iter().map(|name| Ok((name, matched(gguf, name, halves[name])?))).collect()
}

fn matched<'g>(
    gguf: &Gguf,
    name: &str,
    halves: [Option<&'g TensorInfo>; 2],
) -> Result<(&'g TensorInfo, &'g TensorInfo)> {
    let missing = |half: &str| gguf.tensor_error(&format!("{name}.{half}"), "is missing, its other half is there");
    let a = halves[0].ok_or_else(|| missing("lora_a"))?;
    let b = halves[1].ok_or_else(|| missing("lora_b"))?;
    Ok((a, b))
}

/// A tensor's values, decoded row by row.
fn decode(file: &GgufFile, tensor: &TensorInfo) -> Result<Vec<f32>> {
    let Some(format) = tensor.ty.format() else {
        let problem = format!("has type {}, which adapters cannot be read from", tensor.ty.name());
        return Err(file.gguf.tensor_error(&tensor.name, problem));
    };
    let bytes = file.bytes(tensor);
    let (cols, rows) = (tensor.cols() as usize, tensor.rows() as usize);
    let mut out = vec![0.0; cols * rows];
    // The reader has checked that the data is whole rows of whole blocks.
    let row_bytes = bytes.bytes().len() / rows.max(1);
    for (row, blocks) in out.chunks_exact_mut(cols).zip(bytes.bytes().chunks_exact(row_bytes)) {
        format.decode_row(blocks, row);
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
