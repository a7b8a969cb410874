//! The check of a kernel: its host functions against its reference, and against themselves on any number of threads.
//! The conformance tests add devices. Built for tests only, here and with the feature `check`.

use std::sync::OnceLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::kernel::{Access, Bind, Call, HostFn};
use crate::{Format, Step};

/// Largest accepted ||x - reference|| / ||reference|| of a fast host function in the unit tests here.
const TOLERANCE: f64 = 2e-6;
/// Threads that a fast host function runs on.
const THREADS: [usize; 4] = [1, 2, 3, 7];

/// SplitMix64 (Steele, Lea & Flood 2014): a counter, hashed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator whose values depend on `seed` only.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..end`.
    pub fn below(&mut self, end: u32) -> u32 {
        (self.bits() % u64::from(end)) as u32
    }

    /// A number in -1..1.
    pub fn value(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    /// `len` numbers in -1..1.
    pub fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value()).collect()
    }
}

/// A buffer that is bound to a kernel. A written one starts with these words.
#[derive(Debug, Clone)]
pub enum Operand {
    /// Words: `f32` bits or `u32`.
    Words(Vec<u32>),
    /// A weight in GGUF blocks.
    Weight {
        /// Block format.
        format: Format,
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
        /// `rows * row_bytes(cols)` bytes.
        blocks: Vec<u8>,
    },
}

impl Operand {
    /// These values.
    pub fn f32(values: &[f32]) -> Self {
        Operand::Words(bytemuck::cast_slice(values).to_vec())
    }

    /// These words.
    pub fn u32(words: &[u32]) -> Self {
        Operand::Words(words.to_vec())
    }

    /// An output that the kernel must fill: what it leaves out stays NaN.
    pub fn unset(len: usize) -> Self {
        Operand::f32(&vec![f32::NAN; len])
    }

    /// Values from -1 to 1 that depend on `seed`.
    pub fn random(len: usize, seed: u64) -> Self {
        Operand::f32(&Random::new(seed).values(len))
    }

    /// A random weight: every run of 16 columns has its own size, so that the scales within a block differ.
    ///
    /// # Panics
    /// If a row is no whole number of blocks.
    pub fn weight(format: Format, rows: usize, cols: usize, random: &mut Random) -> Self {
        let mut values = random.values(rows * cols);
        for run in values.chunks_mut(16) {
            let size = random.value();
            run.iter_mut().for_each(|value| *value *= size);
        }
        let row_bytes = format.row_bytes(cols).unwrap_or_else(|| panic!("{format}: rows of {cols}"));
        let mut blocks = vec![0; rows * row_bytes];
        format.encode_row(&values, &mut blocks);
        Operand::Weight { format, rows, cols, blocks }
    }

    /// As a device binds it.
    pub fn device_words(&self) -> Vec<u32> {
        match self {
            Operand::Words(words) => words.clone(),
            Operand::Weight { format, rows, cols, blocks } => format.pack(*rows, *cols, blocks),
        }
    }
}

/// What a kernel wrote, by written binding.
pub type Written = Vec<Vec<f32>>;

/// [`check_within`] a relative norm of 2e-6.
///
/// # Panics
/// If a result differs.
pub fn check(step: &Step, call: &Call, operands: &[Operand]) -> Written {
    check_within(step, call, operands, TOLERANCE)
}

/// Runs `call` by its reference, with weights packed and as blocks, and by its fast host function if it has one: this
/// agrees with the reference to a relative norm of `tolerance` in every written binding, and has the same bits on 1, 2,
/// 3 and 7 threads. Returns what the reference wrote.
///
/// # Panics
/// If a result differs.
pub fn check_within(step: &Step, call: &Call, operands: &[Operand], tolerance: f64) -> Written {
    let name = call.kernel.name();
    let expected = on_host(call.kernel.reference, step, call, operands, Weights::Packed);
    if operands.iter().any(|operand| matches!(operand, Operand::Weight { .. })) {
        let blocks = on_host(call.kernel.reference, step, call, operands, Weights::Blocks);
        assert_near(call, "the reference with blocks", &expected, &blocks, tolerance);
    }
    let Some(fast) = call.kernel.cpu else { return expected };
    let mut on_threads =
        pools().iter().map(|pool| pool.install(|| on_host(fast, step, call, operands, Weights::Blocks)));
    let first = on_threads.next().expect("one thread");
    assert_near(call, "cpu", &expected, &first, tolerance);
    for (found, threads) in on_threads.zip(&THREADS[1..]) {
        assert!(bits(&first) == bits(&found), "{name}: other bits on {threads} threads");
    }
    expected
}

