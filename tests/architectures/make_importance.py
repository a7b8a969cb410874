"""Expected importance of a tiny mixture of experts, for tests/architectures/importance.rs: plain sums in Transformers.

    pip install torch transformers peft safetensors
    python tests/architectures/make_importance.py

Writes tests/architectures/qwen3moe/importance.safetensors: for each weight the sums of squares of its inputs over the
tokens of make_golden.py, `<name>.sums` [matrices, inputs], and `<name>.counts` [matrices], how many inputs each has seen.
"""

import torch
from make_golden import HERE, load, tokens
from safetensors.torch import save_file

FAMILY = "qwen3moe"
PROJECTIONS = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"}


def main():
    model = load(FAMILY)
    out = {}

    def save(name, rows):
        """`rows`: the inputs of each matrix, [count, inputs]."""
        out[f"{name}.sums"] = torch.stack([x.double().square().sum(0) for x in rows]).float()
        out[f"{name}.counts"] = torch.tensor([float(len(x)) for x in rows])

    def watch(name):
        return lambda _, inputs: save(name, [inputs[0].flatten(0, -2)])

    def watch_experts(block):
        def hook(module, inputs):
            h = inputs[0].flatten(0, -2)
            logits = h @ module.gate.weight.T
            chosen = logits.topk(model.config.num_experts_per_tok).indices
            own = [h[(chosen == e).any(-1)] for e in range(model.config.num_experts)]
            both = [(x @ w.T).chunk(2, -1) for x, w in zip(own, module.experts.gate_up_proj)]
            save(f"{block}.ffn_gate_inp.weight", [h])
            save(f"{block}.ffn_gate_exps.weight", own)
            save(f"{block}.ffn_up_exps.weight", own)
            save(f"{block}.ffn_down_exps.weight", [torch.nn.functional.silu(gate) * up for gate, up in both])

        return hook

    for index, layer in enumerate(model.model.layers):
        for module, part in PROJECTIONS.items():
            projection = layer.get_submodule(f"self_attn.{module}")
            projection.register_forward_pre_hook(watch(f"blk.{index}.{part}.weight"))
        layer.mlp.register_forward_pre_hook(watch_experts(f"blk.{index}"))
    with torch.no_grad():
        model(tokens())
    save_file(out, HERE / FAMILY / "importance.safetensors")


main()
