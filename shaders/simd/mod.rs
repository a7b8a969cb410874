//! Vectors of 16 floats on the instruction set that the processor has.
//!
//! A hot loop is written once, generic over [`Simd`], and [`vectorized!`](crate::vectorized) compiles it for every
//! implementation and picks by [`level`] at run time. A value of an implementation is a token: it exists only where
//! its instructions do, so that its methods are safe. All implementations add in the same order; where one has no fused
//! multiply-add it rounds twice, so the bits depend on the processor but never on the number of threads.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
pub mod slices;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use portable::{Portable, nearest_integer};

use std::sync::LazyLock;

/// Lanes of a vector.
pub const LANES: usize = 16;

/// Instructions on vectors of [`LANES`] floats.
pub trait Simd: Copy {
    /// Sixteen floats.
    type V: Copy;
    /// Sixteen bytes.
    type Bytes: Copy;

    /// Whether [`Simd::mul_add`] rounds once.
    const FUSED: bool;

    /// All lanes `value`.
    fn splat(self, value: f32) -> Self::V;
    /// Lanes from memory.
    fn load(self, from: &[f32; LANES]) -> Self::V;
    /// Lanes to memory.
    fn store(self, value: Self::V, to: &mut [f32; LANES]);
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `yes` where `a < b`, else `no`.
    fn select_less(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// The nearest integer, ties to even, for magnitudes below 2^22; beyond, what ggml's `nearest_int` gives.
    fn nearest_integer(self, value: Self::V) -> Self::V;
    /// `a * b + c`
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Asks for the cache line `ahead` bytes after the start of `bytes`, which may be anywhere. Nothing by default.
    #[inline(always)]
    fn prefetch(self, bytes: &[u8], ahead: usize) {
        let _ = (bytes, ahead);
    }
    /// The value of an IEEE half.
    fn half(self, bits: u16) -> f32;
    /// Bytes from memory.
    fn load_bytes(self, from: &[u8; LANES]) -> Self::Bytes;
    /// The bits of `mask` of each byte, shifted right by `shift` (0 to 7) before.
    fn bits(self, bytes: Self::Bytes, shift: usize, mask: u8) -> Self::Bytes;
    /// `low | high << shift`, where no byte of `high` is larger than `255 >> shift`.
    fn join(self, low: Self::Bytes, high: Self::Bytes, shift: usize) -> Self::Bytes;
    /// Bytes that are `value` where bit i is one, else 0.
    fn spread(self, bits: u16, value: u8) -> Self::Bytes;
    /// Signed bytes as floats.
    fn floats(self, bytes: Self::Bytes) -> Self::V;
    /// Signed bytes.
    #[inline(always)]
    fn load_i8(self, bytes: &[u8; LANES]) -> Self::V {
        self.floats(self.load_bytes(bytes))
    }
    /// Little-endian IEEE halves.
    fn load_f16(self, bytes: &[u8; 2 * LANES]) -> Self::V;
    /// Little-endian bfloat16.
    fn load_bf16(self, bytes: &[u8; 2 * LANES]) -> Self::V;
    /// `scale * q + offset` of the low nibbles q, then of the high nibbles, each with its own (scale, offset).
    fn load_nibbles(self, bytes: &[u8; LANES], affine: [(f32, f32); 2]) -> [Self::V; 2];

    /// The values of `table` at the low nibbles, then at the high nibbles.
    fn load_table(self, bytes: &[u8; LANES], table: &[i8; LANES]) -> [Self::V; 2];

    /// Little-endian floats.
    fn load_f32(self, bytes: &[u8; 4 * LANES]) -> Self::V;

    /// Lane j of row i becomes lane i of row j.
    #[inline(always)]
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES] {
        let mut lanes = [[0.0; LANES]; LANES];
        for (row, lanes) in rows.into_iter().zip(&mut lanes) {
            self.store(row, lanes);
        }
        std::array::from_fn(|j| self.load(&std::array::from_fn(|i| lanes[i][j])))
    }

    /// The sum of all lanes, in pairs.
    #[inline(always)]
    fn sum(self, value: Self::V) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(value, &mut lanes);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        lanes[0]
    }
}

/// The widest instruction set that loops are compiled for and this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the target guarantees: SSE2 on x86-64, NEON on AArch64, scalar elsewhere.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

static LEVEL: LazyLock<Level> = LazyLock::new(detect);

/// The level of this processor, detected once.
#[inline]
pub fn level() -> Level {
    *LEVEL
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        (false, _) => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Portable
}

/// Names of the instruction sets that kernels use on this processor, for device lists.
pub fn features() -> Vec<&'static str> {
    match level() {
        Level::Avx512 => vec!["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"],
        Level::Avx2 => vec!["avx2", "fma", "f16c"],
        Level::Portable if cfg!(target_arch = "aarch64") => vec!["neon"],
        Level::Portable if cfg!(target_arch = "x86_64") => vec!["sse2"],
        Level::Portable if cfg!(all(target_arch = "wasm32", target_feature = "simd128")) => vec!["simd128"],
        Level::Portable => vec![],
    }
}

