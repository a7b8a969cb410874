//! Plain arrays, which the compiler turns into whatever vectors the target guarantees (SSE2, NEON, simd128).

use super::{LANES, Simd};

/// The instruction set that every target has.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

#[inline(always)]
fn lanes(value: impl Fn(usize) -> f32) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    for (i, out) in out.iter_mut().enumerate() {
        *out = value(i);
    }
    out
}

/// A product moves the exponent of a half to f32's, which is exact for subnormals too.
#[inline(always)]
fn half(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let finite = f32::from_bits(magnitude) * f32::from_bits(0x7780_0000);
    let special = f32::from_bits(magnitude | 0x7f80_0000);
    let value = if bits & 0x7c00 == 0x7c00 { special } else { finite };
    f32::from_bits(value.to_bits() | u32::from(bits & 0x8000) << 16)
}

/// Adding 1.5 * 2^23 leaves no fraction bits: the integer is in the lower 23 bits of the sum.
#[inline(always)]
pub fn nearest_integer(value: f32) -> f32 {
    let bits = (value + 12_582_912.0).to_bits() & 0x007f_ffff;
    (bits as i32 - 0x0040_0000) as f32
}

/// Byte i is bit i: it keeps bit i of its copy of `bits`; adding 127 carries it, wherever it is, to the highest bit.
#[inline(always)]
fn ones(bits: u8) -> u64 {
    let kept = (u64::from(bits) * 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
    ((kept + 0x7f7f_7f7f_7f7f_7f7f) >> 7) & 0x0101_0101_0101_0101
}

impl Simd for Portable {
    type V = [f32; LANES];
    type Bytes = u128;

    const FUSED: bool = cfg!(target_arch = "aarch64");

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        *from
    }

    #[inline(always)]
    fn store(self, value: Self::V, to: &mut [f32; LANES]) {
        *to = value;
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn select_less(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        lanes(|i| if a[i] < b[i] { yes[i] } else { no[i] })
    }

    #[inline(always)]
    fn nearest_integer(self, value: Self::V) -> Self::V {
        lanes(|i| nearest_integer(value[i]))
    }

    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        lanes(|i| if Self::FUSED { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] })
    }

    #[inline(always)]
    fn half(self, bits: u16) -> f32 {
        half(bits)
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8; LANES]) -> Self::Bytes {
        u128::from_le_bytes(*from)
    }

    #[inline(always)]
    fn bits(self, bytes: Self::Bytes, shift: usize, mask: u8) -> Self::Bytes {
        // What comes from the byte above is not among the bits that are left.
        (bytes >> shift) & u128::from_le_bytes([mask & (255 >> shift); LANES])
    }

    #[inline(always)]
    fn join(self, low: Self::Bytes, high: Self::Bytes, shift: usize) -> Self::Bytes {
        low | high << shift
    }

    #[inline(always)]
    fn spread(self, bits: u16, value: u8) -> Self::Bytes {
        let [first, second] = bits.to_le_bytes().map(|bits| u128::from(ones(bits) * u64::from(value)));
        first | second << 64
    }

    #[inline(always)]
    fn floats(self, bytes: Self::Bytes) -> Self::V {
        let bytes = bytes.to_le_bytes();
        lanes(|i| f32::from(bytes[i] as i8))
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8; 4 * LANES]) -> Self::V {
        let mut out = [0.0; LANES];
        for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *out = f32::from_le_bytes(*bytes);
        }
        out
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8; 2 * LANES]) -> Self::V {
        let (bits, _) = bytes.as_chunks::<2>();
        lanes(|i| half(u16::from_le_bytes(bits[i])))
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8; 2 * LANES]) -> Self::V {
        let (bits, _) = bytes.as_chunks::<2>();
        lanes(|i| f32::from_bits(u32::from(u16::from_le_bytes(bits[i])) << 16))
    }

    #[inline(always)]
    fn load_nibbles(self, bytes: &[u8; LANES], [low, high]: [(f32, f32); 2]) -> [Self::V; 2] {
        let (mut low_codes, mut high_codes) = ([0.0; LANES], [0.0; LANES]);
        for i in 0..LANES {
            low_codes[i] = f32::from(bytes[i] & 15);
            high_codes[i] = f32::from(bytes[i] >> 4);
        }
        let low = self.mul_add(self.splat(low.0), low_codes, self.splat(low.1));
        [low, self.mul_add(self.splat(high.0), high_codes, self.splat(high.1))]
    }

    #[inline(always)]
    fn load_table(self, bytes: &[u8; LANES], table: &[i8; LANES]) -> [Self::V; 2] {
        [
            lanes(|i| f32::from(table[usize::from(bytes[i] & 15)])),
            lanes(|i| f32::from(table[usize::from(bytes[i] >> 4)])),
        ]
    }
}
