"""Makes optimizers.json: parameters after six steps of each optimizer, for tests/ops/{adamw,adamw_8bit,lion,sgd}.rs.

AdamW and SGD are PyTorch's, clipped by clip_grad_norm_; SGD with momentum has no weight decay (PyTorch's is not decoupled).
Lion is written from algorithm 2 of arXiv 2302.06675. 8-bit AdamW is written from arXiv 2110.02861 with the dynamic maps of
its section 2.2 as bitsandbytes builds them, blocks of 256, rounding to the nearest entry (the lower of two), and the
two choices that shaders/adamw_8bit/mod.rs names.

    pip install torch
    python tests/assets/optimizers.py > tests/assets/optimizers.json
"""

import json

import torch

PARAMETERS, STEPS, LR, DECAY, CLIP, BLOCK = 300, 6, 0.01, 0.1, 1.0, 256


def gradient(step):
    """Numbers of very different sizes that f32 holds exactly; tests/ops/optimizers.rs has the same."""
    i = torch.arange(PARAMETERS)
    odd = (i * 7919 + step * 104729 + i * i * 31) % 2047 - 1023
    return odd.float() / 1024 * torch.exp2(-(i % 12).float())


def start():
    return ((torch.arange(PARAMETERS) * 37) % 129 - 64).float() / 64


def by_torch(make):
    w = torch.nn.Parameter(start())
    optimizer = make([w])
    for step in range(1, STEPS + 1):
        w.grad = gradient(step)
        torch.nn.utils.clip_grad_norm_([w], CLIP)
        optimizer.step()
    return w.detach()


def clipped(step):
    g = gradient(step)
    return g * min(1.0, CLIP / (g.norm() + 1e-6))


def lion(beta1=0.9, beta2=0.99):
    w, m = start(), torch.zeros(PARAMETERS)
    for step in range(1, STEPS + 1):
        g = clipped(step)
        w = w * (1 - LR * DECAY) - LR * torch.sign(beta1 * m + (1 - beta1) * g)
        m = beta2 * m + (1 - beta2) * g
    return w


def dynamic_map(signed):
    values = [torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)]
    for i in range(7):
        edges = torch.linspace(0.1, 1, (2**i if signed else 2 ** (i + 1)) + 1, dtype=torch.float64)
        centers = 10.0 ** (i - 6) * (edges[:-1] + edges[1:]) / 2
        values += [centers, -centers] if signed else [centers]
    return torch.cat(values).sort().values.float()


def quantised(x, entries):
    """Codes and largest magnitudes by block, and what they stand for."""
    codes, largest = [], []
    for block in x.split(BLOCK):
        most = block.abs().max()
        ratio = block / most if most > 0 else block
        # argmin takes the first, so the lower, of two equally near entries.
        codes.append((ratio[:, None].double() - entries[None].double()).abs().argmin(dim=1))
        largest.append(most)
    codes, largest = torch.cat(codes), torch.stack(largest)
    return codes, largest


def restored(codes, largest, entries):
    return entries[codes] * largest.repeat_interleave(BLOCK)[:PARAMETERS]


def adamw_8bit(beta1=0.9, beta2=0.999, eps=1e-8):
    signed, unsigned = dynamic_map(True), dynamic_map(False)
    w, m, v = start(), torch.zeros(PARAMETERS), torch.zeros(PARAMETERS)
    for step in range(1, STEPS + 1):
        g = clipped(step)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        root = (v / (1 - beta2**step)).sqrt() + eps
        w = w * (1 - LR * DECAY) - LR * (m / (1 - beta1**step)) / root
        m_codes, m_largest = quantised(m, signed)
        v_codes, v_largest = quantised(v, unsigned)
        v_codes = torch.where(v > 0, v_codes.clamp(min=1), v_codes)
        m, v = restored(m_codes, m_largest, signed), restored(v_codes, v_largest, unsigned)
    return {"w": numbers(w), "m": m_codes.tolist(), "v": v_codes.tolist(),
            "map": numbers(torch.cat([signed, unsigned]))}


def numbers(x):
    return [float(f"{value:.9g}") for value in x.tolist()]


print(json.dumps({
    "adamw": numbers(by_torch(lambda p: torch.optim.AdamW(p, lr=LR, weight_decay=DECAY))),
    "adamw_8bit": adamw_8bit(),
    "lion": numbers(lion()),
    "sgd": numbers(by_torch(lambda p: torch.optim.SGD(p, lr=LR, weight_decay=DECAY))),
    "sgd_momentum": numbers(by_torch(lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9))),
}))
