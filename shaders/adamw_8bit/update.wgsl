// AdamW as in include/adamw.wgsl with moments of eight bits: an entry of a map times the largest of a block of 256.
// The nearest entry is taken, the lower of two equally near ones; a positive second moment never becomes 0.
// One workgroup per block. A parameter moves 8 bytes of values and gradients, 2 of codes both ways.
#import "include/optimizer.wgsl" NORM=5
#import "include/adamw.wgsl" FIRST_BLOCK=first_block

@group(0) @binding(2) var<storage, read_write> m: array<u32>;
@group(0) @binding(3) var<storage, read_write> v: array<u32>;
@group(0) @binding(4) var<storage, read_write> absmax: array<f32>;
@group(0) @binding(6) var<storage, read> map: array<f32>;

// The signed map, then the unsigned one.
var<workgroup> table: array<f32, 512>;
var<workgroup> largest: array<vec2<f32>, 256>;
// Code of m in the low byte, of v in the next.
var<workgroup> codes: array<u32, 256>;

// The code of the entry of the map at `first` that is nearest to x.
fn encode(first: u32, x: f32) -> u32 {
    var code = 0u;
    for (var stride = 128u; stride > 0u; stride >>= 1u) {
        if table[first + code + stride] <= x {
            code += stride;
        }
    }
    if code < 255u && x - table[first + code] > table[first + code + 1u] - x {
        code += 1u;
    }
    return code;
}

fn ratio(x: f32, most: f32) -> f32 {
    if most > 0.0 {
        return x / most;
    }
    return 0.0;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let block = folded(workgroup);
    let i = block * 256u + thread;
    let place = 2u * (params.first_block + block);
    let inside = i < params.len && counts();
    table[thread] = map[thread];
    table[thread + 256u] = map[thread + 256u];
    workgroupBarrier();
    var moments = vec2(0.0);
    if inside {
        let shift = 8u * (i % 4u);
        let first = table[(m[i / 4u] >> shift) & 0xffu] * absmax[place];
        let second = table[256u + ((v[i / 4u] >> shift) & 0xffu)] * absmax[place + 1u];
        moments = move_by_moments(i, first, second);
    }
    largest[thread] = abs(moments);
    for (var stride = 128u; stride > 0u; stride >>= 1u) {
        workgroupBarrier();
        if thread < stride {
            largest[thread] = max(largest[thread], largest[thread + stride]);
        }
    }
    workgroupBarrier();
    let most = largest[0];
    var code = 0u;
    if inside {
        var second = encode(256u, ratio(moments.y, most.y));
        if moments.y > 0.0 {
            second = max(second, 1u);
        }
        code = encode(0u, ratio(moments.x, most.x)) | (second << 8u);
    }
    codes[thread] = code;
    workgroupBarrier();
    let word = block * 64u + thread;
    if thread < 64u && counts() && word * 4u < params.len {
        let four = vec4(codes[thread * 4u], codes[thread * 4u + 1u], codes[thread * 4u + 2u], codes[thread * 4u + 3u]);
        let low = (four & vec4(0xffu)) << vec4(0u, 8u, 16u, 24u);
        let high = (four >> vec4(8u)) << vec4(0u, 8u, 16u, 24u);
        m[word] = low.x | low.y | low.z | low.w;
        v[word] = high.x | high.y | high.z | high.w;
    }
    if thread == 0u && inside {
        absmax[place] = most.x;
        absmax[place + 1u] = most.y;
    }
}
