//! Parsers of files that lie in a folder with others: models and PEFT adapters.

use loam::gguf::GgufFile;
use loam_convert::architecture::Config;
use loam_convert::source::Checkpoint;
use loam_convert::{Options, from_peft, plan};
use loam_shaders::Format;

use crate::engine::{Target, fuzz};
use crate::mutate;
use crate::seeds::{self, peft};

#[test]
fn safetensors_header() {
    let folder = seeds::model();
    let seeds = vec![folder.get("model.safetensors")];
    let run = move |input: &[u8]| {
        folder.put("input.safetensors", input);
        let Ok(checkpoint) = Checkpoint::open(&folder.file("input.safetensors")) else { return false };
        let names: Vec<String> = checkpoint.names().map(str::to_owned).collect();
        names.iter().all(|name| checkpoint.tensor(name).is_ok_and(|found| found.is_some()))
    };
    fuzz(Target { name: "safetensors_header", seeds, mutate: mutate::safetensors, run: Box::new(run) });
}

#[test]
fn safetensors_index() {
    let folder = seeds::model();
    folder.put("1.safetensors", folder.get("model.safetensors"));
    let one = Checkpoint::open(&folder.file("1.safetensors")).expect("sound");
    let map: serde_json::Map<String, serde_json::Value> =
        one.names().map(|name| (name.to_owned(), "1.safetensors".into())).collect();
    let seeds = vec![serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string().into_bytes()];
    let run = move |input: &[u8]| {
        folder.put("input.index.json", input);
        Checkpoint::open_sharded(&folder.file("input.index.json")).is_ok()
    };
    fuzz(Target { name: "safetensors_index", seeds, mutate: mutate::json, run: Box::new(run) });
}

#[test]
fn config_json() {
    let folder = seeds::model();
    let mut seeds = vec![folder.get("config.json")];
    let classes = [
        ("Qwen2ForCausalLM", "qwen2"),
        ("Qwen3ForCausalLM", "qwen3"),
        ("Qwen3MoeForCausalLM", "qwen3_moe"),
        ("Gemma2ForCausalLM", "gemma2"),
        ("Gemma3ForCausalLM", "gemma3_text"),
        ("Phi3ForCausalLM", "phi3"),
        ("SmolLM3ForCausalLM", "smollm3"),
        ("GraniteForCausalLM", "granite"),
        ("Olmo2ForCausalLM", "olmo2"),
    ];
    seeds.extend(classes.map(|(class, model_type)| {
        let mut config = seeds::config();
        config["architectures"] = serde_json::json!([class]);
        config["model_type"] = model_type.into();
        config.to_string().into_bytes()
    }));
    let run = move |input: &[u8]| {
        folder.put("config.json", input);
        let read = Config::read(&folder.file("config.json")).is_ok();
        // All that follows from it, too.
        let planned = plan(folder.path(), "never.gguf".as_ref(), &Options::new(Format::Q8_0)).is_ok();
        assert!(read || !planned);
        planned
    };
    fuzz(Target { name: "config_json", seeds, mutate: mutate::json, run: Box::new(run) });
}

/// A file of the model's folder, up to the whole plan of the conversion.
fn in_model(name: &'static str, file: &'static str) {
    let folder = seeds::model();
    let seeds = vec![folder.get(file)];
    let run = move |input: &[u8]| {
        folder.put(file, input);
        plan(folder.path(), "never.gguf".as_ref(), &Options::new(Format::Q8_0)).is_ok()
    };
    fuzz(Target { name, seeds, mutate: mutate::json, run: Box::new(run) });
}

#[test]
fn tokenizer_json() {
    in_model("tokenizer_json", "tokenizer.json");
}

#[test]
fn tokenizer_config() {
    in_model("tokenizer_config", "tokenizer_config.json");
}

/// A file of a PEFT folder, up to the adapter that is written.
fn in_peft(name: &'static str, file: &'static str, mutate: fn(&mut Vec<u8>, &mut loam_tests::Random)) {
    let folder = seeds::base();
    let base = GgufFile::open(&folder.file("base.gguf")).expect("sound");
    let dir = peft(&folder);
    let seeds = vec![std::fs::read(dir.join(file)).expect("readable")];
    let run = move |input: &[u8]| {
        std::fs::write(dir.join(file), input).expect("written");
        let out = folder.file("out.gguf");
        let done = from_peft(&dir, &base, &out).is_ok();
        assert_eq!(out.exists(), done, "half-written");
        let _ = std::fs::remove_file(&out);
        done
    };
    fuzz(Target { name, seeds, mutate, run: Box::new(run) });
}

#[test]
fn peft_config() {
    in_peft("peft_config", "adapter_config.json", mutate::json);
}

#[test]
fn peft_weights() {
    in_peft("peft_weights", "adapter_model.safetensors", mutate::safetensors);
}
