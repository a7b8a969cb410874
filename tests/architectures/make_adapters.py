"""Expected values for adapters beyond the linear layers of blocks, in the models of make_golden.py.

    pip install torch transformers peft safetensors
    python tests/architectures/make_adapters.py [family ...]

Writes tests/architectures/<family>/<adapter>.safetensors: tokens [B, T], the logits [B, T, V] with the adapter, the mean
cross-entropy over all next tokens, and its gradient for every A and B. The values of the adapter follow from their names, as
in make_golden.py. The file's header holds the adapter_config.json that PEFT writes.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from make_golden import ALPHA, HERE, RANK, fill, load, tokens
from peft import LoraConfig, get_peft_model
from safetensors.numpy import save_file

EMBEDDINGS = ("embeddings", dict(target_modules=["q_proj", "embed_tokens", "lm_head"]))
ADAPTERS = {
    # A head of its own.
    "llama": [EMBEDDINGS],
    # The head is the embedding, but the update of either is its own.
    "qwen2": [EMBEDDINGS],
    # Embeddings times the root of their width, capped logits.
    "gemma2": [EMBEDDINGS],
    # A factor on embeddings and one on logits.
    "granite": [EMBEDDINGS],
    # Router and experts are parameters. PEFT gives gate and up projection together twice the rank.
    "qwen3moe": [("all-linear", dict(target_modules="all-linear"))],
}


def config_of(adapted):
    with tempfile.TemporaryDirectory() as folder:
        adapted.save_pretrained(folder)
        config = json.loads((Path(folder) / "adapter_config.json").read_text())
    lists = {key: sorted(config[key]) for key in ("target_modules", "target_parameters") if config[key]}
    return config | {"base_model_name_or_path": None} | lists


def make(family, name, options):
    model = load(family)
    # PyTorch gives the row of the padding token no gradient, as if no text had it.
    model.get_input_embeddings().padding_idx = None
    options = LoraConfig(r=RANK, lora_alpha=ALPHA, task_type="CAUSAL_LM", **options)
    adapted = get_peft_model(model, options).eval()
    pairs = {}
    for parameter_name, parameter in adapted.named_parameters():
        if "lora_" in parameter_name:
            parameter_name = parameter_name.removeprefix("base_model.model.").replace(".default", "")
            pairs[parameter_name] = parameter
            with torch.no_grad():
                parameter.copy_(fill(parameter_name, tuple(parameter.shape), 1.0))
    ids = tokens()
    out = adapted(ids, labels=ids)
    out.loss.backward()
    values = {"tokens": ids.to(torch.int32), "adapter_logits": out.logits, "adapter_loss": out.loss.reshape(1)}
    values |= {f"gradient.{name}": parameter.grad for name, parameter in pairs.items()}
    values = {name: value.detach().contiguous().numpy() for name, value in values.items()}
    config = json.dumps(config_of(adapted), sort_keys=True)
    save_file(values, HERE / family / f"{name}.safetensors", metadata={"adapter_config": config})
    with torch.no_grad(), adapted.disable_adapter():
        plain = adapted(ids).logits
    smallest = min(float(parameter.grad.norm()) for parameter in pairs.values())
    change = (out.logits - plain).norm() / plain.norm()
    print(f"{family} {name}: loss {out.loss:.4f}, change {change:.2f}, smallest gradient {smallest:.1e}")


if __name__ == "__main__":
    for family in sys.argv[1:] or ADAPTERS:
        for name, options in ADAPTERS[family]:
            make(family, name, options)
