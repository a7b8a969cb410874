//! Every shader variant, as every kind of device will take it: written as SPIR-V, MSL and HLSL by naga, accepted by
//! Tint (the browser's compiler, where installed), with uniforms laid out as the host writes them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use loam_shaders::kernel::Layout;
use loam_shaders::source::SOURCES;
use loam_shaders::{Need, OPS, Source, Step};
use naga::back::pipeline_constants::process_overrides;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, TypeInner, back};

fn parse(source: &Source) -> (Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(source.wgsl).unwrap_or_else(|error| panic!("{}: {error}", source.name));
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    for need in source.needs {
        capabilities |= match need {
            Need::Half => Capabilities::SHADER_FLOAT16,
            Need::Cooperative(_) => Capabilities::COOPERATIVE_MATRIX | Capabilities::SUBGROUP,
        };
    }
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|error| panic!("{}: {error}", source.name));
    // Overrides get their values when a pipeline is made.
    let constants = back::PipelineConstants::default();
    let (module, info) =
        process_overrides(&module, &info, None, &constants).unwrap_or_else(|error| panic!("{}: {error}", source.name));
    (module.into_owned(), info.into_owned())
}

/// Cooperative matrices are Vulkan's and Metal's; browsers and DX12 have none.
fn cooperative(source: &Source) -> bool {
    source.needs.iter().any(|need| matches!(need, Need::Cooperative(_)))
}

#[test]
fn every_variant_is_the_source_of_one_kernel() {
    let sources: BTreeSet<&str> = SOURCES.iter().map(|source| source.name).collect();
    let kernels: Vec<&str> = loam_shaders::kernels().map(|kernel| kernel.name()).collect();
    assert_eq!(sources, kernels.iter().copied().collect(), "variants, and kernels with a reference");
    assert_eq!(sources.len(), kernels.len(), "no kernel is listed twice");
    for op in OPS {
        for kernel in op.kernels {
            assert!(kernel.name().starts_with(&format!("{}_", op.name)), "{} belongs to {}", kernel.name(), op.name);
        }
    }
}

#[test]
fn every_variant_can_be_written_as_spirv() {
    for source in SOURCES {
        let (module, info) = parse(source);
        let pipeline =
            back::spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".to_owned() };
        let words = back::spv::write_vec(&module, &info, &back::spv::Options::default(), Some(&pipeline))
            .unwrap_or_else(|error| panic!("{}: {error}", source.name));
        assert_eq!(words[0], 0x0723_0203, "{}: SPIR-V magic", source.name);
    }
}

#[test]
fn every_variant_can_be_written_as_msl() {
    for source in SOURCES {
        let lang_version = if cooperative(source) { (2, 3) } else { (2, 1) };
        let options = back::msl::Options { lang_version, ..Default::default() };
        let (module, info) = parse(source);
        let (text, _) = back::msl::write_string(&module, &info, &options, &Default::default())
            .unwrap_or_else(|error| panic!("{}: {error}", source.name));
        assert!(text.contains("kernel void"), "{}", source.name);
    }
}

#[test]
fn every_variant_can_be_written_as_hlsl() {
    for source in SOURCES.iter().filter(|source| !cooperative(source)) {
        let half = source.needs.contains(&Need::Half);
        let shader_model = if half { back::hlsl::ShaderModel::V6_2 } else { back::hlsl::ShaderModel::V6_0 };
        let options = back::hlsl::Options { shader_model, ..Default::default() };
        let (module, info) = parse(source);
        let mut text = String::new();
        let pipeline = back::hlsl::PipelineOptions::default();
        back::hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(&module, &info, None)
            .unwrap_or_else(|error| panic!("{}: {error}", source.name));
        assert!(text.contains("numthreads"), "{}", source.name);
    }
}

