//! SentencePiece's BPE -> `tokenizer.ggml.model` = `llama`: tokens with scores.

use std::collections::HashMap;
use std::path::Path;

use loam_files::gguf::Metadata;
use serde_json::Value;

use super::flags::Flags;
use super::parts::{parts, pattern};
use super::vocabulary::{Added, Vocabulary, added_kind, added_tokens};
use super::{BYTE, NORMAL, Read, UNKNOWN, USER_DEFINED, merge_pair, protobuf, unigram};
use crate::architecture::Source;
use crate::source::Json;
use crate::source::json::brief;
use crate::{Error, Result};

/// What llama.cpp's converter gives to tokens that no merge makes.
const ADDED_SCORE: f32 = -1000.0;

/// Reads tokenizer.model, and the added tokens that the files beside it name.
///
/// # Errors
/// A broken file, ids or texts that repeat, more pieces than the model has rows.
pub(super) fn from_model(source: &Source, path: &Path, json: Option<&Json>, notes: &mut Vec<String>) -> Result<Read> {
    let model = protobuf::read(path)?;
    let bad = |problem: String| Error::Tokenizer { path: path.into(), problem: problem.into() };
    let (size, pieces) = (source.config.vocab_size, model.pieces.len());
    if pieces as u64 > size {
        return Err(bad(format!("has {pieces} pieces, but vocab_size of config.json is {size}")));
    }
    if !matches!(model.kind, 1 | 2) {
        return Err(bad("is a word or character model; only BPE and unigram models are supported".into()));
    }
    let mut vocabulary = Vocabulary::new(size);
    let mut scores = vec![ADDED_SCORE; vocabulary.tokens.len()];
    let file = Json::from_value(path, "", Value::Null);
    for (id, piece) in model.pieces.iter().enumerate() {
        scores[id] = piece.score;
        vocabulary.add(&file, "pieces", &piece.text, id as u64, piece.kind)?;
    }
    match json {
        Some(json) => add_tokens(json, added_tokens(json)?, &mut vocabulary, &mut scores, notes)?,
        None => {
            for (file, tokens) in other_added_tokens(source)? {
                add_tokens(&file, tokens, &mut vocabulary, &mut scores, notes)?;
            }
        }
    }
    if model.kind == 1 {
        let spaces = unigram::Spaces { prefix: model.add_dummy_prefix, merged: model.remove_extra_whitespaces };
        return Ok(unigram::finish(vocabulary, scores, model.charsmap, spaces));
    }
    Ok(finish(vocabulary, scores, (!model.add_dummy_prefix).then_some(false)))
}

/// Added tokens of folders without tokenizer.json: added_tokens.json, then tokenizer_config.json.
fn other_added_tokens(source: &Source) -> Result<Vec<(Json, Vec<Added>)>> {
    let mut found = Vec::new();
    if let Some(json) = Json::read_optional(&source.dir.join("added_tokens.json"))? {
        let mut tokens = Vec::new();
        for text in json.keys() {
            let id = json.get(text).and_then(Value::as_u64);
            let id = id.ok_or_else(|| json.error("added_tokens", format!("{:?} has no id", short(text))))?;
            tokens.push(Added { text: text.to_owned(), id, kind: added_kind(text, false), flags: Flags::default() });
        }
        found.push((json, tokens));
    }
    let config = Json::read_optional(&source.dir.join("tokenizer_config.json"))?;
    if let Some(decoder) = config.map(|c| c.object("added_tokens_decoder")).transpose()?.flatten() {
        let mut tokens = Vec::new();
        for key in decoder.keys() {
            let text = decoder.get(key).and_then(|token| token.get("content")?.as_str());
            let (Ok(id), Some(text)) = (key.parse(), text) else {
                return Err(decoder.error(&short(key), "must be an id with an object that has content"));
            };
            let special = decoder.get(key).and_then(|token| token.get("special")?.as_bool()).unwrap_or(false);
            let flags = decoder.get(key).map(Flags::of).unwrap_or_default();
            tokens.push(Added { text: text.to_owned(), id, kind: added_kind(text, special), flags });
        }
        found.push((decoder, tokens));
    }
    Ok(found)
}

