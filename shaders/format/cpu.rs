//! Fast host decoders: GGUF blocks to vectors of 16 weights.
//!
//! A *unit* is what decodes alone: a block, a quarter of a Q4_K block, or 16 plain floats. Kernels use its vectors at
//! once ([`dot`]) or store them ([`decode`]). The decoded values are those of the codecs, bit for bit: all products of
//! scales and codes are exact in f32, and each weight rounds once.

use super::{Format, affine, iq4_nl};
use crate::kernel::Bind;
use crate::simd::{LANES, Simd};

/// How far ahead of a dot product its weights are asked for: without it, decoding and waiting take turns, because the
/// out-of-order window holds only a few blocks.
const PREFETCH: usize = 2048;

/// Calls `work` with the blocks of a weight of `rows` x `cols`: in place, or unpacked from the device layout, which the
/// CPU back end never binds.
///
/// # Panics
/// If the binding has another length.
pub fn with_blocks<R>(
    format: Format,
    (rows, cols): (usize, usize),
    weight: &Bind<'_>,
    work: impl FnOnce(&[u8]) -> R,
) -> R {
    match weight {
        Bind::Blocks(blocks) => {
            let expected = format.row_bytes(cols).and_then(|bytes| bytes.checked_mul(rows));
            assert_eq!(Some(blocks.len()), expected, "{format}: {rows} x {cols} weights");
            work(blocks)
        }
        packed => work(&format.unpack(rows, cols, packed.words())),
    }
}

/// How a unit of `B` bytes decodes: `G` vectors for each of its parts.
///
/// Not a closure: only `#[inline(always)]` functions are compiled with the instructions of their caller.
trait Unit<const B: usize, const G: usize> {
    /// Parts of a unit.
    const PARTS: usize = 1;

    /// Part `part` of the unit.
    fn decode<S: Simd>(simd: S, bytes: &[u8; B], part: usize) -> [S::V; G];
}

crate::vectorized! {
    /// Decodes part of a row: whole blocks, and for plain floats any number of weights.
    ///
    /// # Panics
    /// If `blocks` does not hold exactly `out.len()` weights.
    pub fn decode(format: Format, blocks: &[u8], out: &mut [f32]) = decode_body
}

#[inline(always)]
fn decode_body<S: Simd>(simd: S, format: Format, blocks: &[u8], out: &mut [f32]) {
    assert_eq!(format.row_bytes(out.len()), Some(blocks.len()), "{}: {} weights", format.name(), out.len());
    match format {
        Format::F32 => decode_units::<F32, S, 64, 1>(simd, blocks, out),
        Format::F16 => decode_units::<F16, S, 32, 1>(simd, blocks, out),
        Format::BF16 => decode_units::<BF16, S, 32, 1>(simd, blocks, out),
        Format::Q4_0 => decode_units::<Q4_0, S, 18, 2>(simd, blocks, out),
        Format::Q8_0 => decode_units::<Q8_0, S, 34, 2>(simd, blocks, out),
        Format::Q4_K => decode_units::<Q4K, S, 144, 4>(simd, blocks, out),
        Format::Q4_1 => decode_units::<Q4_1, S, 20, 2>(simd, blocks, out),
        Format::Q5_0 => decode_units::<Q5_0, S, 22, 2>(simd, blocks, out),
        Format::Q5_1 => decode_units::<Q5_1, S, 24, 2>(simd, blocks, out),
        Format::Q5_K => decode_units::<Q5K, S, 176, 4>(simd, blocks, out),
        Format::Q6_K => decode_units::<Q6K, S, 210, 4>(simd, blocks, out),
        Format::IQ4_NL => decode_units::<IQ4NL, S, 18, 2>(simd, blocks, out),
    }
}

#[inline(always)]
fn decode_units<U: Unit<B, G>, S: Simd, const B: usize, const G: usize>(simd: S, blocks: &[u8], out: &mut [f32]) {
    let (units, tail) = blocks.as_chunks::<B>();
    let (lanes, out_tail) = out.as_chunks_mut::<LANES>();
    let (parts, _) = lanes.as_chunks_mut::<G>();
    for (block, parts) in units.iter().zip(parts.chunks_exact_mut(U::PARTS)) {
        for (part, out) in parts.iter_mut().enumerate() {
            for (out, weights) in out.iter_mut().zip(U::decode(simd, block, part)) {
                simd.store(weights, out);
            }
        }
    }
    if !out_tail.is_empty() {
        let mut last = [0.0; LANES];
        simd.store(U::decode(simd, &padded(tail), 0)[0], &mut last);
        out_tail.copy_from_slice(&last[..out_tail.len()]);
    }
}

