//! A text as llama-perplexity scores it, so that perplexities can be compared.

use crate::data::Example;
use crate::importance::chunks;
use crate::tokenizer::Tokenizer;

/// The windows of a text: whole windows of `context` tokens one after the other, each beginning with BOS in place of
/// its first token where the tokenizer adds one, the tokens of the second half trained. `tokens` begin with BOS too
/// then. llama-perplexity refuses texts of less than two windows; these have none.
pub fn windows(tokenizer: &Tokenizer, tokens: &[u32], context: usize) -> Vec<Example> {
    if tokens.len() < context.saturating_mul(2) {
        return Vec::new();
    }
    let example = |tokens: Vec<u32>| Example {
        trained: (0..context).map(|place| place > context / 2).collect(),
        tokens,
        line: 1,
        cut: 0,
    };
    chunks(tokenizer, tokens, context).into_iter().map(example).collect()
}
