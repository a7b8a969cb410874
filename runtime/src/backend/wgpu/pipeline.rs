//! Pipelines and their layouts, made once per kernel.
//!
//! Group 0 holds a kernel's storage bindings: kernels with the same accesses in the same order share a layout. Group 1
//! is the same for all kernels: a window of [`PARAMS_STRIDE`] bytes into the program's parameters at a dynamic offset,
//! and the step.

use std::borrow::Cow;
use std::collections::HashMap;
use std::num::NonZeroU64;

use ::wgpu as api;
use loam_shaders::{Access, Kernel, Need};

use super::device::Gpu;
use crate::backend::overhead::{PARAMS_STRIDE, STEP_BYTES};
use crate::error::Result;

/// Whether wgpu adds checks to shaders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// Indices are clamped and divisors guarded. For debugging kernels.
    On,
    /// Kernels run as written. Several times faster on some drivers.
    Off,
}

impl Default for Checks {
    /// On in debug builds, off in release builds.
    fn default() -> Self {
        if cfg!(debug_assertions) { Checks::On } else { Checks::Off }
    }
}

/// A kernel ready to be dispatched.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// What `set_pipeline` takes.
    pub pipeline: api::ComputePipeline,
    /// Layout of group 0.
    pub layout: api::BindGroupLayout,
}

/// All pipelines made so far.
#[derive(Debug)]
pub struct Pipelines {
    checks: Checks,
    uniforms: api::BindGroupLayout,
    /// By whether each binding is read only.
    layouts: HashMap<Vec<bool>, api::BindGroupLayout>,
    pipelines: HashMap<&'static str, Pipeline>,
}

impl Pipelines {
    /// None yet.
    pub fn new(gpu: &Gpu, checks: Checks) -> Self {
        let entries = [uniform_entry(0, true, PARAMS_STRIDE), uniform_entry(1, false, STEP_BYTES)];
        let uniforms = gpu.device.create_bind_group_layout(&api::BindGroupLayoutDescriptor {
            label: Some("params, step"),
            entries: &entries,
        });
        Self { checks, uniforms, layouts: HashMap::new(), pipelines: HashMap::new() }
    }

    /// Layout of group 1.
    pub fn uniforms(&self) -> &api::BindGroupLayout {
        &self.uniforms
    }

    /// The pipeline of `kernel`, compiled on first use.
    ///
    /// # Errors
    /// If the driver refuses it.
    pub fn get(&mut self, gpu: &Gpu, kernel: &'static Kernel) -> Result<&Pipeline> {
        let name = kernel.name();
        if !self.pipelines.contains_key(name) {
            let pipeline = self.create(gpu, kernel);
            gpu.check(name, 0)?;
            self.pipelines.insert(name, pipeline);
        }
        Ok(&self.pipelines[name])
    }

    fn create(&mut self, gpu: &Gpu, kernel: &'static Kernel) -> Pipeline {
        let (device, source) = (&gpu.device, kernel.source);
        let read_only = source.bindings.iter().map(|binding| binding.access == Access::Read).collect();
        let layout = self.layouts.entry(read_only).or_insert_with_key(|key| storage_layout(device, key)).clone();
        let pipeline_layout = device.create_pipeline_layout(&api::PipelineLayoutDescriptor {
            label: Some(source.name),
            bind_group_layouts: &[Some(&layout), Some(&self.uniforms)],
            immediate_size: 0,
        });
        let cooperative = source.needs.iter().any(|need| matches!(need, Need::Cooperative(_)));
        let lanes = [("LANES", f64::from(gpu.half.map_or(0, |half| half.lanes)))];
        let pipeline = device.create_compute_pipeline(&api::ComputePipelineDescriptor {
            label: Some(source.name),
            layout: Some(&pipeline_layout),
            module: &shader_module(device, source.name, source.wgsl, self.checks),
            entry_point: None,
            compilation_options: api::PipelineCompilationOptions {
                // Kernels write workgroup memory before they read it; clearing it costs time and a barrier.
                zero_initialize_workgroup_memory: false,
                constants: if cooperative { &lanes } else { &[] },
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    }
}

fn shader_module(device: &api::Device, name: &str, wgsl: &'static str, checks: Checks) -> api::ShaderModule {
    let on = checks == Checks::On;
    let descriptor =
        api::ShaderModuleDescriptor { label: Some(name), source: api::ShaderSource::Wgsl(Cow::Borrowed(wgsl)) };
    // SAFETY: the text is part of this program, validated by naga when it was built. Its loops run to bounds from
    // uniforms or shapes, so they end, and its indices are guarded by lengths that the op computed for the bound views.
    unsafe {
        let checks = api::ShaderRuntimeChecks {
            bounds_checks: on,
            int_div_checks: on,
            // Bounding every loop makes kernels up to a hundred times slower, debug build or not.
            ..api::ShaderRuntimeChecks::unchecked()
        };
        device.create_shader_module_trusted(descriptor, checks)
    }
}

fn storage_layout(device: &api::Device, read_only: &[bool]) -> api::BindGroupLayout {
    let storage = |read_only| api::BufferBindingType::Storage { read_only };
    let entries = read_only.iter().zip(0..);
    let entries: Vec<_> =
        entries.map(|(&read_only, binding)| entry(binding, storage(read_only), false, None)).collect();
    device.create_bind_group_layout(&api::BindGroupLayoutDescriptor { label: Some("operands"), entries: &entries })
}

fn uniform_entry(binding: u32, dynamic: bool, bytes: u64) -> api::BindGroupLayoutEntry {
    entry(binding, api::BufferBindingType::Uniform, dynamic, NonZeroU64::new(bytes))
}

fn entry(
    binding: u32,
    ty: api::BufferBindingType,
    has_dynamic_offset: bool,
    min_binding_size: Option<NonZeroU64>,
) -> api::BindGroupLayoutEntry {
    api::BindGroupLayoutEntry {
        binding,
        visibility: api::ShaderStages::COMPUTE,
        ty: api::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size },
        count: None,
    }
}
