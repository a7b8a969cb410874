//! For tests of fast host functions: they agree with the reference, and with themselves on any number of threads.

use crate::kernel::{Access, Bind, Call, HostFn};
use crate::{Format, Step};

/// Largest accepted ||x - reference|| / ||reference||.
const TOLERANCE: f64 = 2e-6;

/// What is bound.
#[derive(Debug, Clone)]
pub enum Operand {
    /// Words, `f32` or `u32`.
    Words(Vec<u32>),
    /// A weight in GGUF blocks.
    Blocks(Vec<u8>),
}

/// Numbers from -1 to 1 that look random and depend on `seed`.
pub fn values(len: usize, seed: u32) -> Vec<f32> {
    let mix = |i: u32| {
        let mut x = i.wrapping_add(seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
        x = (x ^ x >> 15).wrapping_mul(0xc2b2_ae35);
        (x ^ x >> 16) as f32 / (1u32 << 31) as f32 - 1.0
    };
    (0..len as u32).map(mix).collect()
}

/// [`values`] as an operand.
pub fn random(len: usize, seed: u32) -> Operand {
    Operand::Words(values(len, seed).into_iter().map(f32::to_bits).collect())
}

/// An output whose values must all be overwritten.
pub fn unset(len: usize) -> Operand {
    Operand::Words(vec![f32::NAN.to_bits(); len])
}

/// Words as they are.
pub fn words(words: &[u32]) -> Operand {
    Operand::Words(words.to_vec())
}

/// A weight of [`values`].
pub fn weight(format: Format, rows: usize, cols: usize, seed: u32) -> Operand {
    let row_bytes = format.row_bytes(cols).expect("whole blocks");
    let mut blocks = vec![0; rows * row_bytes];
    format.encode_row(&values(rows * cols, seed), &mut blocks);
    Operand::Blocks(blocks)
}

/// Compares the fast function of `call` with its reference, and its bits over 1, 2, 3 and 7 threads.
///
/// # Panics
/// If there is none, or a result differs.
pub fn check(step: &Step, call: &Call, operands: &[Operand]) {
    let name = call.kernel.name();
    let fast = call.kernel.cpu.unwrap_or_else(|| panic!("{name} has no fast host function"));
    let expected = run(call.kernel.reference, step, call, operands);
    let mut first = None;
    for threads in [1, 2, 3, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let found = pool.install(|| run(fast, step, call, operands));
        match &first {
            None => {
                compare(name, call, &expected, &found);
                first = Some(found);
            }
            Some(first) => assert!(*first == found, "{name}: other bits on {threads} threads"),
        }
    }
}

fn run(function: HostFn, step: &Step, call: &Call, operands: &[Operand]) -> Vec<Vec<u32>> {
    let mut operands = operands.to_vec();
    let bindings = call.kernel.source.bindings;
    assert_eq!(operands.len(), bindings.len());
    let mut bound: Vec<Bind<'_>> = operands
        .iter_mut()
        .zip(bindings)
        .map(|(operand, binding)| match (operand, binding.access) {
            (Operand::Blocks(blocks), _) => Bind::Blocks(blocks),
            (Operand::Words(words), Access::Read) => Bind::Read(words),
            (Operand::Words(words), Access::ReadWrite) => Bind::Write(words),
        })
        .collect();
    function(step, &call.params, &mut bound);
    operands
        .into_iter()
        .zip(bindings)
        .filter(|(_, binding)| binding.access == Access::ReadWrite)
        .map(|(operand, _)| match operand {
            Operand::Words(words) => words,
            Operand::Blocks(_) => panic!("a weight was bound for writing"),
        })
        .collect()
}

fn compare(name: &str, call: &Call, expected: &[Vec<u32>], found: &[Vec<u32>]) {
    for (output, (expected, found)) in expected.iter().zip(found).enumerate() {
        let (mut error, mut norm) = (0.0f64, 0.0f64);
        for (i, (&e, &f)) in expected.iter().zip(found).enumerate() {
            let (e, f) = (f32::from_bits(e), f32::from_bits(f));
            let same = e.is_finite() == f.is_finite() && e.is_nan() == f.is_nan();
            assert!(same, "{name} {:?}: output {output}[{i}] is {f}, the reference has {e}", call.params);
            if e.is_finite() {
                error += f64::from(e - f).powi(2);
                norm += f64::from(e).powi(2);
            }
        }
        let (error, norm) = (error.sqrt(), norm.sqrt());
        let params = &call.params;
        assert!(error <= TOLERANCE * norm, "{name} {params:?}: output {output} is {:.1e} off", error / norm);
    }
}
