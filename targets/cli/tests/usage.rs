//! Wrong input: the exit code, a message that says what to do, nothing on standard output, nothing half-written.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{base, demo_data, listing, micro, run, tiny};
use tempfile::TempDir;

/// A folder with a previous output in it that must survive, and the path to give as output.
fn with_previous() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("temp dir");
    let output = folder.path().join("out");
    fs::write(&output, "previous").expect("writes");
    (folder, output)
}

#[track_caller]
fn untouched(folder: &TempDir) {
    assert_eq!(listing(folder.path()), ["out"], "something half-written was left");
    assert_eq!(fs::read(folder.path().join("out")).expect("still there"), b"previous");
}

#[test]
fn arguments_that_make_no_sense_are_usage_errors() {
    let nowhere = Path::new("nowhere.gguf");
    for line in [
        "",
        "frobnicate",
        "train",
        "train {}",
        "train {} --data x",
        "train {} --data x -o y --no-such-flag",
        "train {} --data x -o y --rank 0",
        "train {} --data x -o y --rank eight",
        "train {} --data x -o y --lr 0",
        "train {} --data x -o y --lr nan",
        "train {} --data x -o y --alpha inf",
        "train {} --data x -o y --epochs 1 --steps 1",
        "train {} --data x -o y --eval-split 1.5",
        "train {} --data x -o y --eval-split 0.1 --eval-data z",
        "train {} --data x -o y --schedule exponential",
        "train {} --data x -o y --method dreambooth",
        "train {} --data x -o y --objective ppo",
        "train {} --data x -o y --objective sft --beta 0.1",
        "train {} --data x -o y --objective dpo --beta 0",
        "train {} --data x -o y --objective dpo --label-smoothing 0.5",
        "eval {} --data x --objective dpo",
        "train {} --data x -o y --context 1",
        "convert {} -o y --threads 0",
        "convert {} -o y --threads 1025",
        "convert {} -o y --format q3_k",
        "convert {} -o y --threads many",
        "convert {}",
        "tokenize {}",
        "tokenize {} --text a --file b",
        "logits {} --tokens 1,x -o y",
        "logits {} --tokens -o y",
        "generate {}",
        "generate {} --prompt a --temperature -1",
        "generate {} --prompt a --top-p 0",
        "generate {} --prompt a --adapter a.gguf:big",
        "eval {} --data x --metric bogus",
        "eval {} --data x --metric rouge --max-tokens 0",
        "eval {} --data x --stride 0",
        "bench {} --prompt 0",
        "chat {} --context 1",
        "chat {} --context many",
        "adapter",
        "adapter from-peft {} -o y",
        "inspect {} --execute",
        "convert {} -o -",
        "train {} --data x -o -",
    ] {
        let paths: &[&Path] = if line.contains("{}") { &[nowhere] } else { &[] };
        let outcome = run(line, paths);
        assert_eq!(outcome.code, 2, "`{line}`: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "`{line}`");
        assert!(outcome.stderr.contains("--help") || outcome.stderr.contains("Usage:"), "`{line}`: {}", outcome.stderr);
    }
}

#[test]
fn what_the_model_cannot_do_is_named() {
    let (folder, output) = with_previous();
    let data = demo_data("train.jsonl");
    let train = |flags: &str| {
        let line = format!("train {{}} --data {{}} -o {{}} --device cpu --steps 1 {flags}");
        run(&line, &[base(), &data, &output])
    };
    train("--targets attn_q,attn_x").bad(2, &["attn_x"]);
    train("--context 100000").bad(2, &["100000"]);
    train("--rank 100000").bad(2, &["100000"]);
    run("chat {} --device cpu --context 100000", &[base()]).bad(2, &["100000", "1024"]);
    run("logits {} --tokens 1,99999 --device cpu -o {}", &[base(), &output]).bad(2, &["99999"]);
    let eval = |flags: &str| run(&format!("eval {{}} --data {{}} --device cpu {flags}"), &[base(), &data]);
    eval("--stride 8").bad(2, &["stride", "clm"]);
    eval("--objective clm --context 32 --stride 32").bad(2, &["stride is 32", "31"]);
    untouched(&folder);
}

#[test]
fn missing_files_are_named_with_the_reason() {
    let (folder, output) = with_previous();
    let missing = folder.path().join("missing");
    for line in ["inspect {}", "tokenize {} --text a", "eval {} --data x", "generate {} --prompt a", "bench {}"] {
        run(line, &[&missing]).bad(1, &["missing", "caused by", "hint: check the path"]);
    }
    run("convert {} -o {}", &[&missing, &output]).bad(1, &["missing"]);
    run("train {} --data {} -o {}", &[&missing, &demo_data("train.jsonl"), &output]).bad(1, &["missing"]);
    run("train {} --data {} -o {} --device cpu", &[base(), &missing, &output]).bad(1, &["missing"]);
    run("adapter from-peft {} --base {} -o {}", &[&missing, base(), &output]).bad(1, &["missing"]);
    untouched(&folder);
}

#[test]
fn wrong_kinds_of_files_are_told_apart() {
    let (folder, output) = with_previous();
    let data = demo_data("train.jsonl");
    run("inspect {}", &[&data]).bad(1, &["not a GGUF file", "loam convert"]);
    run("inspect {}", &[folder.path()]).bad(1, &["hint:"]);
    run("train {} --data {} -o {}", &[&data, &data, &output]).bad(1, &["not a GGUF file"]);
    run("train {} --data {} -o {} --device cpu", &[base(), base(), &output]).bad(1, &["base.gguf"]);
    run("convert {} -o {}", &[&data, &output]).bad(1, &["train.jsonl"]);
    run("generate {} --prompt a --device cpu --adapter {}", &[base(), base()]).bad(1, &["base.gguf"]);
    run("adapter from-peft {} --base {} -o {}", &[&micro(), base(), &output]).bad(1, &["adapter_config.json"]);
    untouched(&folder);
}

#[test]
fn truncated_bases_are_refused_wherever_they_are_cut() {
    let whole = fs::read(base()).expect("a base");
    let folder = tempfile::tempdir().expect("temp dir");
    let cut = folder.path().join("cut.gguf");
    for length in [0, 3, 4, 20, 1000, whole.len() / 2, whole.len() - 1] {
        fs::write(&cut, &whole[..length]).expect("writes");
        run("inspect {}", &[&cut]).bad(1, &["cut.gguf", "hint:"]);
        run("generate {} --prompt a --device cpu", &[&cut]).bad(1, &["cut.gguf"]);
    }
}

#[test]
fn bad_data_lines_are_named_and_can_be_put_up_with() {
    let (folder, output) = with_previous();
    let data = tempfile::tempdir().expect("temp dir");
    let file = data.path().join("d.jsonl");
    let good = fs::read_to_string(demo_data("train.jsonl")).expect("demo data");
    let good: Vec<&str> = good.lines().take(6).collect();
    let train = |flags: &str| {
        let line = format!("train {{}} --data {{}} -o {{}} --device cpu --steps 1 {flags}");
        run(&line, &[base(), &file, &output])
    };
    for wrong in ["{\"messages\": [", "[1, 2]", "{\"unknown\": 1}", "{\"messages\": [{\"role\": 3}]}"] {
        fs::write(&file, format!("{}\n{wrong}\n{}\n", good[..3].join("\n"), good[3..].join("\n"))).expect("writes");
        train("").bad(1, &["d.jsonl:4:", "--skip-bad", "a line is"]);
        untouched(&folder);
    }
    fs::write(&file, "").expect("writes");
    let empty = train("").bad(1, &["d.jsonl: the file is empty"]);
    assert!(!empty.stderr.contains("a line is"), "{}", empty.stderr);
    untouched(&folder);
    fs::write(&file, format!("{}\nnot json\n", good.join("\n"))).expect("writes");
    train("--skip-bad 1").good();
    assert_ne!(fs::read(&output).expect("an adapter"), b"previous");
}

#[test]
fn plain_text_has_no_answers_to_compare_with() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (text, lines) = (folder.path().join("t.txt"), folder.path().join("t.jsonl"));
    fs::write(&text, "Some words of a text.").expect("writes");
    fs::write(&lines, "{\"text\": \"Some words of a text.\"}\n").expect("writes");
    let eval = "eval {} --data {} --objective clm --metric loss,bleu --device cpu";
    run(eval, &[base(), &text]).bad(1, &["t.txt", "no answers to compare with"]);
    run(eval, &[base(), &lines]).bad(1, &["t.jsonl:1:", "no answer to compare with"]);
}

