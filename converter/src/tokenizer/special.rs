//! Special tokens, what is added to a text, and chat templates: tokenizer_config.json, then config.json, as llama.cpp's
//! converter reads them.

use loam_files::gguf::{Metadata, Strings};
use serde_json::Value;

use super::parts::parts;
use super::vocabulary::Vocabulary;
use super::{ends, text_file};
use crate::Result;
use crate::architecture::Source;
use crate::source::Json;

/// Name in the JSON files, name in GGUF. "seperator" is how GGUF spells it.
const TOKENS: [(&str, &str); 7] = [
    ("bos", "bos"),
    ("eos", "eos"),
    ("unk", "unknown"),
    ("sep", "seperator"),
    ("pad", "padding"),
    ("cls", "cls"),
    ("mask", "mask"),
];

/// Writes ids of special tokens, `add_*` flags and chat templates. `add_bos` is for models of which no file says it.
///
/// # Errors
/// BOS or EOS is not in the vocabulary, or a file is malformed.
pub(super) fn write(
    source: &Source,
    tokenizer: Option<&Json>,
    vocabulary: &Vocabulary,
    add_bos: Option<bool>,
    out: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<()> {
    let config = Json::read_optional(&source.dir.join("tokenizer_config.json"))?;
    let empty = Json::from_value(&source.dir.join("tokenizer_config.json"), "", Value::Object(Default::default()));
    let config = config.unwrap_or(empty);
    let (mut bos, mut eos) = (None, None);
    for (name, key) in TOKENS {
        let mut usable = |id: Result<Option<u32>>| match id {
            // Texts begin and end with these two; the others are for programs that loam is not.
            Err(error) if !["bos", "eos"].contains(&name) => {
                notes.push(format!("{error}; it is left out"));
                Ok(None)
            }
            id => id,
        };
        let id = match usable(named(&config, name, vocabulary))? {
            Some(id) => Some(id),
            None => usable(numbered(&source.config.json, name, vocabulary))?,
        };
        if let Some(id) = id {
            out.set(format!("tokenizer.ggml.{key}_token_id"), id);
        }
        bos = bos.or(id.filter(|_| name == "bos"));
        eos = eos.or(id.filter(|_| name == "eos"));
    }
    let (first, last) = tokenizer.map_or((None, None), template_ends);
    let text_of = |id: u32| vocabulary.tokens[id as usize].as_ref().map(|(text, _)| text.as_str());
    let starts = first.is_some() && first == bos.and_then(text_of);
    if let Some(add) = config.flag("add_bos_token")?.or(starts.then_some(true)).or(add_bos) {
        out.set("tokenizer.ggml.add_bos_token", add);
    }
    let ends = last.is_some() && last == eos.and_then(text_of);
    if let Some(last) = last.filter(|_| !ends) {
        let last: String = last.chars().take(60).collect();
        notes.push(format!("the tokenizer puts {last:?} after a text, which GGUF cannot express: it is left out"));
    }
    if let Some(add) = config.flag("add_eos_token")?.or(ends.then_some(true)) {
        out.set("tokenizer.ggml.add_eos_token", add);
    }
    if let Some(prefix) = config.flag("add_prefix_space")? {
        out.set("tokenizer.ggml.add_space_prefix", prefix);
    }
    ends::write(source, &config, vocabulary, out, notes)?;
    chat_templates(source, &config, out)
}

/// `<name>_token` of tokenizer_config.json: a string, or an object with `content`.
pub(super) fn named(config: &Json, name: &str, vocabulary: &Vocabulary) -> Result<Option<u32>> {
    let key = format!("{name}_token");
    let Some(value) = config.get(&key) else { return Ok(None) };
    let text = value.as_str().or_else(|| value.get("content")?.as_str());
    let text = text.ok_or_else(|| config.error(&key, "must be a string or an object with content"))?;
    match vocabulary.ids.get(text) {
        Some(id) => Ok(Some(*id)),
        None => Err(config.error(&key, format!("{text:?} is not in the vocabulary of tokenizer.json"))),
    }
}

/// `<name>_token_id` of config.json: an id, or a list of which the first counts. Negative ids mean none.
fn numbered(config: &Json, name: &str, vocabulary: &Vocabulary) -> Result<Option<u32>> {
    let key = format!("{name}_token_id");
    let value = match config.get(&key) {
        Some(Value::Array(list)) => list.first(),
        other => other,
    };
    let Some(value) = value else { return Ok(None) };
    let size = vocabulary.tokens.len() as i64;
    match value.as_i64() {
        Some(id) if id < 0 => Ok(None),
        Some(id) if id < size => Ok(Some(id as u32)),
        _ => Err(config.error(&key, format!("must be an id below vocab_size = {size}, is {value}"))),
    }
}

/// What a `TemplateProcessing` post-processor puts before and after a single text, if these are special tokens.
fn template_ends(tokenizer: &Json) -> (Option<&str>, Option<&str>) {
    let is_template = |v: &&Value| v.get("type").and_then(Value::as_str) == Some("TemplateProcessing");
    let template = parts(tokenizer.get("post_processor"), "processors").into_iter().find(is_template);
    let single = template.and_then(|t| t.get("single")?.as_array()).map_or(&[][..], Vec::as_slice);
    let first = single.first().and_then(|p| p.pointer("/SpecialToken/id")?.as_str());
    let last = single.last().filter(|_| single.len() > 1).and_then(|p| p.pointer("/SpecialToken/id")?.as_str());
    (first, last)
}

/// chat_template.jinja wins, as in Transformers; then tokenizer_config.json (one template, or named ones); then
/// chat_template.json.
fn chat_templates(source: &Source, config: &Json, out: &mut Metadata) -> Result<()> {
    if let Some(text) = text_file(&source.dir, "chat_template.jinja")? {
        out.set("tokenizer.chat_template", text);
        return Ok(());
    }
    match config.get("chat_template") {
        Some(Value::String(text)) => out.set("tokenizer.chat_template", text.as_str()),
        Some(Value::Array(list)) => named_templates(config, list, out)?,
        Some(_) => return Err(config.error("chat_template", "must be a string or a list of named templates")),
        None => {
            if let Some(json) = Json::read_optional(&source.dir.join("chat_template.json"))?
                && let Some(text) = json.text("chat_template")?
            {
                out.set("tokenizer.chat_template", text);
            }
        }
    }
    Ok(())
}

fn named_templates(config: &Json, list: &[Value], out: &mut Metadata) -> Result<()> {
    let mut names = Strings::default();
    for entry in list {
        let (Some(name), Some(text)) = (entry.get("name"), entry.get("template")) else {
            return Err(config.error("chat_template", "every entry needs name and template"));
        };
        let (Some(name), Some(text)) = (name.as_str(), text.as_str()) else {
            return Err(config.error("chat_template", "name and template must be strings"));
        };
        if name == "default" {
            out.set("tokenizer.chat_template", text);
            continue;
        }
        let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if !plain.is_empty() {
            out.set(format!("tokenizer.chat_template.{plain}"), text);
            names.push(plain.as_bytes());
        }
    }
    if !names.is_empty() {
        out.set("tokenizer.chat_templates", names);
    }
    Ok(())
}
