//! What the tests of optimizers share: the gradients and expected values of tests/assets/optimizers.py.

use loam_shaders::{Call, Step};
use loam_tests::{Operand, check_kernel_at};
use serde_json::Value;

/// Trained parameters.
pub const PARAMETERS: usize = 300;
/// Learning rate.
pub const LR: f32 = 0.01;
/// Decoupled weight decay.
pub const DECAY: f32 = 0.1;

/// The expected values of an optimizer.
pub fn expected(name: &str) -> Value {
    let text = include_str!("../assets/optimizers.json");
    serde_json::from_str::<Value>(text).expect("optimizers.json")[name].clone()
}

/// A list of numbers.
pub fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

/// The parameters at the start.
pub fn start() -> Vec<f32> {
    (0..PARAMETERS as i32).map(|i| (i * 37 % 129 - 64) as f32 / 64.0).collect()
}

/// The gradient of a step, and its norm.
pub fn gradient(step: i32) -> (Vec<f32>, f32) {
    let odd = |i: i32| (i * 7919 + step * 104_729 + i * i * 31) % 2047 - 1023;
    let values: Vec<f32> = (0..PARAMETERS as i32).map(|i| odd(i) as f32 / 1024.0 * 0.5f32.powi(i % 12)).collect();
    let norm = values.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    (values, norm as f32)
}

/// Runs the six steps: `operands` makes the bindings of a step out of the written ones (parameters first), the
/// gradient and the norm. Returns what is written after the last step.
pub fn six_steps(
    call: &Call,
    state: Vec<Operand>,
    operands: impl Fn(&[Operand], Operand, Operand) -> Vec<Operand>,
) -> Vec<Vec<f32>> {
    let mut written: Vec<Operand> = std::iter::once(Operand::f32(&start())).chain(state).collect();
    let mut values = Vec::new();
    for count in 1..=6 {
        let correction = |beta: f64| (1.0 - beta.powi(count)) as f32;
        let (correction1, correction2) = (correction(0.9), correction(0.999));
        let step = Step { step: count as u32, lr: LR, correction1, correction2, clip: 1.0, ..Step::default() };
        let (gradient, norm) = gradient(count);
        let bound = operands(&written, Operand::f32(&gradient), Operand::f32(&[norm]));
        values = check_kernel_at(&step, call, &bound);
        written = values.iter().map(|values| Operand::f32(values)).collect();
    }
    values
}

/// Fails if the parameters moved otherwise than expected.
pub fn compare(name: &str, found: &[f32], expected: &Value) {
    let (start, expected) = (start(), numbers(expected));
    let moved = |i: usize| expected[i] - f64::from(start[i]);
    let error: f64 = (0..PARAMETERS).map(|i| (f64::from(found[i]) - expected[i]).powi(2)).sum();
    let norm: f64 = (0..PARAMETERS).map(|i| moved(i).powi(2)).sum();
    let relative = (error / norm).sqrt();
    assert!(relative <= 1e-4, "{name}: {relative:.2e} from the expected values, relative to the way");
}
