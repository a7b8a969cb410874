"""Expected values for tests/golden.rs, small enough to be committed: Transformers and PEFT on the two committed models.

    pip install torch transformers peft safetensors gguf
    python tests/assets/golden/make_golden.py BASES QUANTIZED

BASES is a folder with loam-{micro,tiny}-{f32,Q4_0}.gguf: convert_hf_to_gguf.py --outtype f32 on the committed models, and
llama-quantize --pure on its result. QUANTIZED is a JSON file with the type and the sha256 of each tensor's bytes for
every type of llama-quantize on loam-tiny: {"types": {NAME: {"tensors": {TENSOR: [TYPE, SHA256]}}}}.
README.md beside this file says what is in the files that it writes.
"""

import hashlib
import json
import pathlib
import sys

import gguf
import numpy
import torch
from peft import LoraConfig, get_peft_model
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[2]
MODELS = {"micro": ROOT / "tests/assets/loam-micro", "tiny": ROOT / "targets/cli/assets/loam-tiny"}
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# Name, model, type of the base, layers with an adapter, whether the adapter after the last step is stored.
CASES = [
    ("micro-f32", "micro", "f32", ALL, False),
    ("micro-Q4_0", "micro", "Q4_0", ALL, True),
    ("tiny-Q4_0", "tiny", "Q4_0", ["q_proj", "v_proj"], False),
]
RANK, ALPHA, BATCH, CONTEXT, STEPS = 2, 4, 2, 16, 10
# Positions of each row whose logits are stored.
LOGITS_AT = [CONTEXT - 1]
LEARNING = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
TEXTS = [
    "Hello, world!", "  leading and trailing  ", "It's they're I'LL we'd'", "tabs\tand\r\nlines\n\n\n  indented",
    "1 12 123 1234.5678e-9 ½ Ⅷ ३", "Ünïcödé ß 漢字かな交じり文 한국어 العربية", "🚀👨‍👩‍👧‍👦 e\u0301 \u200d\u00a0\u3000x ▁",
    "fn main() {\n    println!(\"{}\", 1 << 3);\n}", "<|im_start|>user\nHi<|im_end|>\n", "aaaa aaaa    aaaa", "\n", " ",
]


def permuted_back(values, heads):
    """Rows of q and k as Hugging Face orders them: llama.cpp interleaves the two halves of each head."""
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def names(layers):
    """Hugging Face's name of each tensor by its name in a GGUF file."""
    found = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    parts = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }
    for layer in range(layers):
        found |= {f"blk.{layer}.{ours}": f"model.layers.{layer}.{theirs}" for ours, theirs in parts.items()}
    return {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in found.items()}


def dequantised(model, path):
    """Puts the weights that the base's blocks stand for into `model`; gives the digest of each tensor's bytes."""
    state, digests = {}, {}
    config = model.config
    by_name = names(config.num_hidden_layers)
    for tensor in gguf.GGUFReader(path).tensors:
        digests[tensor.name] = hashlib.sha256(tensor.data.tobytes()).hexdigest()
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        if ".attn_q." in tensor.name:
            values = permuted_back(values, config.num_attention_heads)
        if ".attn_k." in tensor.name:
            values = permuted_back(values, config.num_key_value_heads)
        state[by_name[tensor.name]] = torch.from_numpy(values.copy())
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return digests


def adapted(model, targets):
    """`model` with a LoRA adapter whose A and B are both random: with PEFT's B = 0 no gradient would reach A."""
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, lora_dropout=0.0))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name:
            scale = parameter.shape[1] ** -0.5 if "lora_A" in name else 0.02
            parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    return model


def parameters(model):
    """The adapter's parameters under the names that PEFT saves them by, without its prefix."""
    short = lambda name: name.removeprefix("base_model.model.").replace(".default", "")
    return {short(name): parameter for name, parameter in model.named_parameters() if "lora_" in name}


def train(model, tokens, final, out):
    """Ten AdamW steps on one batch: gradients of the first, the adapter after the last, and the losses."""
    optimizer = torch.optim.AdamW([p for _, p in sorted(parameters(model).items())], **LEARNING)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        logits = model(tokens).logits[:, :-1].flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            out |= {f"grad.{name}": p.grad.numpy().copy() for name, p in parameters(model).items()}
        optimizer.step()
    if final:
        out |= {f"final.{name}": p.detach().numpy().copy() for name, p in parameters(model).items()}
    return losses


def case(name, model_name, base_type, targets, final, bases):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(MODELS[model_name], dtype=torch.float32)
    digests = dequantised(model, bases / f"loam-{model_name}-{base_type}.gguf")
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(3, model.config.vocab_size, (BATCH, CONTEXT), generator=generator)
    logits = lambda model: model(tokens).logits.detach().numpy()[:, LOGITS_AT].copy()
    out = {"tokens": tokens.numpy().astype(numpy.int32), "base_logits": logits(model)}
    model = adapted(model, targets)
    out |= {f"init.{n}": p.detach().numpy().copy() for n, p in parameters(model).items()}
    out["adapter_logits"] = logits(model)
    losses = train(model, tokens, final, out)
    save_file(out, HERE / f"{name}.safetensors")
    optimizer = {**LEARNING, "betas": list(LEARNING["betas"])}
    about = dict(
        rank=RANK, alpha=ALPHA, targets=targets, batch=BATCH, context=CONTEXT, logits_at=LOGITS_AT, final=final,
        optimizer=optimizer, losses=losses, tensor_sha256=digests,
    )
    (HERE / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")


def quantized(path):
    """One digest per arguments of llama-quantize: of the lines `TENSOR TYPE SHA256`, ordered by name."""
    types = json.loads(path.read_text())["types"]
    lines = lambda tensors: "".join(f"{n} {ty.lower()} {digest}\n" for n, (ty, digest) in sorted(tensors.items()))
    asked = lambda each: each["flags"].replace("loam-tiny-f32.gguf ", "")
    found = {asked(each): hashlib.sha256(lines(each["tensors"]).encode()).hexdigest() for each in types.values()}
    (HERE / "quantized.json").write_text(json.dumps(found, indent=1) + "\n")


def tokenized():
    tokenizer = AutoTokenizer.from_pretrained(MODELS["micro"])
    lines = [dict(text=text, ids=tokenizer.encode(text, add_special_tokens=False)) for text in TEXTS]
    (HERE / "tokens.json").write_text(json.dumps(lines, indent=None).replace("}, ", "},\n ") + "\n")


def main():
    torch.set_num_threads(1)
    bases, types = (pathlib.Path(argument) for argument in sys.argv[1:])
    for each in CASES:
        case(*each, bases)
    quantized(types)
    tokenized()


main()
