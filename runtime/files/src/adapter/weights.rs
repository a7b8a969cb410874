//! Which weights of a base an adapter can update, by their GGUF names.

/// Kinds of linear layers, as they stand between `blk.N.` and `.weight`. `attn_qkv` stands for the first three where a
/// model has them in one matrix; its `ffn_up` holds the gate too. The router of a mixture of experts is `ffn_gate_inp`.
pub const LINEAR: [&str; 9] =
    ["attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", ROUTER, "ffn_gate", "ffn_up", "ffn_down"];
/// The router has a row per expert, few of them.
pub const ROUTER: &str = "ffn_gate_inp";
/// Experts, which take an update only where they are asked for by name: there are many of them.
pub const EXPERTS: [&str; 3] = ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"];
/// The same of weights outside of blocks: the embedding and the head.
pub const OTHERS: [&str; 2] = ["token_embd", "output"];

/// All kinds of weights that an adapter can update.
pub fn all_kinds() -> impl Iterator<Item = &'static str> {
    LINEAR.into_iter().chain(EXPERTS).chain(OTHERS)
}

/// `attn_q` of `blk.0.attn_q.weight`, `output` of `output.weight`, nothing of a weight that takes no update.
pub fn kind_of(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix(".weight")?;
    match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((_, kind)) => LINEAR.into_iter().chain(EXPERTS).find(|known| *known == kind),
        None => OTHERS.into_iter().find(|known| *known == name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_whole_names_in_their_place() {
        assert_eq!(kind_of("blk.0.attn_q.weight"), Some("attn_q"));
        assert_eq!(kind_of("output.weight"), Some("output"));
        for name in ["output_norm.weight", "blk.0.output.weight", "blk.0.attn_q_norm.weight", "blk.0.attn_q.bias"] {
            assert_eq!(kind_of(name), None, "{name}");
        }
    }
}
