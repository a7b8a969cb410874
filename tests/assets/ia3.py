"""Makes ia3/: an IA3 adapter as PEFT saves it, and what Transformers and PEFT compute with it, for tests/ia3.rs.

The model is loam-micro in float32. The vectors start near one, so that none is without effect. golden.safetensors has the
token ids, the logits of each row's last token with and without the adapter, the gradient of every vector (mean cross entropy
over the next tokens) and the vectors after ten AdamW steps on the same batch; golden.json has the ten losses.

    pip install torch transformers peft safetensors      (made with PyTorch 2.15, Transformers 5.23, PEFT 0.21)
    python tests/assets/ia3.py
"""

import json
import pathlib
import shutil

import torch
from peft import IA3Config, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

ASSETS = pathlib.Path(__file__).parent
OUT = ASSETS / "ia3"
BATCH, CONTEXT, STEPS, LR = 2, 12, 10, 0.01

torch.manual_seed(0)
torch.set_num_threads(1)
base = AutoModelForCausalLM.from_pretrained(ASSETS / "loam-micro", dtype=torch.float32, attn_implementation="eager")
tokens = torch.randint(4096, (BATCH, CONTEXT))
with torch.no_grad():
    plain = base(tokens).logits[:, -1].clone()

config = IA3Config(
    task_type="CAUSAL_LM",
    target_modules=["k_proj", "v_proj", "down_proj"],
    feedforward_modules=["down_proj"],
)
model = get_peft_model(base, config)
vectors = {name: p for name, p in model.named_parameters() if p.requires_grad}
with torch.no_grad():
    for vector in vectors.values():
        vector.mul_(1 + 0.3 * torch.randn_like(vector))

shutil.rmtree(OUT, ignore_errors=True)
model.save_pretrained(OUT)
(OUT / "README.md").unlink(missing_ok=True)
config = json.loads((OUT / "adapter_config.json").read_text())
config["base_model_name_or_path"] = "loam-micro"
(OUT / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def named(what, of):
    return {f"{what}.{name.replace('.default', '')}": of(p).detach().clone() for name, p in vectors.items()}


def loss():
    logits = model(tokens).logits[:, :-1].reshape(-1, 4096)
    return torch.nn.functional.cross_entropy(logits, tokens[:, 1:].reshape(-1))


golden = {"tokens": tokens.to(torch.int32), "base_logits": plain}
with torch.no_grad():
    golden["adapter_logits"] = model(tokens).logits[:, -1].clone()
optimizer = torch.optim.AdamW(vectors.values(), lr=LR, weight_decay=0.0)
losses = []
for step in range(STEPS):
    optimizer.zero_grad()
    value = loss()
    value.backward()
    losses.append(value.item())
    if step == 0:
        golden |= named("grad", lambda p: p.grad)
    optimizer.step()
golden |= named("final", lambda p: p)
save_file({name: value.contiguous() for name, value in golden.items()}, OUT / "golden.safetensors")
(OUT / "golden.json").write_text(json.dumps({"lr": LR, "losses": losses}) + "\n")
