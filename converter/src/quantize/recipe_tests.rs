//! The rules of mixes, by hand.

use super::*;

fn model(architecture: &str, layers: u32, heads: [u32; 2], experts: u32) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", architecture);
    let mut set = |key: &str, value: u32| metadata.set(format!("{architecture}.{key}"), value);
    set("block_count", layers);
    set("attention.head_count", heads[0]);
    set("attention.head_count_kv", heads[1]);
    if experts > 0 {
        set("expert_count", experts);
    }
    metadata
}

fn chosen(recipe: &str, metadata: &Metadata, names: &[String], cols: u64, importance: bool) -> Vec<Format> {
    let shape = [cols, 512];
    let tensors: Vec<(&str, &[u64])> = names.iter().map(|name| (name.as_str(), &shape[..])).collect();
    let recipe = match recipe.strip_prefix("pure ") {
        Some(name) => Recipe::named(name).unwrap().pure(),
        None => Recipe::named(recipe).unwrap(),
    };
    recipe.choose(metadata, &tensors, importance).into_iter().map(|choice| choice.format).collect()
}

/// The layers, as text, whose tensor `part` has `format`.
fn layers(recipe: &str, metadata: &Metadata, part: &str, format: Format, importance: bool) -> Vec<usize> {
    let count = first_number(metadata.iter().find(|(key, _)| key.ends_with("block_count")).map(|(_, v)| v)).unwrap();
    // Any order of the file: names are sorted as text here, so that block 10 comes before block 2.
    let mut names: Vec<String> = (0..count).map(|layer| format!("blk.{layer}.{part}.weight")).collect();
    names.sort();
    let formats = chosen(recipe, metadata, &names, 512, importance);
    let mut found: Vec<usize> =
        (0..names.len()).filter(|at| formats[*at] == format).map(|at| order(&names[at]).0.unwrap() as usize).collect();
    found.sort_unstable();
    found
}

#[test]
fn more_bits_go_to_the_ends_and_every_third_layer() {
    let llama = model("llama", 28, [8, 4], 0);
    let expected = [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27];
    for recipe in ["q4_k_m", "q5_k_m"] {
        for part in ["attn_v", "ffn_down"] {
            assert_eq!(layers(recipe, &llama, part, Format::Q6_K, false), expected, "{recipe} {part}");
            assert_eq!(layers(recipe, &llama, part, Format::Q6_K, true), expected, "{recipe} {part}");
        }
    }
    assert_eq!(layers("q4_k_m", &llama, "attn_qkv", Format::Q5_K, false).len(), 28);
    assert_eq!(layers("q5_k_m", &llama, "attn_qkv", Format::Q6_K, false).len(), 28);
    assert_eq!(layers("q4_k_s", &llama, "attn_v", Format::Q5_K, false), [0, 1, 2, 3]);
    assert_eq!(layers("q4_k_s", &llama, "ffn_down", Format::Q5_K, false), [0, 1, 2]);
    assert_eq!(layers("q5_k_s", &llama, "ffn_down", Format::Q5_K, false).len(), 28);
}

#[test]
fn importance_changes_the_first_ffn_down_of_the_32_weight_types() {
    let llama = model("llama", 16, [8, 8], 0);
    for (recipe, format, importance, expected) in [
        ("q4_0", Format::Q4_1, false, 0),
        ("q4_0", Format::Q4_1, true, 2),
        ("q5_0", Format::Q5_1, true, 2),
        ("iq4_nl", Format::Q5_K, false, 2),
        ("iq4_nl", Format::Q5_K, true, 0),
        ("pure q4_0", Format::Q4_1, true, 0),
    ] {
        let found = layers(recipe, &llama, "ffn_down", format, importance);
        assert_eq!(found, (0..expected).collect::<Vec<_>>(), "{recipe} {importance}");
    }
}

#[test]
fn shared_heads_and_the_largest_models_get_a_better_v() {
    let count = |recipe, metadata: &Metadata| layers(recipe, metadata, "attn_v", Format::Q5_K, false).len();
    assert_eq!(count("iq4_nl", &model("llama", 8, [8, 2], 0)), 8);
    assert_eq!(count("iq4_nl", &model("llama", 8, [8, 4], 0)), 0);
    // Of 80 layers, 36 get Q6_K; "70B" gives the others Q5_K.
    let sixes = layers("q4_k_m", &model("llama", 80, [64, 8], 0), "attn_v", Format::Q6_K, false).len();
    assert_eq!(count("q4_k_m", &model("llama", 80, [64, 8], 0)), 80 - sixes);
    assert_eq!(count("q4_k_m", &model("qwen2", 80, [64, 64], 0)), 80 - sixes);
    for other in [model("llama", 80, [64, 64], 0), model("qwen3", 80, [64, 8], 0), model("llama", 79, [64, 8], 0)] {
        assert_eq!(count("q4_k_m", &other), 0);
    }
}

