//! How added tokens are looked for in a text: GGUF has no field for it, so that loam has keys of its own beside.

use loam_files::gguf::Metadata;
use loam_text::tokenizer::{LSTRIP_KEY, PHI3_MARK, RSTRIP_KEY};
use serde_json::Value;

use super::vocabulary::Vocabulary;

/// The flags of an added token in tokenizer.json.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flags {
    lstrip: bool,
    rstrip: bool,
    single_word: bool,
    normalized: bool,
}

impl Flags {
    /// Of an entry of `added_tokens` or `added_tokens_decoder`.
    pub(super) fn of(entry: &Value) -> Flags {
        let flag = |key: &str| entry.get(key).and_then(Value::as_bool).unwrap_or(false);
        Flags {
            lstrip: flag("lstrip"),
            rstrip: flag("rstrip"),
            single_word: flag("single_word"),
            normalized: flag("normalized"),
        }
    }
}

/// Ids of the tokens with each flag.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flagged {
    lstrip: Vec<u32>,
    rstrip: Vec<u32>,
    single_word: Vec<u32>,
    normalized: Vec<u32>,
}

impl Flagged {
    /// Adds a token; the last flags of an id count.
    pub(super) fn add(&mut self, id: u32, flags: Flags) {
        let lists = [
            (&mut self.lstrip, flags.lstrip),
            (&mut self.rstrip, flags.rstrip),
            (&mut self.single_word, flags.single_word),
            (&mut self.normalized, flags.normalized),
        ];
        for (list, set) in lists {
            list.retain(|&found| found != id);
            list.extend(set.then_some(id));
        }
    }
}

/// Writes which tokens take the white space beside them, and notes what no key says. `normalizes`: texts are changed
/// before normalized tokens are looked for.
pub(super) fn write(vocabulary: &Vocabulary, normalizes: bool, out: &mut Metadata, notes: &mut Vec<String>) {
    let Flagged { lstrip, rstrip, single_word, normalized } = &vocabulary.flags;
    let told = !lstrip.is_empty() || !rstrip.is_empty();
    if told || vocabulary.ids.contains_key(PHI3_MARK) {
        out.set(LSTRIP_KEY, lstrip.clone());
        out.set(RSTRIP_KEY, rstrip.clone());
    }
    if told {
        notes.push(format!(
            "{} take the white space before or after them (lstrip, rstrip): loam does as they say, llama.cpp does not \
             know it",
            tokens(vocabulary, lstrip.iter().chain(rstrip))
        ));
    }
    if !single_word.is_empty() {
        notes.push(format!(
            "{} count as whole words only (single_word), which GGUF cannot express: they are found inside words too",
            tokens(vocabulary, single_word)
        ));
    }
    if normalizes && !normalized.is_empty() {
        notes.push(format!(
            "{} are looked for in the normalized text (normalized), which GGUF cannot express: they are found as they \
             are written",
            tokens(vocabulary, normalized)
        ));
    }
}

/// How many, and the first of them.
fn tokens<'i>(vocabulary: &Vocabulary, ids: impl IntoIterator<Item = &'i u32>) -> String {
    let mut ids: Vec<u32> = ids.into_iter().copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let text = |id: &u32| vocabulary.tokens.get(*id as usize)?.as_ref().map(|(text, _)| text);
    let shown: Vec<String> =
        ids.iter().filter_map(text).take(3).map(|text| format!("{:?}", super::spm::short(text))).collect();
    let more = if ids.len() > shown.len() { ", .." } else { "" };
    let tokens = if ids.len() == 1 { "token" } else { "tokens" };
    format!("{} added {tokens} ({}{more})", ids.len(), shown.join(", "))
}
