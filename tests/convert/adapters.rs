//! PEFT LoRA folders in and out.

use std::path::{Path, PathBuf};

use loam::adapter::{AdapterFile, BASE_DIGEST, lora};
use loam::gguf::GgufFile;
use loam_convert::{Error, from_peft, to_peft};
use loam_shaders::Format;
use loam_tests::{Random, shared};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use super::folder::{gguf_values, to};
use loam_tests::folder::{Folder, Tensors, f32_bytes, read_tensors, values, write_tensors};

const MODULES: [(&str, usize, usize); 4] = [
    ("self_attn.q_proj", 64, 64),
    ("self_attn.k_proj", 32, 64),
    ("self_attn.v_proj", 32, 64),
    ("mlp.down_proj", 64, 192),
];

fn name(layer: usize, module: &str, half: &str) -> String {
    format!("base_model.model.model.layers.{layer}.{module}.lora_{half}.weight")
}

/// Random A and B of every layer for `MODULES`, with the rank that `rank` says.
fn tensors(rank: impl Fn(usize, &str) -> usize) -> Tensors {
    let mut random = Random::new(3);
    let mut out = Tensors::new();
    for layer in 0..4 {
        for (module, rows, inner) in MODULES {
            let r = rank(layer, module);
            out.insert(name(layer, module, "A"), (Dtype::F32, vec![r, inner], f32_bytes(&random.values(r * inner))));
            out.insert(name(layer, module, "B"), (Dtype::F32, vec![rows, r], f32_bytes(&random.values(rows * r))));
        }
    }
    out
}

fn config() -> Value {
    json!({"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "loam/micro", "r": 4, "lora_alpha": 8,
        "lora_dropout": 0.05, "use_rslora": false, "use_dora": false, "bias": "none", "fan_in_fan_out": false,
        "init_lora_weights": true, "modules_to_save": null, "rank_pattern": {}, "alpha_pattern": {},
        "target_modules": ["q_proj", "k_proj", "v_proj", "down_proj"]})
}

/// A PEFT folder inside of `model`.
pub fn sample(model: &Folder) -> PathBuf {
    peft(model, &config(), &tensors(|_, _| 4))
}

fn peft(model: &Folder, config: &Value, tensors: &Tensors) -> PathBuf {
    let dir = model.file("peft");
    let _ = std::fs::create_dir(&dir);
    std::fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
    write_tensors(&dir.join("adapter_model.safetensors"), tensors);
    dir
}

/// A base, and room for adapters.
struct Bench {
    model: Folder,
    base: GgufFile,
}

impl Bench {
    fn new() -> Bench {
        let model = Folder::micro();
        to(Format::F32, model.path(), &model.file("base.gguf")).unwrap();
        let base = GgufFile::open(&model.file("base.gguf")).unwrap();
        Bench { model, base }
    }

    fn import(&self, config: &Value, tensors: &Tensors) -> loam_convert::Result<AdapterFile> {
        let out = self.model.file("adapter.gguf");
        from_peft(&peft(&self.model, config, tensors), &self.base, &out)?;
        Ok(AdapterFile::read(&out)?)
    }

    fn export(&self) -> (Value, Tensors) {
        let out = self.model.file("exported");
        to_peft(&self.model.file("adapter.gguf"), &self.base, &out).unwrap();
        let config = serde_json::from_slice(&std::fs::read(out.join("adapter_config.json")).unwrap()).unwrap();
        (config, read_tensors(&out.join("adapter_model.safetensors")))
    }
}

#[test]
fn a_plain_adapter_survives_the_round_trip_bit_by_bit() {
    let bench = Bench::new();
    let tensors = tensors(|_, _| 4);
    bench.import(&config(), &tensors).unwrap();
    let (exported, back) = bench.export();
    assert!(back == tensors);
    for key in ["peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha", "use_rslora", "rank_pattern"] {
        assert_eq!(exported[key], config()[key], "{key}");
    }
    assert_eq!(exported["target_modules"], json!(["down_proj", "k_proj", "q_proj", "v_proj"]));
}

