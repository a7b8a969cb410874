"""Memory of `loam train`: predicted by `loam plan` and measured, on random models of real shapes.

    cargo build --release -p loam-cli
    python3 benches/peers/train_memory.py target/release/loam [--shape qwen3-0.6b|small] [--format q4_0|q8_0] [--device cpu] [--grid]

qwen3-0.6b has Qwen3-0.6B's shape (hidden 1024, 28 layers, 16/8 heads of 128, feed-forward 3072, vocabulary 151,936, tied), with
a made-up byte-level tokenizer of as many tokens and merges. Each line is one setting: bytes of all buffers (the device), and the
largest resident set of the process (VmHWM: with the mapped weights), each with the ratio of predicted to measured. `--grid` goes
through contexts, batches, checkpointing and optimizers. On a GPU the first run may compile kernels: the second is what is measured.
"""

import argparse
import json
import os
import random
import subprocess
import tempfile
from pathlib import Path

from peers import need

need("gguf", "numpy")

import gguf
import numpy as np

SHAPES = {
    "qwen3-0.6b": dict(width=1024, layers=28, heads=16, kv_heads=8, head=128, ff=3072, vocabulary=151_936),
    "small": dict(width=768, layers=12, heads=12, kv_heads=4, head=64, ff=2048, vocabulary=32_000),
}
SETTINGS = {
    "qwen3-0.6b": ["--context 512 --batch 1", "--context 512 --batch 1 --gradient-checkpointing on",
                   "--context 512 --batch 1 --budget 750M", "--context 512 --batch 4 --budget 1G --rank 16",
                   "--context 1024 --batch 2 --gradient-checkpointing on --targets attn_q,attn_v"],
    "small": ["--context 128 --batch 1", "--context 128 --batch 4", "--context 512 --batch 1", "--context 512 --batch 2 --rank 32",
              "--context 512 --batch 4 --gradient-checkpointing on", "--context 256 --batch 8 --budget 300M"],
}
GRID = [f"--context {context} --batch {batch} --gradient-checkpointing {way} --optim {optim}"
        for context, batch in [(64, 1), (256, 1), (256, 4), (512, 1)] for way in ["off", "on"] for optim in ["adamw", "adamw_8bit"]]
# Bytes of a block's 32 quants, behind its scale.
FORMATS = {"q4_0": (16, gguf.GGMLQuantizationType.Q4_0), "q8_0": (32, gguf.GGMLQuantizationType.Q8_0)}


def alphabet():
    """The characters that stand for the 256 bytes in byte-level tokenizers."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [256 + i for i, _ in enumerate(b for b in range(256) if b not in shown)]
    return [chr(c) for c in shown + hidden]


def tokenizer(writer, size):
    draw = random.Random(0)
    tokens, merges = alphabet(), []
    seen = set(tokens)
    while len(tokens) < size - 2:
        pair = (draw.choice(tokens), draw.choice(tokens[:4096]))
        if len(pair[0] + pair[1]) <= 12 and pair[0] + pair[1] not in seen:
            seen.add(pair[0] + pair[1])
            tokens.append(pair[0] + pair[1])
            merges.append(" ".join(pair))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens + ["<|endoftext|>", "<|im_end|>"])
    writer.add_token_types([1] * (size - 2) + [3, 3])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(size - 1)


def make_model(path, kind, width, layers, heads, kv_heads, head, ff, vocabulary):
    numbers = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_block_count(layers)
    writer.add_context_length(4096)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(ff)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    tokenizer(writer, vocabulary)

    def matrix(name, rows, cols):
        quants, of = FORMATS[kind]
        blocks = numbers.integers(0, 256, (rows, cols // 32, 2 + quants), dtype=np.uint8)
        blocks[:, :, :2] = np.array([0.1 / cols**0.5], dtype=np.float16).view(np.uint8)
        writer.add_tensor(name, blocks.reshape(rows, -1), raw_dtype=of)

    matrix("token_embd.weight", vocabulary, width)
    for layer in range(layers):
        for name, rows, cols in [("attn_q", heads * head, width), ("attn_k", kv_heads * head, width), ("attn_v", kv_heads * head, width),
                                 ("attn_output", width, heads * head), ("ffn_gate", ff, width), ("ffn_up", ff, width),
                                 ("ffn_down", width, ff)]:
            matrix(f"blk.{layer}.{name}.weight", rows, cols)
        for name, length in [("attn_norm", width), ("ffn_norm", width), ("attn_q_norm", head), ("attn_k_norm", head)]:
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(length, dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.ones(width, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def last_object(command):
    done = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "XDG_RUNTIME_DIR": "/tmp"})
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("loam", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-0.6b")
    parser.add_argument("--format", choices=FORMATS, default="q4_0")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--grid", action="store_true")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--settings", help="one setting instead of all")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        base, data = folder / "base.gguf", folder / "text.txt"
        make_model(base, arguments.format, **SHAPES[arguments.shape])
        data.write_text(" ".join(f"word{i % 977}" for i in range(20_000)))
        print(f"{arguments.shape} {arguments.format}: {base.stat().st_size / 1e6:.0f} MB on the disk, device {arguments.device}, {arguments.steps} steps")
        ratios = {"device": [], "host": []}
        for setting in [arguments.settings] if arguments.settings else GRID if arguments.grid else SETTINGS[arguments.shape]:
            flags = [*setting.split(), "--data", data, "--device", arguments.device, "--json"]
            plan = last_object([arguments.loam, "plan", base, *flags])
            for _ in range(1 if arguments.device == "cpu" else 2):
                done = last_object([arguments.loam, "train", base, *flags, "-o", folder / "adapter.gguf", "--force", "--steps", arguments.steps])
            numbers = [(plan[f"peak_{side}_bytes"], done[f"peak_{side}_bytes"]) for side in ratios]
            for side, (predicted, measured) in zip(ratios, numbers):
                ratios[side].append(predicted / measured)
            device, host = (f"{p / 1e6:7.1f} / {m / 1e6:7.1f} MB ({p / m:.3f})" for p, m in numbers)
            chosen = f"{plan['micro_batch']} x {plan['accumulate']}, checkpointing {plan['checkpointing']}, {plan['loss_chunk']} rows of logits"
            print(f"{setting:70} device {device}  process {host}  [{chosen}] {done['tokens_per_second']:.0f} tok/s", flush=True)
        for side, found in ratios.items():
            print(f"{side}: predicted / measured {min(found):.3f} to {max(found):.3f} in {len(found)} settings")


if __name__ == "__main__":
    main()