#[test]
fn an_adapter_for_another_base_says_what_differs() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (adapter, other) = (folder.path().join("a.gguf"), folder.path().join("other.gguf"));
    let line = "train {} --data {} -o {} --device cpu --steps 1";
    run(line, &[base(), &demo_data("train.jsonl"), &adapter]).good();
    run("convert {} -o {} --format q4_0 --pure", &[&micro(), &other]).good();
    let told = run("adapter verify {} --base {}", &[&adapter, &other]).good().stderr;
    assert!(told.contains("another quantisation of this model"), "{told}");
    let other = folder.path().join("tiny.gguf");
    run("convert {} -o {} --format q8_0", &[&tiny(), &other]).good();
    let words = ["another base", "block_count", "hint: give the base", "--any-base"];
    run("adapter verify {} --base {}", &[&adapter, &other]).bad(1, &words);
    run("generate {} --prompt a --device cpu --adapter {}", &[&other, &adapter]).bad(1, &words);
    run("eval {} --data {} --device cpu --adapter {}", &[&other, &demo_data("heldout.jsonl"), &adapter]).bad(1, &words);
}

#[test]
fn unknown_devices_and_unwritable_outputs_fail_before_the_work() {
    let folder = tempfile::tempdir().expect("temp dir");
    let lost = folder.path().join("no/such/folder/a.gguf");
    let data = demo_data("train.jsonl");
    run("generate {} --prompt a --device warp9", &[base()]).bad(1, &["warp9", "loam devices"]);
    run("train {} --data {} -o {} --device cpu", &[base(), &data, &lost]).bad(1, &["no/such/folder"]);
    run("convert {} -o {}", &[&micro(), &lost]).bad(1, &["no/such/folder"]);
    run("train {} --data {} -o {} --device cpu", &[base(), &data, base()]).bad(2, &["overwrite"]);
}

