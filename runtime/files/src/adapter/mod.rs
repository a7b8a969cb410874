//! Adapter files: GGUF with `general.type` = "adapter", `adapter.type` = the name of a method ([`METHODS`]), the
//! settings of the method, and its parameters as tensors `<name of the base's tensor>.<name of the part>`.
//!
//! LoRA adapters are such as llama.cpp loads. [`AdapterFile::read`] refuses what llama.cpp would ignore or misread.

mod method;
pub mod origin;
mod parameter;
pub mod weights;

use std::collections::HashMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::file::AtomicFile;
use crate::gguf::{
    GgmlType, Gguf, GgufFile, Metadata, OUTPUT, TOKEN_EMBD, TensorDeclaration, TensorInfo, Value, Writer, printable,
};
use crate::kind::{self, TYPE};

pub use method::{METHODS, Method, Problem, Setting, ia3, lora};
use parameter::by_site;
pub use parameter::{Parameter, part};

/// Key of PEFT's `base_model_name_or_path`, kept for the way back.
pub const BASE_NAME: &str = "loam.peft.base_model_name_or_path";
/// Metadata key: content digest of the base that the adapter was trained on.
pub const BASE_DIGEST: &str = "loam.base.digest";
/// Metadata key: digest of that base's tokenizer.
pub const TOKENIZER_DIGEST: &str = "loam.tokenizer.digest";
/// Metadata key: digest of the chat template that rendered the data.
pub const TEMPLATE_DIGEST: &str = "loam.chat_template.digest";

/// Architecture of the base, e.g. "llama".
const ARCHITECTURE: &str = "general.architecture";
const ADAPTER_TYPE: &str = "adapter.type";
/// Keys that are fields of [`AdapterFile`] or belong to the container, besides the settings of the method.
const OWN_KEYS: [&str; 4] = [ARCHITECTURE, TYPE, ADAPTER_TYPE, crate::gguf::ALIGNMENT_KEY];
/// Elements converted at a time while writing.
const CHUNK: usize = 16_384;
/// Values beyond this are a broken file: the product of two of them still is far from the end of f32.
const MAX_VALUE: f32 = 1e9;

/// The contents of an adapter file.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterFile {
    /// Architecture of the base: "llama".
    pub architecture: String,
    /// What it does with its parameters.
    pub method: &'static Method,
    /// The method's numbers, in the order of [`Method::settings`].
    pub settings: Vec<Setting>,
    /// Parameters, those of one site one after the other.
    pub parameters: Vec<Parameter>,
    /// All other metadata in the order of the file, `loam.*` keys among it.
    pub metadata: Vec<(String, Value)>,
}

impl AdapterFile {
    /// Its parameters by their sites.
    pub fn sites(&self) -> Vec<(&str, Vec<&Parameter>)> {
        by_site(&self.parameters)
    }