/// The adapters that PEFT trained for the golden vectors.
#[test]
fn trained_adapters_survive_the_round_trip() {
    let Some(path) = shared("golden/micro-f32.json") else { return };
    let golden: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let vectors = read_tensors(&path.with_extension("safetensors"));
    let peft = |name: &str| Some(format!("base_model.model.{}", name.strip_prefix("final.")?));
    let trained: Tensors = vectors.into_iter().filter_map(|(name, tensor)| Some((peft(&name)?, tensor))).collect();
    let bench = Bench::new();
    let mut config = config();
    (config["r"], config["lora_alpha"]) = (golden["rank"].clone(), golden["alpha"].clone());
    let adapter = bench.import(&config, &trained).unwrap();
    let alpha = f64::from(lora::alpha(&adapter.settings));
    assert_eq!((adapter.parameters.len(), Some(alpha)), (trained.len(), golden["alpha"].as_f64()));
    assert!(bench.export().1 == trained);
}

#[test]
fn ranks_of_single_modules_survive_the_round_trip() {
    let bench = Bench::new();
    let mut tensors = tensors(|layer, module| if layer == 2 && module == "mlp.down_proj" { 7 } else { 4 });
    tensors.remove(&name(0, "self_attn.v_proj", "A"));
    tensors.remove(&name(0, "self_attn.v_proj", "B"));
    bench.import(&config(), &tensors).unwrap();
    let (exported, back) = bench.export();
    assert!(back == tensors);
    assert_eq!(exported["rank_pattern"], json!({"model.layers.2.mlp.down_proj": 7}));
    let targets = exported["target_modules"].as_array().unwrap();
    assert_eq!(targets.len(), 15);
    assert!(targets.contains(&json!("model.layers.3.self_attn.q_proj")));
}

/// Half-precision sources are widened, exactly.
#[test]
fn bf16_adapters_are_read() {
    let bench = Bench::new();
    let mut tensors = tensors(|_, _| 4);
    for tensor in tensors.values_mut() {
        let narrow: Vec<u8> = values(tensor).iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
        (tensor.0, tensor.2) = (Dtype::BF16, narrow);
    }
    bench.import(&config(), &tensors).unwrap();
    let (_, back) = bench.export();
    for (name, tensor) in &tensors {
        assert_eq!(values(&back[name]), values(tensor), "{name}");
    }
}

/// W + scale B A, merged in Transformers' order in f64 and converted, must be the converted W + alpha / rank B A of the
/// adapter file: names, row order and scale in one.
fn check_merged(config: &Value, rank: impl Fn(usize, &str) -> usize, scale: impl Fn(usize, &str) -> f64) {
    let bench = Bench::new();
    let peft = tensors(rank);
    let adapter = bench.import(config, &peft).unwrap();
    let merged = Folder::micro();
    merged.change(|weights| {
        for layer in 0..4 {
            for (module, rows, inner) in MODULES {
                let weight = weights.get_mut(&format!("model.layers.{layer}.{module}.weight")).unwrap();
                let (a, b) = (values(&peft[&name(layer, module, "A")]), values(&peft[&name(layer, module, "B")]));
                let sum = add(&values(weight), &a, &b, rows, inner, scale(layer, module));
                (weight.0, weight.2) = (Dtype::F32, f32_bytes(&sum));
            }
        }
    });
    to(Format::F32, merged.path(), &merged.file("merged.gguf")).unwrap();
    let expected = GgufFile::open(&merged.file("merged.gguf")).unwrap();
    let pairs = lora::pairs(&adapter);
    assert_eq!(pairs.len(), 16);
    for (name, pair) in &pairs {
        let scale = f64::from(lora::alpha(&adapter.settings)) / pair.rank as f64;
        let sum = add(&gguf_values(&bench.base, name), &pair.a, &pair.b, pair.rows(), pair.inner(), scale);
        for (found, expected) in sum.iter().zip(gguf_values(&expected, name)) {
            assert!((found - expected).abs() <= 1e-5 * (1.0 + expected.abs()), "{name}: {found} {expected}");
        }
    }
}

