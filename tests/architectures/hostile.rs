//! Keys and tensors that only some families have, broken: a typed error that names them (hostile-input case 19).

use loam::backend::cpu::CpuBackend;
use loam::gguf::{Metadata, Value};
use loam::{Base, Error, NewAdapter, TrainOptions};
use loam_files::Error as File;
use loam_shaders::Format;
use loam_tests::rewrite::{Tensor, rewrite};
use loam_tests::{new_session, new_trainer};

use crate::convert;

/// Opens a changed copy of a family's base and puts it on the CPU.
fn refused(name: &str, change: impl Fn(&mut Metadata, &mut Vec<Tensor>)) -> Error {
    let (_, folder, path) = convert(name, Format::F32);
    let path = rewrite(&path, folder.path(), "changed.gguf", change);
    let cpu = Box::new(CpuBackend::new(Some(1)).expect("cpu back end"));
    match Base::open(path).and_then(|base| new_session(&base, cpu, 16, &[])) {
        Ok(_) => panic!("{name}: a broken base was accepted"),
        Err(error) => error,
    }
}

fn names(error: &Error, expected: &str) {
    let text = error.to_string();
    assert!(matches!(error, Error::File(File::Metadata { .. } | File::Tensor { .. })), "{error:?}");
    assert!(text.contains(expected), "{text:?} does not name {expected}");
}

#[test]
fn numbers_that_are_none_are_refused() {
    let keys = [
        ("gemma2", "gemma2.attn_logit_softcapping"),
        ("gemma2", "gemma2.final_logit_softcapping"),
        ("gemma3", "gemma3.rope.freq_base_swa"),
        ("gemma3", "gemma3.rope.scaling.factor"),
        ("granite", "granite.embedding_scale"),
        ("granite", "granite.residual_scale"),
        ("granite", "granite.logit_scale"),
        ("granite", "granite.attention.scale"),
        ("qwen2-yarn", "qwen2.rope.scaling.factor"),
        ("qwen2-yarn", "qwen2.rope.scaling.yarn_beta_fast"),
        ("phi3", "phi3.rope.scaling.attn_factor"),
    ];
    for (family, key) in keys {
        for value in [f32::NAN, f32::INFINITY, -1.0] {
            names(&refused(family, |metadata, _| metadata.set(key, value)), key);
        }
        names(&refused(family, |metadata, _| metadata.set(key, "text")), key);
    }
}

#[test]
fn counts_out_of_range_are_refused() {
    let cases: [(&str, &str, &[u32]); 3] = [
        ("gemma3", "gemma3.attention.sliding_window_pattern", &[0, 513]),
        ("phi3", "phi3.rope.scaling.original_context_length", &[0, u32::MAX]),
        ("qwen3", "qwen3.attention.key_length", &[0, 260, u32::MAX]),
    ];
    for (family, key, values) in cases {
        for &value in values {
            names(&refused(family, |metadata, _| metadata.set(key, value)), key);
        }
    }
    let pattern = |metadata: &mut Metadata, _: &mut Vec<Tensor>| {
        metadata.set("gemma3.attention.sliding_window_pattern", Value::from("every second"));
    };
    names(&refused("gemma3", pattern), "gemma3.attention.sliding_window_pattern");
}

#[test]
fn what_loam_would_not_compute_is_refused() {
    let set = |key: &'static str, value: f32| move |m: &mut Metadata, _: &mut Vec<Tensor>| m.set(key, value);
    for key in ["qwen2.rope.scaling.yarn_ext_factor", "qwen2.rope.scaling.yarn_log_multiplier"] {
        names(&refused("qwen2-yarn", set(key, 0.5)), key);
    }
    let key = "llama.attention.temperature_scale";
    names(&refused("mistral", set(key, 0.1)), key);
}

#[test]
fn missing_tensors_are_refused_by_name() {
    let cases = [
        ("qwen2", "blk.1.attn_k.bias", "blk.1.attn_k.weight"),
        ("qwen3", "blk.0.attn_q_norm.weight", "blk.0.attn_q_norm.weight"),
        ("gemma2", "blk.2.post_ffw_norm.weight", "blk.2.post_ffw_norm.weight"),
        ("olmo2", "blk.0.post_attention_norm.weight", "blk.0.post_attention_norm.weight"),
        ("phi3", "blk.1.attn_qkv.weight", "blk.1.attn_qkv.weight"),
        ("phi3", "rope_factors_long.weight", "rope_factors_long.weight"),
    ];
    for (family, gone, named) in cases {
        let error = refused(family, |_, tensors| tensors.retain(|t| t.declaration.name != gone));
        names(&error, named);
    }
}

#[test]
fn divisors_of_frequencies_must_be_positive() {
    for value in [0.0_f32, -2.0, f32::NAN] {
        let error = refused("phi3", |_, tensors| {
            let short =
                tensors.iter_mut().find(|t| t.declaration.name == "rope_factors_short.weight").expect("factors");
            short.bytes[4..8].copy_from_slice(&value.to_le_bytes());
        });
        names(&error, "rope_factors_short.weight");
    }
}

#[test]
fn targets_that_a_model_does_not_have_are_refused() {
    for (family, target) in [("phi3", "attn_q"), ("phi3", "ffn_gate"), ("qwen2", "attn_qkv"), ("qwen3", "ffn_gate_inp")]
    {
        let (_, _folder, path) = convert(family, Format::F32);
        let base = Base::open(path).expect("base");
        let adapter = NewAdapter { rank: 2, targets: Some(target.parse().expect("target")), ..NewAdapter::default() };
        let options = TrainOptions { adapter, batch: 1, context: 8, ..TrainOptions::default() };
        let cpu = Box::new(CpuBackend::new(Some(1)).expect("cpu back end"));
        match new_trainer(&base, cpu, None, options) {
            Ok(_) => panic!("{family} has no {target}"),
            Err(error) => assert!(error.to_string().contains(target), "{error}"),
        }
    }
}

#[test]
fn numbers_of_experts_that_cannot_be_are_refused() {
    let keys = [
        ("qwen3moe.expert_count", 0),
        ("qwen3moe.expert_count", u32::MAX),
        ("qwen3moe.expert_used_count", 0),
        ("qwen3moe.expert_used_count", 9),
        ("qwen3moe.expert_feed_forward_length", u32::MAX),
    ];
    for (key, value) in keys {
        names(&refused("qwen3moe", |metadata, _| metadata.set(key, value)), key);
    }
    // Other numbers than the tensors have.
    let error = refused("qwen3moe", |metadata, _| metadata.set("qwen3moe.expert_count", 4u32));
    names(&error, "blk.0.ffn_gate_inp.weight");
    let error = refused("qwen3moe", |metadata, _| metadata.set("qwen3moe.expert_feed_forward_length", 16u32));
    names(&error, "blk.0.ffn_gate_exps.weight");
}
