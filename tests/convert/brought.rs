//! What people bring: folders that are nearly a model, or one of something else, and files with what changes nothing.

use std::path::Path;

use loam_convert::problem::SourceProblem as P;
use loam_convert::{Error, from_peft};
use loam_shaders::Format;
use loam_tests::folder::Folder;
use serde_json::json;

use super::folder::to;

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456\n";

fn problem(dir: &Path) -> P {
    let out = tempfile::tempdir().unwrap();
    match to(Format::Q8_0, dir, &out.path().join("out.gguf")).expect_err("no model") {
        Error::Source { problem, .. } => problem,
        error => panic!("{error}"),
    }
}

fn notes(folder: &Folder) -> Vec<String> {
    to(Format::Q8_0, folder.path(), &folder.file("out.gguf")).unwrap().notes
}

#[test]
fn pointers_of_git_lfs_are_told_by_name() {
    for name in ["model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"] {
        let folder = Folder::micro();
        std::fs::write(folder.file(name), POINTER).unwrap();
        assert_eq!(problem(folder.path()), P::LfsPointer, "{name}");
    }
}

#[test]
fn a_shard_that_is_not_there_is_named_with_its_index() {
    let folder = Folder::micro();
    std::fs::remove_file(folder.file("model.safetensors")).unwrap();
    let index = json!({"weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}});
    std::fs::write(folder.file("model.safetensors.index.json"), index.to_string()).unwrap();
    assert_eq!(problem(folder.path()), P::MissingShard { index: "model.safetensors.index.json".into() });
}

#[test]
fn the_cache_of_a_hub_stands_for_the_version_in_it() {
    let cache = tempfile::tempdir().unwrap();
    let snapshots = cache.path().join("models--some--loam-small").join("snapshots");
    std::fs::create_dir_all(&snapshots).unwrap();
    let folder = Folder::micro();
    let out = folder.file("out.gguf");
    std::fs::create_dir(snapshots.join("abc")).unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, snapshots.join("abc").join(path.file_name().unwrap())).unwrap();
    }
    let summary = to(Format::Q8_0, snapshots.parent().unwrap(), &out).unwrap();
    assert!(summary.notes.iter().any(|note| note.contains("abc")), "{:?}", summary.notes);
    let gguf = loam::gguf::GgufFile::open(&out).unwrap().gguf;
    assert_eq!(gguf.str("general.name").unwrap(), "Loam Small");
}

#[test]
fn folders_of_something_else_say_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(problem(dir.path()), P::NoConfig { file: "config.json", among: Vec::new() });
    let folder = Folder::micro();
    let checkpoint = dir.path().join("checkpoint-10");
    std::fs::create_dir(&checkpoint).unwrap();
    std::fs::copy(folder.file("config.json"), checkpoint.join("config.json")).unwrap();
    assert_eq!(problem(dir.path()), P::NoConfig { file: "config.json", among: vec![checkpoint] });
    std::fs::write(dir.path().join("adapter_config.json"), "{}").unwrap();
    assert_eq!(problem(dir.path()), P::PeftAdapter);
    // Pickles that a training leaves are no weights.
    std::fs::remove_file(folder.file("model.safetensors")).unwrap();
    std::fs::write(folder.file("training_args.bin"), "x").unwrap();
    assert_eq!(problem(folder.path()), P::NoWeights);
}

#[test]
#[cfg(unix)]
fn links_that_lead_nowhere_are_not_absent_files() {
    for name in ["tokenizer_config.json", "generation_config.json", "chat_template.jinja", "tokenizer.model"] {
        let folder = Folder::micro();
        let _ = std::fs::remove_file(folder.file(name));
        std::os::unix::fs::symlink("../../blobs/0123", folder.file(name)).unwrap();
        assert_eq!(problem(folder.path()), P::DanglingLink, "{name}");
    }
}

