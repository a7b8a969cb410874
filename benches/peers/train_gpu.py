"""Training speed and peak GPU memory of `loam train` against PEFT over bitsandbytes NF4 on the same card, in one run.

    cargo build --release -p loam-cli
    python3 benches/peers/train_gpu.py target/release/loam [--device gpu] [--rounds N] [--steps N] [--contexts 512,2048]
        [--formats q4_0,q4_k_m] [--precisions f32,f16] [--small] [--model DIR]

The shape: llama of a thousand million parameters: hidden 2048, 16 layers, 32 heads, 8 key/value heads, feed-forward 8192, vocabulary
128,256, random weights; LoRA of rank 16 on all linear layers; steps of one row of the context, a loss on each. PEFT computes in
bfloat16 over NF4 with gradient checkpointing; without CUDA it is left out, and said so. Programs take turns; the best round of each
counts. Memory is what each holds on the card: loam's buffers, and torch's allocator at its peak (its context and libraries not
counted). `--small` is the shape of train_speed.py: a try without such a card. `--model` keeps the checkpoint for another time.
The rate of each kernel, and the part of the card's peak that it reaches, is `cargo bench -p loam-benches --bench gpu_kernels`.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from peers import need

need("torch", "transformers", "peft", "safetensors")

from train_speed import SHAPE as SMALL, make_model, output

RANK = 16
SHAPE = dict(hidden_size=2048, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8, head_dim=64,
             intermediate_size=8192, vocab_size=128_256, max_position_embeddings=4096, tie_word_embeddings=False)


def train_peft(folder, context, steps):
    """Prints tokens per second and the peak of torch's allocator."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=quantised, dtype=torch.bfloat16, device_map={"": 0})
    model = prepare_model_for_kbit_training(model)
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-4, weight_decay=0.0)
    losses = []

    def step():
        tokens = torch.randint(0, model.config.vocab_size, (1, context), device="cuda")
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    for _ in range(2):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    print(json.dumps({"rate": steps * context / seconds, "peak": torch.cuda.max_memory_allocated(), "loss": losses[-1]}))


def train_loam(arguments, folder, format, precision, context):
    """The rate leaves the first two steps out, as PEFT's does: they compile plans and measure kernels."""
    log = folder / "log.jsonl"
    log.unlink(missing_ok=True)
    command = [arguments.loam, "train", folder / f"{format}.gguf", "--data", folder / "text.jsonl", "-o", folder / "adapter.gguf",
               "--steps", arguments.steps + 2, "--objective", "clm", "--batch", 1, "--context", context, "--rank", RANK, "--targets",
               "all-linear", "--device", arguments.device, "--precision", precision, "--log", log, "--json"]
    done = json.loads(output(command).splitlines()[-1])
    steps = [line for line in map(json.loads, log.read_text().splitlines()) if line["event"] == "step"]
    tokens = sum(step["tokens"] for step in steps[2:])
    seconds = steps[-1]["seconds"] - steps[1]["seconds"]
    return {"rate": tokens / seconds, "peak": done["peak_device_bytes"], "loss": done["loss_last"]}


def prepare(arguments, folder):
    """Checkpoint, its conversions and a text, unless they are there from another time."""
    if not (folder / "config.json").exists():
        output([sys.executable, __file__, "make", folder, "small" if arguments.small else "large"])
    for format in arguments.formats.split(","):
        if not (folder / f"{format}.gguf").exists():
            output([arguments.loam, "convert", folder, "-o", folder / f"{format}.gguf", "--format", format, *([] if format.endswith(("_m", "_s")) else ["--pure"])])
    words = " ".join(f"word{i % 977}" for i in range(400_000))
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": words[i:i + 20_000]}) + "\n" for i in range(0, len(words), 20_000)))


def has_peer():
    import torch

    if not torch.cuda.is_available():
        print("no CUDA: PEFT over bitsandbytes is left out")
        return False
    need("accelerate", "bitsandbytes")
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("loam", type=Path)
    parser.add_argument("--device", default="gpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--contexts", default="512,2048")
    parser.add_argument("--formats", default="q4_0,q4_k_m")
    parser.add_argument("--precisions", default="f32,f16")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    peer = has_peer()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.model or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        prepare(arguments, folder)
        for context in map(int, arguments.contexts.split(",")):
            compare(arguments, folder, context, peer)


def compare(arguments, folder, context, peer):
    runs = {}
    for _ in range(arguments.rounds):
        for format in arguments.formats.split(","):
            for precision in arguments.precisions.split(","):
                run = train_loam(arguments, folder, format, precision, context)
                runs.setdefault(f"loam {format} {precision}", []).append(run)
        if peer:
            command = [sys.executable, __file__, "peft", folder, context, arguments.steps]
            runs.setdefault("PEFT NF4", []).append(json.loads(output(command).splitlines()[-1]))
    print(f"context {context}, {arguments.device}")
    for name, rounds in runs.items():
        rate, peak = (pick(run[key] for run in rounds) for pick, key in ((max, "rate"), (max, "peak")))
        line = f"{name:20} {rate:10.1f} tok/s  {peak / 1e6:8.0f} MB on the card  loss {rounds[-1]['loss']:.3f}"
        if peer and name != "PEFT NF4":
            peft = runs["PEFT NF4"]
            each = [round(ours["rate"] / theirs["rate"], 2) for ours, theirs in zip(rounds, peft)]
            line += f"  {rate / max(run['rate'] for run in peft):.2f} of PEFT's speed (rounds {each})"
            line += f", {peak / max(run['peak'] for run in peft):.2f} of its memory"
        print(line)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make_model(Path(sys.argv[2]), SMALL if sys.argv[3] == "small" else SHAPE)
    elif sys.argv[1] == "peft":
        train_peft(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
