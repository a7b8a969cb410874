//! `loam eval` and `loam compare`: windows of llama-perplexity, errors, several files, base and adapter, answers.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use support::{base, demo_data, micro, read_npy, run};
use tempfile::TempDir;

#[track_caller]
fn number(object: &Value, field: &str) -> f64 {
    object[field].as_f64().unwrap_or_else(|| panic!("{field} in {object}"))
}

/// A text of about 150 tokens, the first lines of the demo data, and an adapter on [`base`].
fn inputs() -> &'static (TempDir, PathBuf, PathBuf, PathBuf) {
    static INPUTS: OnceLock<(TempDir, PathBuf, PathBuf, PathBuf)> = OnceLock::new();
    INPUTS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("temp dir");
        let at = |name: &str| folder.path().join(name);
        let (text, lines, adapter) = (at("wiki.txt"), at("d.jsonl"), at("a.gguf"));
        fs::write(&text, "The keeper of the light climbs the steps every night. He counts them. ".repeat(9))
            .expect("writes");
        let demo = fs::read_to_string(demo_data("train.jsonl")).expect("demo data");
        fs::write(&lines, demo.lines().take(5).collect::<Vec<_>>().join("\n")).expect("writes");
        let line = "train {} --data {} -o {} --device cpu --steps 3 --lr 1e-2 --context 64";
        run(line, &[base(), &lines, &adapter]).good();
        (folder, text, lines, adapter)
    })
}

/// Mean loss and standard error of llama-perplexity's windows, from what `loam logits` says of each of them.
fn by_logits(text: &Path, context: usize) -> (f64, f64, usize) {
    let ids = run("tokenize {} --file {} --no-special --json", &[base(), text]).good().result();
    let ids: Vec<u64> = ids["ids"].as_array().expect("ids").iter().filter_map(Value::as_u64).collect();
    let folder = tempfile::tempdir().expect("temp dir");
    let out = folder.path().join("l.npy");
    let mut losses = Vec::new();
    for window in ids.chunks_exact(context) {
        let list = window.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        run(&format!("logits {{}} --tokens {list} --device cpu -o {{}}"), &[base(), &out]).good();
        let (_, logits) = read_npy(&out);
        let vocabulary = logits.len() / context;
        for place in context / 2..context - 1 {
            let row = &logits[place * vocabulary..][..vocabulary];
            let sum: f64 = row.iter().map(|&value| f64::from(value).exp()).sum();
            losses.push(sum.ln() - f64::from(row[window[place + 1] as usize]));
        }
    }
    let count = losses.len() as f64;
    let mean = losses.iter().sum::<f64>() / count;
    let squares = losses.iter().map(|loss| loss * loss).sum::<f64>() / count;
    (mean, ((squares - mean * mean) / (count - 1.0)).sqrt(), ids.len() / context)
}

#[test]
fn perplexity_is_also_that_of_llama_perplexity() {
    let (_, text, lines, _) = inputs();
    let result = run("eval {} --data {} --context 32 --device cpu --json", &[base(), text]).good().result();
    let (loss, error, windows) = by_logits(text, 32);
    assert!(windows > 2 && result["llama_windows"] == windows, "{windows}: {result}");
    let (found, wanted) = (number(&result, "llama_perplexity"), loss.exp());
    assert!((found / wanted - 1.0).abs() < 1e-4, "{found}, not {wanted}");
    let (found, wanted) = (number(&result, "llama_perplexity_error"), wanted * error);
    assert!((found / wanted - 1.0).abs() < 1e-3, "{found}, not {wanted}");
    // Every token counts in the other one.
    assert!(number(&result, "tokens") > 32.0 * windows as f64 - 1.0, "{result}");
    // A text of less than two windows has none, which is told; data that is no text is an error to ask.
    let short = run("eval {} --data {} --context 512 --device cpu --json", &[base(), text]).good();
    assert!(short.result().get("llama_perplexity").is_none());
    assert!(short.objects().iter().any(|o| o["message"].as_str().is_some_and(|m| m.contains("1024"))), "{short:?}");
    run("eval {} --data {} --metric llama-perplexity --device cpu", &[base(), lines]).bad(2, &[".txt"]);
}

