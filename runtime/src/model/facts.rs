//! What decides what a model computes besides its weights, by name: an adapter and a checkpoint are bound to it.

use loam_files::adapter::origin::Fact;

use super::arch::Windowed;
use super::config::ModelConfig;
use super::moe::ExpertsConfig;
use super::rope::{RopeConfig, RopeScaling};

impl ModelConfig {
    /// Every hyper-parameter under its metadata key without the architecture, as it counts: what a file says and what
    /// follows from what it does not say are one, and 0 stands for no window and no cap, as in files. What only limits
    /// lengths is not among it.
    pub fn facts(&self) -> Vec<Fact<&'static str>> {
        let Self {
            architecture,
            layers,
            embedding,
            feed_forward,
            heads,
            kv_heads,
            head_dim,
            rope,
            local_rope,
            window,
            windowed,
            rms_eps,
            vocabulary,
            experts,
            embedding_scale,
            residual_scale,
            logit_scale,
            attention_scale,
            attention_softcap,
            final_softcap,
            // Follow from the architecture.
            rope_style: _,
            no_rope_step: _,
            activation: _,
            pre_norms: _,
            post_norms: _,
            head_norms: _,
            biased: _,
            fused: _,
            permuted: _,
            // A limit.
            context: _,
        } = self;
        let mut facts = vec![
            fact("architecture", architecture),
            fact("block_count", layers),
            fact("embedding_length", embedding),
            fact("feed_forward_length", feed_forward),
            fact("vocab_size", vocabulary),
            fact("attention.head_count", heads),
            fact("attention.head_count_kv", kv_heads),
            fact("attention.key_length", head_dim),
            fact("attention.layer_norm_rms_epsilon", rms_eps),
            fact("attention.scale", attention_scale),
            fact("attention.sliding_window", window.unwrap_or(0)),
            fact("attn_logit_softcapping", attention_softcap.unwrap_or(0.0)),
            fact("final_logit_softcapping", final_softcap.unwrap_or(0.0)),
            fact("embedding_scale", embedding_scale),
            fact("residual_scale", residual_scale),
            // As it multiplies; the key divides.
            fact("logit_scale", 1.0 / logit_scale),
        ];
        if let (Windowed::AllBut(step), Some(_)) = (windowed, window) {
            facts.push(fact("attention.sliding_window_pattern", step));
        }
        facts.extend(rotation(rope));
        if let Some(rope) = local_rope {
            facts.push(fact("rope.freq_base_swa", rope.base));
        }
        facts.extend(experts.iter().flat_map(of_experts));
        facts
    }
}

fn rotation(rope: &RopeConfig) -> Vec<Fact<&'static str>> {
    let RopeConfig { rotary, base, scaling, magnitude, original_context } = rope;
    let mut facts = vec![
        fact("rope.dimension_count", rotary),
        fact("rope.freq_base", base),
        fact("rope.scaling.attn_factor", magnitude),
    ];
    let (name, factor) = match scaling {
        RopeScaling::None => ("none", None),
        RopeScaling::Linear(factor) => ("linear", Some(factor)),
        RopeScaling::Yarn { factor, beta_fast, beta_slow } => {
            facts.push(fact("rope.scaling.yarn_beta_fast", beta_fast));
            facts.push(fact("rope.scaling.yarn_beta_slow", beta_slow));
            ("yarn", Some(factor))
        }
        RopeScaling::LongRope => ("longrope", None),
    };
    facts.push(fact("rope.scaling.type", name));
    facts.extend(factor.map(|factor| fact("rope.scaling.factor", factor)));
    if matches!(scaling, RopeScaling::Yarn { .. } | RopeScaling::LongRope) {
        facts.push(fact("rope.scaling.original_context_length", original_context));
    }
    facts
}

fn of_experts(experts: &ExpertsConfig) -> [Fact<&'static str>; 4] {
    let ExpertsConfig { count, used, feed_forward, normalised } = experts;
    [
        fact("expert_count", count),
        fact("expert_used_count", used),
        fact("expert_feed_forward_length", feed_forward),
        fact("expert_weights_norm", normalised),
    ]
}

fn fact(name: &'static str, value: impl std::fmt::Display) -> Fact<&'static str> {
    Fact { name, value: value.to_string() }
}