    /// Reads and checks an adapter: the parameters of each site complete and fitting each other, finite values, nothing
    /// that would be ignored. Tensors may be F32, F16, BF16 or any other type that loam computes with.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Gguf`] if the file cannot be read, [`Error::Adapter`] if it is no adapter of a method
    /// that loam knows or its parameters are unusable, [`Error::NonFinite`] for NaN or infinity.
    pub fn read(path: &Path) -> Result<AdapterFile> {
        let file = GgufFile::open(path)?;
        let method = method(&file.gguf)?;
        let setting = |&key: &&'static str| Ok(Setting { key, value: file.gguf.f32(key)? });
        let settings = method.settings.iter().map(setting).collect::<Result<Vec<_>>>()?;
        let architecture = file.gguf.str(ARCHITECTURE)?.to_owned();
        let own = |key: &str| OWN_KEYS.contains(&key) || method.settings.contains(&key);
        let metadata = file.gguf.metadata().iter().filter(|(key, _)| !own(key));
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.clone())).collect();
        let parameters = parameters(&file, method)?;
        let adapter = AdapterFile { architecture, method, settings, parameters, metadata };
        adapter.check(path)?;
        Ok(adapter)
    }

    /// Writes the adapter, atomically, with its values in F32. A previous file stays as it was if anything fails.
    ///
    /// # Errors
    /// [`Error::Adapter`] and [`Error::NonFinite`] for what [`AdapterFile::read`] would refuse, [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        self.write_to(AtomicFile::create(path)?)
    }

    /// As [`AdapterFile::write`], to a file that was begun before.
    ///
    /// # Errors
    /// As [`AdapterFile::write`].
    pub fn write_to(&self, file: AtomicFile) -> Result<()> {
        let path = file.path().to_owned();
        self.check(&path)?;
        let mut metadata = Metadata::new();
        metadata.set(ARCHITECTURE, self.architecture.as_str());
        metadata.set(TYPE, kind::ADAPTER);
        metadata.set(ADAPTER_TYPE, self.method.name);
        self.settings.iter().for_each(|setting| metadata.set(setting.key, setting.value));
        let own = |key: &str| OWN_KEYS.contains(&key) || self.method.settings.contains(&key);
        for (key, value) in self.metadata.iter().filter(|(key, _)| !own(key)) {
            metadata.set(key.as_str(), value.clone());
        }
        let declare = |parameter: &Parameter| TensorDeclaration {
            name: parameter.name(),
            shape: parameter.shape.clone(),
            ty: GgmlType::F32,
        };
        let declarations: Vec<_> = self.parameters.iter().map(declare).collect();
        let mut writer = Writer::new(file, &path, &metadata, &declarations)?;
        for (parameter, declaration) in self.parameters.iter().zip(&declarations) {
            for chunk in parameter.values.chunks(CHUNK) {
                let bytes: Vec<u8> = chunk.iter().flat_map(|x| x.to_le_bytes()).collect();
                writer.write(&declaration.name, &bytes)?;
            }
        }
        writer.finish()?.commit()
    }

    /// Checks that the architecture is that of `base`, and the sites as [`AdapterFile::check_sites`] does.
    ///
    /// # Errors
    /// [`Error::BaseMismatch`] for another architecture, and those of [`AdapterFile::check_sites`].
    pub fn check_against(&self, base: &Gguf, path: &Path) -> Result<()> {
        let found = base.str(ARCHITECTURE)?;
        if found != self.architecture {
            let expected = printable(self.architecture.as_bytes());
            let found = printable(found.as_bytes());
            return Err(Error::BaseMismatch { path: path.into(), what: "architecture", expected, found });
        }
        self.check_sites(base, path)
    }

    /// Checks that every site is in `base`, with a shape that its parameters fit. `path` is the adapter's file, named
    /// in errors.
    ///
    /// # Errors
    /// [`Error::Adapter`] for a tensor that is missing, of another shape, or that the method does nothing at.
    pub fn check_sites(&self, base: &Gguf, path: &Path) -> Result<()> {
        for (site, parameters) in self.sites() {
            let bad =
                |problem: String| adapter_error(path, format!("tensor {}: {problem}", printable(site.as_bytes())));
            let tensor = match base.opt_tensor(site) {
                // A tied head is the embedding, but what is done at it is not done at the embedding.
                None if site == OUTPUT => base.opt_tensor(TOKEN_EMBD),
                tensor => tensor,
            };
            let tensor = tensor.ok_or_else(|| bad("is not in the base".into()))?;
            if !(self.method.takes)(site) {
                // Applying the rest without it would be another model.
                return Err(bad(format!("{} is not for it, and loam ignores nothing", self.method.name)));
            }
            (self.method.fits)(&parameters, tensor).map_err(bad)?;
        }
        Ok(())
    }

    /// What a user of the adapter on `base` should know: what a stock llama.cpp does not apply.
    pub fn notes(&self, base: &Gguf) -> Vec<String> {
        let tied = base.opt_tensor(OUTPUT).is_none();
        let sites = self.sites().into_iter().map(|(site, _)| site);
        let apart = sites.filter(|site| tied && [TOKEN_EMBD, OUTPUT].contains(site));
        let note = |name: &str| {
            format!(
                "{name}: the base's head is its embedding; a stock llama.cpp cannot run an update of one of them alone"
            )
        };
        let other = format!("a stock llama.cpp loads no {} adapters: it refuses them", self.method.name);
        (!self.method.llama_cpp).then_some(other).into_iter().chain(apart.map(note)).collect()
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
        for Setting { key, value } in &self.settings {
            if !(value.is_finite() && *value > 0.0 && *value <= MAX_VALUE) {
                return Err(adapter_error(path, format!("{key} is {value}, must be a positive number")));
            }
        }
        if self.parameters.is_empty() {
            return Err(adapter_error(path, "has no tensors".into()));
        }
        self.parameters.iter().try_for_each(|parameter| check_values(path, parameter))?;
        for (site, of) in self.sites() {
            let twice = |i: usize| of[..i].iter().any(|earlier| earlier.part == of[i].part);
            let twice = (0..of.len()).find(|&i| twice(i)).map(|i| (of[i].part, "is there twice".to_owned()));
            let bad = (self.method.check)(&of).err().map(|Problem { part, problem }| (part, problem));
            if let Some((part, problem)) = twice.or(bad) {
                return Err(adapter_error(path, format!("tensor {}.{part}: {problem}", printable(site.as_bytes()))));
            }
        }
        Ok(())
    }
}

