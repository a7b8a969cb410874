//! Names are checked, files chosen.

use super::*;

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn names_that_leave_the_folder_or_some_system_are_refused() {
    let long = "x".repeat(300);
    let bad = [
        "",
        "/etc/passwd",
        "../x",
        "a/../x",
        "a//b",
        "a/",
        "./x",
        "..%2fx",
        "C:x",
        "a\\b",
        "a\0b",
        "a\nb",
        &long,
        "CON",
        "con.json",
        "a/NUL.txt",
        "com1.gguf",
        "x.",
        "x ",
        ".loam-pull/lock",
        "a?b",
    ];
    for name in bad {
        assert!(matches!(check(name), Err(HubProblem::Name { .. })), "{name:?}");
    }
    for name in ["config.json", "Q4/model-00001-of-00002.gguf", ".gitattributes", "console.txt", "naïve.json"] {
        assert_eq!(check(name), Ok(()), "{name:?}");
    }
    assert!(check_all(&list(&["a", "b/A", "b/a"])).is_err());
    assert!(check_all(&list(&["a", "b/a"])).is_ok());
}

#[test]
fn a_model_is_its_weights_its_tokenizer_and_its_papers() {
    let names = list(&[
        ".gitattributes",
        "LICENSE",
        "README.md",
        "config.json",
        "consolidated.safetensors",
        "model.safetensors",
        "onnx/model.onnx",
        "original/tokenizer.model",
        "pytorch_model.bin",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer.pkl",
    ]);
    let chosen = select(&names, &[]).expect("a model");
    let expected = ["LICENSE", "README.md", "config.json", "tokenizer.json", "tokenizer.model", "model.safetensors"];
    assert_eq!((chosen.files, chosen.index), (list(&expected), None));
    let sharded = list(&["config.json", "model-00001-of-00001.safetensors", "model.safetensors.index.json"]);
    let chosen = select(&sharded, &[]).expect("a model");
    assert_eq!(chosen.files, list(&["config.json", "model.safetensors.index.json"]));
    assert!(chosen.index.is_some());
    let one = select(&list(&["README.md", "m.gguf"]), &[]).expect("one base");
    assert_eq!(one.files, list(&["README.md", "m.gguf"]));
}

#[test]
fn what_is_there_instead_decides_the_message() {
    let message = |names: &[&str], patterns: &[&str]| match select(&list(names), &list(patterns)) {
        Err(problem) => problem.to_string(),
        Ok(chosen) => panic!("{chosen:?}"),
    };
    assert!(message(&["pytorch_model.bin"], &[]).contains("safe_serialization"));
    assert!(message(&["a.gguf", "b.gguf"], &[]).contains("a.gguf, b.gguf"));
    assert!(message(&["README.md"], &[]).contains("no model.safetensors"));
    assert!(message(&["a.gguf"], &["*q8*"]).contains("*q8*"));
    assert!(message(&["a.bin"], &["a.bin"]).contains("pickle"));
}

#[test]
fn patterns_choose_whole_splits_and_no_pickles() {
    let names =
        list(&["Q4/m-00001-of-00002.gguf", "Q4/m-00002-of-00002.gguf", "Q8/m-00001-of-00002.gguf", "m.pt", "m.gguf"]);
    let chosen = |pattern: &str| select(&names, &list(&[pattern])).expect("a match");
    assert_eq!(chosen("*q4*00001*").files, names[..2]);
    assert_eq!(chosen("m.gguf").files, list(&["m.gguf"]));
    let all = chosen("*");
    assert_eq!((all.files.len(), all.pickles), (4, list(&["m.pt"])));
}

#[test]
fn stars_do_not_take_exponential_time() {
    let start = std::time::Instant::now();
    assert!(!matches("*a".repeat(200).as_bytes(), "a".repeat(199).as_bytes()));
    assert!(!matches(format!("{}b", "*a".repeat(500)).as_bytes(), "a".repeat(2000).as_bytes()));
    assert!(matches(b"*a?c*", b"xxabcabx"));
    assert!(start.elapsed().as_secs() < 2);
}