/// Compiles `body` for every [`Level`]: `vectorized!(pub fn name(args) -> T = body);`.
///
/// `body` is an `#[inline(always)] fn body<S: Simd>(simd: S, args) -> T`, and so is all that it calls with `simd`.
#[macro_export]
macro_rules! vectorized {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? = $body:ident) => {
        $(#[$doc])*
        #[inline]
        #[allow(clippy::too_many_arguments, reason = "the wrapper has the arguments of its body")]
        $vis fn $name($($arg: $ty),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                #[allow(clippy::too_many_arguments, reason = "the wrapper has the arguments of its body")]
                fn avx2($($arg: $ty),*) $(-> $out)? {
                    $body($crate::simd::Avx2::new(), $($arg),*)
                }
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
                #[allow(clippy::too_many_arguments, reason = "the wrapper has the arguments of its body")]
                fn avx512($($arg: $ty),*) $(-> $out)? {
                    $body($crate::simd::Avx512::new(), $($arg),*)
                }
                match $crate::simd::level() {
                    // SAFETY: `level` has detected every feature that `avx512` is compiled for.
                    $crate::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: `level` has detected every feature that `avx2` is compiled for.
                    $crate::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::Level::Portable => {}
                }
            }
            $body($crate::simd::Portable, $($arg),*)
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes<S: Simd>(simd: S, value: S::V) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        simd.store(value, &mut out);
        out
    }

    /// Every method once, as bits.
    #[inline(always)]
    fn all_methods<S: Simd>(simd: S, bytes: &[u8; 64]) -> Vec<[u32; LANES]> {
        let first16 = bytes.first_chunk::<16>().expect("64 bytes");
        let first32 = bytes.first_chunk::<32>().expect("64 bytes");
        let values = std::array::from_fn(|i| i as f32 - 7.5);
        let (v, bytes16) = (simd.load(&values), simd.load_bytes(first16));
        let [low, high] = simd.load_nibbles(first16, [(0.5, -3.0), (0.25, 2.0)]);
        let [low_level, high_level] = simd.load_table(first16, &std::array::from_fn(|i| i as i8 * 8 - 60));
        let results = [
            simd.splat(1.5),
            simd.add(v, simd.splat(2.0)),
            simd.mul(v, v),
            simd.mul_add(v, v, simd.splat(-1.0)),
            simd.sub(v, simd.splat(0.3)),
            simd.div(v, simd.splat(0.3)),
            simd.select_less(v, simd.splat(0.5), simd.splat(f32::NAN), v),
            simd.select_less(simd.splat(f32::NAN), v, simd.splat(1.0), v),
            simd.nearest_integer(v),
            simd.nearest_integer(simd.mul(v, simd.splat(1e37))),
            simd.load_i8(first16),
            simd.floats(simd.bits(bytes16, 3, 0x15)),
            simd.floats(simd.join(simd.bits(bytes16, 0, 15), simd.bits(bytes16, 5, 3), 4)),
            simd.floats(simd.spread(u16::from_le_bytes([bytes[3], bytes[4]]), 16)),
            simd.load_f16(first32),
            simd.load_bf16(first32),
            simd.load_f32(bytes),
            simd.splat(simd.sum(v)),
            simd.splat(simd.half(u16::from_le_bytes([bytes[0], bytes[1]]))),
            low,
            high,
            low_level,
            high_level,
        ];
        let table = simd.transpose(std::array::from_fn(|i| simd.mul(v, simd.splat(i as f32 + 1.0))));
        results.into_iter().chain(table).map(|value| lanes(simd, value).map(f32::to_bits)).collect()
    }

    crate::vectorized! { fn best(bytes: &[u8; 64]) -> Vec<[u32; LANES]> = all_methods }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn on_avx2(bytes: &[u8; 64]) -> Vec<[u32; LANES]> {
        all_methods(Avx2::new(), bytes)
    }

    #[test]
    fn the_best_level_agrees_with_the_portable_one() {
        for seed in 0..32u32 {
            let bytes =
                std::array::from_fn(|i| (i as u32).wrapping_mul(37 + seed).wrapping_add(seed * 11) as u8 & 0x7b);
            assert_eq!(best(&bytes), all_methods(Portable, &bytes));
            #[cfg(target_arch = "x86_64")]
            if level() >= Level::Avx2 {
                // SAFETY: `level` has detected the features.
                assert_eq!(unsafe { on_avx2(&bytes) }, all_methods(Portable, &bytes));
            }
        }
    }

    #[test]
    fn rows_become_columns() {
        let rows = std::array::from_fn(|i| std::array::from_fn(|j| (16 * i + j) as f32));
        for (j, row) in Portable.transpose(rows).iter().enumerate() {
            assert_eq!(*row, std::array::from_fn(|i| (16 * i + j) as f32));
        }
    }

    #[test]
    fn every_half_has_its_value() {
        for start in (0..=u16::MAX - 15).step_by(16) {
            let bits: [u16; LANES] = std::array::from_fn(|i| start + i as u16);
            let mut bytes = [0; 32];
            for (bytes, bits) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(bits) {
                *bytes = bits.to_le_bytes();
            }
            for (bits, found) in bits.into_iter().zip(lanes(Portable, Portable.load_f16(&bytes))) {
                let expected = half::f16::from_bits(bits).to_f32();
                assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(), "{bits:04x}");
            }
        }
    }
}