crate::vectorized! {
    /// Dot product of a row of weights with a row of `x`: vectors of partial sums run over 16 columns at a time
    /// and are added pairwise at the end.
    ///
    /// # Panics
    /// If `blocks` does not hold as many weights as there are in `x`.
    pub fn dot(format: Format, blocks: &[u8], x: [&[f32]; 1]) -> [f32; 1] = dot_body
}
crate::vectorized! {
    /// [`dot`] with two rows of `x`, the weights decoded once.
    pub fn dot2(format: Format, blocks: &[u8], x: [&[f32]; 2]) -> [f32; 2] = dot_body
}
crate::vectorized! {
    /// [`dot`] with four rows of `x`, the weights decoded once.
    pub fn dot4(format: Format, blocks: &[u8], x: [&[f32]; 4]) -> [f32; 4] = dot_body
}

#[inline(always)]
fn dot_body<S: Simd, const T: usize>(simd: S, format: Format, blocks: &[u8], x: [&[f32]; T]) -> [f32; T] {
    for x in x {
        assert_eq!(format.row_bytes(x.len()), Some(blocks.len()), "{}: {} weights", format.name(), x.len());
    }
    match format {
        Format::F32 => dot_units::<F32, S, 64, 1, T>(simd, blocks, x),
        Format::F16 => dot_units::<F16, S, 32, 1, T>(simd, blocks, x),
        Format::BF16 => dot_units::<BF16, S, 32, 1, T>(simd, blocks, x),
        Format::Q4_0 => dot_units::<Q4_0, S, 18, 2, T>(simd, blocks, x),
        Format::Q8_0 => dot_units::<Q8_0, S, 34, 2, T>(simd, blocks, x),
        Format::Q4_K => dot_units::<Q4K, S, 144, 4, T>(simd, blocks, x),
        Format::Q4_1 => dot_units::<Q4_1, S, 20, 2, T>(simd, blocks, x),
        Format::Q5_0 => dot_units::<Q5_0, S, 22, 2, T>(simd, blocks, x),
        Format::Q5_1 => dot_units::<Q5_1, S, 24, 2, T>(simd, blocks, x),
        Format::Q5_K => dot_units::<Q5K, S, 176, 4, T>(simd, blocks, x),
        Format::Q6_K => dot_units::<Q6K, S, 210, 4, T>(simd, blocks, x),
        Format::IQ4_NL => dot_units::<IQ4NL, S, 18, 2, T>(simd, blocks, x),
    }
}

#[inline(always)]
fn dot_units<U: Unit<B, G>, S: Simd, const B: usize, const G: usize, const T: usize>(
    simd: S,
    blocks: &[u8],
    x: [&[f32]; T],
) -> [f32; T] {
    let mut sums = [[simd.splat(0.0); 2]; T];
    let (units, tail) = blocks.as_chunks::<B>();
    let runs = x.map(|x| x.as_chunks::<LANES>().0);
    for (index, block) in units.iter().enumerate() {
        simd.prefetch(block, PREFETCH);
        for part in 0..U::PARTS {
            let first = (index * U::PARTS + part) * G;
            let weights = U::decode(simd, block, part);
            for (sums, runs) in sums.iter_mut().zip(runs) {
                for (group, (weights, run)) in weights.iter().zip(&runs[first..first + G]).enumerate() {
                    sums[group % 2] = simd.mul_add(*weights, simd.load(run), sums[group % 2]);
                }
            }
        }
    }
    if !tail.is_empty() {
        let weights = U::decode(simd, &padded(tail), 0)[0];
        for (sums, x) in sums.iter_mut().zip(x) {
            sums[0] = simd.mul_add(weights, simd.load(&padded(x.as_chunks::<LANES>().1)), sums[0]);
        }
    }
    sums.map(|[even, odd]| simd.sum(simd.add(even, odd)))
}

/// A short slice filled up with zeros.
#[inline(always)]
fn padded<T: Copy + Default, const N: usize>(values: &[T]) -> [T; N] {
    let mut out = [T::default(); N];
    out[..values.len()].copy_from_slice(values);
    out
}

/// Bytes `at..at + N` of a block.
#[inline(always)]
fn bytes<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("blocks are longer")
}

struct F32;
struct F16;
struct BF16;
struct Q4_0;
struct Q8_0;
struct Q4K;
struct Q4_1;
struct Q5_0;
struct Q5_1;
struct Q5K;
struct Q6K;
struct IQ4NL;

impl Unit<64, 1> for F32 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, bytes: &[u8; 64], _part: usize) -> [S::V; 1] {
        [simd.load_f32(bytes)]
    }
}

impl Unit<32, 1> for F16 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, bytes: &[u8; 32], _part: usize) -> [S::V; 1] {
        [simd.load_f16(bytes)]
    }
}

