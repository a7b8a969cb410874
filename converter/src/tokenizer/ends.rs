//! All tokens that end an answer: eos_token_id may be a list, in config.json as in generation_config.json, and
//! Transformers stops at each of them.

use loam_files::gguf::Metadata;
use loam_text::tokenizer::{ENDS_KEY, ends_by_name};
use serde_json::Value;

use super::special::named;
use super::vocabulary::Vocabulary;
use crate::Result;
use crate::architecture::Source;
use crate::source::Json;

/// Writes the end tokens besides `eos_token_id`: the first as end of turn, the second as end of message, where no file
/// names those, and all others under a key of loam's. Those that are known by their names need no key.
///
/// # Errors
/// A file is malformed.
pub(super) fn write(
    source: &Source,
    config: &Json,
    vocabulary: &Vocabulary,
    out: &mut Metadata,
    notes: &mut Vec<String>,
) -> Result<()> {
    let generation = Json::read_optional(&source.dir.join("generation_config.json"))?;
    let files: Vec<&Json> = generation.iter().chain([&source.config.json]).collect();
    let mut turn = [None; 2];
    for (slot, name) in turn.iter_mut().zip(["eot", "eom"]) {
        let text = named(config, name, vocabulary).unwrap_or_else(|error| {
            notes.push(format!("{error}; it is left out"));
            None
        });
        let key = format!("{name}_token_id");
        let listed = || files.iter().find_map(|json| ids(json, &key, vocabulary, &mut Vec::new()).first().copied());
        *slot = text.or_else(listed);
    }
    let known = [out.get("tokenizer.ggml.eos_token_id").and_then(as_id), turn[0], turn[1]];
    let mut rest: Vec<u32> = Vec::new();
    for json in &files {
        for id in ids(json, "eos_token_id", vocabulary, notes) {
            let text = vocabulary.tokens[id as usize].as_ref().map_or("", |(text, _)| text.as_str());
            if !known.contains(&Some(id)) && !rest.contains(&id) && !ends_by_name(text) {
                rest.push(id);
            }
        }
    }
    for slot in &mut turn {
        if slot.is_none() && !rest.is_empty() {
            *slot = Some(rest.remove(0));
        }
    }
    for (id, name) in turn.into_iter().zip(["eot", "eom"]) {
        if let Some(id) = id {
            out.set(format!("tokenizer.ggml.{name}_token_id"), id);
        }
    }
    if !rest.is_empty() {
        notes.push(format!(
            "{} more end tokens than GGUF has keys for: loam stops at them, llama.cpp does not",
            rest.len()
        ));
        out.set(ENDS_KEY, rest);
    }
    Ok(())
}

fn as_id(value: &loam_files::gguf::Value) -> Option<u32> {
    match value {
        loam_files::gguf::Value::U32(id) => Some(*id),
        _ => None,
    }
}

/// The ids under `key`: one or a list. Negative ids mean none; those that the vocabulary lacks are left out, with a
/// note.
fn ids(json: &Json, key: &str, vocabulary: &Vocabulary, notes: &mut Vec<String>) -> Vec<u32> {
    let one;
    let list = match json.get(key) {
        Some(Value::Array(list)) => &list[..],
        Some(value) => {
            one = [value.clone()];
            &one[..]
        }
        None => &[],
    };
    let mut out = Vec::new();
    for value in list {
        match (value.as_i64(), value.as_u64().and_then(|id| u32::try_from(id).ok())) {
            (_, Some(id)) if vocabulary.tokens.get(id as usize).is_some_and(Option::is_some) => out.push(id),
            (Some(id), _) if id < 0 => {}
            _ => notes.push(format!("{}; it is left out", json.error(key, format!("{value} is the id of no token")))),
        }
    }
    out
}
