//! `loam convert` beyond a folder and a file: plans, splits, GGUF models as the source.

mod support;

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
    for size in ["0", "2GB", "1.5G", "much"] {
        run(&format!("convert {{}} -o {{}} --split-size {size}"), &[base(), &out]).bad(2, &["--split-size"]);
    }
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
    let found = &outcome.result()["verified"]["nonfinite"];
    assert_eq!(found.to_string(), r#"[{"name":"blk.0.attn_q.weight","values":32,"first":[1,0]}]"#);
    let shown = run("inspect {} --verify", &[&model]).stdout;
    assert!(shown.contains("blk.0.attn_q.weight: 32 values, the first in row 1, column 0"), "{shown}");
}
