// A single pair of a grouped product: a workgroup has one.

// Expert of every pair.
@group(0) @binding(3) var<storage, read> ids: array<u32>;

var<private> pair: u32;

fn tokens_end() -> u32 {
    return 1u;
}

fn x_row(token: u32) -> u32 {
    return select(NONE, pair / params.slots, token == 0u);
}

fn y_row(token: u32) -> u32 {
    return pair;
}
