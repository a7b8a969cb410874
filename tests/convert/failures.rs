//! Every wrong input is a typed error that names what is wrong; the previous output stays, and nothing else is left.

use std::path::Path;

use loam_convert::{Error, Options, Progress, convert};
use loam_shaders::Format;
use serde_json::{Value, json};

use super::folder::to;
use loam_tests::folder::{Folder, f32_bytes};

/// Breaks a copy of the test model and converts it over a previous file. The message must contain all of `named`.
fn refused(what: &str, format: Format, named: &[&str], breaking: impl FnOnce(&Folder)) -> Error {
    let folder = Folder::micro();
    breaking(&folder);
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("model.gguf");
    std::fs::write(&path, "previous").unwrap();
    let error = to(format, folder.path(), &path).expect_err(what);
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        message = format!("{message}: {inner}");
        cause = inner.source();
    }
    for part in named {
        assert!(message.contains(part), "{what}: {message:?} does not say {part:?}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"previous", "{what}");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1, "{what}: a temporary file was left");
    error
}

fn remove(folder: &Folder, name: &str) {
    std::fs::remove_file(folder.file(name)).unwrap();
}

#[test]
fn folders_without_usable_weights() {
    refused("nothing", Format::Q4_0, &["model.safetensors"], |f| remove(f, "model.safetensors"));
    let pickle = refused("pickle", Format::Q4_0, &["pytorch_model.bin", "pickle", "safe_serialization"], |f| {
        std::fs::rename(f.file("model.safetensors"), f.file("pytorch_model.bin")).unwrap();
    });
    assert!(matches!(pickle, Error::Pickle { .. }));
    let cut = refused("truncated", Format::Q4_0, &["model.safetensors"], |f| {
        let bytes = std::fs::read(f.file("model.safetensors")).unwrap();
        std::fs::write(f.file("model.safetensors"), &bytes[..bytes.len() - 1]).unwrap();
    });
    assert!(matches!(cut, Error::Safetensors { .. }));
    refused("empty", Format::Q4_0, &["model.safetensors"], |f| {
        std::fs::write(f.file("model.safetensors"), "").unwrap()
    });
    refused("a folder", Format::Q4_0, &["model.safetensors"], |f| {
        remove(f, "model.safetensors");
        std::fs::create_dir(f.file("model.safetensors")).unwrap();
    });
    refused("overlap", Format::Q4_0, &["safetensors header"], |f| {
        let tensor = |range| json!({"dtype": "F32", "shape": [2], "data_offsets": range});
        let header = json!({"a": tensor([0, 8]), "b": tensor([4, 12])}).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 12]);
        std::fs::write(f.file("model.safetensors"), bytes).unwrap();
    });
    refused("traversal", Format::Q4_0, &["weight_map", "passwd"], |f| {
        remove(f, "model.safetensors");
        let index = json!({"weight_map": {"model.norm.weight": "../../etc/passwd"}});
        std::fs::write(f.file("model.safetensors.index.json"), index.to_string()).unwrap();
    });
}

#[test]
fn weights_that_are_not_the_model() {
    let norm = "model.layers.1.input_layernorm.weight";
    refused("missing", Format::Q4_0, &[norm, "missing"], |f| f.change(|t| drop(t.remove(norm))));
    refused("extra", Format::Q4_0, &["model.extra.weight"], |f| {
        f.change(|t| drop(t.insert("model.extra.weight".into(), t[norm].clone())));
    });
    refused("shape", Format::Q4_0, &["q_proj", "[64, 64]"], |f| {
        f.change(|t| t.get_mut("model.layers.0.self_attn.q_proj.weight").unwrap().1 = vec![32, 128]);
    });
    refused("vocabulary", Format::Q4_0, &["embed_tokens", "4095"], |f| f.configure("vocab_size", json!(4095)));
    refused("type", Format::Q4_0, &[norm, "I16"], |f| {
        f.change(|t| t.get_mut(norm).unwrap().0 = safetensors::Dtype::I16);
    });
}

