//! A compiled plan: one uniform of all parameters, and a flat list of dispatches.

use ::wgpu as api;
use loam_shaders::Access;

use super::buffers::{self, Buffers, Slots};
use super::device::Gpu;
use super::pipeline::Pipelines;
use super::segments::Segments;
use crate::backend::overhead::{PARAMS_STRIDE, STEP_BYTES, params_bytes};
use crate::error::{Error, Result};
use crate::plan::{Location, Node, Plan, When};

/// One node, ready to be encoded.
#[derive(Debug)]
pub struct Dispatch {
    /// What to run.
    pub pipeline: api::ComputePipeline,
    /// Its operands (group 0).
    pub operands: api::BindGroup,
    /// Where its parameters are in the program's uniform.
    pub params: u32,
    /// Workgroups.
    pub grid: [u32; 3],
    /// See [`Node::when`].
    pub when: When,
}

/// A plan compiled for one device.
#[derive(Debug)]
pub struct Program {
    /// The plan's name.
    pub name: String,
    /// All nodes in order.
    pub dispatches: Vec<Dispatch>,
    /// Parameters and step (group 1).
    pub uniforms: api::BindGroup,
    /// Where submissions end.
    pub segments: Segments,
    slots: Vec<api::Buffer>,
    /// Where the slots' buffers are in the back end's list.
    pub places: Vec<usize>,
    params: api::Buffer,
}

impl Program {
    /// Compiles `plan` against the stored buffers and those of its slots. `step` is the step uniform, `target` the
    /// longest time of a submission in microseconds.
    ///
    /// # Errors
    /// Out of memory, a node that breaks a rule of the device, or a kernel that the driver refuses.
    pub fn new(
        gpu: &Gpu,
        (buffers, slots): (&Buffers, &Slots),
        pipelines: &mut Pipelines,
        step: &api::Buffer,
        (plan, places): (&Plan, Vec<usize>),
        target: u64,
    ) -> Result<Self> {
        let slots = places.iter().map(|&place| slots.get(gpu, place).cloned()).collect::<Result<Vec<_>>>()?;
        let params = params_buffer(gpu, plan)?;
        let uniforms = uniform_group(gpu, pipelines, &params, step);
        let mut program = Self {
            name: plan.name.clone(),
            dispatches: Vec::with_capacity(plan.nodes.len()),
            uniforms,
            segments: Segments::new(plan.nodes.len(), target, plan.turn()),
            slots,
            places,
            params,
        };
        for (index, node) in plan.nodes.iter().enumerate() {
            let dispatch = program.dispatch(gpu, buffers, pipelines, plan, node, index)?;
            program.dispatches.push(dispatch);
        }
        gpu.check(&plan.name, params_bytes(plan)).map(|()| program)
    }

    /// Frees the parameters. Returns how many bytes they had.
    pub fn free(&self) -> u64 {
        self.params.destroy();
        self.params.size()
    }

    fn dispatch(
        &self,
        gpu: &Gpu,
        buffers: &Buffers,
        pipelines: &mut Pipelines,
        plan: &Plan,
        node: &Node,
        index: usize,
    ) -> Result<Dispatch> {
        check_call(gpu, node)?;
        check_aliasing(gpu, node)?;
        let mut entries = Vec::with_capacity(node.operands.len());
        for (binding, view) in node.operands.iter().enumerate() {
            let (buffer, words) = match view.location {
                Location::Slot(slot) => match self.slots.get(slot as usize) {
                    Some(buffer) => (buffer, plan.slots[slot as usize]),
                    None => return Err(refusal(gpu, node, format!("slot {slot} does not exist"))),
                },
                Location::Stored(id) => {
                    let stored = buffers.get(gpu, id).map_err(|error| refusal(gpu, node, error.to_string()))?;
                    (&stored.buffer, stored.words)
                }
            };
            check_view(gpu, node, binding, words)?;
            let size = std::num::NonZeroU64::new(view.words * 4);
            let resource = api::BindingResource::Buffer(api::BufferBinding { buffer, offset: view.offset * 4, size });
            entries.push(api::BindGroupEntry { binding: binding as u32, resource });
        }
        let pipeline = pipelines.get(gpu, node.call.kernel)?;
        let operands = gpu.device.create_bind_group(&api::BindGroupDescriptor {
            label: Some(&node.label),
            layout: &pipeline.layout,
            entries: &entries,
        });
        gpu.check(&node.label, 0)?;
        Ok(Dispatch {
            pipeline: pipeline.pipeline.clone(),
            operands,
            params: index as u32 * PARAMS_STRIDE as u32,
            grid: node.call.grid,
            when: node.when,
        })
    }
}

