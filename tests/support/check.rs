//! A kernel against its reference: on the GPU that is present, by its CPU function, and with weights as blocks.

use loam_shaders::{Access, Bind, Call, Format, HostFn, Need, Step};

use crate::random::Random;

/// Largest accepted ||x - reference|| / ||reference||.
const TOLERANCE: f64 = 1e-5;
/// For kernels that multiply in half precision, whose numbers have 11 bits.
const HALF_TOLERANCE: f64 = 1e-3;
/// For kernels that multiply integers from -127 to 127.
const INT8_TOLERANCE: f64 = 1e-2;
/// Words after every buffer that no kernel may write, nor let its results depend on.
pub(crate) const GUARD: usize = 64;
/// Content of the guard words: a NaN, so that a result that depends on it shows.
pub(crate) const GUARD_WORD: u32 = 0x7fc0_dead;

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

    /// A random weight: every run of 16 columns has its own size, so that the scales within a block differ.
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
    pub(crate) fn device_words(&self) -> Vec<u32> {
        match self {
            Operand::Words(words) => words.clone(),
            Operand::Weight { format, rows, cols, blocks } => format.pack(*rows, *cols, blocks),
        }
    }
}

/// [`check_kernel_at`] with the default step state.
pub fn check_kernel(call: &Call, operands: &[Operand]) -> Vec<Vec<f32>> {
    check_kernel_at(&Step::default(), call, operands)
}

/// Runs `call` by its reference (weights packed, and as blocks), by its CPU function if it has one, and on the GPU if
/// there is one that can. Every written binding must agree with the reference to a relative norm of 1e-5 (1e-3 in half
/// precision, 1e-2 in 8-bit integers), and nothing after it may be written. Returns what the reference wrote, in the
/// order of the written bindings.
///
/// # Panics
/// If a result differs.
pub fn check_kernel_at(step: &Step, call: &Call, operands: &[Operand]) -> Vec<Vec<f32>> {
    let name = call.kernel.name();
    assert_eq!(operands.len(), call.kernel.source.bindings.len(), "{name}: bindings");
    let expected = on_host(call.kernel.reference, step, call, operands, false);
    if operands.iter().any(|operand| matches!(operand, Operand::Weight { .. })) {
        let blocks = on_host(call.kernel.reference, step, call, operands, true);
        assert_same(call, "the reference with blocks", &expected, &blocks);
    }
    if let Some(cpu) = call.kernel.cpu {
        assert_same(call, "cpu", &expected, &on_host(cpu, step, call, operands, true));
    }
    if let Some(gpu) = crate::gpu().filter(|gpu| gpu.runs(call.kernel.source)) {
        assert_same(call, "gpu", &expected, &gpu.run(step, call, operands));
    }
    expected
}

/// Runs a host function and returns the written bindings.
fn on_host(run: HostFn, step: &Step, call: &Call, operands: &[Operand], blocks: bool) -> Vec<Vec<f32>> {
    let bindings = call.kernel.source.bindings;
    let mut buffers: Vec<Vec<u32>> = operands.iter().map(Operand::device_words).collect();
    for buffer in &mut buffers {
        buffer.extend([GUARD_WORD; GUARD]);
    }
    let mut bound: Vec<Bind<'_>> = buffers
        .iter_mut()
        .zip(operands)
        .zip(bindings)
        .map(|((buffer, operand), binding)| {
            let words = buffer.len() - GUARD;
            match (operand, binding.access) {
                (Operand::Weight { blocks: bytes, .. }, _) if blocks => Bind::Blocks(bytes),
                (_, Access::Read) => Bind::Read(&buffer[..words]),
                (_, Access::ReadWrite) => Bind::Write(&mut buffer[..words]),
            }
        })
        .collect();
    run(step, &call.params, &mut bound);
    drop(bound);
    written(call, buffers)
}

/// Takes the guard words off, after a look at them, and keeps the written buffers.
pub(crate) fn written(call: &Call, buffers: Vec<Vec<u32>>) -> Vec<Vec<f32>> {
    let mut kept = Vec::new();
    for (mut buffer, binding) in buffers.into_iter().zip(call.kernel.source.bindings) {
        let guard = buffer.split_off(buffer.len() - GUARD);
        let name = call.kernel.name();
        assert!(guard.iter().all(|word| *word == GUARD_WORD), "{name}: wrote behind the end of {}", binding.name);
        if binding.access == Access::ReadWrite {
            kept.push(buffer.into_iter().map(f32::from_bits).collect());
        }
    }
    kept
}

fn assert_same(call: &Call, path: &str, expected: &[Vec<f32>], found: &[Vec<f32>]) {
    let names = call.kernel.source.bindings.iter().filter(|binding| binding.access == Access::ReadWrite);
    for ((expected, found), binding) in expected.iter().zip(found).zip(names) {
        let what = format!("{} ({path}), {}", call.kernel.name(), binding.name);
        let (mut error, mut norm) = (0.0f64, 0.0f64);
        for (i, (e, f)) in expected.iter().zip(found).enumerate() {
            // Bits, so that what a kernel leaves alone may be NaN.
            if e.to_bits() == f.to_bits() {
                norm += if e.is_finite() { f64::from(*e).powi(2) } else { 0.0 };
                continue;
            }
            assert!(e.is_finite() && f.is_finite(), "{what}[{i}]: {f}, the reference has {e}");
            error += (f64::from(*e) - f64::from(*f)).powi(2);
            norm += f64::from(*e).powi(2);
        }
        let relative = if error == 0.0 { 0.0 } else { (error / norm).sqrt() };
        let allowed = match call.kernel.name() {
            name if name.starts_with("matmul_int8") => INT8_TOLERANCE,
            _ if call.kernel.source.needs.contains(&Need::Half) => HALF_TOLERANCE,
            _ => TOLERANCE,
        };
        assert!(relative <= allowed, "{what}: {relative:.2e} from the reference, allowed {allowed:.0e}");
    }
}