/// Reads a tokenizer.json whose BPE has byte_fallback. Its merges must be those of a SentencePiece model: each token's
/// merges together, so that their order is an order of tokens.
///
/// # Errors
/// A tokenizer that works otherwise than SentencePiece, or that contradicts itself.
pub(super) fn from_json(json: &Json, model: &mut Json, size: u64, notes: &mut Vec<String>) -> Result<Read> {
    let prefix = space_prefix(json, notes)?;
    let vocab = model.take_object("vocab")?.ok_or_else(|| model.error("vocab", "is missing"))?;
    let mut vocabulary = Vocabulary::new(size);
    for text in vocab.keys() {
        let id = vocab.get(text).and_then(Value::as_u64);
        let id = id.ok_or_else(|| model.error("vocab", format!("{:?} has no id", short(text))))?;
        let kind = if is_byte(text) { BYTE } else { NORMAL };
        vocabulary.add(model, "vocab", text, id, kind)?;
    }
    let mut scores = scores(model, &vocabulary)?;
    if let Some(unknown) = model.text("unk_token")? {
        let id = vocabulary.ids.get(unknown);
        let id =
            id.ok_or_else(|| model.error("unk_token", format!("{:?} is not in the vocabulary", short(unknown))))?;
        vocabulary.tokens[*id as usize] = Some((unknown.to_owned(), UNKNOWN));
    }
    add_tokens(json, added_tokens(json)?, &mut vocabulary, &mut scores, notes)?;
    notes.push("there is no tokenizer.model: scores are taken from the order of the merges".into());
    Ok(finish(vocabulary, scores, Some(prefix)))
}

/// Text of a file for a message.
pub(super) fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// `<0x0A>` and its like.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|d| d.len() == 2 && d.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)))
}

/// Sets added tokens over what the model has at their ids. Those beyond the model's rows are left out, as llama.cpp's
/// converter does: Gemma 3 has one for images that the text model lacks.
pub(super) fn add_tokens(
    file: &Json,
    tokens: Vec<Added>,
    vocabulary: &mut Vocabulary,
    scores: &mut [f32],
    notes: &mut Vec<String>,
) -> Result<()> {
    for added in tokens {
        let slot = usize::try_from(added.id).ok().and_then(|id| vocabulary.tokens.get_mut(id));
        let Some(slot) = slot else {
            notes.push(added.without_row());
            continue;
        };
        vocabulary.flags.add(added.id as u32, added.flags);
        let mut kind = added.kind;
        if let Some((text, old)) = slot.take() {
            if matches!(old, UNKNOWN | BYTE) {
                kind = old;
            }
            if text == added.text && kind == old {
                *slot = Some((text, old));
                continue;
            }
            vocabulary.ids.remove(&text);
        }
        // The pieces of user-defined tokens stand for spaces with U+2581, but are looked for in plain text.
        let text = if kind == USER_DEFINED { added.text.replace('\u{2581}', " ") } else { added.text };
        if !matches!(kind, UNKNOWN | BYTE) {
            scores[added.id as usize] = ADDED_SCORE;
        }
        vocabulary.add(file, "added_tokens", &text, added.id, kind)?;
    }
    Ok(())
}

/// Scores that give the order of the merges, like those of SentencePiece: 0, -1, -2, .. by first merge; the characters
/// after that by id, bytes 0.
fn scores(model: &Json, vocabulary: &Vocabulary) -> Result<Vec<f32>> {
    let mut order: HashMap<u32, usize> = HashMap::new();
    let mut last = None;
    for (i, merge) in model.list("merges")?.iter().enumerate() {
        let bad = |what: &str| model.error("merges", format!("entry {i}, {}: {what}", brief(merge)));
        let (left, right) = merge_pair(merge).ok_or_else(|| bad("is no pair"))?;
        let absent = [left, right].into_iter().find(|text| !vocabulary.ids.contains_key(*text));
        if let Some(absent) = absent {
            return Err(bad(&format!("{absent:?} is not in the vocabulary")));
        }
        let joined = format!("{left}{right}");
        let id = *vocabulary.ids.get(&joined).ok_or_else(|| bad(&format!("{joined:?} is not in the vocabulary")))?;
        if last != Some(id) && order.contains_key(&id) {
            return Err(bad("comes apart from the other merges to the same token: GGUF cannot express that order"));
        }
        last = Some(id);
        let next = order.len();
        order.entry(id).or_insert(next);
    }
    let mut rest = order.len();
    let score = |(id, token): (usize, &Option<(String, i32)>)| match (token, order.get(&(id as u32))) {
        (None, _) => ADDED_SCORE,
        (Some((_, BYTE)), _) => 0.0,
        (_, Some(&rank)) => -(rank as f32),
        (Some(_), None) => {
            rest += 1;
            -(rest as f32 - 1.0)
        }
    };
    Ok(vocabulary.tokens.iter().enumerate().map(score).collect())
}

