//! `loam convert` beyond a folder and a file: plans, splits, GGUF models as the source.

mod support;

use serde_json::json;
use support::{base, listing, micro, run};

#[test]
fn a_plan_tells_everything_and_writes_nothing() {
    let folder = tempfile::tempdir().expect("temp dir");
    let out = folder.path().join("m.gguf");
    let plan =
        run("convert {} -o {} --format q4_k --pure --split-size 300K --plan --json", &[&micro(), &out]).good().result();
    let text = run("convert {} -o {} --format q4_k --pure --plan", &[&micro(), &out]).good();
    assert!(listing(folder.path()).is_empty());
    for part in ["token_embd.weight", "q5_0", "(fallback)", "memory", "m.gguf"] {
        assert!(text.stdout.contains(part), "{part}: {}", text.stdout);
    }
    assert!(text.stderr.contains("no whole blocks"), "{}", text.stderr);
    let done = run("convert {} -o {} --format q4_k --pure --split-size 300K --json", &[&micro(), &out]).good().result();
    for key in ["event", "output", "files", "bytes", "tensors", "weights", "types", "fallbacks", "notes"] {
        assert_eq!(plan[key], done[key], "{key}");
    }
    let tensors = plan["plan"]["tensors"].as_array().expect("a list");
    assert_eq!(Some(tensors.len() as u64), plan["tensors"].as_u64());
    let sizes: u64 = plan["plan"]["files"].as_array().expect("a list").iter().filter_map(|f| f["bytes"].as_u64()).sum();
    let found = plan["files"].as_array().expect("a list").iter().filter_map(|f| f.as_str());
    assert_eq!(sizes, found.map(|path| std::fs::metadata(path).expect("there").len()).sum::<u64>());
    assert!(plan["peak_host_bytes"].as_u64() > done["bytes"].as_u64());
}

#[test]
fn split_models_work_wherever_a_model_is_opened() {
    let folder = tempfile::tempdir().expect("temp dir");
    let at = |name: &str| folder.path().join(name);
    let done =
        run("convert {} -o {} --format q8_0 --split-size 200K --json", &[&micro(), &at("m.gguf")]).good().result();
    let files: Vec<&str> = done["files"].as_array().expect("a list").iter().filter_map(|f| f.as_str()).collect();
    assert!(files.len() > 2 && files[0].contains("m-00001-of-0000"), "{files:?}");
    let (first, second) = (std::path::Path::new(files[0]), std::path::Path::new(files[1]));
    for (model, out) in [(first, "split.npy"), (base(), "whole.npy")] {
        run("logits {} --tokens 1,2,3 --device cpu -o {}", &[model, &at(out)]).good();
    }
    assert!(std::fs::read(at("split.npy")).expect("written") == std::fs::read(at("whole.npy")).expect("written"));
    let digest = |path| run("inspect {} --digest --json", &[path]).good().result()["content_digest"].clone();
    assert_eq!(digest(first), digest(base()));
    run("tokenize {} --text a", &[second]).bad(1, &["give the first shard", "m-00001-of-0000"]);
    run("logits {} --tokens 1 -o {}", &[first, second]).bad(2, &["overwrite"]);
    std::fs::remove_file(second).expect("removed");
    run("tokenize {} --text a", &[first]).bad(1, &["m-00002-of-0000", "is missing"]);
}

#[test]
fn gguf_models_are_converted_again() {
    let folder = tempfile::tempdir().expect("temp dir");
    let out = folder.path().join("again.gguf");
    let run_again = run("convert {} -o {} --format q4_0 --pure", &[base(), &out]).good();
    assert!(run_again.stderr.contains("a second time"), "{}", run_again.stderr);
    let types = run("inspect {} --json", &[&out]).good().result()["types"].clone();
    assert!(types["q4_0"].is_object() && types["q8_0"].is_null(), "{types}");
    run("convert {} -o {}", &[base(), base()]).bad(2, &["overwrite"]);
    for size in ["0", "2GX", "1.2.3G", "much"] {
        run(&format!("convert {{}} -o {{}} --split-size {size}"), &[base(), &out]).bad(2, &["--split-size"]);
    }
}

#[test]
fn formats_mean_what_llama_quantize_means_by_their_names() {
    let folder = tempfile::tempdir().expect("temp dir");
    let types = |args: &str| {
        let line = format!("convert {{}} -o {{}} {args} --plan --json");
        run(&line, &[&support::tiny(), &folder.path().join("m.gguf")]).good().result()["types"].clone()
    };
    for (args, expected) in [
        ("", json!({"f32": 17, "q6_k": 9, "q4_k": 48})),
        ("--format Q4_K", json!({"f32": 17, "q6_k": 9, "q4_k": 48})),
        ("--format q4_k --pure", json!({"f32": 17, "q4_k": 57})),
        ("--format Q4_0", json!({"f32": 17, "q6_k": 1, "q4_0": 56})),
        ("--format q4_0 --pure", json!({"f32": 17, "q4_0": 57})),
        ("--format Q8_0", json!({"f32": 17, "q8_0": 57})),
    ] {
        assert_eq!(types(args), expected, "{args}");
    }
    run("convert {} -o {} --format q4_0_mix", &[base(), &folder.path().join("x.gguf")]).bad(2, &["q4_0", "q4_k_m"]);
}

