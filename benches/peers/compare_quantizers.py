"""Every recipe of `loam convert` against llama.cpp's own quantiser: the same type and the same bytes for every tensor?

    cargo build --release -p loam-cli
    python3 benches/peers/compare_quantizers.py target/release/loam [SEED]

Small random Llamas: rows of whole super-blocks, of blocks of 32 only, and of neither; weights with heavy tails, runs of
zeros, very small and very large ones; with and without an importance matrix, some of whose values are zero.
"""

import ctypes
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from peers import need

need("llama-cpp-python", "gguf", "safetensors", "numpy")

import gguf
import llama_cpp
import numpy as np
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
LAYERS = 9
# Hidden size, feed-forward size, heads, key/value heads, tied.
SHAPES = [(256, 512, 8, 2, True), (512, 768, 8, 8, False), (288, 416, 9, 3, True), (320, 256, 5, 1, False)]
VOCABULARY = 4096
FILE_TYPES = {"f16": 1, "bf16": 32, "q8_0": 7, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q6_k": 18, "iq4_nl": 25, "iq4_xs": 30,
              "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17}


@llama_cpp.llama_log_callback
def quiet(*_):
    """llama.cpp tells of every tensor."""


def weights(random, rows, cols):
    """One kind of trouble per eighth of the rows."""
    x = random.standard_normal((rows, cols)).astype(np.float32) * np.float32(0.02)
    part = max(rows // 8, 1)
    x[part : 2 * part] *= np.exp(random.standard_normal((len(x[part : 2 * part]), cols)) * 2).astype(np.float32)
    x[2 * part : 3 * part, : cols // 2] = 0
    x[3 * part : 4 * part] *= np.float32(1e-7)
    x[4 * part : 5 * part] *= np.float32(1e4)
    x[5 * part : 6 * part] *= random.random((len(x[5 * part : 6 * part]), cols)) < 0.05
    x[6 * part : 7 * part] = np.abs(x[6 * part : 7 * part]) + np.float32(0.01)
    return x


def make_model(folder, random, shape):
    hidden, feed_forward, heads, kv_heads, tied = shape
    tiny = ROOT / "targets/cli/assets/loam-tiny"
    config = json.loads((tiny / "config.json").read_text())
    head = hidden // heads
    config.update(hidden_size=hidden, intermediate_size=feed_forward, num_hidden_layers=LAYERS, head_dim=head,
                  num_attention_heads=heads, num_key_value_heads=kv_heads, tie_word_embeddings=tied, torch_dtype="float32")
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_bytes((tiny / name).read_bytes())
    tensors = {"model.embed_tokens.weight": weights(random, VOCABULARY, hidden), "model.norm.weight": np.ones(hidden, np.float32)}
    if not tied:
        tensors["lm_head.weight"] = weights(random, VOCABULARY, hidden)
    for layer in range(LAYERS):
        sizes = {"self_attn.q_proj": (heads * head, hidden), "self_attn.k_proj": (kv_heads * head, hidden),
                 "self_attn.v_proj": (kv_heads * head, hidden), "self_attn.o_proj": (hidden, heads * head),
                 "mlp.gate_proj": (feed_forward, hidden), "mlp.up_proj": (feed_forward, hidden), "mlp.down_proj": (hidden, feed_forward)}
        for module, size in sizes.items():
            tensors[f"model.layers.{layer}.{module}.weight"] = weights(random, *size)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{norm}.weight"] = np.ones(hidden, np.float32)
    save_file(tensors, folder / "model.safetensors")


def make_imatrix(path, random, base):
    """An importance matrix for every product of the blocks of `base`, and what llama.cpp takes of it."""
    writer = gguf.GGUFWriter(path, "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["random"])
    writer.add_uint32("imatrix.chunk_count", 3)
    writer.add_uint32("imatrix.chunk_size", 512)
    means = {}
    for tensor in gguf.GGUFReader(base).tensors:
        if tensor.name.startswith("blk.") and len(tensor.shape) == 2:
            sums = np.exp(random.standard_normal(int(tensor.shape[0])) * 2).astype(np.float32) * np.float32(1536)
            sums[random.random(sums.size) < 0.1] = 0
            writer.add_tensor(tensor.name + ".in_sum2", sums.reshape(1, -1))
            writer.add_tensor(tensor.name + ".counts", np.array([[1536]], np.float32))
            means[tensor.name] = sums / np.float32(1536)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return means


def quantize(source, out, recipe, pure, means):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = FILE_TYPES[recipe], 2
    params.pure = pure
    entries = (llama_cpp.llama_model_imatrix_data * (len(means) + 1))()
    for entry, (name, values) in zip(entries, means.items()):
        entry.name, entry.size = name.encode(), values.size
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    if means:
        params.imatrix = ctypes.cast(entries, ctypes.POINTER(llama_cpp.llama_model_imatrix_data))
    return llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params)) == 0


def differing(ours, theirs):
    ours, theirs = ({t.name: t for t in gguf.GGUFReader(path).tensors} for path in (ours, theirs))
    same = lambda a, b: a.tensor_type == b.tensor_type and a.data.tobytes() == b.data.tobytes()
    return [f"{name} ({ours[name].tensor_type.name}, {t.tensor_type.name})" for name, t in theirs.items() if not same(ours[name], t)]


def main():
    loam, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p())
    random, failed, files = np.random.default_rng(seed), 0, 0
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            make_model(folder, random, shape)
            base, ours, theirs = folder / "f32.gguf", folder / "ours.gguf", folder / "theirs.gguf"
            convert = lambda out, *more: subprocess.run([loam, "convert", folder, "-o", out, *more], check=True, capture_output=True)
            convert(base, "--format", "f32")
            means = make_imatrix(folder / "imatrix.gguf", random, base)
            for recipe, pure, given in itertools.product(FILE_TYPES, (True, False), ({}, means)):
                files += 1
                more = ["--imatrix", folder / "imatrix.gguf"] if given else []
                more += ["--pure"] if pure else []
                convert(ours, "--format", recipe, *more)
                what = f"{shape} {recipe}{' pure' if pure else ''}{' with importance' if given else ''}"
                if not quantize(base, theirs, recipe, pure, given):
                    print(f"{what}: llama.cpp refuses")
                    continue
                bad = differing(ours, theirs)
                failed += bool(bad)
                if bad:
                    print(f"{what}: {len(bad)} tensors differ: {', '.join(bad[:3])}")
    print(f"{files} files, {failed} with differences")
    sys.exit(failed > 0)


main()
