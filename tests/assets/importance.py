"""Makes importance.json: mean squares of the inputs of loam-micro's products by Transformers, for tests/importance.rs.

    pip install torch transformers safetensors
    python tests/assets/importance.py > tests/assets/importance.json
"""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

CONTEXT, CHUNKS = 48, 2
PARTS = {"self_attn.q_proj": "attn_q", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.down_proj": "ffn_down"}


def main():
    folder = Path(__file__).parent / "loam-micro"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    sums = {}

    def watch(name):
        def hook(_, inputs):
            squares = inputs[0].double().square().sum(dim=(0, 1))
            sums[name] = sums.get(name, 0) + squares
        return hook

    for index, layer in enumerate(model.model.layers):
        for module, part in PARTS.items():
            layer.get_submodule(module).register_forward_pre_hook(watch(f"blk.{index}.{part}.weight"))
    tokens = [(37 * i * i + 11 * i + 5) % model.config.vocab_size for i in range(CHUNKS * CONTEXT)]
    with torch.no_grad():
        for chunk in range(CHUNKS):
            model(torch.tensor([tokens[chunk * CONTEXT : (chunk + 1) * CONTEXT]]))
    means = {name: [float(f"{x:.7g}") for x in (values / len(tokens)).tolist()] for name, values in sums.items()}
    print(json.dumps({"tokens": tokens, "context": CONTEXT, "means": means}))


main()
