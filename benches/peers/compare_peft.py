"""PEFT adapters through loam and back: does PEFT load what loam exports, and do all compute the same?

    cargo build --release -p loam-cli
    python3 benches/peers/compare_peft.py target/release/loam [family ...]

Makes each model of tests/architectures with random weights, as Transformers save them today, and an adapter with rsLoRA,
rank and alpha patterns. Prints how far from PEFT's logits are those of loam with the imported adapter, and those of PEFT
with the adapter that loam exports.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from peers import need

need("torch", "transformers", "peft", "numpy")

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

ARCHITECTURES = Path(__file__).resolve().parents[2] / "tests/architectures"
TOKENS, VOCABULARY = 24, 64


def loam(*arguments):
    subprocess.run([sys.argv[1], *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def tokenizer():
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    vocabulary = {chr(33 + i): i for i in range(VOCABULARY)}
    parts = {"normalizer": None, "pre_tokenizer": level, "decoder": level}
    return {"version": "1.0", "added_tokens": [], **parts, "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


def make(folder, family):
    """The model in `folder`/model and its adapter in `folder`/peft; the logits of both together on `tokens`."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(ARCHITECTURES / family), dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            center = 1.0 if "norm" in name and not family.startswith("gemma") else 0.0
            spread = 0.2 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
            parameter.copy_(center + spread * torch.randn(parameter.shape))
    model.save_pretrained(folder / "model")
    (folder / "model/tokenizer.json").write_text(json.dumps(tokenizer()))
    options = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", use_rslora=True, task_type="CAUSAL_LM",
                         rank_pattern={"down_proj": 6}, alpha_pattern={"o_proj": 3})
    adapted = get_peft_model(load(folder / "model"), options)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape) * 0.1)
    adapted.save_pretrained(folder / "peft")
    return adapted.eval()


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokens = [int(t) for t in np.random.default_rng(1).integers(0, VOCABULARY, TOKENS)]
    for family in sys.argv[2:] or sorted(path.parent.name for path in ARCHITECTURES.glob("*/config.json")):
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            folder = Path(folder)
            theirs = make(folder, family)(torch.tensor([tokens])).logits[0].numpy()
            base, adapter, out = folder / "base.gguf", folder / "adapter.gguf", folder / "logits.npy"
            loam("convert", folder / "model", "-o", base, "--format", "f32", "--pre", "gpt-2")
            loam("adapter", "from-peft", folder / "peft", "--base", base, "-o", adapter)
            loam("logits", base, "--tokens", ",".join(map(str, tokens)), "--adapter", adapter, "-o", out, "--device", "cpu")
            loam("adapter", "to-peft", adapter, "--base", base, "-o", folder / "back")
            back = PeftModel.from_pretrained(load(folder / "model"), str(folder / "back")).eval()
            back = back(torch.tensor([tokens])).logits[0].numpy()
            errors = [np.linalg.norm(made - theirs) / np.linalg.norm(theirs) for made in (np.load(out), back)]
        print(f"{family:12} imported: logits differ by {errors[0]:.1e}, exported: by {errors[1]:.1e}", flush=True)


main()
