//! AVX-512 F, BW, DQ and VL (and F16C): a vector is one register.

use std::arch::x86_64::*;

use super::avx2::{bits, join, register};
use super::{LANES, Simd};

/// Proof that the processor has F16C and AVX-512 F, BW, DQ and VL.
#[derive(Debug, Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// The token. Safe in code that is compiled for the features.
    ///
    /// # Safety
    /// Elsewhere the caller must have detected them.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    #[inline]
    #[allow(clippy::new_without_default, reason = "a token is no default: it proves something")]
    pub fn new() -> Self {
        Self(())
    }
}

impl Simd for Avx512 {
    type V = __m512;
    type Bytes = __m128i;

    const FUSED: bool = true;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        // SAFETY: `self` proves the features; the unaligned load reads the array.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, value: Self::V, to: &mut [f32; LANES]) {
        // SAFETY: `self` proves the features; the unaligned store writes the array.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn select_less(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes) }
    }

    #[inline(always)]
    fn nearest_integer(self, value: Self::V) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe {
            let bits = _mm512_castps_si512(_mm512_add_ps(value, _mm512_set1_ps(12_582_912.0)));
            let bits = _mm512_and_si512(bits, _mm512_set1_epi32(0x007f_ffff));
            _mm512_cvtepi32_ps(_mm512_sub_epi32(bits, _mm512_set1_epi32(0x0040_0000)))
        }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn prefetch(self, bytes: &[u8], ahead: usize) {
        // SAFETY: SSE is part of x86-64; a prefetch reads nothing and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(ahead).cast()) };
    }

    #[inline(always)]
    fn half(self, bits: u16) -> f32 {
        // SAFETY: `self` proves the features.
        unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits)))) }
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8; LANES]) -> Self::Bytes {
        register(from)
    }

    #[inline(always)]
    fn bits(self, bytes: Self::Bytes, shift: usize, mask: u8) -> Self::Bytes {
        bits(bytes, shift, mask)
    }

    #[inline(always)]
    fn join(self, low: Self::Bytes, high: Self::Bytes, shift: usize) -> Self::Bytes {
        join(low, high, shift)
    }

    #[inline(always)]
    fn spread(self, bits: u16, value: u8) -> Self::Bytes {
        // SAFETY: `self` proves the features.
        unsafe { _mm_maskz_set1_epi8(bits, value as i8) }
    }

    #[inline(always)]
    fn floats(self, bytes: Self::Bytes) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)) }
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8; 4 * LANES]) -> Self::V {
        // SAFETY: `self` proves the features; the unaligned load reads the 64 bytes of the array.
        unsafe { _mm512_loadu_ps(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8; 2 * LANES]) -> Self::V {
        // SAFETY: `self` proves the features; the unaligned load reads the 32 bytes of the array.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8; 2 * LANES]) -> Self::V {
        // SAFETY: `self` proves the features; the unaligned load reads the 32 bytes of the array.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(bytes.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    /// The sixteen possible values are one register, which a permutation looks the nibbles up in.
    #[inline(always)]
    fn load_nibbles(self, bytes: &[u8; LANES], [low, high]: [(f32, f32); 2]) -> [Self::V; 2] {
        // SAFETY: `self` proves the features. The permutation reads only the lowest four bits of an index.
        unsafe {
            let codes = _mm512_setr_ps(0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.);
            let index = _mm512_cvtepu8_epi32(register(bytes));
            let low = self.mul_add(self.splat(low.0), codes, self.splat(low.1));
            let high = self.mul_add(self.splat(high.0), codes, self.splat(high.1));
            [_mm512_permutexvar_ps(index, low), _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(index), high)]
        }
    }

    #[inline(always)]
    fn load_table(self, bytes: &[u8; LANES], table: &[i8; LANES]) -> [Self::V; 2] {
        let levels = self.load_i8(bytemuck::cast_ref(table));
        // SAFETY: `self` proves the features. The permutation reads only the lowest four bits of an index.
        unsafe {
            let index = _mm512_cvtepu8_epi32(register(bytes));
            [_mm512_permutexvar_ps(index, levels), _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(index), levels)]
        }
    }

    #[inline(always)]
    fn transpose(self, r: [Self::V; LANES]) -> [Self::V; LANES] {
        // SAFETY: `self` proves the features.
        unsafe {
            // Of rows 4 i to 4 i + 3: vector 4 i + j has column 4 l + j in quarter l.
            let mut quads = r;
            for i in [0, 4, 8, 12] {
                let low = [_mm512_unpacklo_ps(r[i], r[i + 1]), _mm512_unpacklo_ps(r[i + 2], r[i + 3])];
                let high = [_mm512_unpackhi_ps(r[i], r[i + 1]), _mm512_unpackhi_ps(r[i + 2], r[i + 3])];
                for (at, pair) in [(i, low), (i + 2, high)] {
                    let (a, b) = (_mm512_castps_pd(pair[0]), _mm512_castps_pd(pair[1]));
                    quads[at] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                    quads[at + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                }
            }
            let mut columns = r;
            for j in 0..4 {
                let q = [quads[j], quads[4 + j], quads[8 + j], quads[12 + j]];
                let even = [_mm512_shuffle_f32x4::<0x88>(q[0], q[1]), _mm512_shuffle_f32x4::<0x88>(q[2], q[3])];
                let odd = [_mm512_shuffle_f32x4::<0xdd>(q[0], q[1]), _mm512_shuffle_f32x4::<0xdd>(q[2], q[3])];
                columns[j] = _mm512_shuffle_f32x4::<0x88>(even[0], even[1]);
                columns[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]);
                columns[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even[0], even[1]);
                columns[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd[0], odd[1]);
            }
            columns
        }
    }
}