impl Unit<32, 1> for BF16 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, bytes: &[u8; 32], _part: usize) -> [S::V; 1] {
        [simd.load_bf16(bytes)]
    }
}

impl Unit<18, 2> for Q4_0 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 18], _part: usize) -> [S::V; 2] {
        let d = half(simd, block, 0);
        simd.load_nibbles(bytes(block, 2), [(d, -8.0 * d); 2])
    }
}

impl Unit<34, 2> for Q8_0 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 34], _part: usize) -> [S::V; 2] {
        let d = simd.splat(half(simd, block, 0));
        [simd.mul(d, simd.load_i8(bytes(block, 2))), simd.mul(d, simd.load_i8(bytes(block, 2 + LANES)))]
    }
}

/// A part is a group of 64 weights: sub-blocks 2 * part (low nibbles) and 2 * part + 1 (high nibbles).
impl Unit<144, 4> for Q4K {
    const PARTS: usize = 4;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 144], part: usize) -> [S::V; 4] {
        let (d, dmin) = (half(simd, block, 0), half(simd, block, 2));
        let (scale0, min0) = scale_min(bytes(block, 4), 2 * part);
        let (scale1, min1) = scale_min(bytes(block, 4), 2 * part + 1);
        let affine = [(d * scale0, -dmin * min0), (d * scale1, -dmin * min1)];
        let quants = 16 + 32 * part;
        let [low0, high0] = simd.load_nibbles(bytes(block, quants), affine);
        let [low1, high1] = simd.load_nibbles(bytes(block, quants + LANES), affine);
        [low0, low1, high0, high1]
    }
}

impl Unit<20, 2> for Q4_1 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 20], _part: usize) -> [S::V; 2] {
        let affine = (half(simd, block, 0), half(simd, block, 2));
        simd.load_nibbles(bytes(block, 4), [affine; 2])
    }
}

impl Unit<22, 2> for Q5_0 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 22], _part: usize) -> [S::V; 2] {
        let d = half(simd, block, 0);
        fives(simd, bytes(block, 2), bytes(block, 6), (d, -16.0 * d))
    }
}

impl Unit<24, 2> for Q5_1 {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 24], _part: usize) -> [S::V; 2] {
        fives(simd, bytes(block, 4), bytes(block, 8), (half(simd, block, 0), half(simd, block, 2)))
    }
}

/// A part is as in Q4_K.
impl Unit<176, 4> for Q5K {
    const PARTS: usize = 4;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 176], part: usize) -> [S::V; 4] {
        let (d, dmin) = (half(simd, block, 0), half(simd, block, 2));
        let (scale0, min0) = scale_min(bytes(block, 4), 2 * part);
        let (scale1, min1) = scale_min(bytes(block, 4), 2 * part + 1);
        let (low, high) = ((d * scale0, -dmin * min0), (d * scale1, -dmin * min1));
        let (quants, j) = (48 + 32 * part, 2 * part);
        let (first, second) = (wide(block, quants), wide(block, quants + LANES));
        let (first_bits, second_bits) = (wide(block, 16), wide(block, 16 + LANES));
        [
            scaled(simd, five(first, first_bits >> j), low),
            scaled(simd, five(second, second_bits >> j), low),
            scaled(simd, five(first >> 4, first_bits >> (j + 1)), high),
            scaled(simd, five(second >> 4, second_bits >> (j + 1)), high),
        ]
    }
}

/// A part is 64 weights: the low or the high nibbles of half a block.
impl Unit<210, 4> for Q6K {
    const PARTS: usize = 4;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 210], part: usize) -> [S::V; 4] {
        let (d, high) = (half(simd, block, 208), part % 2);
        let mut out = [simd.splat(0.0); 4];
        for (run, out) in out.iter_mut().enumerate() {
            let lower = wide(block, 64 * (part / 2) + LANES * run) >> (4 * high);
            let upper = wide(block, 128 + 32 * (part / 2) + LANES * (run % 2)) >> (4 * high + 2 * (run / 2));
            let scale = d * f32::from(block[192 + 4 * part + run] as i8);
            *out = scaled(simd, (lower & each(15)) | (upper & each(3)) << 4, (scale, -32.0 * scale));
        }
        out
    }
}

impl Unit<18, 2> for IQ4NL {
    #[inline(always)]
    fn decode<S: Simd>(simd: S, block: &[u8; 18], _part: usize) -> [S::V; 2] {
        let d = simd.splat(half(simd, block, 0));
        let [low, high] = simd.load_table(bytes(block, 2), &iq4_nl::VALUES);
        [simd.mul(d, low), simd.mul(d, high)]
    }
}

/// The IEEE half at byte `at` of a block.
#[inline(always)]
fn half<S: Simd>(simd: S, block: &[u8], at: usize) -> f32 {
    simd.half(u16::from_le_bytes(*bytes(block, at)))
}