/// What was given in place of something else is called by its name, with the verb that takes it.
#[test]
fn things_in_the_wrong_place_are_named() {
    let folder = tempfile::tempdir().expect("temp dir");
    let at = |name: &str| folder.path().join(name);
    for (name, config) in [
        ("mlx", json!({"fine_tune_type": "lora", "lora_parameters": {"rank": 4}})),
        ("loha", json!({"peft_type": "LOHA", "r": 4})),
        ("lora", json!({"peft_type": "LORA", "r": 4})),
    ] {
        std::fs::create_dir(at(name)).expect("made");
        std::fs::write(at(name).join("adapter_config.json"), config.to_string()).expect("written");
    }
    let attach = "generate {} --raw --prompt x --device cpu --adapter {}";
    run(attach, &[base(), &at("lora")]).bad(1, &["PEFT folder", "loam adapter from-peft"]);
    run(attach, &[base(), &at("mlx")]).bad(1, &["mlx-lm"]);
    run(attach, &[base(), &at("loha")]).bad(1, &["LOHA is not supported"]);
    run(attach, &[base(), &micro()]).bad(1, &["model folder", "loam convert"]);
    run("generate {} --raw --prompt x", &[&micro()]).bad(1, &["model folder", "loam convert"]);
    run("generate {} --raw --prompt x", &[&at("lora")]).bad(1, &["PEFT folder", "loam adapter from-peft"]);
    run("adapter from-peft {} --base {} -o {}", &[&micro(), base(), &at("a.gguf")])
        .bad(1, &["model folder", "loam convert"]);
    run("adapter from-peft {} --base {} -o {}", &[&at("lora"), &micro(), &at("a.gguf")]).bad(1, &["model folder"]);
    run("convert {} -o {}", &[&at("lora"), &at("x.gguf")]).bad(1, &["PEFT adapter", "loam adapter from-peft"]);
}

/// What a file of strangers holds reaches the terminal with its spelling only, as lines and as JSON.
#[test]
fn foreign_text_is_never_shown_raw() {
    let folder = tempfile::tempdir().expect("temp dir");
    let path = folder.path().join("m.gguf");
    let bad = "a\u{9b}31m\u{7f}\u{202e}\u{200b}\u{e0041}\u{1b}[0m";
    let mut metadata = loam::gguf::Metadata::new();
    metadata.set("general.architecture", bad);
    metadata.set(bad, vec![1u32, 2]);
    metadata.set("list", loam::gguf::Strings::from_iter([bad, "b"]));
    let tensor = loam::gguf::TensorDeclaration { name: bad.into(), shape: vec![32], ty: loam::gguf::GgmlType::F32 };
    let mut writer = loam::gguf::Writer::new(Vec::new(), &path, &metadata, &[tensor]).expect("written");
    writer.write(bad, &[0; 128]).expect("written");
    std::fs::write(&path, writer.finish().expect("written")).expect("written");
    for line in [
        "inspect {} --tensors",
        "inspect {} --tensors --json",
        "tokenize {} --text x",
        "logits {} --tokens 1 -o {}.npy",
    ] {
        let paths = vec![path.as_path(); line.matches("{}").count()];
        let found = run(line, &paths);
        let shown = found.stdout.clone() + &found.stderr;
        assert!(shown.chars().all(|c| c == '\n' || c.is_ascii_graphic() || c == ' '), "{line}: {shown:?}");
        assert!(!line.starts_with("inspect") || shown.contains("31m"), "{line}: {shown:?}");
    }
    let value = run("inspect {} --json", &[&path]).good().result();
    assert_eq!(value["metadata"]["list"][0], bad, "JSON says the same text");
}

#[test]
fn values_that_are_no_numbers_are_found() {
    let folder = tempfile::tempdir().expect("temp dir");
    let model = folder.path().join("m.gguf");
    run("convert {} -o {} --format q8_0", &[&micro(), &model]).good();
    let whole = run("inspect {} --verify --json", &[&model]).good().result()["verified"].clone();
    assert!(
        whole["tensors"].as_u64() > Some(10) && whole["nonfinite"].as_array().is_some_and(Vec::is_empty),
        "{whole}"
    );
    let file = loam::gguf::GgufFile::open(&model).expect("opens");
    let tensor = file.gguf.tensor("blk.0.attn_q.weight").expect("there");
    let row = tensor.bytes / tensor.rows();
    // The scale of the first block of the second row, an IEEE half.
    let at = (tensor.offset + row) as usize;
    drop(file);
    let mut bytes = std::fs::read(&model).expect("reads");
    bytes[at..at + 2].copy_from_slice(&0x7e00u16.to_le_bytes());
    std::fs::write(&model, bytes).expect("writes");
    let outcome = run("inspect {} --verify --json", &[&model]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("blk.0.attn_q.weight"), "{}", outcome.stderr);
    let objects = outcome.objects();
    let found = objects.iter().find(|object| object["verified"].is_object()).expect("a result");
    let found = &found["verified"]["nonfinite"];
    assert_eq!(found.to_string(), r#"[{"name":"blk.0.attn_q.weight","values":32,"first":[1,0]}]"#);
    let shown = run("inspect {} --verify", &[&model]).stdout;
    assert!(shown.contains("blk.0.attn_q.weight: 32 values, the first in row 1, column 0"), "{shown}");
}