fn pools() -> &'static [ThreadPool] {
    static POOLS: OnceLock<Vec<ThreadPool>> = OnceLock::new();
    POOLS.get_or_init(|| {
        let pool = |threads: &usize| ThreadPoolBuilder::new().num_threads(*threads).build().expect("threads");
        THREADS.iter().map(pool).collect()
    })
}

fn bits(written: &Written) -> Vec<&[u32]> {
    written.iter().map(|values| bytemuck::cast_slice(values)).collect()
}

/// How a host function is given weights.
#[derive(Clone, Copy, PartialEq)]
enum Weights {
    Packed,
    Blocks,
}

/// Runs a host function and returns the written bindings.
fn on_host(run: HostFn, step: &Step, call: &Call, operands: &[Operand], weights: Weights) -> Written {
    let bindings = call.kernel.source.bindings;
    assert_eq!(operands.len(), bindings.len(), "{}: bindings", call.kernel.name());
    let as_blocks = |operand: &Operand| weights == Weights::Blocks && matches!(operand, Operand::Weight { .. });
    let words = |operand: &Operand| if as_blocks(operand) { Vec::new() } else { operand.device_words() };
    let mut buffers: Vec<Vec<u32>> = operands.iter().map(words).collect();
    let mut bound: Vec<Bind<'_>> = buffers
        .iter_mut()
        .zip(operands)
        .zip(bindings)
        .map(|((buffer, operand), binding)| match (operand, binding.access) {
            (Operand::Weight { blocks, .. }, _) if weights == Weights::Blocks => Bind::Blocks(blocks),
            (_, Access::Read) => Bind::Read(buffer),
            (_, Access::ReadWrite) => Bind::Write(buffer),
        })
        .collect();
    run(step, &call.params, &mut bound);
    drop(bound);
    written(call, buffers)
}

/// The written ones of a call's buffers.
pub fn written(call: &Call, buffers: Vec<Vec<u32>>) -> Written {
    let bindings = call.kernel.source.bindings;
    let written = buffers.into_iter().zip(bindings).filter(|(_, binding)| binding.access == Access::ReadWrite);
    written.map(|(buffer, _)| buffer.into_iter().map(f32::from_bits).collect()).collect()
}

/// Compares what `path` wrote with the reference: ||found - expected|| / ||expected|| is at most `tolerance`.
///
/// # Panics
/// If it differs by more, or in what is finite.
pub fn assert_near(call: &Call, path: &str, expected: &Written, found: &Written, tolerance: f64) {
    let names = call.kernel.source.bindings.iter().filter(|binding| binding.access == Access::ReadWrite);
    for ((expected, found), binding) in expected.iter().zip(found).zip(names) {
        let what = || format!("{} ({path}) {:?}, {}", call.kernel.name(), call.params, binding.name);
        assert_eq!(expected.len(), found.len(), "{}: length", what());
        let (mut error, mut norm) = (0.0f64, 0.0f64);
        for (i, (e, f)) in expected.iter().zip(found).enumerate() {
            // Bits, so that what a kernel leaves alone may be NaN.
            if e.to_bits() != f.to_bits() {
                let same = (e.is_finite() && f.is_finite()) || (e.is_nan() && f.is_nan()) || e == f;
                assert!(same, "{}[{i}]: {f}, the reference has {e}", what());
                error += if e.is_finite() { (f64::from(*e) - f64::from(*f)).powi(2) } else { 0.0 };
            }
            norm += if e.is_finite() { f64::from(*e).powi(2) } else { 0.0 };
        }
        let relative = if error == 0.0 { 0.0 } else { (error / norm).sqrt() };
        assert!(relative <= tolerance, "{}: {relative:.2e} from the reference, allowed {tolerance:.0e}", what());
    }
}
