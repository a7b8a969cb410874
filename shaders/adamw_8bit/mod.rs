//! AdamW with moments of eight bits (Dettmers et al. 2021, "8-bit optimizers via block-wise quantization", arXiv
//! 2110.02861), on clipped gradients.
//!
//! A moment is a code of a byte, an entry of a map of 256 values from -1 (or 0) to 1, times the largest magnitude of
//! its block of 256 parameters, as bitsandbytes has it. The update is computed in f32 with the new moments; only what
//! is kept is rounded, to the nearest entry, and of two equally near ones to the lower. Other than in bitsandbytes a
//! positive second moment never becomes 0: a parameter whose gradients stop would otherwise be divided by eps alone.
//! The weight decay comes before the step, as in `torch.optim.AdamW`.

mod cpu;

use std::sync::LazyLock;

use bytemuck::{Pod, Zeroable};

use crate::gradient_norm::clip_scale;
use crate::kernel::{Bind, Call, Kernel, Layout, fold, layout, operands, params};
use crate::{Step, source};

/// Parameters that share the scales of their moments.
pub const BLOCK: usize = 256;

/// Entries of a map.
const ENTRIES: usize = 256;

/// Uniform of the kernel.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Params {
    /// Parameters.
    pub len: u32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay per unit of learning rate.
    pub weight_decay: f32,
    /// Factor on the step's learning rate.
    pub lr_factor: f32,
    /// The entry of `absmax` that the first block of this call has.
    pub first_block: u32,
    /// Zero.
    pub pad: u32,
}

static UPDATE: Kernel = Kernel::new(&source::ADAMW_8BIT_UPDATE, update_reference).with_cpu(cpu::update);

/// The kernels of this op.
pub static KERNELS: &[&Kernel] = &[&UPDATE];

/// The uniforms of this op.
pub static LAYOUTS: &[Layout] = &[layout!(Params { len, beta1, beta2, eps, weight_decay, lr_factor, first_block })];

/// One step. A norm that is not finite leaves everything unchanged. Moments that are all zero words are all 0.
///
/// Bindings: `params[len]`, `grads[len]`, `m u32[len / 4]` and `v u32[len / 4]` with four codes a word, the lowest byte
/// first, `absmax[blocks, 2]` of `m` and `v`, `norm[1]`, `map[512]` from [`map`].
pub fn update(params: Params) -> Call {
    Call::new(&UPDATE, &params, fold((params.len as u64).div_ceil(BLOCK as u64)))
}

/// The dynamic maps of `m` (signed) and `v` (unsigned), each rising: bitsandbytes' `create_dynamic_map` with seven bits
/// of exponent. Decade `e` from 1e-6 to 1 has the centers of 2^i equal parts of [e / 10, e] (twice as many without a
/// sign); 0 and 1 are there besides.
pub fn map() -> &'static [f32; 2 * ENTRIES] {
    static MAP: LazyLock<[f32; 2 * ENTRIES]> = LazyLock::new(|| {
        let mut all = [0.0; 2 * ENTRIES];
        for (map, signed) in all.chunks_mut(ENTRIES).zip([true, false]) {
            let mut values = vec![0.0, 1.0];
            for i in 0..7 {
                let parts = if signed { 1 << i } else { 2 << i };
                let center = |part| 10f64.powi(i - 6) * (0.1 + 0.9 * (f64::from(part) + 0.5) / f64::from(parts));
                values.extend((0..parts).map(center));
                values.extend((0..parts).map(|part| -center(part)).filter(|_| signed));
            }
            values.sort_by(f64::total_cmp);
            map.iter_mut().zip(values).for_each(|(entry, value)| *entry = value as f32);
        }
        all
    });
    &MAP
}

/// The code of the entry of `map` that is nearest to `x`.
fn encode(map: &[f32], x: f32) -> u32 {
    // The last entry that is not above x, or the first.
    let code = map.partition_point(|&entry| entry <= x).saturating_sub(1);
    let up = map.get(code + 1).is_some_and(|next| x - map[code] > next - x);
    code as u32 + u32::from(up)
}

/// A moment over the largest of its block.
fn ratio(x: f32, largest: f32) -> f32 {
    if largest > 0.0 { x / largest } else { 0.0 }
}

/// Codes of a block's moments.
fn codes(map: &[f32], (m, v): (f32, f32), largest: [f32; 2]) -> (u32, u32) {
    let (signed, unsigned) = map.split_at(ENTRIES);
    let second = encode(unsigned, ratio(v, largest[1]));
    (encode(signed, ratio(m, largest[0])), if v > 0.0 { second.max(1) } else { second })
}

/// In f32, and with the order of operations of the other two: they have to choose the same codes.
fn update_reference(step: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [weights, grads, m, v, absmax, norm, map] = operands(bound);
    let Some(scale) = clip_scale(step, norm.f32()[0]) else { return };
    let (weights, grads, absmax, map) = (weights.f32_mut(), grads.f32(), absmax.f32_mut(), map.f32());
    let (Bind::Write(m), Bind::Write(v)) = (m, v) else { panic!("the moments are written") };
    let lr = step.lr * p.lr_factor;
    let len = p.len as usize;
    for block in 0..len.div_ceil(BLOCK) {
        let place = 2 * (p.first_block as usize + block);
        let old = [absmax[place], absmax[place + 1]];
        let all = block * BLOCK..len.min((block + 1) * BLOCK);
        let mut moments = Vec::with_capacity(BLOCK);
        let mut largest = [0.0f32; 2];
        for i in all.clone() {
            let code = |words: &[u32]| (words[i / 4] >> (8 * (i % 4)) & 0xff) as usize;
            let gradient = grads[i] * scale;
            let first = p.beta1 * (map[code(m)] * old[0]) + (1.0 - p.beta1) * gradient;
            let second = p.beta2 * (map[ENTRIES + code(v)] * old[1]) + (1.0 - p.beta2) * gradient * gradient;
            let root = (second / step.correction2).sqrt() + p.eps;
            weights[i] = weights[i] * (1.0 - lr * p.weight_decay) - lr * (first / step.correction1) / root;
            largest = [largest[0].max(first.abs()), largest[1].max(second)];
            moments.push((first, second));
        }
        m[all.start / 4..all.end.div_ceil(4)].fill(0);
        v[all.start / 4..all.end.div_ceil(4)].fill(0);
        for (i, moments) in all.zip(moments) {
            let (first, second) = codes(map, moments, largest);
            m[i / 4] |= first << (8 * (i % 4));
            v[i / 4] |= second << (8 * (i % 4));
        }
        absmax[place..place + 2].copy_from_slice(&largest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_rise_and_codes_are_the_nearest_entries() {
        for map in map().chunks(ENTRIES) {
            assert!(map.windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!(map[ENTRIES - 1], 1.0);
            for (code, &entry) in map.iter().enumerate() {
                assert_eq!(encode(map, entry), code as u32);
            }
            for i in 0..4000 {
                let x = (i as f32 / 2000.0 - 1.0).powi(3);
                let nearest = |code: usize| (map[code] - x).abs();
                let chosen = encode(map, x) as usize;
                assert!((0..ENTRIES).all(|code| nearest(code) >= nearest(chosen)), "{x}: {chosen}");
            }
        }
        assert_eq!((encode(&map()[..ENTRIES], 0.0), encode(&map()[ENTRIES..], 0.0)), (127, 0));
        assert_eq!(codes(map(), (0.0, 1e-30), [0.0, 1.0]), (127, 1), "a positive second moment stays positive");
    }
}
