// Soft-capping: capped(x) = cap * tanh(x / cap); a cap of 0 leaves x as it is.

// tanh with full relative precision near 0 and without overflow for any z, unlike the built-in one on some devices.
fn tanh_of(z: f32) -> f32 {
    let size = abs(z);
    let square = z * z;
    let series = -0.33333334 + square * (0.13333334 + square * (-0.053968254 + square * 0.021869488));
    let small = z * (1.0 + square * series);
    let e = exp(-2.0 * size);
    let large = (1.0 - e) / (1.0 + e);
    return select(select(-large, large, z >= 0.0), small, size < 0.25);
}

fn capped(x: f32, cap: f32) -> f32 {
    if cap == 0.0 {
        return x;
    }
    return cap * tanh_of(x / cap);
}

// d capped(x) / dx at the x with this capped value.
fn capped_slope(value: f32, cap: f32) -> f32 {
    if cap == 0.0 {
        return 1.0;
    }
    let part = value / cap;
    return 1.0 - part * part;
}
