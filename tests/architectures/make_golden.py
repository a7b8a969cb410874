"""Expected values for tests/architectures: Transformers and PEFT on tiny random models of every family.

    pip install torch transformers peft safetensors
    python tests/architectures/make_golden.py [family ...]

Writes tests/architectures/<family>/config.json and golden.safetensors: tokens [B, T], the logits [B, T, V] of the model
alone and with a LoRA adapter on all linear layers, the mean cross-entropy over all next tokens with the adapter, and the
gradient of that loss for every A and B. Weights and adapter are not stored: they follow from names (`fill`), and the
test makes the same ones. The names and shapes of the weights are in the file's header.
"""

import json
import math
import pathlib
import sys

import numpy
import torch
from peft import LoraConfig, get_peft_model
from safetensors.numpy import save_file
from transformers import AutoConfig, AutoModelForCausalLM

RANK, ALPHA = 4, 8.0
BATCH, LENGTH, VOCABULARY = 2, 24, 64
HERE = pathlib.Path(__file__).parent


def config(model_type, architecture, **changes):
    """A config.json in the form in which models of the family are published."""
    base = dict(
        architectures=[architecture],
        model_type=model_type,
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=False,
        hidden_act="silu",
        torch_dtype="float32",
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return {**base, **changes}


def gemma(model_type, architecture, **changes):
    changes = dict(
        hidden_size=48,
        intermediate_size=72,
        head_dim=32,
        query_pre_attn_scalar=changes.pop("query_pre_attn_scalar", 32),
        hidden_activation="gelu_pytorch_tanh",
        sliding_window=7,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        bos_token_id=2,
        eos_token_id=1,
        attention_bias=False,
        attention_dropout=0.0,
        **changes,
    )
    made = config(model_type, architecture, **changes)
    made["hidden_act"] = made["hidden_activation"]
    return made


def longrope(pairs, original):
    short = [1.0 + 0.05 * i for i in range(pairs)]
    long = [1.0 + 0.5 * i for i in range(pairs)]
    scaling = dict(type="longrope", short_factor=short, long_factor=long)
    return dict(rope_scaling=scaling, original_max_position_embeddings=original)


def yarn(original):
    return dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=original)


