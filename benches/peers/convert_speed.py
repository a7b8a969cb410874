"""Speed and peak memory of `loam convert --format q4_k_m` against llama.cpp's route, on a random model of 0.53 billion weights.

    cargo build --release -p loam-cli
    python3 benches/peers/convert_speed.py target/release/loam [ROUNDS]

llama.cpp's route is convert_hf_to_gguf.py to bf16, then llama-quantize. The script of the first step is not in a package: the
package that it writes with, `gguf`, does the same here (tensors to f32, rows of q and k permuted, rounded to bf16, written).
The second step is llama.cpp's own `llama_model_quantize` through llama-cpp-python. Both programs have two threads and take
turns; the best of some rounds counts. At the end every tensor of both files is compared: the bytes must be the same. Then an adapter
is trained on loam's file for two steps, to show that it can be.
"""

import ctypes
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import need

need("llama-cpp-python", "gguf", "safetensors", "torch", "numpy")

ROOT = Path(__file__).resolve().parents[2]
THREADS = 2
HIDDEN, FEED_FORWARD, LAYERS, HEADS, KV_HEADS, VOCABULARY = 1024, 4096, 24, 16, 8, 151_936
HEAD = HIDDEN // HEADS
Q4_K_M = 15
NAMES = {
    "self_attn.q_proj": ("attn_q", HEADS), "self_attn.k_proj": ("attn_k", KV_HEADS), "self_attn.v_proj": ("attn_v", 0),
    "self_attn.o_proj": ("attn_output", 0), "mlp.gate_proj": ("ffn_gate", 0), "mlp.up_proj": ("ffn_up", 0),
    "mlp.down_proj": ("ffn_down", 0), "input_layernorm": ("attn_norm", 0), "post_attention_layernorm": ("ffn_norm", 0),
}


def make_model(folder):
    """A Llama of random bf16 weights with the tokenizer of loam-tiny."""
    import torch
    from safetensors.torch import save_file

    tiny = ROOT / "targets/cli/assets/loam-tiny"
    config = json.loads((tiny / "config.json").read_text())
    config.update(hidden_size=HIDDEN, intermediate_size=FEED_FORWARD, num_hidden_layers=LAYERS, head_dim=HEAD,
                  num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, vocab_size=VOCABULARY)
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_bytes((tiny / name).read_bytes())
    torch.manual_seed(0)
    rows = {"attn_q": HIDDEN, "attn_k": KV_HEADS * HEAD, "attn_v": KV_HEADS * HEAD, "ffn_gate": FEED_FORWARD, "ffn_up": FEED_FORWARD}
    random = lambda *shape: (torch.randn(*shape) * 0.02).to(torch.bfloat16)
    tensors = {"model.embed_tokens.weight": random(VOCABULARY, HIDDEN), "model.norm.weight": random(HIDDEN)}
    for layer in range(LAYERS):
        for module, (name, _) in NAMES.items():
            shape = [HIDDEN] if "norm" in name else [rows.get(name, HIDDEN), FEED_FORWARD if name == "ffn_down" else HIDDEN]
            tensors[f"model.layers.{layer}.{module}.weight"] = random(*shape)
    save_file(tensors, folder / "model.safetensors")


def gguf_name(name):
    """GGUF name and number of heads whose rows are permuted."""
    outer = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in outer:
        return outer[name], 0
    _, _, layer, module = name.removesuffix(".weight").split(".", 3)
    part, heads = NAMES[module]
    return f"blk.{layer}.{part}.weight", heads


