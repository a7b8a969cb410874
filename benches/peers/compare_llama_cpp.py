"""Bases and adapters of loam in a stock llama.cpp: same tokens, same perplexity?

    cargo build --release -p loam-cli
    python3 benches/peers/compare_llama_cpp.py target/release/loam

Converts loam-tiny to f32 and q4_0, trains an adapter on each for ten steps, and compares the perplexity of both programs
on the same tokens, with and without the adapter. llama.cpp's CPU kernels round activations to 8 bits over a q4_0 base,
which loam does not: the f32 rows compare the files, the q4_0 rows the programs.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from peers import need

need("llama-cpp-python", "numpy")

import numpy as np
from llama_cpp import Llama

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "targets/cli/assets"
TOKENS = 500


def loam(*arguments):
    """Runs the binary and returns the last JSON object that it prints."""
    command = [sys.argv[1], *map(str, arguments), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def perplexity(logits, tokens):
    logits = logits.astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return float(np.exp(-np.mean([log_probabilities[i, t] for i, t in enumerate(tokens[1:])])))


def compare(folder, format, adapter, base, tokens):
    arguments = ["--adapter", adapter] if adapter else []
    out = folder / "logits.npy"
    loam("logits", base, "--tokens", ",".join(map(str, tokens)), *arguments, "-o", out, "--device", "cpu")
    ours = np.load(out)
    model = Llama(str(base), n_ctx=TOKENS, n_batch=TOKENS, logits_all=True, verbose=False,
                  lora_path=str(adapter) if adapter else None)
    model.eval(tokens)
    theirs = np.array(model.scores[: len(tokens)])
    error = np.linalg.norm(theirs - ours) / np.linalg.norm(ours)
    name = "adapter" if adapter else "base"
    print(f"{format:5} {name:8} perplexity loam {perplexity(ours, tokens):.3f}  llama.cpp {perplexity(theirs, tokens):.3f}"
          f"  logits differ by {error:.1e}")


def main():
    text = (ASSETS / "loam-tiny/DATA.md").read_text()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for format in ("f32", "q4_0"):
            base, adapter = folder / f"{format}.gguf", folder / f"{format}-adapter.gguf"
            loam("convert", ASSETS / "loam-tiny", "-o", base, "--format", format)
            loam("train", base, "--data", ASSETS / "demo/train.jsonl", "-o", adapter, "--steps", 10, "--lr", "5e-3",
                 "--context", 128, "--device", "cpu")
            tokens = loam("tokenize", base, "--text", text)["ids"][:TOKENS]
            for chosen in (None, adapter):
                compare(folder, format, chosen, base, tokens)


main()
