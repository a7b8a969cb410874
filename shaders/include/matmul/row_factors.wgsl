// Rows of an operand on their way to half precision. Each is multiplied by the power of two that brings its largest
// value to [1, 2), so that small gradients do not vanish and large activations do not overflow; results are divided by
// it again, which is exact. Values that are not finite stay what they are.

// Four largest values per row of the tile.
var<workgroup> factor_parts: array<f32, 4u * TOKENS>;
var<workgroup> factors: array<f32, TOKENS>;

fn largest(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

// The factor of a row from its four parts.
fn factor_of(line: u32) -> f32 {
    let at = line * 4u;
    let most = max(max(factor_parts[at], factor_parts[at + 1u]), max(factor_parts[at + 2u], factor_parts[at + 3u]));
    return bitcast<f32>((254u - clamp(bitcast<u32>(most) >> 23u, 1u, 253u)) << 23u);
}

// One divided by a factor.
fn unfactored(line: u32) -> f32 {
    return bitcast<f32>((254u << 23u) - bitcast<u32>(factors[line]));
}

fn find_factors(token0: u32, thread: u32) {
    for (var part = thread; part < 4u * TOKENS; part += THREADS) {
        factor_parts[part] = largest(largest_of_quarter(token0 + part / 4u, part % 4u));
    }
    workgroupBarrier();
    for (var line = thread; line < TOKENS; line += THREADS) {
        factors[line] = factor_of(line);
    }
    workgroupBarrier();
}
