//! Fast host functions of `glu`: chunks of elements.

use rayon::prelude::*;

use super::{Activation, Params};
use crate::Step;
use crate::kernel::{Bind, operands, params};
use crate::simd::Simd;
use crate::simd::slices::exp;

/// Elements of a task.
const TASK: usize = 1 << 13;
/// sqrt(2 / pi)
const SLOPE: f32 = 0.797_884_6;

/// `out = activation(gate) * up`
pub(super) fn forward(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [gate, up, out] = operands(bound);
    let len = p.len as usize;
    let inputs = gate.f32()[..len].par_chunks(TASK).zip(up.f32()[..len].par_chunks(TASK));
    out.f32_mut()[..len].par_chunks_mut(TASK).zip(inputs).for_each(|(out, (gate, up))| match p.activation() {
        Activation::Silu => forward_silu(gate, up, out),
        Activation::GeluTanh => forward_gelu(gate, up, out),
    });
}

/// `dgate = dout * up * activation'(gate)`, `dup = dout * activation(gate)`
pub(super) fn backward(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [gate, up, dout, dgate, dup] = operands(bound);
    let len = p.len as usize;
    let inputs = gate.f32()[..len].par_chunks(TASK).zip(up.f32()[..len].par_chunks(TASK));
    let inputs = inputs.zip(dout.f32()[..len].par_chunks(TASK));
    let outputs = dgate.f32_mut()[..len].par_chunks_mut(TASK).zip(dup.f32_mut()[..len].par_chunks_mut(TASK));
    outputs.zip(inputs).for_each(|((dgate, dup), ((gate, up), dout))| match p.activation() {
        Activation::Silu => backward_silu(gate, up, dout, dgate, dup),
        Activation::GeluTanh => backward_gelu(gate, up, dout, dgate, dup),
    });
}

crate::vectorized! {
    fn forward_silu(gate: &[f32], up: &[f32], out: &mut [f32]) = forward_silu_body
}
crate::vectorized! {
    fn forward_gelu(gate: &[f32], up: &[f32], out: &mut [f32]) = forward_gelu_body
}
crate::vectorized! {
    fn backward_silu(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) = backward_silu_body
}
crate::vectorized! {
    fn backward_gelu(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) = backward_gelu_body
}

/// `x * sigmoid(x)` and its derivative.
#[inline(always)]
fn silu<S: Simd>(x: f32) -> (f32, f32) {
    let sigmoid = 1.0 / (1.0 + exp::<S>(-x));
    (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid)))
}

/// `x / 2 * (1 + tanh(u))` and its derivative; `(1 + tanh(u)) / 2 = 1 / (1 + e^(-2u))`.
#[inline(always)]
fn gelu<S: Simd>(x: f32) -> (f32, f32) {
    let u = SLOPE * (x + 0.044_715 * x * x * x);
    let half = 1.0 / (1.0 + exp::<S>(-2.0 * u));
    let inner = SLOPE * (1.0 + 3.0 * 0.044_715 * x * x);
    (x * half, half + 2.0 * x * half * (1.0 - half) * inner)
}

#[inline(always)]
fn forward_silu_body<S: Simd>(_: S, gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, &gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = silu::<S>(gate).0 * up;
    }
}

#[inline(always)]
fn forward_gelu_body<S: Simd>(_: S, gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, &gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gelu::<S>(gate).0 * up;
    }
}

#[inline(always)]
fn backward_silu_body<S: Simd>(_: S, gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    for ((((dgate, dup), &gate), up), dout) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dout) {
        let (value, derivative) = silu::<S>(gate);
        *dgate = dout * up * derivative;
        *dup = dout * value;
    }
}

#[inline(always)]
fn backward_gelu_body<S: Simd>(_: S, gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    for ((((dgate, dup), &gate), up), dout) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dout) {
        let (value, derivative) = gelu::<S>(gate);
        *dgate = dout * up * derivative;
        *dup = dout * value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, Random, check};
    use crate::glu;

    #[test]
    fn agrees_with_the_reference() {
        for len in [1usize, 31, 20_000] {
            for activation in [Activation::Silu, Activation::GeluTanh].map(|kind| kind as u32) {
                let p = Params { len: len as u32, activation, ..Default::default() };
                let gate: Vec<u32> = Random::new(1).values(len).iter().map(|x| (x * 12.0).to_bits()).collect();
                let (gate, up) = (Operand::u32(&gate), Operand::random(len, 2));
                check(&Step::default(), &glu::forward(p), &[gate.clone(), up.clone(), Operand::unset(len)]);
                let outputs = [gate, up, Operand::random(len, 3), Operand::unset(len), Operand::unset(len)];
                check(&Step::default(), &glu::backward(p), &outputs);
            }
        }
    }

    #[test]
    fn large_gates_saturate() {
        let gate = [-1e4f32, -100.0, -88.0, 88.0, 100.0, 1e4];
        for activation in [Activation::Silu, Activation::GeluTanh].map(|kind| kind as u32) {
            let p = Params { len: 6, activation, ..Default::default() };
            let gate = Operand::u32(&gate.map(f32::to_bits));
            let up = Operand::u32(&[1f32.to_bits(); 6]);
            check(&Step::default(), &glu::forward(p), &[gate, up, Operand::unset(6)]);
        }
    }
}
