//! Searches on the processor's instructions against the portable ones, bit by bit; levels against their definition.

use super::{Lanes, affine, lanes, levels, symmetric};
use crate::format::iq4_nl::VALUES;
use crate::simd::{LANES, Portable};

/// Values of many magnitudes, both signs, some zeros; and weights.
fn groups<const N: usize>(seed: u32) -> ([Lanes; N], [Lanes; N]) {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut group = |lane: usize| -> [f32; N] {
        let scale = (10.0 * next()).exp();
        std::array::from_fn(|i| if (i + lane).is_multiple_of(11) || lane == 3 { 0.0 } else { scale * next() })
    };
    let x: [[f32; N]; LANES] = std::array::from_fn(&mut group);
    let w = x.map(|group| group.map(|v| v * v + 0.1));
    (lanes(&x), lanes(&w))
}

fn bits(values: &Lanes) -> [u32; LANES] {
    values.map(f32::to_bits)
}

#[test]
fn every_instruction_set_finds_the_same_bits() {
    for seed in 0..40 {
        let (x, w) = groups::<32>(seed);
        let grid = affine::weighted(if seed % 2 == 0 { 15.0 } else { 31.0 });
        let (a, b) = (affine::search32(&x, &w, &grid), affine::body(Portable, &x, &w, &grid));
        assert_eq!(
            [a.scale, a.min, a.inverse, a.start].map(|v| bits(&v)),
            [b.scale, b.min, b.inverse, b.start].map(|v| bits(&v))
        );
        let (a, b) = (symmetric::search32(&x, &w, 8.0), symmetric::body(Portable, &x, &w, 8.0));
        assert_eq!([a.scale, a.inverse].map(|v| bits(&v)), [b.scale, b.inverse].map(|v| bits(&v)));
        let bounds = &levels::BOUNDS;
        let scales = levels::search(&x, &w, bounds);
        assert_eq!(bits(&scales), bits(&levels::body(Portable, &x, &w, bounds)));
        let inverses = scales.map(crate::format::reciprocal);
        assert_eq!(levels::codes(&x, &inverses, bounds), levels::nearest_levels(Portable, &x, &inverses, bounds));
    }
}

/// ggml's definition: the nearer of two neighbours by the rounded distances, the upper one on ties.
fn nearest_level(value: f32) -> usize {
    let upper = VALUES.partition_point(|level| f32::from(*level) <= value).min(15);
    let lower = upper.saturating_sub(1);
    let (below, above) = (f32::from(VALUES[lower]), f32::from(VALUES[upper]));
    if value - below < above - value { lower } else { upper }
}

#[test]
fn bounds_lie_where_the_nearest_level_changes() {
    for (i, bound) in levels::BOUNDS.iter().enumerate() {
        assert_eq!((nearest_level(bound.next_down()), nearest_level(*bound)), (i, i + 1), "bound {i} is {bound}");
    }
    let values: Vec<f32> = (-1400..=1400).map(|i| i as f32 / 10.0).collect();
    for sixteen in values.as_chunks::<LANES>().0 {
        let codes = levels::codes(&[*sixteen; 32], &[1.0; LANES], &levels::BOUNDS);
        assert_eq!(codes[0], sixteen.map(|value| nearest_level(value) as f32));
    }
}