#[test]
fn checkpoints_that_are_quantised_already_are_refused_by_name() {
    let cases = [
        (json!({"quant_method": "gptq", "bits": 4}), "gptq"),
        (json!({"quant_method": "awq", "bits": 4}), "awq"),
        (json!({"quant_method": "bitsandbytes", "load_in_4bit": true}), "bitsandbytes"),
        (json!({"load_in_8bit": true}), "bitsandbytes"),
        (json!({"quant_method": "fp8"}), "fp8"),
        (json!({"quant_method": "\u{1b}[31m"}), "\\u{1b}"),
        (json!([]), "unknown"),
    ];
    for (config, method) in cases {
        let named = ["config.json: quantization_config", method, "convert the original model"];
        let scales = "model.layers.0.mlp.up_proj.weight_scale_inv";
        for traces in [true, false] {
            let folder = Folder::micro();
            folder.configure("quantization_config", config.clone());
            if traces {
                folder.change(|t| drop(t.insert(scales.into(), (safetensors::Dtype::F32, vec![1], vec![0; 4]))));
                let error = to(Format::Q4_0, folder.path(), &folder.file("out.gguf")).unwrap_err().to_string();
                assert!(named.iter().all(|part| error.contains(part)), "{error}");
            } else {
                // What is left over of a model that was merged back says nothing of its weights.
                let summary = to(Format::Q4_0, folder.path(), &folder.file("out.gguf")).unwrap();
                let told = |note: &String| note.contains("quantization_config") && note.contains(method);
                assert!(summary.notes.iter().any(told), "{:?}", summary.notes);
            }
        }
    }
    let up = "model.layers.0.mlp.up_proj";
    let traces = [("weight.SCB", "bitsandbytes"), ("qweight", "GPTQ"), ("g_idx", "GPTQ"), ("weight_scale_inv", "FP8")];
    for (part, method) in traces {
        refused(part, Format::Q4_0, &[&format!("{up}.{part}"), method, "original"], |f| {
            f.change(|t| drop(t.insert(format!("{up}.{part}"), (safetensors::Dtype::F32, vec![1], vec![0; 4]))));
        });
    }
    refused("fp8", Format::Q4_0, &[up, "F8_E4M3", "original"], |f| {
        f.change(|t| {
            let weight = t.get_mut(&format!("{up}.weight")).unwrap();
            weight.2.truncate(weight.1.iter().product());
            weight.0 = safetensors::Dtype::F8_E4M3;
        });
    });
}

#[test]
fn pickles_are_refused_as_files_too() {
    let folder = Folder::micro();
    for name in ["pytorch_model.bin", "model.pt", "model.ckpt"] {
        std::fs::write(folder.file(name), b"\x80\x02ctorch").unwrap();
        let error = to(Format::Q4_0, &folder.file(name), &folder.file("out.gguf")).unwrap_err();
        assert!(matches!(&error, Error::Pickle { .. }) && error.to_string().contains(name), "{error}");
    }
    assert!(!folder.file("out.gguf").exists());
}

/// Sets one element of a weight.
fn poison(folder: &Folder, value: f32) {
    folder.change(|tensors| {
        let (dtype, shape, bytes) = tensors.get_mut("model.layers.3.mlp.up_proj.weight").unwrap();
        let mut values = vec![0.5; shape.iter().product()];
        values[77] = value;
        (*dtype, *bytes) = (safetensors::Dtype::F32, f32_bytes(&values));
    });
}

#[test]
fn values_that_cannot_be_stored() {
    let named = ["model.layers.3.mlp.up_proj.weight", "element 77"];
    for format in Format::ALL {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            refused("not finite", format, &named, |f| poison(f, value));
        }
    }
    for format in [Format::F16, Format::Q4_0, Format::Q8_0] {
        refused("overflow", format, &[named[0], named[1], format.name()], |f| poison(f, 1e38));
    }
    let folder = Folder::micro();
    poison(&folder, 1e38);
    to(Format::BF16, folder.path(), &folder.file("out.gguf")).unwrap();
    for format in Format::ALL {
        poison(&folder, f32::NAN);
        let options = Options { allow_nonfinite: true, ..Options::new(format) };
        convert(folder.path(), &folder.file("out.gguf"), &options, &mut |_| ()).unwrap();
    }
}

#[test]
fn configurations_that_cannot_be_converted() {
    let cases: [(&str, Value, &str); 6] = [
        ("architectures", json!(["GPTNeoXForCausalLM"]), "GPTNeoXForCausalLM"),
        ("hidden_size", json!("64"), "hidden_size"),
        ("num_hidden_layers", json!(1e30), "num_hidden_layers"),
        ("num_attention_heads", Value::Null, "num_attention_heads"),
        ("rope_scaling", json!({"rope_type": "longrope", "short_factor": [1]}), "rope_scaling.rope_type"),
        ("partial_rotary_factor", json!(0.5), "partial_rotary_factor"),
    ];
    for (key, value, named) in cases {
        refused(key, Format::Q4_0, &["config.json", named], |f| f.configure(key, value));
    }
    refused("remote code", Format::Q4_0, &["auto_map", "OwnForCausalLM", "Qwen3ForCausalLM"], |f| {
        f.configure("architectures", json!(["OwnForCausalLM"]));
        f.configure("auto_map", json!({"AutoModel": "x.Y"}));
    });
    refused("no config", Format::Q4_0, &["config.json"], |f| remove(f, "config.json"));
    refused("no JSON", Format::Q4_0, &["config.json", "JSON"], |f| std::fs::write(f.file("config.json"), "{").unwrap());
}