fn add(w: &[f32], a: &[f32], b: &[f32], rows: usize, inner: usize, scale: f64) -> Vec<f32> {
    let rank = a.len() / inner;
    let update =
        |i: usize, j: usize| (0..rank).map(|k| f64::from(b[i * rank + k]) * f64::from(a[k * inner + j])).sum::<f64>();
    (0..rows * inner).map(|at| (f64::from(w[at]) + scale * update(at / inner, at % inner)) as f32).collect()
}

#[test]
fn a_plain_adapter_updates_the_right_rows() {
    check_merged(&config(), |_, _| 4, |_, _| 2.0);
}

#[test]
fn rslora_and_patterns_keep_every_modules_scale() {
    let mut rslora = config();
    rslora["use_rslora"] = json!(true);
    rslora["rank_pattern"] = json!({"down_proj": 9});
    rslora["alpha_pattern"] = json!({"k_proj": 3, r"layers\.1\.self_attn\.v_proj": 20});
    let rank = |_: usize, module: &str| if module == "mlp.down_proj" { 9 } else { 4 };
    let scale = |layer: usize, module: &str| match (layer, module) {
        (_, "mlp.down_proj") => 8.0 / 3.0,
        (_, "self_attn.k_proj") => 3.0 / 2.0,
        (1, "self_attn.v_proj") => 20.0 / 2.0,
        _ => 8.0 / 2.0,
    };
    check_merged(&rslora, rank, scale);
}

