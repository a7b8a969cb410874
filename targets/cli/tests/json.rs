//! The field names of `--json` output are a contract.

mod support;

use serde_json::Value;
use support::{base, demo_data, micro, run};

#[track_caller]
fn has(object: &Value, fields: &[&str]) {
    for field in fields {
        assert!(object.get(field).is_some(), "`{field}` is missing in {object}");
    }
}

#[track_caller]
fn positive(object: &Value, fields: &[&str]) {
    for field in fields {
        assert!(object[field].as_f64().is_some_and(|v| v > 0.0), "`{field}` in {object}");
    }
}

#[test]
fn train_reports_steps_and_a_result() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (adapter, log) = (folder.path().join("a.gguf"), folder.path().join("log.jsonl"));
    let outcome = run(
        "train {} --data {} -o {} --log {} --device cpu --steps 3 --warmup 1 --eval-split 0.1 --json",
        &[base(), &demo_data("train.jsonl"), &adapter, &log],
    )
    .good();
    assert_eq!(outcome.stderr, "", "with --json all is on standard output");
    let done = outcome.result();
    assert_eq!(done["event"], "done");
    let numbers = ["steps", "tokens", "trained_tokens", "seconds", "tokens_per_second", "loss_first", "loss_last"];
    positive(&done, &numbers);
    positive(&done, &["eval_loss_before", "eval_loss_after", "peak_device_bytes", "peak_host_bytes"]);
    assert_eq!(done["steps"], 3);
    assert_eq!(done["adapter"].as_str(), adapter.to_str());
    let lines: Vec<Value> = std::fs::read_to_string(&log)
        .expect("a log")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|event: &Value| event["event"] == "step")
        .collect();
    assert_eq!(lines.len(), 3);
    for (index, step) in lines.iter().enumerate() {
        assert_eq!(step["step"], index + 1);
        has(step, &["loss", "lr", "grad_norm", "tokens", "seconds"]);
        positive(step, &["loss", "grad_norm", "tokens"]);
    }
    let trained: u64 = lines.iter().filter_map(|s| s["tokens"].as_u64()).sum();
    assert!(trained == done["tokens"].as_u64().expect("tokens"), "{trained} {done}");
}

#[test]
fn what_happened_to_the_data_is_told() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (data, adapter) = (folder.path().join("d.jsonl"), folder.path().join("a.gguf"));
    let good = std::fs::read_to_string(demo_data("train.jsonl")).expect("demo data");
    std::fs::write(&data, format!("{good}not json\n")).expect("writes");
    let line = "train {} --data {} -o {} --device cpu --steps 1 --context 40 --skip-bad 1 --json";
    let outcome = run(line, &[base(), &data, &adapter]).good();
    assert_eq!(outcome.stderr, "");
    let notes: Vec<String> = outcome
        .objects()
        .iter()
        .filter(|object| object["event"] == "note")
        .map(|note| note["message"].as_str().expect("a text").to_owned())
        .collect();
    for words in ["were cut", "1 bad lines were skipped", "line 117"] {
        assert!(notes.iter().any(|note| note.contains(words) && note.contains("d.jsonl")), "{words}: {notes:?}");
    }
    let done = outcome.result();
    assert_eq!(done["skipped_lines"], 1);
    positive(&done, &["truncated_examples"]);
}

#[test]
fn long_work_tells_of_its_stages() {
    let folder = tempfile::tempdir().expect("temp dir");
    let at = |name: &str| folder.path().join(name);
    let events = |line: &str, paths: &[&std::path::Path]| -> Vec<String> {
        let objects = run(line, paths).good().objects();
        objects.iter().map(|object| object["event"].as_str().expect("an event").to_owned()).collect()
    };
    let bench = events("bench {} --prompt 16 --generate 4 --train 32 --device cpu --json", &[base()]);
    assert_eq!(bench, ["start", "prefill", "decode", "train", "done"]);
    let logits = events("logits {} --tokens 1,2 --device cpu --json -o {}", &[base(), &at("l.npy")]);
    assert_eq!(logits, ["start", "computed", "done"]);
    let (data, adapter, peft) = (demo_data("train.jsonl"), at("a.gguf"), at("peft"));
    run("train {} --data {} -o {} --device cpu --steps 1 --context 64", &[base(), &data, &adapter]).good();
    let verify = events("adapter verify {} --base {} --json", &[&adapter, base()]);
    assert_eq!(verify, ["start", "opened", "checked", "done"]);
    let out = events("adapter to-peft {} --base {} -o {} --json", &[&adapter, base(), &peft]);
    assert_eq!(out, ["start", "opened", "checked", "done"]);
    let back = events("adapter from-peft {} --base {} -o {} --json", &[&peft, base(), &at("b.gguf")]);
    assert_eq!(back, ["start", "opened", "done"]);
}