#[test]
fn escape_sequences_from_files_do_not_reach_the_terminal() {
    let folder = tempfile::tempdir().expect("temp dir");
    let evil = folder.path().join("evil.jsonl");
    fs::write(&evil, "{\"messages\":[{\"role\":\"\\u001b[2Jking\",\"content\":\"x\"}]}\n").expect("writes");
    let output = folder.path().join("out");
    let outcome = run("train {} --data {} -o {} --device cpu", &[base(), &evil, &output]);
    outcome.bad(1, &["evil.jsonl:1:"]);
    assert_eq!(listing(folder.path()), ["evil.jsonl"]);
}

#[test]
fn outputs_overwrite_neither_inputs_nor_each_other() {
    let folder = tempfile::tempdir().expect("temp dir");
    let at = |name: &str| folder.path().join(name);
    for name in ["a.gguf", "d.jsonl", "t.jinja"] {
        fs::write(at(name), "precious").expect("writes");
    }
    let peft = at("peft");
    fs::create_dir(&peft).expect("a folder");
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::write(peft.join(name), "precious").expect("writes");
    }
    let before = listing(folder.path());
    let (a, d, t, x) = (at("a.gguf"), at("d.jsonl"), at("t.jinja"), at("x"));
    let (weights, peft_config) = (peft.join("adapter_model.safetensors"), peft.join("adapter_config.json"));
    let b = base();
    let lines: [(&str, &[&Path]); 12] = [
        ("train {} --data {} -o {} --init {} --log {}", &[b, &d, &x, &a, &a]),
        ("train {} --data {} -o {} --log {}", &[b, &d, &x, &x]),
        ("train {} --data {} -o {} --log {}", &[b, &d, &x, b]),
        ("train {} --data {} -o {}", &[b, &d, &d]),
        ("train {} --data {} -o {} --eval-data {}", &[b, &demo_data("train.jsonl"), &d, &d]),
        ("train {} --data {} -o {} --chat-template {}", &[b, &d, &t, &t]),
        ("logits {} --tokens 1 --adapter {} -o {}", &[b, &a, &a]),
        ("logits {} --tokens 1 --adapter {}:0.5 -o {}", &[b, &a, &a]),
        ("logits {} --tokens 1 -o {}", &[b, b]),
        ("adapter from-peft {} --base {} -o {}", &[&peft, b, &weights]),
        ("adapter to-peft {} --base {} -o {}", &[&peft_config, b, &peft]),
        ("convert {} -o {}", &[&peft, &peft_config]),
    ];
    let whole = fs::read(b).expect("a base");
    for (line, paths) in lines {
        let outcome = run(line, paths);
        outcome.bad(2, &[if line.ends_with("--log {}") && paths[3] == x { "twice" } else { "overwrite" }]);
    }
    assert_eq!(listing(folder.path()), before);
    for path in [a, d, t, weights, peft_config] {
        assert_eq!(fs::read(&path).expect("still there"), b"precious", "{}", path.display());
    }
    assert!(fs::read(b).expect("still there") == whole);
}

