"""Makes tests/assets/objectives: what TRL's trainers compute with the objectives that loam has too, for tests/objectives.rs.

    python3 benches/peers/trl_goldens.py

SFTTrainer with loss_type="dft" (DFT) and DPOTrainer without a reference model, so that the reference is the model with
the adapter off, train LoRA on tests/assets/loam-micro in single precision: ten steps of two micro-batches with two
records each, AdamW, no clipping. The adapter begins with B different from zero, so that every gradient is.
For each objective NAME.json has the tokens as TRL made them, the loss and the metrics of each step and of held-out data
before the first one, and NAME.safetensors the adapter before the first step (init), its gradient there (gradient), and
the adapter after the last one (after), named as PEFT names them.
"""

import json
import tempfile
from pathlib import Path

from peers import need

need("torch", "transformers", "peft", "trl", "safetensors")

import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import save_file
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

ASSETS = Path(__file__).resolve().parents[2] / "tests/assets"
MODEL, OUT = ASSETS / "loam-micro", ASSETS / "objectives"
STEPS, BATCH, ACCUMULATE, RANK, ALPHA, LR, BETA = 10, 2, 2, 2, 8, 2e-3, 0.1
TARGETS = ["q_proj", "v_proj"]

QUESTIONS = ["What is the colour of the sky?", "How many legs has a cat?", "Who wrote the letter?", "Where is the ball?",
             "Say hello.", "What do you eat for breakfast?", "Is it cold outside?", "Name a friend of the dog."]
CHOSEN = ["The sky is blue.", "A cat has four legs.", "A girl named Lily wrote it.", "It is under the big tree.",
          "Hello! How are you today?", "I eat bread and an apple.", "Yes, take your coat.", "The cat is a friend of the dog."]
REJECTED = ["I do not know.", "A cat has nine legs and a hat.", "Nobody.", "The ball was red and it was a very big ball.",
            "No.", "Stones.", "It is Monday.", "The dog has no friends at all, said the bird."]
HELD_OUT = {"prompt": ["What is in the box?", "Who is happy?"], "chosen": ["A small toy car.", "Tom is happy."],
            "rejected": ["A box.", "The sun is in the sky and it is happy."]}


class Recorder(TrainerCallback):
    """Keeps the gradient of the first step, before the optimizer uses it."""

    def __init__(self):
        self.gradient = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.gradient is None:
            self.gradient = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def in_order(trainer):
    """The trainer, going through the data in order."""

    class InOrder(trainer):
        def _get_train_sampler(self, dataset=None):
            return SequentialSampler(dataset if dataset is not None else self.train_dataset)

    return InOrder


def options(folder):
    return {
        "output_dir": folder, "max_steps": STEPS, "per_device_train_batch_size": BATCH, "per_device_eval_batch_size": BATCH,
        "gradient_accumulation_steps": ACCUMULATE, "learning_rate": LR, "lr_scheduler_type": "constant", "warmup_steps": 0,
        "weight_decay": 0.0, "max_grad_norm": 0.0, "optim": "adamw_torch", "bf16": False, "gradient_checkpointing": False,
        "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1, "max_length": 64,
        "disable_tqdm": True, "seed": 0,
    }


def begin(model):
    """Sets the adapter to numbers that are small and different from zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                scale = 0.2 if "lora_B" in name else 0.125
                parameter.copy_((torch.rand(parameter.shape, generator=generator) - 0.5) * scale)


def adapter(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def plain(name):
    """A parameter as PEFT names it in files, without the prefix that all of them have."""
    return name.removeprefix("base_model.model.").replace(".default", "")


def record(name, trainer, kept, rows, metrics):
    begin(trainer.model)
    init = adapter(trainer.model)
    held_out = trainer.evaluate()
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry and "train_runtime" not in entry]
    sets = {"init": init, "gradient": kept.gradient, "after": adapter(trainer.model)}
    tensors = {f"{prefix}.{plain(key)}": t for prefix, all in sets.items() for key, t in all.items()}
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, OUT / f"{name}.safetensors")
    values = {
        "rank": RANK, "alpha": ALPHA, "targets": TARGETS, "lr": LR, "beta": BETA, "batch": BATCH, "accumulate": ACCUMULATE,
        "train": rows(trainer.train_dataset), "held_out": rows(trainer.eval_dataset),
        "steps": [{key: step[key] for key in ["loss", "grad_norm", *metrics]} for step in steps],
        "held_out_metrics": {key: held_out[f"eval_{key}"] for key in ["loss", *metrics]},
    }
    (OUT / f"{name}.json").write_text(json.dumps(values) + "\n")
    print(name, values["steps"][0], values["held_out_metrics"])


def main():
    OUT.mkdir(exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, lora_dropout=0.0, task_type="CAUSAL_LM")
    pairs = {"prompt": QUESTIONS, "chosen": CHOSEN, "rejected": REJECTED}

    def model():
        return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)

    def completions(data):
        return Dataset.from_dict({"prompt": data["prompt"], "completion": data["chosen"]})

    with tempfile.TemporaryDirectory() as folder:
        kept = Recorder()
        trainer = in_order(SFTTrainer)(
            model=model(), args=SFTConfig(loss_type="dft", **options(folder)), train_dataset=completions(pairs),
            eval_dataset=completions(HELD_OUT), processing_class=tokenizer, peft_config=lora, callbacks=[kept])
        record("dft", trainer, kept, lambda data: [[row["input_ids"], [int(label >= 0) for label in row["labels"]]] for row in data], [])
        kept = Recorder()
        trainer = in_order(DPOTrainer)(
            model=model(), args=DPOConfig(beta=BETA, **options(folder)), train_dataset=Dataset.from_dict(pairs),
            eval_dataset=Dataset.from_dict(HELD_OUT), processing_class=tokenizer, peft_config=lora, callbacks=[kept])
        keys = ["prompt_ids", "chosen_ids", "rejected_ids"]
        metrics = [f"rewards/{of}" for of in ["chosen", "rejected", "accuracies", "margins"]]
        metrics += ["logps/chosen", "logps/rejected"]
        record("dpo", trainer, kept, lambda data: [[row[key] for key in keys] for row in data], metrics)


main()
