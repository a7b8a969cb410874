//! A plain wgpu device that runs one kernel call at a time, with all checks on: the oracle's counterpart, independent
//! of loam's own back end.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use loam_shaders::check::{Operand, Written, written};
use loam_shaders::{Access, Call, Need, Source, Step};
use wgpu::util::DeviceExt;

/// Words past the end of every buffer that no kernel may write, nor let its results depend on.
const GUARD: usize = 64;
/// Content of the guard words: a NaN, so that a result that depends on it shows.
const GUARD_WORD: u32 = 0x7fc0_dead;

/// The test device. Pipelines are made once per kernel.
#[derive(Debug)]
pub struct Gpu {
    /// Adapter name.
    pub name: String,
    device: wgpu::Device,
    queue: wgpu::Queue,
    /// Optional things that it has.
    has: Vec<Need>,
    /// Threads of four subgroups.
    lanes: u32,
    pipelines: Mutex<HashMap<&'static str, Pipeline>>,
}

#[derive(Debug, Clone)]
struct Pipeline {
    storage: wgpu::BindGroupLayout,
    uniforms: wgpu::BindGroupLayout,
    pipeline: wgpu::ComputePipeline,
}

/// The test device of this process: real hardware before a software rasteriser. `None`, after a line on standard
/// error, where there is no adapter: the test skips its GPU part.
pub fn gpu() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| {
        let gpu = pollster::block_on(open());
        if gpu.is_none() {
            crate::skipped("no Vulkan adapter; install a driver or mesa-vulkan-drivers to run the GPU tests");
        }
        gpu
    })
    .as_ref()
}

async fn open() -> Option<Gpu> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
    let rank = |adapter: &wgpu::Adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    let adapter = adapters.into_iter().min_by_key(rank)?;
    let has = needs(&adapter);
    let mut required_features = wgpu::Features::empty();
    let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
    for need in &has {
        match need {
            Need::Half => required_features |= wgpu::Features::SHADER_F16,
            Need::Cooperative(_) => {
                required_features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SUBGROUP;
                // SAFETY: tests look at what the experiment gives.
                experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
            }
        }
    }
    let required_limits = adapter.limits();
    let descriptor =
        wgpu::DeviceDescriptor { required_features, required_limits, experimental_features, ..Default::default() };
    let (device, queue) = adapter
        .request_device(&descriptor)
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", adapter.get_info().name));
    let lanes = 4 * adapter.get_info().subgroup_max_size;
    Some(Gpu { name: adapter.get_info().name, device, queue, has, lanes, pipelines: Mutex::default() })
}

/// Takes the guard words off, after a look at them.
fn unguarded(call: &Call, mut buffers: Vec<Vec<u32>>) -> Vec<Vec<u32>> {
    for (buffer, binding) in buffers.iter_mut().zip(call.kernel.source.bindings) {
        let guard = buffer.split_off(buffer.len() - GUARD);
        let name = call.kernel.name();
        assert!(guard.iter().all(|word| *word == GUARD_WORD), "{name}: wrote past the end of {}", binding.name);
    }
    buffers
}

fn needs(adapter: &wgpu::Adapter) -> Vec<Need> {
    let features = adapter.features();
    let mut needs = Vec::new();
    if features.contains(wgpu::Features::SHADER_F16) {
        needs.push(Need::Half);
    }
    if features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SUBGROUP) {
        let matrices = adapter.cooperative_matrix_properties().into_iter();
        let usable = matrices.filter(|m| {
            (m.m_size, m.n_size) == (m.k_size, m.k_size)
                && m.ab_type == wgpu::CooperativeScalarType::F16
                && m.cr_type == wgpu::CooperativeScalarType::F32
        });
        needs.extend(usable.map(|matrix| Need::Cooperative(matrix.k_size)));
    }
    needs
}

impl Gpu {
    /// Whether it has all that a kernel needs.
    pub fn runs(&self, source: &Source) -> bool {
        source.needs.iter().all(|need| self.has.contains(need))
    }

    /// Runs one call and returns the written bindings.
    ///
    /// # Panics
    /// If wgpu refuses it, or words past the end of a buffer were written.
    pub fn run(&self, step: &Step, call: &Call, operands: &[Operand]) -> Written {
        let Pipeline { storage, uniforms, pipeline } = self.pipeline(call.kernel.source);
        let buffers: Vec<wgpu::Buffer> = operands.iter().map(|operand| self.upload(operand)).collect();
        let mut params = call.params.clone();
        params.resize(params.len().max(16), 0);
        let state = [self.uniform(&params), self.uniform(bytemuck::bytes_of(step))];
        let groups = [self.group(&storage, &buffers), self.group(&uniforms, &state)];
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &groups[0], &[]);
            pass.set_bind_group(1, &groups[1], &[]);
            let [x, y, z] = call.grid;
            pass.dispatch_workgroups(x, y, z);
        }
        let staging: Vec<wgpu::Buffer> = buffers.iter().map(|buffer| self.staging(buffer.size())).collect();
        for (buffer, staging) in buffers.iter().zip(&staging) {
            encoder.copy_buffer_to_buffer(buffer, 0, staging, 0, buffer.size());
        }
        self.queue.submit([encoder.finish()]);
        let buffers = staging.iter().map(|buffer| self.read(buffer)).collect();
        written(call, unguarded(call, buffers))
    }

    fn upload(&self, operand: &Operand) -> wgpu::Buffer {
        let mut words = operand.device_words();
        words.extend([GUARD_WORD; GUARD]);
        self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: None,
            contents: bytemuck::cast_slice(&words),
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
        })
    }

    fn uniform(&self, contents: &[u8]) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::UNIFORM;
        self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
    }

    fn staging(&self, size: u64) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    }

    fn read(&self, staging: &wgpu::Buffer) -> Vec<u32> {
        staging.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("the read-back buffer maps"));
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device finishes");
        let bytes = staging.get_mapped_range(..).expect("the read-back buffer is mapped");
        bytemuck::pod_collect_to_vec(&bytes)
    }

    fn group(&self, layout: &wgpu::BindGroupLayout, buffers: &[wgpu::Buffer]) -> wgpu::BindGroup {
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
    }

    fn pipeline(&self, source: &'static Source) -> Pipeline {
        let mut pipelines = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        pipelines.entry(source.name).or_insert_with(|| self.make_pipeline(source)).clone()
    }

    fn make_pipeline(&self, source: &'static Source) -> Pipeline {
        let access = |read_only| wgpu::BufferBindingType::Storage { read_only };
        let storage: Vec<_> = source.bindings.iter().map(|binding| access(binding.access == Access::Read)).collect();
        let storage = self.layout(&storage);
        let uniforms = self.layout(&[wgpu::BufferBindingType::Uniform; 2]);
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(source.name),
            source: wgpu::ShaderSource::Wgsl(source.wgsl.into()),
        });
        let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(source.name),
            bind_group_layouts: &[Some(&storage), Some(&uniforms)],
            immediate_size: 0,
        });
        let cooperative = source.needs.iter().any(|need| matches!(need, Need::Cooperative(_)));
        let lanes = [("LANES", f64::from(self.lanes))];
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(source.name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: if cooperative { &lanes } else { &[] },
                ..Default::default()
            },
            cache: None,
        });
        Pipeline { storage, uniforms, pipeline }
    }

    fn layout(&self, types: &[wgpu::BufferBindingType]) -> wgpu::BindGroupLayout {
        let entries: Vec<_> = (0..)
            .zip(types)
            .map(|(binding, ty)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty: *ty, has_dynamic_offset: false, min_binding_size: None },
                count: None,
            })
            .collect();
        self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
    }
}