#[test]
fn eight_experts_are_treated_with_care() {
    let names: Vec<String> =
        ["attn_k", "attn_output", "attn_q", "attn_v", "ffn_down_exps", "ffn_gate_inp", "ffn_up_exps"]
            .map(|part| format!("blk.3.{part}.weight"))
            .into();
    let eight = model("llama", 32, [32, 8], 8);
    let of = |recipe, metadata: &Metadata| chosen(recipe, metadata, &names, 512, false);
    use Format::*;
    assert_eq!(of("q4_k_m", &eight), [Q8_0, Q5_K, Q4_K, Q8_0, Q6_K, F32, Q4_K]);
    assert_eq!(of("q4_k_s", &eight), [Q8_0, Q5_K, Q4_K, Q8_0, Q5_K, F32, Q4_K]);
    assert_eq!(of("q5_k_m", &eight), [Q8_0, Q5_K, Q5_K, Q8_0, Q6_K, F32, Q5_K]);
    assert_eq!(of("q4_0", &eight), [Q8_0, Q4_0, Q4_0, Q8_0, Q4_0, F32, Q4_0]);
    // Of other numbers of experts, only that the layer comes from the name: block 3 of 32 is among the first eighth.
    let many = model("qwen3moe", 32, [32, 4], 128);
    assert_eq!(of("q4_k_m", &many), [Q4_K, Q4_K, Q4_K, Q6_K, Q6_K, F32, Q4_K]);
}

#[test]
fn the_head_has_six_bits_or_eight() {
    let llama = model("llama", 8, [8, 8], 0);
    let with_head = ["output.weight".to_owned(), "token_embd.weight".to_owned()];
    let tied = &with_head[1..];
    use Format::*;
    assert_eq!(chosen("q4_k_m", &llama, &with_head, 512, false), [Q6_K, Q4_K]);
    assert_eq!(chosen("q4_k_m", &llama, tied, 512, false), [Q6_K]);
    assert_eq!(chosen("q4_0", &llama, tied, 512, false), [Q6_K]);
    assert_eq!(chosen("q4_0", &llama, tied, 96, false), [Q8_0]);
    assert_eq!(chosen("q4_k_s", &llama, tied, 96, false), [Q8_0]);
    assert_eq!(chosen("q8_0", &llama, &with_head, 512, false), [Q8_0, Q8_0]);
    assert_eq!(chosen("pure q4_k", &llama, &with_head, 512, false), [Q4_K, Q4_K]);
    assert_eq!(chosen("q4_k_m", &llama, tied, 100, false), [F16]);
}

#[test]
fn types_follow_the_row_length() {
    let of = |name: &str, shape: &[u64], format: Format| {
        let choice = Recipe::from(format).choose(&Metadata::new(), &[(name, shape)], false)[0];
        (choice.format, choice.fallback)
    };
    assert_eq!(of("blk.0.attn_q.weight", &[512, 8], Format::Q4_K), (Format::Q4_K, false));
    assert_eq!(of("blk.0.attn_q.weight", &[64, 8], Format::Q4_K), (Format::Q5_0, true));
    assert_eq!(of("blk.0.attn_q.weight", &[96, 8], Format::Q5_K), (Format::Q5_1, true));
    assert_eq!(of("blk.0.attn_q.weight", &[96, 8], Format::Q6_K), (Format::Q8_0, true));
    assert_eq!(of("blk.0.attn_q.weight", &[96, 8], Format::IQ4_XS), (Format::IQ4_NL, true));
    assert_eq!(of("blk.0.ffn_down.weight", &[172, 8], Format::IQ4_NL), (Format::F16, true));
    assert_eq!(of("blk.0.ffn_down.weight", &[172, 8], Format::Q4_K), (Format::F16, true));
    assert_eq!(of("blk.0.ffn_down.weight", &[172, 8], Format::Q8_0), (Format::F16, true));
    assert_eq!(of("blk.0.ffn_down.weight", &[172, 8], Format::BF16), (Format::BF16, false));
    assert_eq!(of("token_embd.weight", &[64, 8], Format::Q4_0), (Format::Q4_0, false));
    assert_eq!(of("blk.0.attn_norm.weight", &[64], Format::F16), (Format::F32, false));
    assert_eq!(of("blk.0.attn_q.bias", &[64], Format::Q4_0), (Format::F32, false));
    assert_eq!(of("blk.0.ffn_gate_inp.weight", &[64, 8], Format::Q4_0), (Format::F32, false));
    assert_eq!(of("blk.0.ffn_up_exps.weight", &[64, 8, 4], Format::Q4_0), (Format::Q4_0, false));
}

#[test]
fn names_are_those_of_llama_quantize_in_any_case() {
    for recipe in Recipe::ALL {
        assert_eq!(Recipe::named(recipe.name), Some(recipe));
        assert_eq!(Recipe::named(&recipe.name.to_uppercase()), Some(recipe));
    }
    for (alias, name) in [("Q4_K", "q4_k_m"), ("q5_k", "q5_k_m")] {
        assert_eq!(Recipe::named(alias), Recipe::named(name));
    }
    assert!(["q3_k_m", "q4_0_mix", "pure"].iter().all(|name| Recipe::named(name).is_none()));
    assert_eq!(Recipe::named("q4_k_m"), Some(Recipe::DEFAULT));
}

#[test]
fn a_pure_recipe_has_one_type() {
    let llama = model("llama", 8, [8, 8], 0);
    let names = ["output", "blk.0.attn_v", "blk.0.ffn_down"].map(|part| format!("{part}.weight"));
    for recipe in Recipe::ALL {
        let found = chosen(&format!("pure {}", recipe.name), &llama, &names, 512, true);
        assert!(found.iter().all(|format| *format == recipe.format), "{}: {found:?}", recipe.name);
    }
    assert_eq!(Recipe::from(Format::Q4_0), Recipe::named("q4_0").unwrap().pure());
}
