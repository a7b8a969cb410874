"""Training speed and peak memory of `loam train` against Transformers + PEFT, same shape, same threads, in one run.

    cargo build --release -p loam-cli
    python3 benches/peers/train_speed.py target/release/loam [--rounds N] [--steps N] [--devices cpu,llvmpipe] [--bfloat16]

The shape: llama, hidden 768, 12 layers, 12 heads, 4 key/value heads, feed-forward 2048, vocabulary 32,000, random weights;
LoRA of rank 8 on q, k, v and o; steps of 4 x 128 tokens, a loss on each. loam trains on the q4_0 conversion of the checkpoint,
PEFT on the checkpoint itself in float32, with --bfloat16 in that too. Programs take turns; the best round of each counts, the ratio of each round is printed too.
A round of loam is `loam train` (its own tokens_per_second, the first step included); a round of PEFT has one step to warm up, then
as many as loam. Peaks are those of the whole process; for PEFT what Python and its packages take before the model is loaded
is printed beside it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import need

need("torch", "transformers", "peft", "safetensors")

ROOT = Path(__file__).resolve().parents[2]
BATCH, CONTEXT, RANK, THREADS = 4, 128, 8, 2
SHAPE = dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, num_key_value_heads=4, head_dim=64,
             intermediate_size=2048, vocab_size=32_000, tie_word_embeddings=False)
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj"]
TARGETS = "attn_q,attn_k,attn_v,attn_output"


def make_model(folder, shape):
    """A Llama of random weights with the tokenizer of loam-tiny."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tiny = ROOT / "targets/cli/assets/loam-tiny"
    config = json.loads((tiny / "config.json").read_text())
    config.update(shape)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**config)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_bytes((tiny / name).read_bytes())


def train_peft(folder, steps, dtype):
    """Prints tokens per second and the peak of this process."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(THREADS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    options = LoraConfig(r=RANK, lora_alpha=16, target_modules=MODULES, task_type="CAUSAL_LM")
    model = get_peft_model(model, options).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-4, weight_decay=0.0)
    losses = []

    def step():
        tokens = torch.randint(0, SHAPE["vocab_size"], (BATCH, CONTEXT))
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))

    step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"rate": steps * BATCH * CONTEXT / seconds, "peak": peak, "before": before, "loss": losses[-1]}))


def train_loam(loam, folder, device, steps):
    command = [loam, "train", folder / "base.gguf", "--data", folder / "text.jsonl", "-o", folder / "adapter.gguf", "--steps", steps,
               "--objective", "clm", "--batch", BATCH, "--context", CONTEXT, "--rank", RANK, "--targets", TARGETS, "--device", device,
               "--json"]
    done = json.loads(output(command).splitlines()[-1])
    return {"rate": done["tokens_per_second"], "peak": done["peak_host_bytes"], "loss": done["loss_last"], "tokens": done["tokens"]}


def output(command):
    environment = {"RAYON_NUM_THREADS": str(THREADS), "OMP_NUM_THREADS": str(THREADS), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("loam", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--devices", default="cpu")
    parser.add_argument("--bfloat16", action="store_true", help="PEFT in bfloat16 too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        output([sys.executable, __file__, "make", folder])
        output([arguments.loam, "convert", folder, "-o", folder / "base.gguf", "--format", "q4_0", "--pure"])
        words = " ".join(f"word{i % 977}" for i in range(60 * BATCH * CONTEXT))
        (folder / "text.jsonl").write_text("".join(json.dumps({"text": words[i:i + 3000]}) + "\n" for i in range(0, len(words), 3000)))
        runs = {}
        for _ in range(arguments.rounds):
            for device in arguments.devices.split(","):
                runs.setdefault(f"loam {device}", []).append(train_loam(arguments.loam, folder, device, arguments.steps))
            for dtype in ["float32"] + ["bfloat16"] * arguments.bfloat16:
                peft = json.loads(output([sys.executable, __file__, "peft", folder, arguments.steps, dtype]).splitlines()[-1])
                runs.setdefault(f"PEFT {dtype}", []).append(peft)
    report(runs)


def report(runs):
    peft = runs["PEFT float32"]
    peak = lambda run: max(r["peak"] for r in run)
    for name, rounds in runs.items():
        rates = [round(r["rate"], 1) for r in rounds]
        print(f"{name:15} {max(rates):8.1f} tok/s  peak {peak(rounds) / 1e6:6.0f} MB  rounds {rates}  loss {rounds[-1]['loss']:.3f}")
    print(f"Python and its packages alone: {peft[0]['before'] / 1e6:.0f} MB")
    for name, rounds in runs.items():
        if name != "PEFT float32":
            each = [round(ours["rate"] / theirs["rate"], 2) for ours, theirs in zip(rounds, peft)]
            best = max(r["rate"] for r in rounds) / max(r["rate"] for r in peft)
            print(f"{name} / PEFT float32: {best:.2f} of its speed (rounds {each}), {peak(rounds) / peak(peft):.2f} of its memory")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make_model(Path(sys.argv[2]), SHAPE)
    elif sys.argv[1] == "peft":
        train_peft(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main()
