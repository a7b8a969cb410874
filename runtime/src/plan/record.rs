//! Recording: a forward function is called once with a [`Recorder`] and leaves nodes and a tape.

use loam_shaders::{Access, Call};

use super::reverse::Gradients;
use super::storage::{Storage, StorageId};
use super::{Location, Node, Phase, Plan, View, When, memory, prune};

/// f32 values of shape [rows, cols], row-major, in a temporary or a stored buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tensor {
    /// Where the words live.
    pub location: Location,
    /// First word in the buffer.
    pub offset: u64,
    /// Rows: tokens for activations, output features for weights.
    pub rows: usize,
    /// Columns: features.
    pub cols: usize,
}

impl Tensor {
    /// A whole stored buffer, or its words from `offset` on.
    pub fn stored(id: StorageId, offset: u64, rows: usize, cols: usize) -> Self {
        Self { location: Location::Stored(id), offset, rows, cols }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The words as a kernel binds them.
    pub fn view(&self) -> View {
        View { location: self.location, offset: self.offset, words: self.len() as u64 }
    }
}

/// Adds the nodes that carry a gradient from an op's output to its inputs. Called in reverse order of recording.
pub type GradFn<'a> = Box<dyn FnOnce(&mut Recorder<'a>, &mut Gradients) + 'a>;

/// What is kept of the forward pass for the reverse one. Gradients have the same bits either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checkpointing {
    /// Everything that a gradient needs.
    #[default]
    None,
    /// The input of each layer; the rest of a layer is computed again when the reverse pass reaches it (Chen et al.
    /// 2016): about a third more work, and the memory of one layer instead of all.
    Layers,
}

/// Collects nodes, temporaries and the tape of backward functions. `'a` is how long the tape may borrow a model.
#[derive(Default)]
pub struct Recorder<'a> {
    nodes: Vec<Node>,
    /// Length of each temporary in words.
    temporaries: Vec<u64>,
    /// Whether a gradient must reach the temporary.
    needs_gradient: Vec<bool>,
    tape: Vec<GradFn<'a>>,
    checkpointing: Checkpointing,
    /// Low-rank updates have nodes of their own.
    apart: bool,
    /// When nodes recorded from now on run.
    when: When,
}

impl<'a> Recorder<'a> {
    /// An empty recorder.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty recorder that keeps what `checkpointing` says.
    pub fn with(checkpointing: Checkpointing) -> Self {
        Self { checkpointing, ..Self::default() }
    }

    /// The same recorder; with `apart` low-rank updates get nodes of their own, also where there is a kernel that
    /// multiplies with weight and update in one pass: those kernels know single precision only.
    #[must_use]
    pub fn updates_apart(self, apart: bool) -> Self {
        Self { apart, ..self }
    }

    /// Whether low-rank updates may be part of the product that they are added to.
    pub fn fuses_updates(&self) -> bool {
        !self.apart
    }

    /// A new temporary of shape [rows, cols]. Its memory is assigned when the plan is finished.
    pub fn temporary(&mut self, rows: usize, cols: usize) -> Tensor {
        self.temporaries.push((rows * cols) as u64);
        self.needs_gradient.push(false);
        let location = Location::Slot(self.temporaries.len() as u32 - 1);
        Tensor { location, offset: 0, rows, cols }
    }

    /// Records a kernel call over `operands`, one per storage binding.
    pub fn call(&mut self, label: &str, call: Call, operands: &[View]) {
        debug_assert_eq!(operands.len(), call.kernel.source.bindings.len(), "bindings of {}", call.kernel.name());
        self.nodes.push(Node { call, operands: operands.to_vec(), label: label.to_owned(), when: self.when });
    }

    /// Records what `f` records as nodes that run only when the step trains more than `rows` rows: the loss chunks
    /// after the last trained row cost nothing. The first chunk, with none, always runs.
    pub fn if_trained_above(&mut self, rows: u32, f: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.when.above, (rows > 0).then_some(rows));
        f(self);
        self.when.above = before;
    }

    /// Nodes recorded from now on run in `phase` only.
    pub fn begin(&mut self, phase: Phase) {
        self.when.phase = Some(phase);
    }

    /// Whether a gradient must reach `x`. Stored tensors (weights, inputs) never need one through this path.
    pub fn needs_gradient(&self, x: Tensor) -> bool {
        match x.location {
            Location::Slot(i) => self.needs_gradient[i as usize],
            Location::Stored(_) => false,
        }
    }

    /// Says that `y` depends on something trainable and how its gradient flows on.
    pub fn backward(&mut self, y: Tensor, f: impl FnOnce(&mut Self, &mut Gradients) + 'a) {
        self.backward_of(&[y], f);
    }

    /// [`Self::backward`] of an op with several outputs.
    pub fn backward_of(&mut self, outputs: &[Tensor], f: impl FnOnce(&mut Self, &mut Gradients) + 'a) {
        outputs.iter().for_each(|y| self.require_gradient(*y));
        self.tape.push(Box::new(f));
    }

    /// Records the layer `f` of `x`. With [`Checkpointing::Layers`] it is recorded without a tape, so that its
    /// temporaries die at once, and recorded again from `x` when the reverse walk reaches it. `f` must not change `x`
    /// in place, and what it draws at random must follow from names and step, not from the order of recording.
    pub fn layer(&mut self, x: Tensor, f: impl Fn(&mut Self, Tensor) -> Tensor + 'a) -> Tensor {
        let before = self.tape.len();
        let y = f(self, x);
        if self.checkpointing == Checkpointing::Layers && self.tape.len() > before {
            self.tape.truncate(before);
            self.backward(y, move |r, g| {
                let Some(dy) = g.take(y) else { return };
                let again = f(r, x);
                g.give(r, again, dy);
                r.walk(g);
            });
        }
        y
    }

    /// Replaces the tape; returns what was on it.
    pub(super) fn replace_tape(&mut self, tape: Vec<GradFn<'a>>) -> Vec<GradFn<'a>> {
        std::mem::replace(&mut self.tape, tape)
    }

    /// Says that a gradient must reach `x`.
    pub(super) fn require_gradient(&mut self, x: Tensor) {
        if let Location::Slot(i) = x.location {
            self.needs_gradient[i as usize] = true;
        }
    }

    /// Leaves out what is not read, assigns memory and returns the plan.
    pub fn finish(self, name: impl Into<String>) -> Plan {
        let nodes = prune::used(self.nodes, self.temporaries.len());
        let mut plan = Plan { name: name.into(), nodes, slots: Vec::new() };
        plan.slots = memory::assign(&mut plan.nodes, &self.temporaries);
        debug_assert!(plan.conflict().is_none(), "a node binds one buffer twice: {:?}", plan.conflict());
        plan
    }
}

impl Plan {
    /// The first node that writes a buffer which it also binds a second time, if there is one: wgpu tracks usage per
    /// whole buffer and refuses it.
    pub fn conflict(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| {
            let bound = node.operands.iter().zip(node.call.kernel.source.bindings).enumerate();
            bound.clone().any(|(i, (view, binding))| {
                binding.access == Access::ReadWrite
                    && bound.clone().any(|(j, (other, _))| i != j && other.location == view.location)
            })
        })
    }

    /// Checks that every view lies inside its buffer.
    pub fn views_fit(&self, storage: &Storage) -> bool {
        self.nodes.iter().flat_map(|node| &node.operands).all(|view| {
            let words = match view.location {
                Location::Slot(i) => self.slots[i as usize],
                Location::Stored(id) => storage.get(id).words,
            };
            view.offset.checked_add(view.words).is_some_and(|end| end <= words)
        })
    }
}
