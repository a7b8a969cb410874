// Sorts the pairs (token, slot) by expert, in their order: list[..] = the pairs of expert 0, then of expert 1, and so
// on; tiles[..] = (expert, first entry of the list, entries, 0) in tiles of at most 64 pairs of one expert, then
// zeros. One workgroup per expert places its own pairs: their number before it is known from the counts.
#import "include/fold.wgsl"
#import "include/moe.wgsl"

@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> counts: array<u32>;
@group(0) @binding(2) var<storage, read_write> list: array<u32>;
@group(0) @binding(3) var<storage, read_write> tiles: array<vec4<u32>>;

var<workgroup> ranks: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let expert = folded(workgroup);
    if expert >= params.experts {
        return;
    }
    var first = 0u;
    var first_tile = 0u;
    for (var i = 0u; i < expert; i++) {
        first += counts[i];
        first_tile += (counts[i] + TILE - 1u) / TILE;
    }
    let count = counts[expert];
    let own_tiles = (count + TILE - 1u) / TILE;
    for (var i = thread; i < own_tiles; i += 256u) {
        tiles[first_tile + i] = vec4<u32>(expert, first + i * TILE, min(TILE, count - i * TILE), 0u);
    }
    if expert == params.experts - 1u {
        // `width`: tiles that there are room for.
        for (var i = first_tile + own_tiles + thread; i < params.width; i += 256u) {
            tiles[i] = vec4<u32>();
        }
    }
    var placed = first;
    for (var base = 0u; base < pairs(); base += 256u) {
        let pair = base + thread;
        var mine = false;
        if pair < pairs() {
            mine = ids[pair] == expert;
        }
        // Inclusive sums over the threads, doubling the reach each time.
        ranks[thread] = select(0u, 1u, mine);
        for (var reach = 1u; reach < 256u; reach <<= 1u) {
            workgroupBarrier();
            var sum = ranks[thread];
            if thread >= reach {
                sum += ranks[thread - reach];
            }
            workgroupBarrier();
            ranks[thread] = sum;
        }
        workgroupBarrier();
        if mine {
            list[placed + ranks[thread] - 1u] = pair;
        }
        placed += ranks[255];
        workgroupBarrier();
    }
}