/// The 6-bit scale and minimum of sub-block `j`.
#[inline(always)]
fn scale_min(s: &[u8; 12], j: usize) -> (f32, f32) {
    let (scale, min) = affine::scale_min(s, j);
    (f32::from(scale), f32::from(min))
}

/// Bytes `at..at + 16` of a block as a number: integer operations on all of them at once.
#[inline(always)]
fn wide(block: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(*bytes(block, at))
}

/// Sixteen bytes `value`.
#[inline(always)]
const fn each(value: u8) -> u128 {
    u128::from_le_bytes([value; LANES])
}

/// `scale * q + offset` of sixteen codes below 128.
#[inline(always)]
fn scaled<S: Simd>(simd: S, codes: u128, (scale, offset): (f32, f32)) -> S::V {
    simd.mul_add(simd.splat(scale), simd.load_i8(&codes.to_le_bytes()), simd.splat(offset))
}

/// Sixteen codes of Q5_K: the lowest nibble of each byte of `quants` below the lowest bit of each byte of `bits`.
#[inline(always)]
fn five(quants: u128, bits: u128) -> u128 {
    (quants & each(15)) | (bits & each(1)) << 4
}

/// The 32 weights of Q5_0 and Q5_1.
#[inline(always)]
fn fives<S: Simd>(simd: S, qh: &[u8; 4], qs: &[u8; LANES], affine: (f32, f32)) -> [S::V; 2] {
    let nibbles = u128::from_le_bytes(*qs);
    let low = (nibbles & each(15)) | fifth_bits(qh[0], qh[1]);
    let high = ((nibbles >> 4) & each(15)) | fifth_bits(qh[2], qh[3]);
    [scaled(simd, low, affine), scaled(simd, high, affine)]
}

/// Sixteen bits as bit 4 of sixteen bytes.
#[inline(always)]
fn fifth_bits(first: u8, second: u8) -> u128 {
    u128::from(eight_fifth_bits(first)) | u128::from(eight_fifth_bits(second)) << 64
}

/// Byte i keeps bit i of its copy of `bits`; adding 127 carries it, wherever it is, to the highest bit.
#[inline(always)]
fn eight_fifth_bits(bits: u8) -> u64 {
    let kept = (u64::from(bits) * 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
    ((kept + 0x7f7f_7f7f_7f7f_7f7f) & 0x8080_8080_8080_8080) >> 3
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of weights from -1 to 1, encoded.
    fn blocks(format: Format, weights: usize, seed: u32) -> Vec<u8> {
        let row: Vec<f32> = (0..weights as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32 / (1 << 23) as f32 - 1.0)
            .collect();
        let mut bytes = vec![0; format.row_bytes(weights).unwrap()];
        format.encode_row(&row, &mut bytes);
        bytes
    }

    #[test]
    fn rows_decode_as_their_codec_says() {
        for format in Format::ALL {
            for weights in [4, 16, 32, 36, 64, 96, 256, 300, 512, 768] {
                let Some(_) = format.row_bytes(weights) else { continue };
                let bytes = blocks(format, weights, weights as u32);
                let (mut found, mut expected) = (vec![0.0; weights], vec![0.0; weights]);
                decode(format, &bytes, &mut found);
                format.decode_row(&bytes, &mut expected);
                assert_eq!(found, expected, "{format}: {weights}");
            }
        }
    }

    #[test]
    fn dot_products_agree_with_decoded_rows() {
        for format in Format::ALL {
            for weights in [4, 32, 36, 96, 256, 768] {
                let Some(_) = format.row_bytes(weights) else { continue };
                let bytes = blocks(format, weights, 7);
                let mut row = vec![0.0; weights];
                format.decode_row(&bytes, &mut row);
                let x: Vec<Vec<f32>> =
                    (0..4).map(|t| (0..weights).map(|i| ((i * 7 + t * 3) % 11) as f32 - 5.0).collect()).collect();
                let found4 = dot4(format, &bytes, [&x[0], &x[1], &x[2], &x[3]]);
                let found2 = dot2(format, &bytes, [&x[0], &x[1]]);
                let found1 = dot(format, &bytes, [&x[0]]);
                assert_eq!((found4[0], found4[1]), (found2[0], found2[1]), "{format}: rows do not influence others");
                assert_eq!(found1[0], found2[0]);
                for (found, x) in found4.iter().zip(&x) {
                    let terms = || row.iter().zip(x).map(|(w, x)| f64::from(w * x));
                    let (expected, scale) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                    assert!(
                        (f64::from(*found) - expected).abs() <= 1e-6 * scale + 1e-6,
                        "{format}: {found} {expected}"
                    );
                }
            }
        }
    }
}
