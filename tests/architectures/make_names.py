"""Names and shapes of every family's tensors, from Transformers and from the gguf package: what the converter must map.

    pip install torch transformers gguf
    python tests/architectures/make_names.py

Writes tests/architectures/names.json: for each folder beside it a list of [name in the checkpoint, shape, GGUF name].
"""

import json
import pathlib
import re

import torch
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map
from transformers import AutoConfig, AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
ARCHITECTURES = {name: arch for arch, name in MODEL_ARCH_NAMES.items()}
GGUF = {"mistral": "llama", "gemma3_text": "gemma3", "qwen3_moe": "qwen3moe"}


def unfused(name, shape):
    """Experts as checkpoints have them: a matrix each."""
    if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
        yield name, shape
        return
    stem, kind = name.rsplit(".", 1)
    for expert in range(shape[0]):
        parts = ["gate_proj", "up_proj"] if kind == "gate_up_proj" else ["down_proj"]
        for part in parts:
            yield f"{stem}.{expert}.{part}.weight", [shape[1] // len(parts), shape[2]]


def names(folder):
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    arch = ARCHITECTURES[GGUF.get(config.model_type, config.model_type)]
    known = get_tensor_name_map(arch, config.num_hidden_layers)
    out = []
    for name, parameter in model.named_parameters():
        for part, shape in unfused(name, list(parameter.shape)):
            merged = re.sub(r"experts\.\d+\.", "experts.", part)
            out.append([part, shape, known.get_name(merged, try_suffixes=(".weight", ".bias"))])
    return out


if __name__ == "__main__":
    folders = sorted(path.parent for path in HERE.glob("*/config.json"))
    lines = [f"{json.dumps(folder.name)}: {json.dumps(names(folder))}" for folder in folders]
    (HERE / "names.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