#[test]
fn without_held_out_data_the_fields_are_there_and_null() {
    let folder = tempfile::tempdir().expect("temp dir");
    let adapter = folder.path().join("a.gguf");
    let line = "train {} --data {} -o {} --device cpu --steps 1 --json";
    let done = run(line, &[base(), &demo_data("train.jsonl"), &adapter]).good().result();
    assert!(done["eval_loss_before"].is_null() && done["eval_loss_after"].is_null(), "{done}");
    has(&done, &["eval_loss_before", "eval_loss_after"]);
}

#[test]
fn eval_reports_loss_perplexity_and_tokens() {
    let outcome = run("eval {} --data {} --device cpu --json", &[base(), &demo_data("heldout.jsonl")]).good();
    let result = outcome.result();
    positive(&result, &["loss", "perplexity", "tokens"]);
    let (loss, perplexity) = (result["loss"].as_f64().expect("loss"), result["perplexity"].as_f64().expect("ppl"));
    assert!((loss.exp() / perplexity - 1.0).abs() < 1e-9, "{result}");
}

#[test]
fn eval_reports_the_metrics_that_were_asked_for() {
    let folder = tempfile::tempdir().expect("temp dir");
    let data = folder.path().join("few.jsonl");
    let demo = std::fs::read_to_string(demo_data("heldout.jsonl")).expect("demo data");
    std::fs::write(&data, demo.lines().take(3).collect::<Vec<_>>().join("\n")).expect("writes");
    let eval = |metrics: &str| {
        let line = format!("eval {{}} --data {{}} --metric {metrics} --max-tokens 6 --device cpu --json");
        let outcome = run(&line, &[base(), &data]).good();
        assert_eq!(outcome.stderr, "", "with --json all is on standard output");
        outcome.result()
    };
    let scores = ["rouge1", "rouge2", "rougeL", "bleu", "accuracy"];
    let all = eval("loss,perplexity,rouge,bleu,accuracy");
    positive(&all, &["loss", "perplexity", "tokens", "peak_device_bytes"]);
    assert_eq!(all["answers"], 3);
    assert_eq!(all["weight_uploads"], 1, "for the loss and the answers");
    for name in scores {
        let highest = if name == "bleu" { 100.0 } else { 1.0 };
        assert!(all[name].as_f64().is_some_and(|v| (0.0..=highest).contains(&v)), "{name} in {all}");
    }
    let bleu = eval("bleu");
    assert_eq!((&bleu["bleu"], &bleu["tokens"]), (&all["bleu"], &all["tokens"]), "the same run, the same numbers");
    for absent in ["loss", "perplexity", "rouge1", "rouge2", "rougeL", "accuracy"] {
        assert!(bleu.get(absent).is_none(), "{absent} in {bleu}");
    }
    let loss = eval("loss");
    assert!(scores.iter().chain(&["answers", "perplexity"]).all(|name| loss.get(name).is_none()), "{loss}");
}

