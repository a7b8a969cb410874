//! The main job through the binary: convert, train, evaluate, generate, to PEFT and back, verify.

mod support;

use std::path::Path;

use support::{base, demo_data, device_names, listing, loam, loam_with, micro, read_npy, run, tiny};

/// Trains a small adapter on the demo data, always the same one.
fn train(adapter: &Path, more: &str) -> serde_json::Value {
    let line = format!("train {{}} --data {{}} -o {{}} --device cpu --steps 8 --lr 0.005 --seed 7 --json {more}");
    run(&line, &[base(), &demo_data("train.jsonl"), adapter]).good().result()
}

fn loss(adapter: Option<&Path>) -> f64 {
    let data = demo_data("heldout.jsonl");
    let outcome = match adapter {
        Some(adapter) => run("eval {} --data {} --adapter {} --device cpu --json", &[base(), &data, adapter]),
        None => run("eval {} --data {} --device cpu --json", &[base(), &data]),
    };
    outcome.good().result()["loss"].as_f64().expect("a loss")
}

#[test]
fn held_out_loss_falls_and_the_adapter_travels_to_peft_and_back() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (adapter, back) = (folder.path().join("a.gguf"), folder.path().join("b.gguf"));
    let peft = folder.path().join("peft");
    let heldout = demo_data("heldout.jsonl");
    let done = train(&adapter, &format!("--eval-data {}", heldout.display()));
    let (before, after) = (loss(None), loss(Some(&adapter)));
    assert!(after < before - 0.1, "held-out loss {before} -> {after}");
    // The trainer evaluates as `loam eval` does.
    assert!((done["eval_loss_before"].as_f64().expect("before") - before).abs() < 1e-4, "{done} {before}");
    assert!((done["eval_loss_after"].as_f64().expect("after") - after).abs() < 1e-4, "{done} {after}");

    run("adapter verify {} --base {}", &[&adapter, base()]).good();
    run("adapter to-peft {} --base {} -o {}", &[&adapter, base(), &peft]).good();
    assert!(peft.join("adapter_config.json").is_file() && peft.join("adapter_model.safetensors").is_file());
    run("adapter from-peft {} --base {} -o {}", &[&peft, base(), &back]).good();
    run("adapter verify {} --base {}", &[&back, base()]).good();
    assert_eq!(loss(Some(&back)), after, "PEFT and back changes nothing");

    let answer = ["generate", "--prompt", "Who are you?", "--max-tokens", "12", "--device", "cpu", "--adapter"];
    let answer = |path: &Path| loam(answer.iter().copied().map(Path::new).chain([path, base()])).good().stdout;
    assert_eq!(answer(&adapter), answer(&back));
    assert!(!answer(&adapter).trim().is_empty());
}

#[test]
fn the_same_run_gives_the_same_bytes_and_another_seed_does_not() {
    let folder = tempfile::tempdir().expect("temp dir");
    for device in device_names() {
        let bytes = [("a", 7), ("b", 7), ("c", 8)].map(|(name, seed)| {
            let path = folder.path().join(name);
            let flags = format!("--steps 3 --batch 2 --context 128 --lr 0.005 --rank 4 --seed {seed}");
            let line = format!("train {{}} --data {{}} -o {{}} --device {device} {flags}");
            run(&line, &[base(), &demo_data("train.jsonl"), &path]).good();
            std::fs::read(path).expect("an adapter")
        });
        assert!(bytes[0] == bytes[1], "{device}: two runs, two adapters");
        assert!(bytes[0] != bytes[2], "{device}: the seed changes nothing");
    }
}

#[test]
fn every_device_does_the_whole_job_on_four_bits() {
    let folder = tempfile::tempdir().expect("temp dir");
    let at = |name: &str| folder.path().join(name);
    let data = demo_data("heldout.jsonl");
    for format in ["q4_k", "q4_0"] {
        let base = at(format);
        run(&format!("convert {{}} -o {{}} --format {format} --pure"), &[&micro(), &base]).good();
        let mut losses = Vec::new();
        for device in device_names() {
            let adapter = at("adapter.gguf");
            let train = "train {} --data {} -o {} --steps 2 --batch 2 --context 128 --lr 0.005 --json --device";
            let trained = run(&format!("{train} {device}"), &[&base, &demo_data("train.jsonl"), &adapter]).good();
            assert_eq!(trained.stderr, "", "{device}: neither loam nor a driver writes there");
            let line = format!("eval {{}} --data {{}} --adapter {{}} --context 128 --json --device {device}");
            let after = run(&line, &[&base, &data, &adapter]).good().result();
            let before = run(&line.replace("--adapter {} ", ""), &[&base, &data]).good().result();
            let loss = |result: &serde_json::Value| result["loss"].as_f64().expect("a loss");
            assert!(loss(&after) < loss(&before), "{device} {format}: {before} {after}");
            let line = "generate {} --adapter {} --prompt Hello --max-tokens 4 --json --device";
            let answer = run(&format!("{line} {device}"), &[&base, &adapter]).good().result();
            assert!(answer["generated_tokens"].as_u64().is_some_and(|count| count <= 4), "{answer}");
            run("adapter verify {} --base {}", &[&adapter, &base]).good();
            losses.push((loss(&before), loss(&after)));
        }
        let close = |(a, b): &(f64, f64)| (a - losses[0].0).abs() < 2e-3 && (b - losses[0].1).abs() < 2e-2;
        assert!(losses.iter().all(close), "{format}: the devices compute one model: {losses:?}");
    }
}

