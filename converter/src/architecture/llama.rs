//! Llama 1 to 3, Mistral, SmolLM and SmolLM2.

use super::family::{Family, PLAIN, SeventyBillion};
use super::rules;

pub(super) const FAMILY: Family = Family {
    architecture: "llama",
    classes: &["LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM"],
    model_types: &["llama", "mistral"],
    permuted: true,
    rope_types: &["linear", "llama3", "yarn"],
    seventy_billion: SeventyBillion::Grouped,
    unread: &["attention.sliding_window"],
    extras: rules::window_everywhere,
    ..PLAIN
};
