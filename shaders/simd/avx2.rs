//! AVX2, FMA and F16C: a vector is two registers.

use std::arch::x86_64::*;

use super::{LANES, Simd};

/// Proof that the processor has AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// The token. Safe in code that is compiled for the features.
    ///
    /// # Safety
    /// Elsewhere the caller must have detected them.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    #[allow(clippy::new_without_default, reason = "a token is no default: it proves something")]
    pub fn new() -> Self {
        Self(())
    }
}

/// Sixteen bytes in a register.
#[inline(always)]
pub(super) fn register(bytes: &[u8; LANES]) -> __m128i {
    // SAFETY: SSE2 is part of x86-64; the load needs no alignment and reads the 16 bytes of the array.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// See [`Simd::bits`]. Words are shifted: what comes from the byte above is not among the bits that are left.
#[inline(always)]
pub(super) fn bits(bytes: __m128i, shift: usize, mask: u8) -> __m128i {
    let mask = mask & (255 >> shift);
    // SAFETY: SSE2 is part of x86-64.
    unsafe { _mm_and_si128(_mm_srl_epi16(bytes, _mm_cvtsi32_si128(shift as i32)), _mm_set1_epi8(mask as i8)) }
}

/// See [`Simd::join`].
#[inline(always)]
pub(super) fn join(low: __m128i, high: __m128i, shift: usize) -> __m128i {
    // SAFETY: SSE2 is part of x86-64.
    unsafe { _mm_or_si128(low, _mm_sll_epi16(high, _mm_cvtsi32_si128(shift as i32))) }
}

impl Simd for Avx2 {
    type V = [__m256; 2];
    type Bytes = __m128i;

    const FUSED: bool = true;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        // SAFETY: `self` proves the features; both unaligned loads stay inside the array.
        unsafe { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))] }
    }

    #[inline(always)]
    fn store(self, value: Self::V, to: &mut [f32; LANES]) {
        // SAFETY: `self` proves the features; both unaligned stores stay inside the array.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), value[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), value[1]);
        }
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn select_less(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe {
            let low = _mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0]);
            let high = _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1]);
            [_mm256_blendv_ps(no[0], yes[0], low), _mm256_blendv_ps(no[1], yes[1], high)]
        }
    }

    #[inline(always)]
    fn nearest_integer(self, value: Self::V) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { [nearest_integer(value[0]), nearest_integer(value[1])] }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
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
        // SAFETY: `self` proves the features. Every byte gets the half of `bits` that has its bit.
        unsafe {
            let halves = _mm_set_epi64x(0x0101_0101_0101_0101, 0);
            let copies = _mm_shuffle_epi8(_mm_cvtsi32_si128(i32::from(bits)), halves);
            let own = _mm_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
            let ones = _mm_cmpeq_epi8(_mm_and_si128(copies, own), own);
            _mm_and_si128(ones, _mm_set1_epi8(value as i8))
        }
    }

    #[inline(always)]
    fn floats(self, bytes: Self::Bytes) -> Self::V {
        // SAFETY: `self` proves the features.
        unsafe { signed(bytes) }
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8; 4 * LANES]) -> Self::V {
        let from: *const f32 = bytes.as_ptr().cast();
        // SAFETY: `self` proves the features; both unaligned loads stay inside the 64 bytes.
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8; 2 * LANES]) -> Self::V {
        let from: *const __m128i = bytes.as_ptr().cast();
        // SAFETY: `self` proves the features; both unaligned loads stay inside the 32 bytes.
        unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(from)), _mm256_cvtph_ps(_mm_loadu_si128(from.add(1)))] }
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8; 2 * LANES]) -> Self::V {
        let from: *const __m128i = bytes.as_ptr().cast();
        // SAFETY: `self` proves the features; both unaligned loads stay inside the 32 bytes.
        unsafe {
            let low = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from)));
            let high = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(1))));
            [_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)]
        }
    }

    #[inline(always)]
    fn load_nibbles(self, bytes: &[u8; LANES], [low, high]: [(f32, f32); 2]) -> [Self::V; 2] {
        // SAFETY: `self` proves the features.
        unsafe {
            let (bytes, mask) = (register(bytes), _mm_set1_epi8(15));
            let low_codes = unsigned(_mm_and_si128(bytes, mask));
            let high_codes = unsigned(_mm_and_si128(_mm_srli_epi16::<4>(bytes), mask));
            let low = self.mul_add(self.splat(low.0), low_codes, self.splat(low.1));
            [low, self.mul_add(self.splat(high.0), high_codes, self.splat(high.1))]
        }
    }

    #[inline(always)]
    fn load_table(self, bytes: &[u8; LANES], table: &[i8; LANES]) -> [Self::V; 2] {
        // SAFETY: `self` proves the features. The shuffle reads the lowest four bits of an index without its highest.
        unsafe {
            let (bytes, mask, table) = (register(bytes), _mm_set1_epi8(15), register(bytemuck::cast_ref(table)));
            let low = _mm_shuffle_epi8(table, _mm_and_si128(bytes, mask));
            let high = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16::<4>(bytes), mask));
            [signed(low), signed(high)]
        }
    }

    #[inline(always)]
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES] {
        let mut columns = rows;
        for (from, to) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut square = [rows[0][0]; 8];
            for (i, row) in square.iter_mut().enumerate() {
                *row = rows[8 * to + i][from];
            }
            for (j, column) in transpose8(self, square).into_iter().enumerate() {
                columns[8 * from + j][to] = column;
            }
        }
        columns
    }
}

/// See [`Simd::nearest_integer`].
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn nearest_integer(value: __m256) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let bits = _mm256_castps_si256(_mm256_add_ps(value, _mm256_set1_ps(12_582_912.0)));
        let bits = _mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff));
        _mm256_cvtepi32_ps(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x0040_0000)))
    }
}

/// Sixteen signed bytes as floats.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn signed(bytes: __m128i) -> [__m256; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = (_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes)));
        [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
    }
}

/// Sixteen unsigned bytes as floats.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn unsigned(bytes: __m128i) -> [__m256; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let (low, high) = (_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes)));
        [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
    }
}

/// [`Simd::transpose`] of eight rows of eight.
#[inline(always)]
fn transpose8(_: Avx2, r: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the token proves the features.
    unsafe {
        // Of rows 4 i to 4 i + 3: vector 4 i + j has column 4 l + j in half l.
        let mut quads = r;
        for i in [0, 4] {
            let low = [_mm256_unpacklo_ps(r[i], r[i + 1]), _mm256_unpacklo_ps(r[i + 2], r[i + 3])];
            let high = [_mm256_unpackhi_ps(r[i], r[i + 1]), _mm256_unpackhi_ps(r[i + 2], r[i + 3])];
            for (at, pair) in [(i, low), (i + 2, high)] {
                let (a, b) = (_mm256_castps_pd(pair[0]), _mm256_castps_pd(pair[1]));
                quads[at] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
                quads[at + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
            }
        }
        let mut columns = r;
        for j in 0..4 {
            columns[j] = _mm256_permute2f128_ps::<0x20>(quads[j], quads[4 + j]);
            columns[4 + j] = _mm256_permute2f128_ps::<0x31>(quads[j], quads[4 + j]);
        }
        columns
    }
}