fn adapter_error(path: &Path, problem: String) -> Error {
    Error::Adapter { path: path.into(), problem }
}

/// Checks that there are as many values as the shape says, all of them finite and none broken.
fn check_values(path: &Path, parameter: &Parameter) -> Result<()> {
    let shown = printable(parameter.name().as_bytes());
    let Parameter { shape, values, .. } = parameter;
    let len = shape.iter().try_fold(1u64, |len, &n| len.checked_mul(n));
    if values.is_empty() || len != Some(values.len() as u64) {
        return Err(adapter_error(
            path,
            format!("tensor {shown}: has {} values for a shape of {shape:?}", values.len()),
        ));
    }
    match values.iter().find(|x| x.is_nan() || x.abs() > MAX_VALUE) {
        None => Ok(()),
        Some(x) if x.is_finite() => {
            Err(adapter_error(path, format!("tensor {shown}: holds {x}, the limit is {MAX_VALUE}")))
        }
        Some(_) => Err(Error::NonFinite(format!("{}: tensor {shown}", path.display()))),
    }
}

/// The method of the adapter.
fn method(gguf: &Gguf) -> Result<&'static Method> {
    kind::check(gguf, kind::ADAPTER)?;
    let name = gguf.str(ADAPTER_TYPE)?;
    let method = Method::by_name(name).ok_or_else(|| {
        let (name, known) = (printable(name.as_bytes()), Method::names());
        adapter_error(gguf.path(), format!("has the adapter.type {name:?}, loam has {known}"))
    })?;
    let gate = "adapter.alora.invocation_tokens";
    if gguf.metadata().get(gate).is_some() {
        return Err(adapter_error(gguf.path(), format!("is an activated LoRA ({gate}), which is not supported")));
    }
    Ok(method)
}

/// All tensors, those of one site one after the other, in the method's order of parts.
fn parameters(file: &GgufFile, method: &'static Method) -> Result<Vec<Parameter>> {
    let mut all = Vec::new();
    for tensor in file.gguf.tensors() {
        let known = |part: &str| method.parts.iter().copied().find(|known| *known == part);
        let Some((site, part)) = tensor.name.rsplit_once('.').and_then(|(site, part)| Some((site, known(part)?)))
        else {
            let problem = format!("is neither of {}; nothing in an adapter may be ignored", method.parts.join(", "));
            return Err(file.gguf.tensor_error(&tensor.name, problem));
        };
        let (site, shape) = (site.to_owned(), tensor.shape.clone());
        all.push(Parameter { site, part, shape, values: decode(file, tensor)? });
    }
    // Sites in the order in which the first parameter of each comes.
    let mut first = HashMap::new();
    for (place, parameter) in all.iter().enumerate() {
        first.entry(parameter.site.clone()).or_insert(place);
    }
    let place = |part: &str| method.parts.iter().position(|known| *known == part);
    all.sort_by_key(|parameter| (first[&parameter.site], place(parameter.part)));
    Ok(all)
}

/// A tensor's values, decoded row by row.
fn decode(file: &GgufFile, tensor: &TensorInfo) -> Result<Vec<f32>> {
    let Some(format) = tensor.ty.format() else {
        let problem = format!("has type {}, which adapters cannot be read from", tensor.ty.name());
        return Err(file.gguf.tensor_error(&tensor.name, problem));
    };
    let bytes = file.bytes(tensor)?;
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