#[cfg(unix)]
#[test]
fn outputs_that_are_no_regular_files_are_refused_before_the_work() {
    let folder = tempfile::tempdir().expect("temp dir");
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
    assert!(made.success());
    // An input that is not there would be reported if any work were done.
    let (missing, null) = (Path::new("missing"), Path::new("/dev/null"));
    for output in [&pipe, null] {
        run("train {} --data {} -o {}", &[missing, missing, output]).bad(1, &["no regular file"]);
        run("train {} --data {} -o x --log {}", &[missing, missing, output]).bad(1, &["no regular file"]);
        run("logits {} --tokens 1 -o {}", &[missing, output]).bad(1, &["no regular file"]);
        run("convert {} -o {}", &[missing, output]).bad(1, &["no regular file"]);
        run("adapter from-peft {} --base {} -o {}", &[missing, missing, output]).bad(1, &["no regular file"]);
        run("adapter to-peft {} --base {} -o {}", &[missing, missing, output]).bad(1, &["not a folder"]);
    }
}

#[test]
fn logits_of_more_tokens_than_the_context_are_refused() {
    let (folder, output) = with_previous();
    let tokens = vec!["1"; 1025].join(",");
    run(&format!("logits {{}} --tokens {tokens} --device cpu -o {{}}"), &[base(), &output]).bad(2, &["1025", "1024"]);
    untouched(&folder);
}

#[test]
fn an_adapter_that_is_gone_on_from_decides_its_shape() {
    let (folder, output) = with_previous();
    for flag in ["--rank 8", "--alpha 16", "--targets all-linear"] {
        let line = format!("train {{}} --data {{}} -o {{}} --init {{}} {flag}");
        let name = flag.split(' ').next().expect("a word");
        let paths = [base(), &demo_data("train.jsonl"), &output, &output];
        run(&line, &paths).bad(2, &[name, "come from the adapter"]);
    }
    untouched(&folder);
}

