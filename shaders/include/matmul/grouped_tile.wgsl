// Tiles of a grouped product: the pairs sorted by expert, and for each tile its expert and its range of that list.

// Pairs by expert.
@group(0) @binding(3) var<storage, read> list: array<u32>;
// Expert, first entry of the list, number of entries (0: no tile), nothing.
@group(0) @binding(4) var<storage, read> tiles: array<vec4<u32>>;

var<private> tile_end: u32;

fn tokens_end() -> u32 {
    return tile_end;
}

fn y_row(token: u32) -> u32 {
    if token < tile_end {
        return list[token];
    }
    return NONE;
}

fn x_row(token: u32) -> u32 {
    if token < tile_end {
        return list[token] / params.slots;
    }
    return NONE;
}