#[test]
fn metrics_compare_what_generate_says() {
    let folder = tempfile::tempdir().expect("temp dir");
    let data = folder.path().join("own.jsonl");
    let line = "generate {} --prompt Hello --max-tokens 12 --device cpu --json";
    let said = run(line, &[base()]).good().result()["text"].as_str().expect("a text").to_owned();
    let metrics = |answer: &str| {
        let example = serde_json::json!({"prompt": "Hello", "completion": answer});
        std::fs::write(&data, example.to_string()).expect("writes");
        let line = "eval {} --data {} --metric accuracy,rouge,bleu --max-tokens 12 --device cpu --json";
        run(line, &[base(), &data]).good().result()
    };
    let own = metrics(&said);
    assert_eq!(own["accuracy"], 1.0, "{own} {said:?}");
    let other = metrics("zyx wvu tsr qpo nml");
    assert_eq!((&other["accuracy"], &other["rouge1"], &other["bleu"]), (&0.0.into(), &0.0.into(), &0.0.into()));
}

#[test]
fn eval_with_a_stride_counts_the_same_tokens() {
    let folder = tempfile::tempdir().expect("temp dir");
    let data = folder.path().join("a.txt");
    std::fs::write(&data, "The keeper of the light climbs the steps every night. ".repeat(6)).expect("writes");
    let eval = |stride: &str| {
        let line = format!("eval {{}} --data {{}} --context 32 {stride} --device cpu --json");
        run(&line, &[base(), &data]).good().result()
    };
    let (plain, strided) = (eval(""), eval("--stride 8"));
    assert_eq!(plain["tokens"], strided["tokens"]);
    assert_ne!(plain["loss"], strided["loss"], "other tokens are seen");
    assert_eq!(plain["loss"], eval("--stride 31")["loss"]);
}

#[test]
fn tokenize_reports_ids_that_text_and_flags_decide() {
    let ids = |line: &str| {
        let result = run(line, &[base()]).good().result();
        let list = result["ids"].as_array().expect("ids").clone();
        list.iter().map(|id| id.as_u64().expect("an id")).collect::<Vec<_>>()
    };
    assert_eq!(ids("tokenize {} --text <|im_start|> --json"), [1]);
    assert!(ids("tokenize {} --text <|im_start|> --no-special --json").len() > 1);
    assert_eq!(ids("tokenize {} --text lighthouse --json"), ids("tokenize {} --text lighthouse --no-bos --json"));
}

#[test]
fn inspect_reports_keys_and_tensors() {
    let result = run("inspect {} --json --tensors --digest", &[base()]).good().result();
    has(&result, &["file", "kind", "version", "architecture", "weights", "types", "metadata", "tensors"]);
    assert_eq!(result["kind"], "base");
    assert_eq!(result["metadata"]["general.architecture"], "llama");
    let tensors = result["tensors"].as_array().expect("tensors");
    assert_eq!(tensors.len() as u64, result["tensor_count"].as_u64().expect("a count"));
    assert!(tensors.iter().any(|t| t["name"] == "blk.0.attn_q.weight" && t["type"] == "q8_0"));
    assert_eq!(result["content_digest"].as_str().map(str::len), Some(64));
}

#[test]
fn devices_always_list_the_cpu() {
    let outcome = run("devices --json", &[]).good();
    let devices = outcome.result();
    let list = devices["devices"].as_array().expect("devices");
    list.iter().for_each(|d| has(d, &["name", "backend", "kind", "features", "limits", "driver"]));
    assert!(list.iter().any(|d| d["backend"] == "cpu"), "{devices}");
}

#[test]
fn generate_and_bench_and_convert_end_with_a_result() {
    let line = "generate {} --prompt Hello --max-tokens 5 --device cpu --json";
    let done = run(line, &[base()]).good().result();
    assert_eq!(done["event"], "done");
    has(&done, &["text", "ids", "prompt_tokens", "generated_tokens", "stop"]);

    let line = "bench {} --prompt 16 --generate 4 --train 32 --device cpu --json";
    let done = run(line, &[base()]).good().result();
    positive(&done, &["load_seconds", "prefill_tokens_per_second", "decode_tokens_per_second"]);
    positive(&done, &["train_tokens_per_second", "peak_device_bytes", "peak_host_bytes"]);
    has(&done, &["device"]);

    let folder = tempfile::tempdir().expect("temp dir");
    let out = folder.path().join("b.gguf");
    let done = run("convert {} -o {} --format q4_0 --pure --json", &[&micro(), &out]).good().result();
    assert_eq!(done["event"], "done");
    assert_eq!(done["output"].as_str(), out.to_str());
}