/// Whether a space is put before a text, if the tokenizer treats spaces as SentencePiece does.
fn space_prefix(json: &Json, notes: &mut Vec<String>) -> Result<bool> {
    let normalizers = parts(json.get("normalizer"), "normalizers");
    let mut cuts = parts(json.get("pre_tokenizer"), "pretokenizers");
    let known = normalizers.iter().all(|part| is_prepend(part) || is_replace(part));
    // Gemma splits on spaces that its normalizer has already replaced: that cuts nothing.
    let escaped = normalizers.iter().any(|part| is_replace(part));
    let is_split = |part: &Value| part.get("type").and_then(Value::as_str) == Some("Split");
    cuts.retain(|part| !(escaped && is_split(part) && pattern(part) == Some(" ")));
    let metaspace = match cuts[..] {
        [] => Some(None),
        [only] => metaspace(only).map(|prefix| {
            notes.extend(first_only(only));
            Some(prefix)
        }),
        _ => None,
    };
    if let Some(metaspace) = metaspace
        && known
        && (escaped || metaspace.is_some())
    {
        return Ok(metaspace.unwrap_or(false) || normalizers.iter().any(|part| is_prepend(part)));
    }
    let shown = |key: &str| brief(json.get(key).unwrap_or(&Value::Null));
    let problem = format!(
        "treats spaces otherwise than SentencePiece (normalizer {}, pre_tokenizer {}), which GGUF cannot express",
        shown("normalizer"),
        shown("pre_tokenizer")
    );
    Err(Error::Tokenizer { path: json.path.clone(), problem: problem.into() })
}

fn is_prepend(part: &Value) -> bool {
    part.get("type").and_then(Value::as_str) == Some("Prepend")
        && part.get("prepend").and_then(Value::as_str) == Some("\u{2581}")
}

fn is_replace(part: &Value) -> bool {
    part.get("type").and_then(Value::as_str) == Some("Replace")
        && pattern(part) == Some(" ")
        && part.get("content").and_then(Value::as_str) == Some("\u{2581}")
}

/// Whether a `Metaspace` pre-tokenizer that cuts nothing puts a space first; `None` for anything else.
pub(super) fn metaspace(pre: &Value) -> Option<bool> {
    if pre.get("type").and_then(Value::as_str) != Some("Metaspace") {
        return None;
    }
    let flag = |key: &str| pre.get(key).and_then(Value::as_bool);
    match pre.get("prepend_scheme").and_then(Value::as_str) {
        Some("never") => Some(false),
        Some(_) => Some(true),
        None => Some(flag("add_prefix_space").unwrap_or(true)),
    }
}

/// A note if a space is put only before the first piece of a text: GGUF knows a space before each piece, or none.
pub(super) fn first_only(pre: &Value) -> Option<String> {
    let first = pre.get("prepend_scheme").and_then(Value::as_str) == Some("first");
    first.then(|| {
        "the tokenizer puts a space before the first piece of a text only (prepend_scheme first); GGUF cannot say so: \
         texts get one after each special token too, as in llama.cpp"
            .into()
    })
}

/// The keys of a vocabulary with scores.
fn finish(vocabulary: Vocabulary, scores: Vec<f32>, space_prefix: Option<bool>) -> Read {
    let mut out = Metadata::new();
    out.set("tokenizer.ggml.model", "llama");
    out.set("tokenizer.ggml.pre", "default");
    vocabulary.write(&mut out);
    out.set("tokenizer.ggml.scores", scores);
    if let Some(prefix) = space_prefix {
        out.set("tokenizer.ggml.add_space_prefix", prefix);
    }
    (vocabulary, out, None)
}