#[test]
fn tokenizers_that_do_not_fit() {
    refused("none", Format::Q4_0, &["tokenizer.json"], |f| remove(f, "tokenizer.json"));
    refused("too many tokens", Format::Q4_0, &["tokenizer.json", "4096"], |f| {
        f.edit("tokenizer.json", |t| t["model"]["vocab"]["<x>"] = json!(4096));
    });
    refused("unknown split", Format::Q4_0, &["tokenizer.json", "no GGUF name"], |f| {
        f.edit("tokenizer.json", |t| t["pre_tokenizer"] = json!({"type": "Whitespace"}));
    });
    let folder = Folder::micro();
    folder.edit("tokenizer.json", |t| t["pre_tokenizer"] = json!({"type": "Whitespace"}));
    let options = Options { pre: Some("qwen2".into()), ..Options::new(Format::Q4_0) };
    let out = folder.file("out.gguf");
    convert(folder.path(), &out, &options, &mut |_| ()).unwrap();
    let file = loam::gguf::GgufFile::open(&out).unwrap();
    assert_eq!(file.gguf.str("tokenizer.ggml.pre").unwrap(), "qwen2");
}

#[test]
fn outputs_that_cannot_be_written() {
    let folder = Folder::micro();
    let to = |out: &Path| to(Format::Q4_0, folder.path(), out);
    let missing = folder.file("no/such/folder/model.gguf");
    assert!(to(&missing).unwrap_err().to_string().contains("no/such/folder"));
    assert!(!folder.file("no").exists());
    assert!(to(folder.path()).is_err(), "a folder is no output file");
    if cfg!(target_os = "linux") {
        assert!(to(Path::new("/dev/full")).unwrap_err().to_string().contains("/dev/full"));
        assert!(to(Path::new("/proc/model.gguf")).is_err());
    }
    let before = std::fs::read(folder.file("model.safetensors")).unwrap();
    assert!(matches!(to(&folder.file("model.safetensors")), Err(Error::Argument(_))));
    assert!(std::fs::read(folder.file("model.safetensors")).unwrap() == before);
    assert!(to(&folder.file("ok.gguf")).is_ok());
}

#[test]
fn sources_that_are_no_model() {
    let folder = Folder::micro();
    let out = folder.file("out.gguf");
    let message = |path: &Path| to(Format::Q4_0, path, &out).unwrap_err().to_string();
    assert!(message(&folder.file("config.json")).contains("no folder"));
    assert!(message(&folder.file("absent")).contains("absent"));
    std::fs::rename(folder.file("config.json"), folder.file("adapter_config.json")).unwrap();
    assert!(message(folder.path()).contains("is a PEFT adapter"));
    assert!(!out.exists());
}

/// Changes the file while it is being written, as a failing disk or another program might: the second reader sees it.
#[test]
fn a_file_that_is_not_what_was_written_is_not_put_in_place() {
    let folder = Folder::micro();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("model.gguf");
    std::fs::write(&path, "previous").unwrap();
    let mut tampered = 0;
    let mut tamper = |progress: Progress<'_>| {
        // By then the header, at the start of 2 MB, has left every buffer.
        if progress.index + 1 == progress.tensors {
            let temporary = |entry: &std::path::PathBuf| entry.extension().is_some_and(|e| e == "loam-part");
            let files = std::fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().path());
            let file = files.into_iter().find(temporary).unwrap();
            let mut bytes = std::fs::read(&file).unwrap();
            let name = b"blk.0.ffn_up.weight";
            let at = bytes.windows(name.len()).position(|w| w == name).unwrap() + name.len() + 4;
            bytes[at] ^= 64;
            // In place: the writer keeps its position in the open file.
            use std::io::Write;
            std::fs::OpenOptions::new().write(true).open(&file).unwrap().write_all(&bytes).unwrap();
            tampered += 1;
        }
    };
    let result = convert(folder.path(), &path, &Options::new(Format::F32), &mut tamper);
    let message = result.expect_err("the shape was changed").to_string();
    assert!(message.contains("verification") && message.contains("blk.0.ffn_up.weight"), "{message}");
    assert_eq!((tampered, std::fs::read(&path).unwrap()), (1, b"previous".to_vec()));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
}
