//! The step state: what changes from one run of a plan to the next, in one small uniform.

use bytemuck::{Pod, Zeroable};

/// Marks an unused entry of a `rows` or `labels` list.
pub const NONE: u32 = u32::MAX;

/// The uniform at group 1, binding 1 of every kernel; mirrored by `include/step.wgsl`.
#[derive(Debug, Clone, Copy, Pod, Zeroable, PartialEq, Default)]
#[repr(C)]
pub struct Step {
    /// Seed of counter-based random numbers.
    pub seed: u32,
    /// Optimizer step, from 1.
    pub step: u32,
    /// Rows of the step before this micro-batch: what is drawn for a row does not depend on where the step is divided.
    pub rows: u32,
    /// Learning rate of this step.
    pub lr: f32,
    /// 1 - beta1^step (Adam bias correction, Kingma & Ba 2015, section 3).
    pub correction1: f32,
    /// 1 - beta2^step.
    pub correction2: f32,
    /// Largest global gradient norm; 0 switches clipping off.
    pub clip: f32,
    /// Rows with a loss in this run: loss chunks after them are skipped by the host.
    pub trained: u32,
    /// Which phase of a plan that has phases runs, for the host; 0: all of them.
    pub phase: u32,
    /// Keeps the size a multiple of 16 bytes.
    pub reserved: [u32; 3],
}
