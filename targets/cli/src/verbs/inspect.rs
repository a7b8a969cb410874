//! `loam inspect`: what a GGUF file holds. Only the declarations are read, and those through the checking reader.

use std::collections::{BTreeMap, BTreeSet};

use loam::gguf::{Array, Gguf, GgufFile, Value, printable};
use loam::train::checkpoint;
use serde_json::{Map, json};

use crate::args::InspectArgs;
use crate::failure::Result;
use crate::output::{Output, bytes, escape};
use crate::verified::Verified;

/// Longest array that is shown whole in JSON; token lists are far longer.
const WHOLE_ARRAY: usize = 64;
/// Most characters of a value on a line for people.
const LINE: usize = 100;

/// Runs the verb.
pub fn run(args: &InspectArgs) -> Result {
    let output = Output::new(args.json.json);
    let file = GgufFile::open(&args.file)?;
    let digest = if args.digest { Some(file.content_digest()?) } else { None };
    let summary = Summary::from_gguf(&file.gguf);
    // Any bytes are as good as others in a checkpoint, but for its digest.
    let sealed = args.verify && file.gguf.metadata().get(checkpoint::DIGEST).is_some();
    if sealed {
        checkpoint::open(&args.file)?;
    }
    let verified = if args.verify && !sealed { Some(Verified::new(&file)?) } else { None };
    if output.is_json() {
        let mut object = summary.json(&file.gguf, args, digest);
        if let Some(verified) = &verified {
            object["verified"] = verified.json();
        } else if sealed {
            object["verified"] = json!({"digest": true});
        }
        output.object(&object)?;
        return verified.map_or(Ok(()), |verified| verified.verdict(&file.gguf));
    }
    summary.print(&file.gguf, output, digest)?;
    output.line("metadata")?;
    for (key, value) in file.gguf.metadata().iter() {
        output.line(format!("  {} = {}", escape(key), line(value)))?;
    }
    if args.tensors {
        output.line("tensors")?;
        for tensor in file.gguf.tensors() {
            let (name, shape) = (escape(&tensor.name), shape(&tensor.shape));
            output.line(format!("  {name:<40} {:<8} {shape:<20} {}", tensor.ty.name(), bytes(tensor.bytes)))?;
        }
    }
    if sealed {
        output.line("verified      all bytes by their digest")?;
    }
    let Some(verified) = verified else { return Ok(()) };
    verified.print(output)?;
    verified.verdict(&file.gguf)
}

/// Tensors of one type.
#[derive(Default)]
struct Group {
    tensors: u64,
    weights: u64,
    bytes: u64,
}

/// What is told about a whole file.
struct Summary {
    kind: &'static str,
    architecture: Option<String>,
    name: Option<String>,
    weights: u64,
    types: BTreeMap<&'static str, Group>,
}

impl Summary {
    fn from_gguf(gguf: &Gguf) -> Self {
        let text = |key: &str| match gguf.metadata().get(key) {
            Some(Value::String(text)) => Some(printable(text)),
            _ => None,
        };
        let mut types: BTreeMap<&'static str, Group> = BTreeMap::new();
        for tensor in gguf.tensors() {
            let group = types.entry(tensor.ty.name()).or_default();
            group.tensors += 1;
            group.weights = group.weights.saturating_add(tensor.elements());
            group.bytes = group.bytes.saturating_add(tensor.bytes);
        }
        let kind = match text("general.type").as_deref() {
            Some("adapter") => "adapter",
            Some("model") => "base",
            Some(checkpoint::KIND) => "checkpoint",
            Some("imatrix") => "imatrix",
            Some(_) => "other",
            // Older writers do not say; a file with an architecture and tensors is a model.
            None if text("general.architecture").is_some() && !gguf.tensors().is_empty() => "base",
            None => "other",
        };
        let weights = types.values().fold(0u64, |sum, group| sum.saturating_add(group.weights));
        Summary { kind, architecture: text("general.architecture"), name: text("general.name"), weights, types }
    }

    fn print(&self, gguf: &Gguf, output: Output, digest: Option<&str>) -> Result {
        let data = self.types.values().map(|g| g.bytes).fold(0, u64::saturating_add);
        output.line(format!("file          {}", escape(&gguf.path().to_string_lossy())))?;
        output.line(format!("container     GGUF version {}, aligned to {} bytes", gguf.version(), gguf.alignment()))?;
        if gguf.shards() > 1 {
            output.line(format!("shards        {}", gguf.shards()))?;
        }
        output.line(format!("kind          {}", self.kind))?;
        for (what, value) in [("architecture", &self.architecture), ("name", &self.name)] {
            if let Some(value) = value {
                output.line(format!("{what:<14}{value}"))?;
            }
        }
        output.line(format!("weights       {} in {} tensors, {}", self.weights, gguf.tensors().len(), bytes(data)))?;
        for (name, group) in &self.types {
            output.line(format!("  {name:<12}{:>6} tensors  {}", group.tensors, bytes(group.bytes)))?;
        }
        if let Some(digest) = digest {
            output.line(format!("digest        {digest}"))?;
        }
        match self.kind {
            "adapter" => print_details(adapter_details(gguf), output),
            "checkpoint" => print_details(checkpoint_details(gguf), output),
            _ => Ok(()),
        }
    }

