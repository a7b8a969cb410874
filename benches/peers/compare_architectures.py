"""Every family in a stock llama.cpp: does it load what loam converts, and compute the same?

    cargo build --release -p loam-cli
    python3 benches/peers/compare_architectures.py target/release/loam [family ...]

Makes each model of tests/architectures with random weights and a PEFT adapter on its linear layers, experts, and embedding and
head where they are two, converts both, and
compares the logits of both programs, f32, caches in f32, no flash attention. ggml computes Gemma's GELU from a table of
halves, which loam does not.
"""

import ctypes
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from peers import need

need("llama-cpp-python", "numpy", "safetensors")

import llama_cpp
import numpy as np
from safetensors.numpy import save_file

ARCHITECTURES = Path(__file__).resolve().parents[2] / "tests/architectures"
TOKENS, VOCABULARY, RANK = 24, 64, 4
# llama.cpp has no window for phi3 and Mistral, always divides Gemma's scores by the root of a head's width and always scales
# the weights of Qwen3-MoE's chosen experts to a sum of one; it takes the
# long factors once the context (at least 256) is over the original one.
CHANGES = {
    "phi3": {"sliding_window": None, "original_max_position_embeddings": 256, "max_position_embeddings": 1024},
    "mistral": {"sliding_window": None},
    "gemma2": {"query_pre_attn_scalar": 32},
    "qwen3moe-softmax": {"norm_topk_prob": True},
}


def loam(*arguments):
    subprocess.run([sys.argv[1], *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def tokenizer():
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    vocabulary = {chr(33 + i): i for i in range(VOCABULARY)}
    model = {"type": "BPE", "vocab": vocabulary, "merges": []}
    parts = {"normalizer": None, "pre_tokenizer": level, "decoder": level, "model": model}
    return {"version": "1.0", "added_tokens": [], **parts}


def make(folder, family, names):
    """The model in `folder`/model, its adapter in `folder`/peft."""
    random = np.random.default_rng(0)
    model, peft = folder / "model", folder / "peft"
    model.mkdir()
    peft.mkdir()
    config = json.loads((ARCHITECTURES / family / "config.json").read_text()) | CHANGES.get(family, {})
    (model / "config.json").write_text(json.dumps(config))
    (model / "tokenizer.json").write_text(json.dumps(tokenizer()))
    center = 0.0 if family.startswith("gemma") else 1.0
    weights, adapter = {}, {}
    for name, shape, _ in names:
        values = random.uniform(-1, 1, shape)
        norm = "norm" in name
        values = center + 0.2 * values if norm else values * (0.2 if len(shape) == 1 else (3 / shape[-1]) ** 0.5)
        weights[name] = values.astype(np.float32)
        stem = "base_model.model." + name.removesuffix(".weight")
        if name.endswith("_proj.weight") or name == "lm_head.weight":
            for half, size in (("A", (RANK, shape[1])), ("B", (shape[0], RANK))):
                adapter[f"{stem}.lora_{half}.weight"] = random.uniform(-0.2, 0.2, size).astype(np.float32)
        # llama.cpp cannot run an update of an embedding that is the head too.
        if name == "model.embed_tokens.weight" and "lm_head.weight" in [name for name, _, _ in names]:
            for half, size in (("A", (RANK, shape[0])), ("B", (shape[1], RANK))):
                adapter[f"{stem}.lora_embedding_{half}"] = random.uniform(-0.2, 0.2, size).astype(np.float32)
    save_file(weights, model / "model.safetensors")
    save_file(adapter, peft / "adapter_model.safetensors")
    options = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": "all-linear", "bias": "none"}
    (peft / "adapter_config.json").write_text(json.dumps(options))


def ours(folder, tokens, adapter):
    out = folder / "logits.npy"
    chosen = ["--adapter", adapter] if adapter else []
    loam("logits", folder / "base.gguf", "--tokens", ",".join(map(str, tokens)), *chosen, "-o", out, "--device", "cpu")
    return np.load(out)


def theirs(folder, tokens, adapter):
    options = llama_cpp.llama_model_default_params()
    options.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(folder / "base.gguf").encode(), options)
    assert model, "llama.cpp does not load the base"
    options = llama_cpp.llama_context_default_params()
    options.n_ctx, options.n_threads, options.n_threads_batch = 256, 1, 1
    options.type_k = options.type_v = 0  # GGML_TYPE_F32
    options.flash_attn_type = 0
    context = llama_cpp.llama_init_from_model(model, options)
    if adapter:
        loaded = llama_cpp.llama_adapter_lora_init(model, str(adapter).encode())
        assert loaded, "llama.cpp does not load the adapter"
        list_of_one, scale = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(loaded), (ctypes.c_float * 1)(1.0)
        assert llama_cpp.llama_set_adapters_lora(context, list_of_one, 1, scale) == 0
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
    assert llama_cpp.llama_decode(context, batch) == 0
    rows = [llama_cpp.llama_get_logits_ith(context, i) for i in range(len(tokens))]
    logits = np.stack([np.ctypeslib.as_array(row, shape=(VOCABULARY,)).copy() for row in rows])
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return logits


def main():
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    names = json.loads((ARCHITECTURES / "names.json").read_text())
    tokens = [int(t) for t in np.random.default_rng(1).integers(0, VOCABULARY, TOKENS)]
    for family in sys.argv[2:] or names:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            make(folder, family, names[family])
            loam("convert", folder / "model", "-o", folder / "base.gguf", "--format", "f32", "--pre", "gpt-2")
            loam("adapter", "from-peft", folder / "peft", "--base", folder / "base.gguf", "-o", folder / "adapter.gguf")
            errors, plain = [], None
            for adapter in (None, folder / "adapter.gguf"):
                mine, other = ours(folder, tokens, adapter), theirs(folder, tokens, adapter)
                errors.append(np.linalg.norm(mine - other) / np.linalg.norm(other))
                plain = mine if plain is None else plain
            changed = np.linalg.norm(mine - plain) / np.linalg.norm(plain)
        print(f"{family:12} logits differ by {errors[0]:.1e}, with an adapter by {errors[1]:.1e} (it changes {changed:.0%})",
              flush=True)


main()