def write_bf16(folder, out):
    """What convert_hf_to_gguf.py --outtype bf16 does."""
    import gguf
    from safetensors import safe_open

    writer = gguf.GGUFWriter(out, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(1024)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("none")
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        for name in file.keys():
            values = file.get_tensor(name).float()
            name, heads = gguf_name(name)
            if heads:
                values = values.reshape(heads, 2, HEAD // 2, -1).swapaxes(1, 2).reshape(values.shape)
            values = values.numpy()
            if values.ndim > 1:
                kind = gguf.GGMLQuantizationType.BF16
                writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
            else:
                writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize(source, out):
    """What llama-quantize SOURCE OUT Q4_K_M 2 does."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = Q4_K_M, THREADS
    if llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params)):
        sys.exit("llama_model_quantize failed")


def measured(command):
    """Seconds, seconds of processor time and peak bytes of a program."""
    start = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command} failed")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def same_tensors(ours, theirs):
    import gguf

    ours, theirs = ({t.name: t for t in gguf.GGUFReader(path).tensors} for path in (ours, theirs))
    assert ours.keys() == theirs.keys(), "tensor names differ"
    for name, tensor in theirs.items():
        assert tensor.tensor_type == ours[name].tensor_type, f"{name}: types differ"
        assert (tensor.data.reshape(-1) == ours[name].data.reshape(-1)).all(), f"{name}: bytes differ"
    return len(theirs)


def train(loam, base, folder):
    """Two steps of an adapter of rank 8 on all linear layers; what `loam train` says of them."""
    text = folder / "text.jsonl"
    text.write_text(json.dumps({"text": " ".join(f"word{i % 977}" for i in range(300))}) + "\n")
    command = [loam, "train", base, "--data", text, "-o", folder / "adapter.gguf", "--steps", 2, "--context", 128, "--batch", 1,
               "--objective", "clm", "--device", "cpu", "--gradient-checkpointing", "on", "--json"]
    lines = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return json.loads(lines[-1])


def main():
    loam, rounds = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # In a process of its own: Linux counts the peak of a parent as that of the programs it starts.
        maker = multiprocessing.Process(target=make_model, args=(folder,))
        maker.start()
        maker.join()
        ours, middle, theirs = folder / "loam.gguf", folder / "bf16.gguf", folder / "llama.gguf"
        commands = {
            "loam": [loam, "convert", folder, "-o", ours, "--format", "q4_k_m", "--threads", THREADS],
            "gguf": [sys.executable, __file__, "write", folder, middle],
            "llama-quantize": [sys.executable, __file__, "quantize", middle, theirs],
        }
        runs = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                runs[name].append(measured(command))
        best = {name: min(runs)[0] for name, runs in runs.items()}
        work = {name: min(work for _, work, _ in runs) for name, runs in runs.items()}
        peak = {name: max(peak for *_, peak in runs) for name, runs in runs.items()}
        for name in commands:
            rounds = [round(seconds, 2) for seconds, *_ in runs[name]]
            print(f"{name:15} {best[name]:7.2f} s  processor {work[name]:7.2f} s  peak {peak[name] / 1e6:6.0f} MB  rounds {rounds}")
        for what, of in (("as long", best), ("as much processor time", work)):
            both, second = (of["gguf"] + of["llama-quantize"]) / of["loam"], of["llama-quantize"] / of["loam"]
            print(f"llama.cpp's route takes {both:.1f} times {what}, its second step alone {second:.1f} times")
        largest = VOCABULARY * HIDDEN * 2
        bound = 3 * largest + 300e6
        print(f"memory bound {bound / 1e6:.0f} MB (largest tensor {largest / 1e6:.0f} MB x 3 + 300 MB): "
              f"{'kept' if peak['loam'] <= bound else 'BROKEN'}")
        print(f"{same_tensors(ours, theirs)} tensors, all with the same type and bytes")
        done = train(loam, ours, folder)
        print(f"training: loss {done['loss_first']:.3f} -> {done['loss_last']:.3f}, "
              f"peak {done['peak_device_bytes'] / 1e6:.0f} MB on the device, {done['peak_host_bytes'] / 1e6:.0f} MB of the process")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.argv[1] == "write":
        write_bf16(Path(sys.argv[2]), sys.argv[3])
    elif sys.argv[1] == "quantize":
        quantize(sys.argv[2], sys.argv[3])
    else:
        main()
