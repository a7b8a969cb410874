//! Adapters of every family: PEFT folders there and back, files of llama.cpp's converter.

use std::path::PathBuf;

use loam::adapter::{AdapterFile, lora};
use loam::gguf::{GgmlType, Metadata, TensorDeclaration, Writer};
use loam_convert::{from_peft, to_peft};
use loam_tests::Random;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::families::Model;
use loam_tests::folder::{Tensors, f32_bytes, read_tensors, values, write_tensors};

/// A LoRA of rank `rank(module)` on every linear layer that is no expert: PEFT's names.
fn halves(model: &Model, rank: impl Fn(&str) -> usize) -> Tensors {
    let mut random = Random::new(11);
    let mut out = Tensors::new();
    for named in model.names.iter().filter(|n| n.hf.ends_with("_proj.weight") && !n.hf.contains("experts")) {
        let module = named.hf.strip_suffix(".weight").unwrap();
        let (r, [rows, inner]) = (rank(module), named.shape[..].try_into().unwrap());
        for (half, shape) in [("A", [r, inner]), ("B", [rows, r])] {
            let bytes = f32_bytes(&random.values(shape[0] * shape[1]));
            let name = format!("base_model.model.{module}.lora_{half}.weight");
            out.insert(name, (Dtype::F32, shape.to_vec(), bytes));
        }
    }
    out
}

fn peft(model: &Model, edit: Value, tensors: &Tensors) -> PathBuf {
    let dir = model.folder.file("peft");
    let _ = std::fs::create_dir(&dir);
    let mut config = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none",
        "target_modules": "all-linear", "base_model_name_or_path": "some/model"});
    config.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
    std::fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
    write_tensors(&dir.join("adapter_model.safetensors"), tensors);
    dir
}

/// Imports into `a.gguf` and exports again: the adapter, and what PEFT would read.
fn there_and_back(model: &Model, edit: Value, tensors: &Tensors) -> (AdapterFile, Value, Tensors) {
    let (base, gguf, out) = (model.base(), model.folder.file("a.gguf"), model.folder.file("back"));
    from_peft(&peft(model, edit, tensors), &base, &gguf).unwrap_or_else(|e| panic!("{}: {e}", model.name));
    to_peft(&gguf, &base, &out).unwrap_or_else(|e| panic!("{}: {e}", model.name));
    let config = serde_json::from_slice(&std::fs::read(out.join("adapter_config.json")).unwrap()).unwrap();
    (AdapterFile::read(&gguf).unwrap(), config, read_tensors(&out.join("adapter_model.safetensors")))
}

#[test]
fn adapters_of_every_family_survive_the_round_trip_bit_by_bit() {
    for model in Model::all() {
        let tensors = halves(&model, |_| 4);
        let (adapter, config, back) = there_and_back(&model, json!({}), &tensors);
        assert!(back == tensors, "{}", model.name);
        assert_eq!(config["base_model_name_or_path"], "some/model");
        assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(4), &json!(8)));
        let gguf = |hf: &str| &model.names.iter().find(|n| n.hf.strip_suffix(".weight") == Some(hf)).unwrap().gguf;
        let pairs = lora::pairs(&adapter);
        for (name, tensor) in &tensors {
            let module = name.strip_prefix("base_model.model.").unwrap();
            let Some(module) = module.strip_suffix(".lora_B.weight") else { continue };
            let pair = &pairs.iter().find(|(name, _)| name == gguf(module)).unwrap().1;
            assert!(pair.b == model.reorder(module, &values(tensor), 4), "{}: {module}", model.name);
        }
        assert_eq!(adapter.parameters.len(), tensors.len(), "{}", model.name);
    }
}

#[test]
fn patterns_and_rslora_survive_as_one_alpha() {
    let model = Model::named("qwen3");
    let tensors = halves(&model, |module| if module.ends_with("down_proj") { 9 } else { 4 });
    let edit = json!({"use_rslora": true, "rank_pattern": {"down_proj": 9}, "alpha_pattern": {"layers.1.mlp.up_proj": 2},
        "target_modules": r".*\.(self_attn|mlp)\..*_proj", "layers_to_transform": [0, 1]});
    let (adapter, config, back) = there_and_back(&model, edit, &tensors);
    // alpha / sqrt(rank) for rank 4 is 4 = 16 / 4; B of other scales is multiplied by what is missing.
    assert_eq!(
        (lora::alpha(&adapter.settings), &config["lora_alpha"], &config["use_rslora"]),
        (16.0, &json!(16), &json!(false))
    );
    assert_eq!(config["rank_pattern"].as_object().unwrap().len(), 2);
    let factor = |name: &str| match name {
        name if name.contains("down_proj") => (8.0 / 3.0) / (16.0 / 9.0),
        name if name.contains("layers.1.mlp.up_proj") => 1.0 / 4.0,
        _ => 1.0,
    };
    for (name, tensor) in &tensors {
        let factor = if name.contains("lora_B") { factor(name) } else { 1.0 };
        let scaled: Vec<f32> = values(tensor).iter().map(|x| (f64::from(*x) * factor) as f32).collect();
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * a.abs();
        assert!(scaled.iter().zip(&values(&back[name])).all(close), "{name}");
    }
}

