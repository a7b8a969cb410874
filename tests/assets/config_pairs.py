"""What Transformers make of a config.json that has one setting twice: values for tests/convert/pairs.rs.

    pip install transformers==5.24 torch; python3 tests/assets/config_pairs.py
"""

import json
import logging
from pathlib import Path

from transformers import AutoConfig

logging.disable(logging.WARNING)
OUT = Path(__file__).parent / "golden" / "config_pairs.json"
BASE = dict(hidden_size=64, intermediate_size=192, max_position_embeddings=1024, num_attention_heads=4, num_hidden_layers=4,
            num_key_value_heads=2, rms_norm_eps=1e-5, vocab_size=4096, head_dim=16)
CLASSES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
           "qwen3_moe": "Qwen3MoeForCausalLM", "gemma2": "Gemma2ForCausalLM", "gemma3_text": "Gemma3ForCausalLM",
           "phi3": "Phi3ForCausalLM", "smollm3": "SmolLM3ForCausalLM", "olmo2": "Olmo2ForCausalLM", "granite": "GraniteForCausalLM"}
MORE = {"qwen3_moe": dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)}
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=256)
LINEAR = dict(rope_type="linear", factor=2.0)
PLAIN = dict(rope_type="default", rope_theta=5e5)
LONG = dict(type="longrope", short_factor=[1.5] * 8, long_factor=[2.5] * 8)
WINDOW = dict(rope_type="default", rope_theta=2e4)

ABSENT = "absent"

EVERYWHERE = [
    {},
    dict(rope_scaling=LINEAR, rope_parameters=PLAIN),
    dict(rope_scaling=LINEAR, rope_parameters=PLAIN, rope_theta=3e5),
    dict(rope_scaling={**LINEAR, "rope_theta": 7e5}, rope_parameters=PLAIN, rope_theta=3e5),
    dict(rope_scaling={}, rope_parameters=PLAIN, rope_theta=3e5),
    dict(rope_scaling=None, rope_parameters={**LINEAR, "rope_theta": 5e5}),
]
LLAMA = [
    dict(rope_scaling=YARN, rope_parameters=PLAIN),
    dict(rope_scaling={**YARN, "type": "linear"}),
    dict(rope_scaling=YARN, original_max_position_embeddings=128),
    dict(rope_parameters={**YARN, "factor": None}),
    dict(rope_scaling=dict(rope_type="yarn", factor=4.0)),
    dict(rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)),
    dict(rope_parameters=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, rope_theta=5e5,
                              original_max_position_embeddings=512), original_max_position_embeddings=128),
]
GEMMA3 = [
    dict(rope_theta=5e5, rope_local_base_freq=2e4, rope_scaling=dict(rope_type="linear", factor=8.0)),
    dict(rope_parameters=dict(full_attention={**LINEAR, "rope_theta": 5e5}, sliding_attention=WINDOW),
         rope_scaling=dict(rope_type="linear", factor=4.0)),
    dict(rope_parameters=dict(full_attention=PLAIN, sliding_attention=dict(rope_type="default")), rope_local_base_freq=3e4),
    dict(rope_parameters=dict(full_attention=dict(rope_type="default"), sliding_attention=WINDOW), rope_theta=3e5),
    dict(rope_parameters=dict(sliding_attention=WINDOW), rope_theta=3e5),
    dict(rope_parameters=dict(full_attention=PLAIN), rope_local_base_freq=3e4),
    dict(rope_parameters=dict(full_attention=PLAIN, sliding_attention=WINDOW), rope_theta=1e3, rope_local_base_freq=9e4),
    dict(sliding_window_pattern=3),
    dict(_sliding_window_pattern=3),
    dict(sliding_window_pattern=3, layer_types=["sliding_attention", "full_attention"] * 2),
]
PHI3 = [
    dict(rope_scaling=LONG, original_max_position_embeddings=256),
    dict(rope_scaling={**LONG, "original_max_position_embeddings": 512}, original_max_position_embeddings=256),
    dict(rope_scaling={**LONG, "original_max_position_embeddings": 512}),
    dict(rope_scaling=LONG, rope_parameters=PLAIN, original_max_position_embeddings=256),
    dict(rope_parameters={**LONG, "rope_theta": 5e5, "factor": 32.0}, original_max_position_embeddings=256),
    dict(rope_parameters={**PLAIN, "partial_rotary_factor": 1.0}, partial_rotary_factor=0.5),
    dict(partial_rotary_factor=0.5),
]
OTHERS = {
    "llama": LLAMA, "gemma3_text": GEMMA3, "phi3": PHI3,
    "gemma2": [dict(sliding_window_pattern=4)],
    "mistral": [dict(sliding_window=32, use_sliding_window=False), dict(sliding_window=None), dict(max_position_embeddings=8192)],
    "qwen3_moe": [dict(num_experts=ABSENT, num_local_experts=4)],
}


def found(kind, config):
    config = json.loads(json.dumps(config))
    config.pop("model_type")
    config = AutoConfig.for_model(kind, **config)
    # As a model does when it is made of it.
    config.standardize_rope_params()
    rope = config.rope_parameters
    out = {}
    if kind == "gemma3_text":
        out["local_theta"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    out["theta"], out["type"] = rope["rope_theta"], rope["rope_type"]
    out["part"] = rope.get("partial_rotary_factor", 1.0)
    if out["type"] != "default":
        original = rope.get("original_max_position_embeddings")
        factor = rope.get("factor")
        if factor is None:
            factor = config.max_position_embeddings / original
        out |= dict(factor=factor) if out["type"] != "longrope" else {}
        out |= dict(original=original) if original else {}
    if out["type"] == "longrope":
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
        out["attention_factor"] = ROPE_INIT_FUNCTIONS["longrope"](config, "cpu")[1]
    if kind.startswith("gemma"):
        out["windows"] = [t == "sliding_attention" for t in config.layer_types]
    if kind == "mistral":
        out["window"] = config.sliding_window
    if kind == "qwen3_moe":
        out["experts"] = config.num_experts
    return out


def main():
    rows = []
    for kind, name in CLASSES.items():
        for changes in EVERYWHERE + OTHERS.get(kind, []):
            if kind == "phi3" and "rope_scaling" in changes and "factor" in (changes["rope_scaling"] or {}):
                continue  # it has no linear scaling
            if kind == "phi3" and "factor" in (changes.get("rope_parameters") or {}) and "short_factor" not in changes["rope_parameters"]:
                continue
            if kind == "gemma3_text" and "full_attention" not in changes.get("rope_parameters", {}) and "sliding_attention" not in changes.get("rope_parameters", {}) and "rope_parameters" in changes:
                continue  # refused: Transformers leave flat settings out, or fail
            config = dict(architectures=[name], model_type=kind, **BASE) | MORE.get(kind, {}) | changes
            config = {key: value for key, value in config.items() if value != ABSENT}
            if kind.startswith("gemma"):
                config.setdefault("sliding_window", 32)
            rows.append(dict(config=config, found=found(kind, config)))
    OUT.write_text("[\n" + ",\n".join(" " + json.dumps(row) for row in rows) + "\n]\n")


main()