    fn json(&self, gguf: &Gguf, args: &InspectArgs, digest: Option<&str>) -> serde_json::Value {
        let types: Map<_, _> = self
            .types
            .iter()
            .map(|(name, g)| {
                ((*name).to_owned(), json!({"tensors": g.tensors, "weights": g.weights, "bytes": g.bytes}))
            })
            .collect();
        let metadata: Map<_, _> = gguf.metadata().iter().map(|(key, value)| (key.to_owned(), json_of(value))).collect();
        let mut object = json!({
            "event": "done", "file": gguf.path().to_string_lossy(), "kind": self.kind, "version": gguf.version(),
            "alignment": gguf.alignment(), "shards": gguf.shards(), "architecture": self.architecture, "name": self.name,
            "weights": self.weights, "tensor_count": gguf.tensors().len(), "types": types, "metadata": metadata,
        });
        if self.kind == "adapter" {
            object["adapter"] = adapter_details(gguf).into_iter().map(|(k, v)| (k.to_owned(), json!(v))).collect();
        }
        if self.kind == "checkpoint" {
            object["checkpoint"] =
                checkpoint_details(gguf).into_iter().map(|(k, v)| (k.to_owned(), json!(v))).collect();
        }
        if let Some(digest) = digest {
            object["content_digest"] = json!(digest);
        }
        if args.tensors {
            object["tensors"] = gguf
                .tensors()
                .iter()
                .map(|t| {
                    json!({"name": t.name, "type": t.ty.name(), "shape": t.shape, "shard": t.shard, "offset": t.offset,
                        "bytes": t.bytes})
                })
                .collect();
        }
        object
    }
}

/// What an adapter says of itself, under short names.
fn adapter_details(gguf: &Gguf) -> Vec<(&'static str, String)> {
    let mut details = Vec::new();
    let ranks = gguf.tensors().iter().filter(|t| t.name.ends_with(".lora_b"));
    let ranks: BTreeSet<u64> = ranks.map(|t| t.cols()).collect();
    if !ranks.is_empty() {
        details.push(("rank", ranks.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")));
    }
    let sites: BTreeSet<&str> = gguf.tensors().iter().filter_map(|t| Some(t.name.rsplit_once('.')?.0)).collect();
    details.push(("sites", sites.len().to_string()));
    for (what, key) in [("method", "adapter.type"), ("alpha", "adapter.lora.alpha")] {
        if let Some(value) = gguf.metadata().get(key) {
            details.push((what, line(value)));
        }
    }
    details
}

/// Where a checkpoint stands, and whether its bytes are those that were written.
fn checkpoint_details(gguf: &Gguf) -> Vec<(&'static str, String)> {
    match checkpoint::open(gguf.path()) {
        Ok((_, state)) => {
            let (progress, outcome) = (&state.progress, &state.progress.outcome);
            vec![
                ("state", "whole".into()),
                ("steps", outcome.steps.to_string()),
                ("micro-batches", format!("{} of the next step", progress.micro)),
                ("loss", format!("{:.4} -> {:.4}", outcome.loss_first, outcome.loss_last)),
            ]
        }
        Err(error) => vec![("state", error.chain())],
    }
}

fn print_details(details: Vec<(&'static str, String)>, output: Output) -> Result {
    for (what, value) in details {
        let value = escape(&value);
        output.line(format!("{what:<14}{value}"))?;
    }
    Ok(())
}

/// Dimensions in ggml's order: row length first.
fn shape(dims: &[u64]) -> String {
    dims.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ")
}

/// A value on one line, shortened, without anything that a terminal would obey.
fn line(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let text = printable(text);
            let mut short: String = text.chars().take(LINE).collect();
            if short.len() < text.len() {
                short += &format!(".. ({} characters)", text.chars().count());
            }
            short
        }
        Value::Array(array) if array.len() > 8 => format!("{} x {}", array.len(), value.type_name()),
        value => printable(json_of(value).to_string().as_bytes()),
    }
}

/// A value as JSON; long arrays by their type and length only.
fn json_of(value: &Value) -> serde_json::Value {
    match value {
        Value::U8(v) => json!(v),
        Value::I8(v) => json!(v),
        Value::U16(v) => json!(v),
        Value::I16(v) => json!(v),
        Value::U32(v) => json!(v),
        Value::I32(v) => json!(v),
        Value::U64(v) => json!(v),
        Value::I64(v) => json!(v),
        Value::F32(v) => decimal(*v),
        Value::F64(v) => json!(v),
        Value::Bool(v) => json!(v),
        Value::String(v) => json!(text(v)),
        Value::Array(array) if array.len() > WHOLE_ARRAY => {
            json!({"type": value.type_name(), "length": array.len()})
        }
        Value::Array(array) => json_array(array),
    }
}

fn json_array(array: &Array) -> serde_json::Value {
    match array {
        Array::U8(v) => json!(v),
        Array::I8(v) => json!(v),
        Array::U16(v) => json!(v),
        Array::I16(v) => json!(v),
        Array::U32(v) => json!(v),
        Array::I32(v) => json!(v),
        Array::U64(v) => json!(v),
        Array::I64(v) => json!(v),
        Array::F32(v) => v.iter().copied().map(decimal).collect(),
        Array::F64(v) => json!(v),
        Array::Bool(v) => json!(v),
        Array::String(v) => v.iter().map(|s| json!(text(s))).collect(),
    }
}

/// The shortest decimal that reads back as the same f32: `1e-5`, not `9.999999747378752e-6`.
fn decimal(value: f32) -> serde_json::Value {
    json!(value.to_string().parse::<f64>().unwrap_or(f64::NAN))
}

/// JSON escapes control characters itself; only bytes that are not UTF-8 need help.
fn text(value: &[u8]) -> String {
    String::from_utf8(value.to_vec()).unwrap_or_else(|_| printable(value))
}
