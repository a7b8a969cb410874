//! Instruction sets of the host, and one way to compile a loop for each of them.
//!
//! A hot loop is written once as a plain `#[inline(always)]` function over fixed-size lane arrays, which the compiler
//! turns into vectors. [`vectorized!`](crate::vectorized) compiles it once per instruction set and picks by [`level`]
//! at run time. Each version adds in the same order; versions differ only where a fused multiply-add rounds once
//! instead of twice, so the bits depend on the processor but never on the number of threads.

use std::sync::LazyLock;

/// The widest instruction set that loops are compiled for and this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the target guarantees: SSE2 on x86-64, NEON on AArch64, scalar elsewhere.
    Baseline,
    /// AVX2, FMA and F16C: 8 lanes.
    Avx2,
    /// AVX-512 F, BW, DQ and VL: 16 lanes.
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
        (false, _) => Level::Baseline,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Baseline
}

/// Names of the instruction sets that kernels use on this processor, for device lists.
pub fn features() -> Vec<&'static str> {
    match level() {
        Level::Avx512 => vec!["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"],
        Level::Avx2 => vec!["avx2", "fma", "f16c"],
        Level::Baseline if cfg!(target_arch = "aarch64") => vec!["neon"],
        Level::Baseline if cfg!(target_arch = "x86_64") => vec!["sse2"],
        Level::Baseline if cfg!(all(target_arch = "wasm32", target_feature = "simd128")) => vec!["simd128"],
        Level::Baseline => vec![],
    }
}

/// `a * b + c`: fused where the target has the instruction, two roundings elsewhere (a library call would be slow).
#[inline(always)]
pub fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Compiles `body` for every [`Level`]: `vectorized!(pub fn name(args) -> T = body);`.
///
/// `body` is an `#[inline(always)] fn body<const FUSED: bool>(args) -> T`; `FUSED` says whether [`mul_add`] is an
/// instruction.
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
                    $body::<true>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
                #[allow(clippy::too_many_arguments, reason = "the wrapper has the arguments of its body")]
                fn avx512($($arg: $ty),*) $(-> $out)? {
                    $body::<true>($($arg),*)
                }
                match $crate::simd::level() {
                    // SAFETY: `level` has detected every feature that `avx512` is compiled for.
                    $crate::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: `level` has detected every feature that `avx2` is compiled for.
                    $crate::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::Level::Baseline => {}
                }
            }
            $body::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        }
    };
}