FAMILIES = {
    "llama": config("llama", "LlamaForCausalLM", attention_bias=False, mlp_bias=False),
    # Wavelengths on both sides of and between the two thresholds; heads wider than hidden / heads.
    "llama3": config(
        "llama",
        "LlamaForCausalLM",
        head_dim=24,
        tie_word_embeddings=True,
        rope_scaling=dict(
            rope_type="llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
    ),
    # Every layer sees seven keys.
    "mistral": config("mistral", "MistralForCausalLM", num_key_value_heads=1, sliding_window=7, head_dim=20),
    # Layer 3 has no rotation.
    "smollm3": config(
        "smollm3",
        "SmolLM3ForCausalLM",
        num_hidden_layers=4,
        tie_word_embeddings=True,
        no_rope_layers=[1, 1, 1, 0],
        no_rope_layer_interval=4,
        use_sliding_window=False,
        sliding_window=None,
        attention_bias=False,
        mlp_bias=False,
    ),
    "qwen2": config(
        "qwen2",
        "Qwen2ForCausalLM",
        tie_word_embeddings=True,
        rope_theta=1000000.0,
        rms_norm_eps=1e-6,
        use_sliding_window=False,
        sliding_window=256,
        max_window_layers=2,
    ),
    "qwen2-yarn": config("qwen2", "Qwen2ForCausalLM", rope_scaling=yarn(16), max_position_embeddings=64),
    "qwen3": config(
        "qwen3",
        "Qwen3ForCausalLM",
        head_dim=32,
        rope_theta=1000000.0,
        rms_norm_eps=1e-6,
        attention_bias=False,
        use_sliding_window=False,
        sliding_window=None,
        max_window_layers=2,
    ),
    "qwen3moe": config(
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        head_dim=24,
        rms_norm_eps=1e-6,
        attention_bias=False,
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        norm_topk_prob=True,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        use_sliding_window=False,
        sliding_window=None,
        router_aux_loss_coef=0.001,
        output_router_logits=False,
    ),
    # The weights of the chosen experts as they are, which is what config.json means where it does not say.
    "qwen3moe-softmax": config(
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        head_dim=24,
        rms_norm_eps=1e-6,
        attention_bias=False,
        num_experts=8,
        num_experts_per_tok=3,
        moe_intermediate_size=32,
        norm_topk_prob=False,
        use_sliding_window=False,
        sliding_window=None,
    ),
    # Caps low enough to bend the scores and logits of random weights.
    "gemma2": gemma(
        "gemma2",
        "Gemma2ForCausalLM",
        num_hidden_layers=3,
        query_pre_attn_scalar=20,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=2.0,
        cache_implementation="hybrid",
    ),
    # Layer 5 is global: another base, and the only one whose positions are scaled.
    "gemma3": gemma(
        "gemma3_text",
        "Gemma3ForCausalLM",
        num_hidden_layers=6,
        num_key_value_heads=1,
        rope_theta=1000000.0,
        rope_local_base_freq=10000.0,
        rope_scaling=dict(rope_type="linear", factor=8.0),
        sliding_window_pattern=6,
        attn_logit_softcapping=None,
        final_logit_softcapping=None,
    ),
    # The short factors, and a window.
    "phi3": config("phi3", "Phi3ForCausalLM", sliding_window=9, attention_bias=False, **longrope(8, 64)),
    # The long factors on three quarters of each head.
    "phi4mini": config(
        "phi3",
        "Phi3ForCausalLM",
        tie_word_embeddings=True,
        partial_rotary_factor=0.75,
        sliding_window=262144,
        attention_bias=False,
        **longrope(6, 16),
    ),
    "olmo2": config("olmo2", "Olmo2ForCausalLM", rope_theta=500000.0, rms_norm_eps=1e-6, attention_bias=False),
    "granite": config(
        "granite",
        "GraniteForCausalLM",
        tie_word_embeddings=True,
        attention_bias=False,
        mlp_bias=False,
        attention_multiplier=0.125,
        embedding_multiplier=3.0,
        residual_multiplier=0.4,
        logits_scaling=2.5,
    ),
}


def uniform(name, count):
    """Uniform in [-1, 1): the upper 24 bits of SplitMix64 at counter i, started from the FNV-1a hash of `name`."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(seed) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z = z ^ (z >> numpy.uint64(31))
    return (z >> numpy.uint64(40)).astype(numpy.float64) / 2.0**23 - 1.0


def fill(name, shape, norm_center):
    """The values of the checkpoint's tensor `name`."""
    u = uniform(name, math.prod(shape)).reshape(shape)
    if "norm" in name:
        u = norm_center + 0.2 * u
    elif name.endswith(".bias"):
        u = 0.2 * u
    elif "lora_B" in name:
        u = 0.1 * u
    elif "embed_tokens" in name:
        u = 0.25 * u
    else:
        u = u * math.sqrt(3.0 / shape[-1])
    return torch.from_numpy(u.astype(numpy.float32))


def tokens():
    u = uniform("tokens", BATCH * LENGTH)
    return torch.from_numpy(((u + 1.0) / 2.0 * VOCABULARY).astype(numpy.int64)).reshape(BATCH, LENGTH)


def expert_parts(name, parameter):
    """(checkpoint name, shape) of the pieces of a fused stack of experts, in the order in which they lie in it."""
    experts = parameter.shape[0]
    for e in range(experts):
        if name.endswith("gate_up_proj"):
            stem = name.removesuffix("gate_up_proj")
            half = (parameter.shape[1] // 2, parameter.shape[2])
            yield f"{stem}{e}.gate_proj.weight", half
            yield f"{stem}{e}.up_proj.weight", half
        else:
            stem = name.removesuffix("down_proj")
            yield f"{stem}{e}.down_proj.weight", tuple(parameter.shape[1:])


def is_stack(name):
    return name.endswith(("experts.gate_up_proj", "experts.down_proj"))


def load(family):
    folder = HERE / family
    model = AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(folder), attn_implementation="eager", dtype=torch.float32
    )
    center = 0.0 if family.startswith("gemma") else 1.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if is_stack(name):
                parts = [fill(part, shape, center) for part, shape in expert_parts(name, parameter)]
                parameter.copy_(torch.cat(parts).reshape(parameter.shape))
            else:
                parameter.copy_(fill(name, tuple(parameter.shape), center))
    return model.eval()


def shapes(model):
    """Names and shapes of the checkpoint's tensors."""
    out = {}
    for name, parameter in model.named_parameters():
        parts = expert_parts(name, parameter) if is_stack(name) else [(name, parameter.shape)]
        out |= {part: list(shape) for part, shape in parts}
    return out


def with_peft(model, ids):
    """Logits, loss and gradients with an adapter made by PEFT. Stacks of experts have no update of their own: gradients
    pass through them."""
    stacked = any(is_stack(name) for name, _ in model.named_parameters())
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate"] if stacked else "all-linear"
    options = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, options).eval()
    pairs = {}
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            name = name.removeprefix("base_model.model.").replace(".default.", ".")
            pairs[name] = parameter
            with torch.no_grad():
                parameter.copy_(fill(name, tuple(parameter.shape), 1.0))
    out = adapted(ids, labels=ids)
    out.loss.backward()
    return out, {name: parameter.grad for name, parameter in pairs.items()}


def make(family):
    folder = HERE / family
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(FAMILIES[family], indent=2) + "\n")
    ids = tokens()
    model = load(family)
    with torch.no_grad():
        logits = model(ids).logits
    adapted, gradients = with_peft(load(family), ids)
    values = {"tokens": ids.to(torch.int32), "logits": logits, "adapter_logits": adapted.logits}
    values["adapter_loss"] = adapted.loss.reshape(1)
    values |= {f"gradient.{name}": gradient for name, gradient in gradients.items()}
    values = {name: value.detach().numpy() for name, value in values.items()}
    save_file(values, folder / "golden.safetensors", metadata={"weights": json.dumps(shapes(model))})
    size = (folder / "golden.safetensors").stat().st_size
    change = (adapted.logits - logits).norm() / logits.norm()
    smallest = min(float(g.norm()) for g in gradients.values())
    print(f"{family}: {size / 1000:.0f} kB, loss {adapted.loss:.4f}, change by the adapter {change:.2f}, ", end="")
    print(f"largest logit {logits.abs().max():.2f}, smallest gradient {smallest:.1e}")


if __name__ == "__main__":
    for family in sys.argv[1:] or FAMILIES:
        make(family)