#[test]
fn the_objective_must_be_given_for_mixed_data() {
    let (folder, output) = with_previous();
    let data = tempfile::tempdir().expect("temp dir");
    let (text, lines, table) = (data.path().join("d.txt"), demo_data("train.jsonl"), data.path().join("d.xml"));
    fs::write(&text, "Some text.").expect("writes");
    fs::write(&table, "a,b").expect("writes");
    run("train {} -o {} --data {} {}", &[base(), &output, &text, &lines]).bad(2, &["--objective"]);
    run("train {} -o {} --data {} --eval-data {}", &[base(), &output, &text, &lines]).bad(2, &["--objective"]);
    let name = run("train {} -o {} --data {}", &[base(), &output, &table]).bad(1, &["d.xml: the name must end"]);
    assert!(!name.stderr.contains("a line is"), "{}", name.stderr);
    untouched(&folder);
}

#[test]
fn a_training_that_diverges_says_to_lower_the_rate() {
    let (folder, output) = with_previous();
    let line = "train {} --data {} -o {} --device cpu --steps 1 --schedule constant --lr 1e10";
    run(line, &[base(), &demo_data("train.jsonl"), &output]).bad(1, &["lower --lr"]);
    untouched(&folder);
}

#[test]
fn chat_templates_that_do_not_work_are_named() {
    let folder = tempfile::tempdir().expect("temp dir");
    let template = folder.path().join("t.jinja");
    let verbs = |words: &[&str]| {
        run("generate {} --prompt a --device cpu --chat-template {}", &[base(), &template]).bad(1, words);
        run("chat {} --device cpu --chat-template {}", &[base(), &template]).bad(1, words);
    };
    let data = |words: &[&str]| {
        let data = demo_data("heldout.jsonl");
        run("eval {} --data {} --device cpu --chat-template {}", &[base(), &data, &template]).bad(1, words);
    };
    verbs(&["t.jinja", "hint: check the path"]);
    data(&["t.jinja"]);
    fs::write(&template, "{% for m in %}").expect("writes");
    verbs(&["t.jinja", "chat template", "hint: --chat-template"]);
    data(&["t.jinja"]);
    fs::write(&template, b"\xff\xfe").expect("writes");
    verbs(&["t.jinja", "UTF-8"]);
    fs::write(&template, "").expect("writes");
    verbs(&["writes nothing", "hint: --chat-template"]);
}

/// A copy of a base in which `find` is followed by `skip` bytes and then by `to`.
fn patched(folder: &TempDir, find: &str, skip: usize, to: &[u8]) -> PathBuf {
    let mut bytes = fs::read(base()).expect("a base");
    let at = bytes.windows(find.len()).position(|part| part == find.as_bytes()).expect("is there") + find.len() + skip;
    bytes[at..at + to.len()].copy_from_slice(to);
    let path = folder.path().join("patched.gguf");
    fs::write(&path, bytes).expect("writes");
    path
}

#[test]
fn sound_files_that_loam_cannot_compute_with_are_not_called_damaged() {
    let folder = tempfile::tempdir().expect("temp dir");
    // The type after the name, the number of dimensions and one dimension: I32 has the size of F32.
    let integers = patched(&folder, "output_norm.weight", 12, &26u32.to_le_bytes());
    let outcome = run("generate {} --prompt a --device cpu", &[&integers]);
    let outcome = outcome.bad(1, &["output_norm.weight", "cannot compute with", "hint: loam computes with f32"]);
    assert!(!outcome.stderr.contains("damaged"), "{}", outcome.stderr);
    // The text after the key, its type and its length.
    let other = patched(&folder, "tokenizer.ggml.model", 12, b"bert");
    let outcome = run("generate {} --prompt a --device cpu", &[&other]).bad(1, &["bert", "hint: the file is sound"]);
    assert!(!outcome.stderr.contains("damaged"), "{}", outcome.stderr);
}