/// All parameters in one uniform buffer, [`PARAMS_STRIDE`] bytes apart.
fn params_buffer(gpu: &Gpu, plan: &Plan) -> Result<api::Buffer> {
    let size = params_bytes(plan);
    if size > u32::MAX.into() {
        let what = format!("bytes of parameters of plan {}", plan.name);
        return Err(Error::Limit { what, value: size, limit: u32::MAX.into() });
    }
    let mut bytes = vec![0; size as usize];
    for (node, slot) in plan.nodes.iter().zip(bytes.chunks_exact_mut(PARAMS_STRIDE as usize)) {
        let params = &node.call.params;
        let Some(slot) = slot.get_mut(..params.len()) else {
            return Err(refusal(
                gpu,
                node,
                format!("{} bytes of parameters, the limit is {PARAMS_STRIDE}", params.len()),
            ));
        };
        slot.copy_from_slice(params);
    }
    let usage = api::BufferUsages::UNIFORM | api::BufferUsages::COPY_DST;
    let buffer = buffers::create(gpu, &format!("{} params", plan.name), size / 4, usage)?;
    gpu.queue.write_buffer(&buffer, 0, &bytes);
    gpu.check(&plan.name, size).map(|()| buffer)
}

fn uniform_group(gpu: &Gpu, pipelines: &Pipelines, params: &api::Buffer, step: &api::Buffer) -> api::BindGroup {
    let entry = |binding, buffer, bytes| api::BindGroupEntry {
        binding,
        resource: api::BindingResource::Buffer(api::BufferBinding {
            buffer,
            offset: 0,
            size: std::num::NonZeroU64::new(bytes),
        }),
    };
    gpu.device.create_bind_group(&api::BindGroupDescriptor {
        label: Some("params, step"),
        layout: pipelines.uniforms(),
        entries: &[entry(0, params, PARAMS_STRIDE), entry(1, step, STEP_BYTES)],
    })
}

fn refusal(gpu: &Gpu, node: &Node, problem: String) -> Error {
    gpu.failure(format!("{} ({}): {problem}", node.label, node.call.kernel.name()))
}

/// Checks what does not depend on the buffers: operand count, parameter size, grid.
fn check_call(gpu: &Gpu, node: &Node) -> Result<()> {
    let (source, call) = (node.call.kernel.source, &node.call);
    if node.operands.len() != source.bindings.len() {
        let problem = format!("{} operands for {} bindings", node.operands.len(), source.bindings.len());
        return Err(refusal(gpu, node, problem));
    }
    if call.params.len() != source.params_bytes as usize {
        let problem = format!("{} bytes of parameters, the kernel has {}", call.params.len(), source.params_bytes);
        return Err(refusal(gpu, node, problem));
    }
    let most = gpu.device.limits().max_compute_workgroups_per_dimension;
    if call.grid.iter().any(|groups| !(1..=most).contains(groups)) {
        return Err(refusal(gpu, node, format!("grid {:?} has a dimension outside of 1..={most}", call.grid)));
    }
    Ok(())
}

/// Checks one view against its buffer of `words` words.
fn check_view(gpu: &Gpu, node: &Node, binding: usize, words: u64) -> Result<()> {
    let (view, name) = (&node.operands[binding], node.call.kernel.source.bindings[binding].name);
    let limit = gpu.info.limits.max_binding_bytes;
    let align = u64::from(gpu.device.limits().min_storage_buffer_offset_alignment).max(4);
    let end = view.offset.checked_add(view.words);
    let problem = if view.words == 0 {
        format!("operand {name} is empty")
    } else if end.is_none_or(|end| end > words) {
        format!("operand {name}: {} words at {} of a buffer of {words}", view.words, view.offset)
    } else if !(view.offset * 4).is_multiple_of(align) {
        format!("operand {name} starts at word {}, which is no multiple of {} words", view.offset, align / 4)
    } else if view.words * 4 > limit {
        let what = format!("{}: bytes of operand {name}", node.label);
        return Err(Error::Limit { what, value: view.words * 4, limit });
    } else {
        return Ok(());
    };
    Err(refusal(gpu, node, problem))
}

/// wgpu tracks usage per whole buffer, so none may be read through one binding and written through another; two written
/// ranges must not overlap.
fn check_aliasing(gpu: &Gpu, node: &Node) -> Result<()> {
    let bindings = node.call.kernel.source.bindings;
    for (i, (a, first)) in bindings.iter().zip(&node.operands).enumerate() {
        for (b, second) in bindings.iter().zip(&node.operands).skip(i + 1) {
            if first.location != second.location || (a.access == Access::Read && b.access == Access::Read) {
                continue;
            }
            let apart = first.offset.saturating_add(first.words) <= second.offset
                || second.offset.saturating_add(second.words) <= first.offset;
            if a.access != b.access || !apart {
                let problem = format!("operands {} and {} share a buffer that is written", a.name, b.name);
                return Err(refusal(gpu, node, problem));
            }
        }
    }
    Ok(())
}
