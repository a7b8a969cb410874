"""Makes blocks.json: what ggml decodes and encodes, for tests/blocks.rs.

    pip install gguf numpy llama-cpp-python
    python tests/assets/blocks.py [ROWS] > tests/assets/blocks.json

Blocks of random bytes are decoded by the gguf package, random rows are encoded by llama.cpp's own library. ROWS is the
number of rows per format and kind; the committed file has one.
"""

import ctypes
import json
import os
import sys

import gguf
import llama_cpp
import numpy as np

FORMATS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"]
# Those that loam encodes by importance too.
WEIGHTED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
# Where the f16 scales of a block are: any other bytes may hold anything.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
}
COLS = 512


class Random:
    """SplitMix64, as tests/support/random.rs."""

    def __init__(self, seed):
        self.state = seed * 0x9E3779B97F4A7C15 % 2**64

    def bits(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    def values(self, count):
        return np.array([(self.bits() >> 40) / 2**23 - 1 for _ in range(count)], np.float32)


def rows(count):
    """Rows of weights: even, with heavy tails, and with a run of zeros; every one of another size."""
    random = Random(1)
    out = []
    for index in range(count):
        even, cubed, holes = (random.values(COLS) for _ in range(3))
        cubed = cubed * cubed * cubed
        holes[40:200] = 0
        out += [row * np.float32(2.0 ** (-3 * (index % 7))) for row in (even, cubed, holes)]
    return out


def importance():
    """How much the inputs of a row count: some not at all."""
    values = Random(3).values(COLS)
    values[70:90] = 0
    return values * values


def encoded(library, kind, row, importance=None):
    out = np.zeros(COLS // gguf.GGML_QUANT_SIZES[kind][0] * gguf.GGML_QUANT_SIZES[kind][1], np.uint8)
    floats = np.ascontiguousarray(row).ctypes.data_as(ctypes.c_void_p)
    weights = None if importance is None else importance.ctypes.data_as(ctypes.c_void_p)
    bytes_out = out.ctypes.data_as(ctypes.c_void_p)
    size = library.ggml_quantize_chunk(int(kind), floats, bytes_out, ctypes.c_int64(0), ctypes.c_int64(1),
                                       ctypes.c_int64(COLS), weights)
    assert size == out.size
    return out


def random_blocks(name, kind, random):
    length, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.array([random.bits() >> 56 for _ in range(COLS // length * size)], np.uint8).reshape(-1, size)
    for at in HALVES[name]:
        # Halves below 2: the exponent stays finite.
        blocks[:, at + 1] &= 0xBF
    if name == "MXFP4":
        # All small exponents, where the rule changes, and no infinite weight.
        blocks[:, 0] = [index if index < 4 else blocks[index, 0] % 250 for index in range(len(blocks))]
    return blocks.reshape(-1)


def main():
    library = ctypes.CDLL(os.path.join(os.path.dirname(llama_cpp.__file__), "lib", "libggml-base.so"))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    random, out = Random(2), {}
    for name in FORMATS:
        kind = gguf.GGMLQuantizationType[name]
        decoded = []
        for _ in range(count):
            blocks = random_blocks(name, kind, random)
            values = gguf.quants.dequantize(blocks, kind).astype(np.float32)
            decoded.append({"blocks": blocks.tobytes().hex(), "weights": values.tobytes().hex()})
        out[name.lower()] = {
            "decoded": decoded,
            "encoded": [encoded(library, kind, row).tobytes().hex() for row in rows(count)],
        }
        if name in WEIGHTED:
            weighted = [encoded(library, kind, row, importance()).tobytes().hex() for row in rows(count)]
            out[name.lower()]["weighted"] = weighted
    print(json.dumps(out, indent=1))


main()