/// Names under which adapters of the same layers are saved elsewhere.
#[test]
fn names_with_other_prefixes_are_the_same_layers() {
    let model = Model::named("gemma3");
    let tensors = halves(&model, |_| 4);
    let (plain, ..) = there_and_back(&model, json!({}), &tensors);
    let changes: [(&str, &str, &str); 4] = [
        ("base_model.model.model.", "base_model.model.model.language_model.", ".weight"),
        ("base_model.model.model.", "base_model.model.language_model.model.", ".weight"),
        ("base_model.model.model.", "base_model.model.", ".weight"),
        ("base_model.model.", "", ".default.weight"),
    ];
    for (from, to, end) in changes {
        let rename = |name: &String| name.replacen(from, to, 1).replace(".weight", end);
        let renamed: Tensors = tensors.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect();
        let (adapter, _, back) = there_and_back(&model, json!({}), &renamed);
        assert!(adapter == plain && back == tensors, "{to}");
    }
    let mut twice = tensors.clone();
    let (name, tensor) = tensors.iter().next().unwrap();
    twice.insert(name.replace(".weight", ".default.weight"), tensor.clone());
    let dir = peft(&model, json!({}), &twice);
    let message = from_peft(&dir, &model.base(), &model.folder.file("b.gguf")).unwrap_err().to_string();
    assert!(message.contains("twice"), "{message}");
}

#[test]
fn layers_that_cannot_be_adapted_are_named() {
    let cases = [
        ("qwen3moe", "model.layers.0.mlp.experts.0.gate", [32, 64]),
        ("phi3", "model.layers.0.self_attn.q_proj", [64, 64]),
        ("llama", "model.embed_tokens", [64, 64]),
        ("llama", "model.norm", [64, 64]),
    ];
    for (name, module, [rows, inner]) in cases {
        let model = Model::named(name);
        let mut tensors = halves(&model, |_| 4);
        for (half, shape) in [("A", [4, inner]), ("B", [rows, 4])] {
            let bytes = f32_bytes(&vec![0.5; shape[0] * shape[1]]);
            tensors
                .insert(format!("base_model.model.{module}.lora_{half}.weight"), (Dtype::F32, shape.to_vec(), bytes));
        }
        let dir = peft(&model, json!({}), &tensors);
        let message = from_peft(&dir, &model.base(), &model.folder.file("a.gguf")).unwrap_err().to_string();
        assert!(message.contains(module), "{message}");
    }
}

/// A file as convert_lora_to_gguf.py writes it: keys of its own, halves in F16, nothing of loam's.
fn foreign(model: &Model, edit: impl Fn(&mut Vec<(String, [u64; 2], f32)>)) -> PathBuf {
    let path = model.folder.file("foreign.gguf");
    let mut metadata = Metadata::new();
    for (key, value) in [("general.architecture", "qwen3"), ("general.type", "adapter"), ("adapter.type", "lora")] {
        metadata.set(key, value);
    }
    metadata.set("general.name", "Peft");
    metadata.set("general.base_model.count", 1u32);
    metadata.set("adapter.lora.alpha", 8.0f32);
    metadata.set("general.quantization_version", 2u32);
    let mut tensors = Vec::new();
    for named in model.names.iter().filter(|n| n.hf.ends_with("_proj.weight")) {
        let [rows, inner] = named.shape[..].try_into().unwrap();
        tensors.push((format!("{}.lora_a", named.gguf), [inner as u64, 4], 0.25));
        tensors.push((format!("{}.lora_b", named.gguf), [4, rows as u64], -0.5));
    }
    edit(&mut tensors);
    let declare = |(name, shape, _): &(String, [u64; 2], f32)| TensorDeclaration {
        name: name.clone(),
        shape: shape.to_vec(),
        ty: GgmlType::F16,
    };
    let declarations: Vec<_> = tensors.iter().map(declare).collect();
    let mut writer = Writer::new(Vec::new(), &path, &metadata, &declarations).unwrap();
    for (name, shape, fill) in &tensors {
        let count = (shape[0] * shape[1]) as usize;
        writer.write(name, &half::f16::from_f32(*fill).to_le_bytes().repeat(count)).unwrap();
    }
    std::fs::write(&path, writer.finish().unwrap()).unwrap();
    path
}

#[test]
fn files_of_llama_cpps_converter_are_read_and_checked() {
    let model = Model::named("qwen3");
    let (base, out) = (model.base(), model.folder.file("back"));
    to_peft(&foreign(&model, |_| ()), &base, &out).unwrap();
    let back = read_tensors(&out.join("adapter_model.safetensors"));
    assert_eq!(back.len(), 28);
    let b = &back["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"];
    assert!(b.1 == [64, 4] && values(b).iter().all(|x| *x == -0.5));
    std::fs::remove_dir_all(&out).unwrap();
    type Edit = fn(&mut Vec<(String, [u64; 2], f32)>);
    let cases: [(&str, Edit); 8] = [
        ("is missing", |t| drop(t.remove(1))),
        ("rank", |t| t[1].1[0] = 3),
        // Transposed halves.
        ("rank", |t| (t[0].1, t[1].1) = ([4, t[0].1[0]], [t[1].1[1], 4])),
        ("fits a weight", |t| t[0].1[0] += 4),
        ("not in the base", |t| {
            t.extend([
                ("blk.7.attn_q.weight.lora_a".into(), [64, 4], 0.5),
                ("blk.7.attn_q.weight.lora_b".into(), [4, 128], 0.5),
            ]);
        }),
        ("finite", |t| t[3].2 = f32::NAN),
        ("finite", |t| t[2].2 = f32::INFINITY),
        ("neither", |t| t.push(("blk.0.attn_q.weight".into(), [64, 128], 0.5))),
    ];
    for (named, edit) in cases {
        let message = to_peft(&foreign(&model, edit), &base, &out).expect_err(named).to_string();
        assert!(message.contains(named) && !out.exists(), "{named}: {message}");
    }
}