#[test]
fn means_have_errors() {
    let (_, text, lines, _) = inputs();
    let line = "eval {} --data {} --metric loss,perplexity,rouge,accuracy,bleu --max-tokens 4 --device cpu --json";
    let result = run(line, &[base(), lines]).good().result();
    let (loss, error) = (number(&result, "loss"), number(&result, "loss_error"));
    assert!(error > 0.0 && error < loss, "{result}");
    assert!((number(&result, "perplexity_error") / (error * loss.exp()) - 1.0).abs() < 1e-9, "{result}");
    for name in ["rouge1_error", "rouge2_error", "rougeL_error", "accuracy_error"] {
        assert!(result[name].as_f64().is_some(), "{name} in {result}");
    }
    assert!(result.get("bleu_error").is_none(), "of all answers as one: {result}");
    let shown = run("eval {} --data {} --device cpu --context 32", &[base(), text]).good().stdout;
    assert!(shown.lines().filter(|line| line.contains(" +- ")).count() >= 3, "{shown}");
}

#[test]
fn several_files_have_a_label_each() {
    let (_, text, lines, _) = inputs();
    let labelled = format!("--data wiki={} --data {{}} --context 32 --device cpu", text.display());
    let all = run(&format!("eval {{}} {labelled} --json"), &[base(), lines]).good().result();
    let sets = all["sets"].as_array().expect("sets");
    assert_eq!((&sets[0]["label"], &sets[1]["label"]), (&"wiki".into(), &"d.jsonl".into()));
    let (mut sum, mut tokens) = (0.0, 0.0);
    for (set, path) in sets.iter().zip([text, lines]) {
        let alone = run("eval {} --data {} --context 32 --device cpu --json", &[base(), path]).good().result();
        assert_eq!((&set["loss"], &set["tokens"]), (&alone["loss"], &alone["tokens"]));
        sum += number(set, "loss") * number(set, "tokens");
        tokens += number(set, "tokens");
    }
    assert_eq!(number(&all, "tokens"), tokens);
    assert!((number(&all, "loss") - sum / tokens).abs() < 1e-9, "{all}");
    let shown = run(&format!("eval {{}} {labelled}"), &[base(), lines]).good().stdout;
    assert!(["wiki:", "d.jsonl:", "all:"].iter().all(|label| shown.contains(label)), "{shown}");
    let twice = format!("--data a={} --data a={}", text.display(), lines.display());
    run(&format!("eval {{}} {twice} --device cpu"), &[base()]).bad(2, &["label a", "LABEL=FILE"]);
}

#[test]
fn base_and_adapter_are_measured_in_one_run() {
    let (folder, _, lines, adapter) = inputs();
    let answers = folder.path().join("answers.jsonl");
    let line = "eval {} --data {} --adapter {} --with-base --metric loss,rouge --answers {} --max-tokens 6 --device cpu --json";
    let both = run(line, &[base(), lines, adapter, &answers]).good().result();
    let with = run("eval {} --data {} --adapter {} --device cpu --json", &[base(), lines, adapter]).good().result();
    let without = run("eval {} --data {} --device cpu --json", &[base(), lines]).good().result();
    assert_eq!((&both["loss"], &both["base"]["loss"]), (&with["loss"], &without["loss"]));
    let change = number(&with, "loss") - number(&without, "loss");
    assert!((number(&both["change"], "loss") - change).abs() < 1e-9 && change < 0.0, "{both}");
    assert_eq!(both["weight_uploads"], 1);
    let written: Vec<Value> = fs::read_to_string(&answers)
        .expect("answers")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(written.len(), 5);
    for (index, answer) in written.iter().enumerate() {
        assert_eq!((&answer["data"], &answer["line"]), (&"d.jsonl".into(), &(index + 1).into()));
        for field in ["reference", "answer", "base_answer"] {
            assert!(answer[field].is_string(), "{field} in {answer}");
        }
    }
    let mean = written.iter().map(|answer| number(answer, "rouge1")).sum::<f64>() / 5.0;
    assert!((number(&both, "rouge1") - mean).abs() < 1e-9, "{both}");
    run("eval {} --data {} --with-base --device cpu", &[base(), lines]).bad(2, &["--adapter"]);
    run("eval {} --data {} --answers {} --device cpu", &[base(), lines, lines]).bad(2, &["is an input"]);
}