#[test]
fn what_changes_nothing_is_noted_and_left_out() {
    type Edit = fn(&Folder);
    let cases: [(&str, Edit); 7] = [
        ("pad_token", |f| f.edit("tokenizer_config.json", |v| v["pad_token"] = json!("[PAD]"))),
        ("pad_token_id", |f| {
            f.edit("tokenizer_config.json", |v| drop(v.as_object_mut().unwrap().remove("pad_token")));
            f.configure("pad_token_id", json!(4096));
        }),
        ("[PAD]", |f| {
            let added = json!({"id": 4096, "content": "[PAD]", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true});
            f.edit("tokenizer.json", |v| v["added_tokens"].as_array_mut().unwrap().push(added));
        }),
        ("license", |f| f.configure("license", json!(["mit"]))),
        ("top_p", |f| std::fs::write(f.file("generation_config.json"), r#"{"top_p": "0.9"}"#).unwrap()),
        ("top_k", |f| std::fs::write(f.file("generation_config.json"), r#"{"top_k": 0.5}"#).unwrap()),
        ("temperature", |f| std::fs::write(f.file("generation_config.json"), r#"{"temperature": [1]}"#).unwrap()),
    ];
    for (named, edit) in cases {
        let folder = Folder::micro();
        edit(&folder);
        let notes = notes(&folder);
        assert!(notes.iter().any(|note| note.contains(named) && note.contains("left out")), "{named}: {notes:?}");
    }
    let folder = Folder::micro();
    folder.edit("tokenizer_config.json", |v| v["eos_token"] = json!("[END]"));
    assert!(to(Format::Q8_0, folder.path(), &folder.file("out.gguf")).is_err(), "an end that is no token");
}

#[test]
fn bytes_without_a_token_are_noted_and_left_out_of_texts() {
    let folder = Folder::micro();
    // The second byte of \u{df} (sharp s) is 0x9f, which the byte-level alphabet writes as U+0141.
    folder.edit("tokenizer.json", |v| {
        let model = v["model"].as_object_mut().unwrap();
        let merges = model["merges"].as_array().unwrap().iter().filter(|m| !m.to_string().contains('\u{141}')).cloned();
        let merges: Vec<_> = merges.collect();
        let vocabulary = model["vocab"].as_object().unwrap().iter().map(|(text, id)| {
            let gone = text.contains('\u{141}');
            (if gone { format!("<gone{id}>") } else { text.clone() }, id.clone())
        });
        let vocabulary: serde_json::Map<_, _> = vocabulary.collect();
        (model["merges"], model["vocab"]) = (json!(merges), json!(vocabulary));
    });
    let notes = notes(&folder);
    assert!(notes.iter().any(|note| note.contains("1 of 256 bytes")), "{notes:?}");
    let base = loam::Base::open(folder.file("out.gguf")).unwrap();
    let tokenizer = base.tokenizer().unwrap();
    let ids = tokenizer.encode("Stra\u{df}e", false, false).unwrap();
    assert_eq!(tokenizer.decode(&ids), "Stra\u{fffd}e");
}

#[test]
fn adapters_of_nothing_and_of_others_are_told_by_what_they_are() {
    let folder = Folder::micro();
    let out = folder.file("base.gguf");
    to(Format::F32, folder.path(), &out).unwrap();
    let base = loam::gguf::GgufFile::open(&out).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let refused = |dir: &Path| match from_peft(dir, &base, &folder.file("adapter.gguf")) {
        Err(Error::Source { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    let checkpoint = dir.path().join("checkpoint-10");
    std::fs::create_dir(&checkpoint).unwrap();
    let mlx = json!({"fine_tune_type": "lora", "lora_parameters": {"rank": 4}});
    std::fs::write(checkpoint.join("adapter_config.json"), mlx.to_string()).unwrap();
    assert_eq!(refused(dir.path()), P::NoConfig { file: "adapter_config.json", among: vec![checkpoint.clone()] });
    assert_eq!(refused(&checkpoint), P::ForeignAdapter { program: "mlx-lm" });
}