#[test]
fn what_cannot_be_converted_is_named_and_the_previous_adapter_stays() {
    let bench = Bench::new();
    bench.import(&config(), &tensors(|_, _| 4)).unwrap();
    let before = std::fs::read(bench.model.file("adapter.gguf")).unwrap();
    let refused = |named: &[&str], edit: &dyn Fn(&mut Value, &mut Tensors)| {
        let (mut config, mut tensors) = (config(), tensors(|_, _| 4));
        edit(&mut config, &mut tensors);
        let message = bench.import(&config, &tensors).expect_err(named[0]).to_string();
        assert!(named.iter().all(|part| message.contains(part)), "{named:?}: {message}");
        assert!(std::fs::read(bench.model.file("adapter.gguf")).unwrap() == before, "{named:?}");
    };
    let (a, b) = (name(1, "self_attn.q_proj", "A"), name(1, "self_attn.q_proj", "B"));
    refused(&["use_dora", "adapter_config.json"], &|c, _| c["use_dora"] = json!(true));
    refused(&["modules_to_save"], &|c, _| c["modules_to_save"] = json!(["embed_tokens"]));
    refused(&["bias"], &|c, _| c["bias"] = json!("lora_only"));
    refused(&["model.layers.1.self_attn.q_proj", "only one"], &|_, t| drop(t.remove(&a)));
    refused(&["q_proj", "rank"], &|_, t| drop(t.insert(b.clone(), (Dtype::F32, vec![64, 2], vec![0; 64 * 2 * 4]))));
    refused(&["attn_q", "finite"], &|_, t| t.get_mut(&a).unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    refused(&["attn_q"], &|_, t| t.get_mut(&a).unwrap().2[..4].copy_from_slice(&1e30f32.to_le_bytes()));
    refused(&["attn_v", "not in the base"], &|_, t| {
        for half in ["A", "B"] {
            t.insert(name(9, "self_attn.v_proj", half), t[&name(1, "self_attn.v_proj", half)].clone());
        }
    });
    refused(&["attn_v", "fits a weight"], &|_, t| {
        t.insert(name(1, "self_attn.v_proj", "A"), (Dtype::F32, vec![4, 32], f32_bytes(&[0.5; 128])));
    });
    let moved = |t: &mut Tensors, to: &str| drop(t.insert(to.into(), (Dtype::F32, vec![4], vec![0; 16])));
    refused(&["DoRA"], &|_, t| {
        moved(t, "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.weight")
    });
    refused(&["embed_tokens", "only one"], &|_, t| moved(t, "base_model.model.model.embed_tokens.lora_embedding_A"));
    refused(&["layers.0.mlp.up_proj"], &|_, t| {
        moved(t, "base_model.model.model.layers.0.mlp.up_proj.lora_embedding_A")
    });
    refused(&["modules_to_save"], &|_, t| moved(t, "base_model.model.lm_head.modules_to_save.weight"));
    refused(&["lm_head.weight"], &|_, t| moved(t, "base_model.model.lm_head.weight"));
}

#[test]
fn an_adapter_of_another_base_is_not_exported() {
    let bench = Bench::new();
    let mut adapter = bench.import(&config(), &tensors(|_, _| 4)).unwrap();
    let out = bench.model.file("exported");
    for (digest, fits) in [("0123", false), (bench.base.content_digest().unwrap(), true)] {
        adapter.metadata.retain(|(key, _)| key != BASE_DIGEST);
        adapter.metadata.push((BASE_DIGEST.into(), digest.into()));
        adapter.write(&bench.model.file("adapter.gguf")).unwrap();
        let result = to_peft(&bench.model.file("adapter.gguf"), &bench.base, &out);
        assert_eq!((result.is_ok(), out.exists()), (fits, fits));
        let message = result.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(
            fits || (message.contains("0123") && message.contains(bench.base.content_digest().unwrap())),
            "{message}"
        );
    }
}

#[test]
fn copies_of_the_embedding_are_taken_if_nothing_was_trained_in_them() {
    let model = Folder::micro();
    let embedding = model.tensors()["model.embed_tokens.weight"].clone();
    let copy = |rows: usize, scale: f32| {
        let (mut all, width) = (values(&embedding), embedding.1[1]);
        all[77 * width..78 * width].iter_mut().for_each(|x| *x *= scale);
        all.resize(rows * width, 0.5);
        (Dtype::F32, vec![rows, width], f32_bytes(&all))
    };
    for format in [Format::F32, Format::BF16, Format::Q8_0, Format::Q4_0] {
        to(format, model.path(), &model.file("base.gguf")).unwrap();
        let bench = Bench { base: GgufFile::open(&model.file("base.gguf")).unwrap(), model: Folder::micro() };
        for name in ["base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight"] {
            let import = |copy| {
                let mut tensors = tensors(|_, _| 4);
                tensors.insert(name.into(), copy);
                bench.import(&config(), &tensors)
            };
            let rows = embedding.1[0];
            assert_eq!(import(copy(rows, 1.0)).unwrap().sites().len(), 16, "{name} in {format:?}");
            for (copy, named) in [(copy(rows, 1.5), "row 77"), (copy(rows + 8, 1.0), "resized")] {
                let message = import(copy).unwrap_err().to_string();
                assert!(message.contains(name) && message.contains(named), "{format:?}: {message}");
            }
        }
    }
    let mut other = tensors(|_, _| 4);
    other.insert("base_model.model.model.norm.weight".into(), (Dtype::F32, vec![64], f32_bytes(&[1.0; 64])));
    let message = Bench::new().import(&config(), &other).unwrap_err().to_string();
    assert!(message.contains("model.norm.weight") && message.contains("nothing of an adapter"), "{message}");
}

#[test]
fn folders_and_files_of_another_kind() {
    let bench = Bench::new();
    let dir = sample(&bench.model);
    let out = bench.model.file("adapter.gguf");
    std::fs::rename(dir.join("adapter_model.safetensors"), dir.join("adapter_model.bin")).unwrap();
    assert!(matches!(from_peft(&dir, &bench.base, &out), Err(Error::Pickle { .. })));
    assert!(from_peft(Path::new("/nonexistent"), &bench.base, &out).is_err());
    let base = bench.model.file("base.gguf");
    let message = to_peft(&base, &bench.base, &bench.model.file("exported")).unwrap_err().to_string();
    assert!(message.contains("is a model, not an adapter"), "{message}");
    assert!(!bench.model.file("exported").exists());
}