#[test]
fn a_scale_of_zero_switches_an_adapter_off_and_one_is_the_default() {
    let folder = tempfile::tempdir().expect("temp dir");
    let adapter = folder.path().join("a.gguf");
    train(&adapter, "");
    let logits = |name: &str, suffix: Option<&str>| {
        let out = folder.path().join(name);
        let ids = "logits {} --tokens 1,300,301,302 --device cpu -o {}";
        match suffix {
            Some(suffix) => run(&format!("{ids} --adapter {{}}{suffix}"), &[base(), &out, &adapter]).good(),
            None => run(ids, &[base(), &out]).good(),
        };
        read_npy(&out)
    };
    let (shape, plain) = logits("plain.npy", None);
    assert_eq!(shape, "(4, 4096)");
    assert_eq!(plain.len(), 4 * 4096);
    assert!(plain.iter().all(|v| v.is_finite()));
    assert_eq!(logits("off.npy", Some(":0")).1, plain);
    let with = logits("with.npy", Some("")).1;
    assert_ne!(with, plain);
    assert_eq!(logits("one.npy", Some(":1.0")).1, with);
}

#[test]
fn a_model_of_whole_super_blocks_is_stored_and_runs_in_q4_k() {
    let folder = tempfile::tempdir().expect("temp dir");
    let mut losses = Vec::new();
    for format in ["q8_0", "q4_k"] {
        let path = folder.path().join(format);
        let line = format!("convert {{}} -o {{}} --format {format} --pure --json");
        let done = run(&line, &[&tiny(), &path]).good().result();
        assert!(done["types"][format].as_u64().is_some_and(|count| count > 50), "{done}");
        assert_eq!(done["fallbacks"].as_object().map(|f| f.len()), Some(0), "{done}");
        let line = "eval {} --data {} --context 128 --device cpu --json";
        losses.push(run(line, &[&path, &demo_data("heldout.jsonl")]).good().result()["loss"].as_f64().expect("a loss"));
    }
    assert!((losses[0] - losses[1]).abs() < 0.3, "{losses:?}");
}

#[test]
fn a_text_file_is_learned_whole_without_being_told() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (text, named, told) = (folder.path().join("d.TXT"), folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&text, "The keeper climbs the tower every night.\n".repeat(40)).expect("writes");
    let line = "train {} --data {} -o {} --device cpu --steps 2 --context 64 --json";
    let done = run(line, &[base(), &text, &named]).good().result();
    assert!(done["trained_tokens"].as_u64() > Some(100), "{done}");
    run(&format!("{line} --objective clm"), &[base(), &text, &told]).good();
    assert!(std::fs::read(named).expect("an adapter") == std::fs::read(told).expect("an adapter"));
}

#[test]
fn another_chat_template_is_used_when_it_is_given() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (template, adapter) = (folder.path().join("t.jinja"), folder.path().join("a.gguf"));
    std::fs::write(&template, "{% for m in messages %}{{ m.content }}\n{% endfor %}").expect("writes");
    let tokens = |more: &str, paths: &[&Path]| {
        let line = format!("generate {{}} --prompt lighthouse --max-tokens 1 --device cpu --json {more}");
        run(&line, paths).good().result()["prompt_tokens"].as_u64().expect("a count")
    };
    let plain = run("tokenize {} --json --no-bos --text lighthouse", &[base()]).good().result();
    let plain = plain["ids"].as_array().expect("ids").len() as u64;
    // The word and a line end; the base's own template writes roles around it.
    assert_eq!(tokens("--chat-template {}", &[base(), &template]), plain + 1);
    assert!(tokens("", &[base()]) > plain + 4);
    let line = "train {} --data {} -o {} --chat-template {} --device cpu --steps 1 --json";
    let done = run(line, &[base(), &demo_data("train.jsonl"), &adapter, &template]).good().result();
    assert!(done["trained_tokens"].as_u64() > Some(0), "{done}");
}

#[test]
fn training_goes_on_from_an_adapter() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (first, second) = (folder.path().join("a.gguf"), folder.path().join("b.gguf"));
    let start = train(&first, "");
    let next = train(&second, &format!("--init {}", first.display()));
    let of = |value: &serde_json::Value| value["loss_first"].as_f64().expect("a loss");
    assert!(of(&next) < of(&start) - 0.1, "{start} {next}");
    // In place: the adapter is read before the training and replaced after it.
    train(&first, &format!("--init {}", first.display()));
    assert!(std::fs::read(&first).expect("an adapter") == std::fs::read(&second).expect("an adapter"));
}