#[test]
fn a_model_beside_itself_is_the_same() {
    let (_, text, _, _) = inputs();
    let result =
        run("compare {} {} --data {} --context 32 --device cpu --json", &[base(), base(), text]).good().result();
    let file = &result["files"][0];
    assert_eq!((number(file, "kl"), number(file, "same_top"), number(file, "perplexity_ratio")), (0.0, 1.0, 1.0));
    let eval = run("eval {} --data {} --context 32 --device cpu --json", &[base(), text]).good().result();
    for object in [file, &result["reference"]] {
        assert!(
            (number(object, "perplexity") / number(&eval, "llama_perplexity") - 1.0).abs() < 1e-4,
            "{object} {eval}"
        );
        let (found, wanted) = (number(object, "perplexity_error"), number(&eval, "llama_perplexity_error"));
        assert!((found / wanted - 1.0).abs() < 1e-3, "{found}, not {wanted}");
        assert_eq!(number(object, "bytes"), base().metadata().expect("a base").len() as f64);
    }
    assert_eq!(result["windows"], eval["llama_windows"]);
}

#[test]
fn quantised_models_are_compared_and_one_is_recommended() {
    let (folder, text, _, _) = inputs();
    let at = |name: &str| folder.path().join(name);
    let [f32, q8, q4] = ["f32", "q8_0", "q4_0"].map(|format| {
        let out = at(&format!("{format}.gguf"));
        run(&format!("convert {{}} -o {{}} --format {format}"), &[&micro(), &out]).good();
        out
    });
    let line = "compare {} {} {} --data {} --context 32 --device cpu";
    let outcome = run(&format!("{line} --json"), &[&f32, &q4, &q8, text]).good();
    assert!(outcome.objects().iter().any(|object| object["event"] == "progress"));
    let result = outcome.result();
    let [small, large] = [&result["files"][0], &result["files"][1]];
    assert!(number(small, "bytes") < number(large, "bytes"));
    assert!(number(small, "kl") > number(large, "kl") && number(large, "kl") > 0.0, "{result}");
    assert!(number(small, "same_top") <= number(large, "same_top"), "{result}");
    for object in [small, large] {
        assert!(number(object, "kl_error") > 0.0 && number(object, "prompt_tokens_per_second") > 0.0, "{object}");
        let ratio = number(object, "perplexity") / number(&result["reference"], "perplexity");
        assert!((number(object, "perplexity_ratio") / ratio - 1.0).abs() < 1e-6, "{object}");
    }
    let taken = result["recommendation"]["file"].as_str().expect("a file");
    let good = number(small, "perplexity_ratio") <= 1.05;
    assert_eq!(Path::new(taken), if good { &q4 } else { &q8 }, "{result}");
    let shown = run(line, &[&f32, &q4, &q8, text]).good().stdout;
    assert!(shown.contains(&format!("take {taken}")) && shown.contains("KL"), "{shown}");
    let one = run(&format!("{line} --chunks 1 --json"), &[&f32, &q4, &q8, text]).good().result();
    assert_eq!(one["windows"], 1);
    run(&format!("{line} --chunks 0"), &[&f32, &q4, &q8, text]).bad(2, &["--chunks"]);
}

#[test]
fn only_models_with_the_same_tokens_are_compared() {
    let (folder, text, _, adapter) = inputs();
    // The same model with another name of one token.
    let other = folder.path().join("other.gguf");
    let mut bytes = fs::read(base()).expect("a base");
    let at = bytes.windows(12).position(|part| part == b"<|im_start|>").expect("a token");
    bytes[at..at + 12].copy_from_slice(b"<|im_begin|>");
    fs::write(&other, bytes).expect("writes");
    let line = "compare {} {} --data {} --context 32 --device cpu";
    run(line, &[base(), &other, text]).bad(1, &["other.gguf", "tokenizer"]);
    run(line, &[base(), adapter, text]).bad(1, &["a.gguf", "adapter"]);
    run("compare {} {} --data {} --device cpu", &[base(), base(), text]).bad(2, &["1024"]);
}
