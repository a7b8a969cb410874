//! What tokens mean beyond their stored type: which ones end an answer, and which are structure although the file calls
//! them text. Files are often wrong here, so that llama.cpp goes by the names of tokens; so does this.

use std::collections::HashMap;

use super::vocabulary::{TokenType, Vocabulary};

/// Tokens that end an answer wherever they are, and are structure whatever the file says.
const END: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Tokens that end an answer if the file calls them structure or added text.
const END_IF_ADDED: &[&str] = &["<|end_of_turn|>", "<|EOT|>"];

/// Tokens around code that is to be filled in: structure whatever the file says. The first of each list that there is,
/// unless the file names another. Those of the last three lists end an answer.
const FILL_IN: [&[&str]; 6] = [
    &[
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<｜fim▁begin｜>",
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
    ],
    &[
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<｜fim▁hole｜>",
        "<SUF>",
        "▁<SUF>",
        "<|code_suffix|>",
        "<|suffix|>",
    ],
    &[
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<｜fim▁end｜>",
        "<MID>",
        "▁<MID>",
        "<|code_middle|>",
        "<|middle|>",
    ],
    &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    &["<|file_sep|>"],
];

/// Keys of the ids of the same six, as in `tokenizer.ggml.fim_pre_token_id`.
pub(super) const FILL_IN_KEYS: [&str; 6] = ["pre", "suf", "mid", "pad", "rep", "sep"];

/// Whether a token of this text ends an answer in every model that has it.
pub fn ends_by_name(text: &str) -> bool {
    END.contains(&text)
}

/// Changes `types` of tokens that are structure by their names, and returns which tokens end an answer.
pub(super) fn settle(vocabulary: &Vocabulary, ids: &HashMap<String, u32>, types: &mut [TokenType]) -> Vec<bool> {
    let mut end = vec![false; types.len()];
    let added = |ty: TokenType| ty.is_structure() || ty == TokenType::UserDefined;
    for id in END_IF_ADDED.iter().filter_map(|name| ids.get(*name)).filter(|&&id| added(types[id as usize])) {
        end[*id as usize] = true;
    }
    for &id in END.iter().filter_map(|name| ids.get(*name)) {
        end[id as usize] = true;
        types[id as usize] = TokenType::Control;
    }
    for (kind, names) in FILL_IN.iter().enumerate() {
        let named = names.iter().find_map(|name| ids.get(*name).copied());
        if let (None, Some(id)) = (vocabulary.fill_in[kind], named) {
            types[id as usize] = TokenType::Control;
        }
        if let Some(id) = vocabulary.fill_in[kind].or(named).filter(|_| kind >= 3) {
            end[id as usize] = true;
        }
    }
    let mut exempt = |name: &str, ty: TokenType| {
        if let Some(&id) = ids.get(name) {
            end[id as usize] = false;
            types[id as usize] = ty;
        }
    };
    let has = |name: &str| ids.contains_key(name);
    // In these two formats an answer continues after it.
    if (has("<|call|>") || has("<|calls|>")) && (has("<|return|>") || has("<|flush|>")) {
        exempt("<|end|>", TokenType::Control);
    }
    if has("<|tool_response>") {
        exempt("</s>", TokenType::Normal);
    }
    let more = vocabulary.more_ends.iter().copied();
    for id in [vocabulary.eos, vocabulary.eot, vocabulary.eom].into_iter().flatten().chain(more) {
        end[id as usize] = true;
    }
    end
}
