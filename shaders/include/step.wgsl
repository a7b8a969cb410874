// The step state, mirrored by loam_shaders::Step.
struct Step {
    seed: u32,
    step: u32,
    rows: u32,
    lr: f32,
    correction1: f32,
    correction2: f32,
    clip: f32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
    reserved3: u32,
    reserved4: u32,
}

@group(1) @binding(1) var<uniform> step: Step;
