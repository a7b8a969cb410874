//! The reverse walk: from the gradient of one tensor to the gradients of everything trainable before it.

use std::collections::HashMap;

use loam_shaders::elementwise::{self as kernels, Params};

use super::Location;
use super::record::{GradFn, Recorder, Tensor};

/// The gradients known so far, by the tensor they belong to.
///
/// Two tensors may share one gradient buffer (both inputs of a sum have the sum's gradient). A buffer is copied only
/// when one of its owners has to add to it while the other still needs the old value.
#[derive(Debug, Default)]
pub struct Gradients {
    of: HashMap<Location, Tensor>,
}

impl Gradients {
    /// The gradient of `y`, kept for earlier nodes that also wrote to `y`.
    pub fn get(&self, y: Tensor) -> Option<Tensor> {
        self.of.get(&y.location).copied()
    }

    /// The gradient of `y`, for the node that first wrote `y`: no node before it can ask again.
    pub fn take(&mut self, y: Tensor) -> Option<Tensor> {
        self.of.remove(&y.location)
    }

    /// Where to write a contribution to the gradient of `x`, and whether it must be added to what is there.
    pub fn target(&mut self, r: &mut Recorder, x: Tensor) -> (Tensor, bool) {
        match self.get(x) {
            None => {
                let gradient = r.temporary(x.rows, x.cols);
                self.of.insert(x.location, gradient);
                (gradient, false)
            }
            Some(_) => (self.exclusive(r, x), true),
        }
    }

    /// The gradient of `x` in a buffer that no other tensor's gradient shares, so that it may be changed in place.
    ///
    /// # Panics
    /// If `x` has no gradient yet: callers have just looked it up.
    pub fn exclusive(&mut self, r: &mut Recorder, x: Tensor) -> Tensor {
        let gradient = self.of[&x.location];
        if self.of.values().filter(|g| g.location == gradient.location).count() == 1 {
            return gradient;
        }
        let copy = copy(r, gradient);
        self.of.insert(x.location, copy);
        copy
    }

    /// Contributes `gradient`, a finished tensor, to the gradient of `x`.
    pub fn give(&mut self, r: &mut Recorder, x: Tensor, gradient: Tensor) {
        if self.get(x).is_none() {
            self.of.insert(x.location, gradient);
            return;
        }
        let target = self.exclusive(r, x);
        accumulate(r, gradient, target);
    }
}

/// A copy of `a` in a new temporary.
fn copy(r: &mut Recorder, a: Tensor) -> Tensor {
    let out = r.temporary(a.rows, a.cols);
    r.call("gradient", kernels::copy(params(a)), &[a.view(), out.view()]);
    out
}

/// out += a.
fn accumulate(r: &mut Recorder, a: Tensor, out: Tensor) {
    r.call("gradient", kernels::accumulate(params(a)), &[a.view(), out.view()]);
}

fn params(t: Tensor) -> Params {
    Params { len: t.len() as u32, ..bytemuck::Zeroable::zeroed() }
}

/// A part of a plan with a tape of its own: [`Recorder::taped`].
pub struct Taped<'a> {
    /// What it is a function of.
    pub input: Tensor,
    /// What it results in.
    pub output: Tensor,
    tape: Vec<GradFn<'a>>,
}

impl<'a> Recorder<'a> {
    /// Records `f` of `x` with a tape of its own, so that its gradient can be recorded before what comes later.
    pub fn taped(&mut self, x: Tensor, f: impl FnOnce(&mut Self, Tensor) -> Tensor) -> Taped<'a> {
        let before = self.replace_tape(Vec::new());
        self.require_gradient(x);
        let output = f(self, x);
        let tape = self.replace_tape(before);
        Taped { input: x, output, tape }
    }

    /// Records the gradient nodes of `part`, whose output has this gradient. Returns the gradient of its input.
    ///
    /// # Panics
    /// If the output does not depend on the input.
    pub fn back(&mut self, part: Taped<'a>, gradient: Tensor) -> Tensor {
        let mut gradients = Gradients::default();
        gradients.give(self, part.output, gradient);
        for backward in part.tape.into_iter().rev() {
            backward(self, &mut gradients);
        }
        gradients.take(part.input).expect("a gradient of the input")
    }

    /// Records all gradient nodes, starting from `gradient` as the gradient of `output`.
    pub fn reverse(&mut self, output: Tensor, gradient: Tensor) {
        let mut gradients = Gradients::default();
        gradients.give(self, output, gradient);
        self.walk(&mut gradients);
    }

    /// Walks what is on the tape now. A layer that is recorded again on the way leaves a tape of its own, which is
    /// walked before the rest.
    pub(super) fn walk(&mut self, gradients: &mut Gradients) {
        for backward in self.replace_tape(Vec::new()).into_iter().rev() {
            backward(self, gradients);
        }
    }
}
