// Uniform of the routing kernels of `moe`.
struct Params {
    tokens: u32,
    experts: u32,
    slots: u32,
    width: u32,
    accumulate: u32,
    over_all: u32,
    pad0: u32,
    pad1: u32,
}

const NONE = 0xffffffffu;
// Tokens of a tile of the grouped products.
const TILE = 64u;

@group(1) @binding(0) var<uniform> params: Params;

fn pairs() -> u32 {
    return params.tokens * params.slots;
}