/// PEFT's name of the base and its names of modules, from a folder through a training and back.
#[test]
fn what_peft_calls_things_survives_a_training() {
    let folder = tempfile::tempdir().expect("temp dir");
    let at = |name: &str| folder.path().join(name);
    train(&at("a.gguf"), "--targets q_proj,v_proj");
    let export = |adapter: &str, out: &str| {
        run("adapter to-peft {} --base {} -o {}", &[&at(adapter), base(), &at(out)]).good();
        let config = std::fs::read(at(out).join("adapter_config.json")).expect("written");
        serde_json::from_slice::<serde_json::Value>(&config).expect("JSON")
    };
    let mut config = export("a.gguf", "first");
    assert_eq!(config["target_modules"], serde_json::json!(["q_proj", "v_proj"]));
    config["base_model_name_or_path"] = "some/model".into();
    std::fs::write(at("first").join("adapter_config.json"), config.to_string()).expect("written");
    run("adapter from-peft {} --base {} -o {}", &[&at("first"), base(), &at("b.gguf")]).good();
    train(&at("c.gguf"), &format!("--init {}", at("b.gguf").display()));
    // Over an earlier export: one change of the whole folder.
    assert_eq!(export("c.gguf", "first")["base_model_name_or_path"], "some/model");
    assert_eq!(std::fs::read_dir(at("first")).expect("a folder").count(), 2);
}

#[test]
fn every_format_converts_and_runs() {
    let folder = tempfile::tempdir().expect("temp dir");
    let mut losses = Vec::new();
    for format in ["f32", "f16", "bf16", "q8_0", "q4_0"] {
        let path = folder.path().join(format);
        run(&format!("convert {{}} -o {{}} --format {format} --pure --threads 1"), &[&micro(), &path]).good();
        let outcome = run("eval {} --data {} --device cpu --json", &[&path, &demo_data("heldout.jsonl")]).good();
        losses.push(outcome.result()["loss"].as_f64().expect("a loss"));
    }
    // The weights were bf16: f32 and bf16 are the same model, the others come close.
    assert!((losses[0] - losses[2]).abs() < 1e-5, "{losses:?}");
    assert!(losses.iter().all(|l| (l - losses[0]).abs() < 0.5), "{losses:?}");
}

#[test]
fn the_demo_learns_and_keeps_its_files() {
    let folder = tempfile::tempdir().expect("temp dir");
    let done = run("demo --device cpu --steps 2 --json --keep {}", &[folder.path()]).good().result();
    let loss = |name: &str| done[name].as_f64().expect("a loss");
    assert!(loss("eval_loss_after") < loss("eval_loss_before") - 0.5, "{done}");
    assert_eq!(done["answers"].as_array().map(Vec::len), Some(4));
    assert_eq!(done["weight_uploads"], 1, "for the training and the answers before and after it");
    assert_eq!(listing(folder.path()), ["adapter.gguf", "base.gguf"]);
    let [adapter, base] = ["adapter.gguf", "base.gguf"].map(|name| folder.path().join(name));
    run("adapter verify {} --base {}", &[&adapter, &base]).good();
}

#[test]
fn a_chat_answers_line_by_line_and_remembers() {
    let args = ["chat", "--device", "cpu", "--max-tokens", "8", "--system", "Be brief."].map(Path::new);
    let chat = |input: &str| loam_with(args.iter().copied().chain([base()]), input).good().stdout;
    let one = chat("Who are you?\n");
    assert!(!one.trim().is_empty());
    let two = chat("Who are you?\n\nWho are you?\n/exit\nnever asked\n");
    assert!(two.starts_with(&one), "{one:?} {two:?}");
    // After a reset the second question is the first one again: same answer.
    assert_eq!(chat("Who are you?\n/reset\nWho are you?\n"), format!("{one}{one}"));
}

#[test]
fn a_question_that_is_too_long_does_not_end_a_chat() {
    let args = ["chat", "--device", "cpu", "--max-tokens", "8", "--context", "64"].map(Path::new);
    let chat = |input: &str| loam_with(args.iter().copied().chain([base()]), input).good();
    let short = chat("Who are you?\n");
    let long = chat(&format!("{}\nWho are you?\n", "far too long ".repeat(50)));
    assert_eq!(long.stdout, short.stdout);
    assert!(long.stderr.contains("too long") && long.stderr.contains("64"), "{}", long.stderr);
    assert!(!short.stderr.contains("too long"), "{}", short.stderr);
    // The oldest questions are forgotten when the context is full, and the chat continues.
    let many = chat(&"Who are you?\n".repeat(6));
    assert!(many.stderr.contains("forgotten"), "{}", many.stderr);
    assert!(many.stdout.lines().count() >= 6, "{}", many.stdout);
}