/// naga accepts some text that browsers refuse, barriers in non-uniform control flow above all.
#[test]
fn tint_accepts_every_variant() {
    if Command::new("tint").arg("--help").output().is_err() {
        return loam_tests::skipped("no tint on the PATH; install Dawn's tint to check the browser's rules");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let all = SOURCES.iter().filter(|source| !cooperative(source));
    let failures: Vec<String> = all.filter_map(|source| refused_by_tint(source, folder.path().into())).collect();
    assert!(failures.is_empty(), "tint refuses {} variants:\n{}", failures.len(), failures.join("\n"));
}

fn refused_by_tint(source: &Source, folder: PathBuf) -> Option<String> {
    let file = folder.join(format!("{}.wgsl", source.name));
    std::fs::write(&file, source.wgsl).expect("can write");
    let output = Command::new("tint")
        .args(["--format", "wgsl", "-o"])
        .arg(file.with_extension("out"))
        .arg(&file)
        .output()
        .expect("tint runs");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (!output.status.success()).then(|| format!("{}: {}{}", source.name, said(&output.stderr), said(&output.stdout)))
}

/// Name and offset of the members of the uniform `name`, padding left out, and its size.
fn uniform(module: &Module, name: &str) -> Option<(Vec<(String, usize)>, usize)> {
    let (_, variable) = module.global_variables.iter().find(|(_, variable)| variable.name.as_deref() == Some(name))?;
    let TypeInner::Struct { members, span } = &module.types[variable.ty].inner else { panic!("{name}: no struct") };
    let named = members.iter().map(|member| (member.name.clone().unwrap_or_default(), member.offset as usize));
    let fields = named.filter(|(name, _)| !name.starts_with("pad") && !name.starts_with("reserved")).collect();
    Some((fields, *span as usize))
}

fn same(layout: &Layout, (fields, size): &(Vec<(String, usize)>, usize)) -> bool {
    let host = layout.fields.iter().map(|(name, offset)| ((*name).to_owned(), *offset));
    layout.size == *size && host.eq(fields.iter().cloned())
}

#[test]
fn uniforms_are_laid_out_as_the_host_writes_them() {
    for op in OPS {
        for kernel in op.kernels {
            let (module, _) = parse(kernel.source);
            let device = uniform(&module, "params").expect("every kernel has params");
            let found = op.layouts.iter().any(|layout| same(layout, &device));
            assert!(found, "{}: WGSL has {device:?}, the host {:?}", kernel.name(), op.layouts);
            assert_eq!(kernel.source.params_bytes as usize, device.1, "{}", kernel.name());
        }
    }
}

#[test]
fn the_step_state_is_laid_out_as_the_host_writes_it() {
    macro_rules! fields {
        ($($field:ident),*) => { &[$((stringify!($field), std::mem::offset_of!(Step, $field))),*] };
    }
    let fields = fields!(seed, step, rows, lr, correction1, correction2, clip);
    let host = Layout { name: "Step", size: size_of::<Step>(), fields };
    let mut seen = 0;
    for source in SOURCES {
        if let Some(device) = uniform(&parse(source).0, "step") {
            seen += 1;
            assert!(same(&host, &device), "{}: WGSL has {device:?}, the host {host:?}", source.name);
        }
    }
    assert!(seen > 0, "some kernel uses the step state");
}

/// All `.wgsl` files with their path.
fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "wgsl") {
            let text = std::fs::read_to_string(&path).expect("text");
            all.push((path, text));
        }
    }
    all
}

#[test]
fn texts_are_written_in_one_way() {
    let all = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../shaders"));
    assert!(all.len() > 100, "{} files", all.len());
    for (path, text) in all {
        for (index, line) in text.lines().enumerate() {
            let at = || format!("{}:{}: {line}", path.display(), index + 1);
            let condition = line.trim_start().strip_prefix("if ").and_then(|rest| rest.strip_suffix(" {"));
            assert!(!condition.is_some_and(in_parentheses), "no parentheses around a condition: {}", at());
            for (builtin, name) in [("workgroup_id", "workgroup"), ("local_invocation_index", "thread")] {
                let named = line.split_once(&format!("@builtin({builtin}) ")).map(|(_, rest)| rest);
                assert!(named.is_none_or(|rest| rest.starts_with(&format!("{name}: "))), "call it {name}: {}", at());
            }
        }
    }
}

/// Whether the first parenthesis is closed by the last character.
fn in_parentheses(condition: &str) -> bool {
    let mut depth = 0;
    let closed = condition.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    condition.starts_with('(') && closed == Some(condition.len() - 1)
}
