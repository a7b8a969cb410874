//! Reflection: naga parses and validates expanded text, then the conventions of all kernels are checked.
//!
//! Group 0: storage bindings, numbered from 0 without holes, at most eight (the WebGPU minimum). Group 1: `params`
//! (uniform, binding 0, a multiple of 16 bytes) and, where used, `step` (uniform, binding 1). One compute entry point
//! `main` with a one-dimensional workgroup (near-square groups miscompute on Adreno 840) of at most 256 threads and at
//! most 16,384 bytes of workgroup memory. Every variant runs on every device but those that enable `f16` or cooperative
//! matrices; the latter have a workgroup of `LANES` threads, an override, and up to 32,768 bytes.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, StorageAccess, TypeInner};

use super::expand::Expanded;

/// `unpack2x16float` is part of WebGPU, a flag only because of old OpenGL. The others are what [`needs`] names; text
/// that does not `enable` them cannot use them.
const CAPABILITIES: Capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32
    .union(Capabilities::SHADER_FLOAT16)
    .union(Capabilities::COOPERATIVE_MATRIX)
    .union(Capabilities::SUBGROUP);
const MAX_STORAGE_BINDINGS: usize = 8;
const MAX_WORKGROUP_BYTES: u32 = 16_384;
/// Of kernels by cooperative matrices: every GPU that has these has more than this.
const MAX_COOPERATIVE_BYTES: u32 = 32_768;
const MAX_THREADS: u32 = 256;

/// What the generated `Source` holds besides its text.
#[derive(Debug, PartialEq, Eq)]
pub struct Reflection {
    /// Name of each storage binding in order, and whether it is written.
    pub bindings: Vec<(String, bool)>,
    /// Threads per workgroup.
    pub workgroup: [u32; 3],
    /// Size of the `Params` uniform.
    pub params_bytes: u32,
    /// Variants of `Need` as Rust text.
    pub needs: Vec<String>,
}

/// Parses, validates and reflects.
///
/// # Errors
/// What naga or a convention refuses, with file and line where there is one.
pub fn reflect(source: &Expanded) -> Result<Reflection, String> {
    let module = naga::front::wgsl::parse_str(&source.text).map_err(|error| {
        let line = error.location(&source.text).map(|location| location.line_number);
        format!("{}{}", origin(source, line), error.emit_to_string(&source.text))
    })?;
    Validator::new(ValidationFlags::all(), CAPABILITIES).validate(&module).map_err(|error| {
        // The shortest span is the expression at fault, the others are what it is in.
        let span =
            error.spans().map(|(span, _)| *span).min_by_key(|span| span.to_range().map_or(0, |range| range.len()));
        let line = span.map(|span| span.location(&source.text).line_number);
        format!("{}{}", origin(source, line), error.emit_to_string(&source.text))
    })?;
    let bindings = storage_bindings(&module)?;
    let params_bytes = uniforms(&module)?;
    let needs = needs(&module, &source.text);
    workgroup_memory(&module, needs.iter().any(|need| need.starts_with("Cooperative")))?;
    Ok(Reflection { bindings, workgroup: workgroup(&module)?, params_bytes, needs })
}

/// What a device must offer. naga drops the directives once it has checked that the text keeps to them.
fn needs(module: &Module, text: &str) -> Vec<String> {
    let half = text.lines().any(|line| line == "enable f16;").then(|| "Half".to_owned());
    let mut sides: Vec<u32> = module
        .types
        .iter()
        .filter_map(|(_, ty)| match ty.inner {
            TypeInner::CooperativeMatrix { columns, .. } => Some(columns as u32),
            _ => None,
        })
        .collect();
    sides.sort_unstable();
    sides.dedup();
    half.into_iter().chain(sides.iter().map(|side| format!("Cooperative({side})"))).collect()
}

fn origin(source: &Expanded, line: Option<u32>) -> String {
    let origin = line.and_then(|line| source.origins.get((line as usize).checked_sub(1)?));
    origin.map_or_else(String::new, |(file, line)| format!("{file}:{line}: "))
}

fn storage_bindings(module: &Module) -> Result<Vec<(String, bool)>, String> {
    let mut found = Vec::new();
    for (_, variable) in module.global_variables.iter() {
        let AddressSpace::Storage { access } = variable.space else { continue };
        let name = variable.name.clone().unwrap_or_default();
        let binding = variable.binding.ok_or_else(|| format!("{name}: storage without @binding"))?;
        if binding.group != 0 {
            return Err(format!("{name}: storage belongs to group 0"));
        }
        found.push((binding.binding, name, access.contains(StorageAccess::STORE)));
    }
    found.sort();
    if found.len() > MAX_STORAGE_BINDINGS {
        return Err(format!("{} storage bindings, at most {MAX_STORAGE_BINDINGS} are portable", found.len()));
    }
    for (index, (binding, name, _)) in found.iter().enumerate() {
        if *binding as usize != index {
            return Err(format!("{name}: storage bindings are numbered from 0 without holes, expected {index}"));
        }
    }
    Ok(found.into_iter().map(|(_, name, written)| (name, written)).collect())
}

/// Checks the uniforms and returns the size of `params`.
fn uniforms(module: &Module) -> Result<u32, String> {
    let mut params_bytes = None;
    for (_, variable) in module.global_variables.iter() {
        if variable.space != AddressSpace::Uniform {
            continue;
        }
        let name = variable.name.as_deref().unwrap_or_default();
        let at = variable.binding.as_ref().map(|binding| (binding.group, binding.binding));
        match (name, at) {
            ("params", Some((1, 0))) => match module.types[variable.ty].inner {
                TypeInner::Struct { span, .. } => params_bytes = Some(span),
                _ => return Err("params: must be a struct".to_owned()),
            },
            ("step", Some((1, 1))) => {}
            _ => return Err(format!("{name}: uniforms are params (group 1, binding 0) and step (group 1, binding 1)")),
        }
    }
    match params_bytes {
        None => Err("the uniform params (group 1, binding 0) is missing".to_owned()),
        Some(bytes) if !bytes.is_multiple_of(16) => Err(format!("params: {bytes} bytes, must be a multiple of 16")),
        Some(bytes) => Ok(bytes),
    }
}

fn workgroup(module: &Module) -> Result<[u32; 3], String> {
    let [entry] = module.entry_points.as_slice() else {
        return Err(format!("{} entry points, expected one", module.entry_points.len()));
    };
    let [threads, y, z] = entry.workgroup_size;
    if entry.stage != ShaderStage::Compute || entry.name != "main" {
        return Err(format!("the entry point must be the compute shader main, not {}", entry.name));
    }
    if (y, z) != (1, 1) || threads > MAX_THREADS {
        return Err(format!("workgroup {threads} x {y} x {z}: must be one-dimensional, at most {MAX_THREADS} threads"));
    }
    Ok(entry.workgroup_size)
}

fn workgroup_memory(module: &Module, cooperative: bool) -> Result<(), String> {
    let most = if cooperative { MAX_COOPERATIVE_BYTES } else { MAX_WORKGROUP_BYTES };
    let shared = module.global_variables.iter().filter(|(_, variable)| variable.space == AddressSpace::WorkGroup);
    let bytes: u32 = shared.map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx())).sum();
    if bytes > most {
        return Err(format!("{bytes} bytes of workgroup memory, at most {most} are portable"));
    }
    Ok(())
}
