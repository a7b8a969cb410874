//! Events of every verb have the fields of `docs/events.md`, and errors are events too.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{Outcome, base, demo_data, loam, micro, run};

/// Fields of an event: those that are always there, and all.
#[derive(Debug, Clone, Default)]
struct Fields {
    always: BTreeSet<String>,
    all: BTreeSet<String>,
    /// Names of others follow from what the user asked for.
    open: bool,
}

/// The names between backticks.
fn names(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The page: (verb, event) to fields.
fn page() -> BTreeMap<(String, String), Fields> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/events.md")).expect("a page");
    let mut found = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.to_owned();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, fields, sometimes, _] = cells[..] else { continue };
        let Some(name) = names(name).pop_first() else { continue };
        let always = names(fields);
        let open = fields.contains("metrics") && always.contains("loss") && always.len() < 9;
        let all = always.union(&names(sometimes)).cloned().collect();
        let fields = Fields { always, all, open };
        let key = match section.as_str() {
            "Results of one line" => (name, "done".to_owned()),
            _ => (section.clone(), name),
        };
        found.insert(key, fields);
    }
    assert!(found.len() > 40, "the tables are read: {}", found.len());
    found
}

/// Compares events with the page: those of `verb`, or of those whose events it has too. Returns their names.
#[track_caller]
fn agree(verbs: &[&str], outcome: &Outcome) -> BTreeSet<String> {
    let page = page();
    let mut seen = BTreeSet::new();
    for object in outcome.objects() {
        let name = object["event"].as_str().unwrap_or_else(|| panic!("no event: {object}")).to_owned();
        let known = verbs.iter().chain(&["Every verb"]);
        let fields = known.filter_map(|verb| page.get(&((*verb).to_owned(), name.clone()))).next();
        let fields = fields.unwrap_or_else(|| panic!("{verbs:?}: docs/events.md has no event {name}: {object}"));
        let found: BTreeSet<String> = object.as_object().expect("an object").keys().cloned().collect();
        let missing: Vec<_> = fields.always.difference(&found).collect();
        assert!(missing.is_empty(), "{verbs:?} {name}: {missing:?} are missing in {object}");
        let more: Vec<_> = found.difference(&fields.all).filter(|field| *field != "event").collect();
        assert!(more.is_empty() || fields.open, "{verbs:?} {name}: docs/events.md does not name {more:?}");
        seen.insert(name);
    }
    assert_eq!(outcome.objects().last().map(|last| last["event"].clone()), Some("done".into()));
    seen
}

#[track_caller]
fn good(verbs: &[&str], line: &str, paths: &[&Path]) -> BTreeSet<String> {
    agree(verbs, &run(&format!("{line} --json"), paths).good())
}

#[test]
fn events_have_the_fields_of_the_documentation() {
    let folder = tempfile::tempdir().expect("temp dir");
    let at = |name: &str| folder.path().join(name);
    let (data, lines) = (at("t.txt"), at("d.jsonl"));
    fs::write(&data, "The keeper of the light climbs the steps every night. ".repeat(12)).expect("writes");
    let demo = fs::read_to_string(demo_data("train.jsonl")).expect("demo data");
    fs::write(&lines, demo.lines().take(6).collect::<Vec<_>>().join("\n")).expect("writes");
    good(&["devices"], "devices", &[]);
    good(&["tokenize"], "tokenize {} --text a", &[base()]);
    good(&["inspect"], "inspect {} --tensors --digest --verify", &[base()]);
    good(&["plan"], "plan {}", &[base()]);
    good(&["convert"], "convert {} -o {}", &[&micro(), &at("b.gguf")]);
    good(&["convert"], "convert {} -o {} --plan", &[&micro(), &at("c.gguf")]);
    let line = "imatrix {} --data {} -o {} --context 32 --device cpu";
    assert!(good(&["imatrix"], line, &[base(), &data, &at("i.gguf")]).contains("progress"));
    good(&["logits"], "logits {} --tokens 1,2 -o {} --device cpu", &[base(), &at("l.npy")]);
    let line = "train {} --data {} -o {} --device cpu --steps 2 --context 64 --eval-split 0.3 --checkpoint-dir {}";
    let seen = good(&["train"], line, &[base(), &lines, &at("a.gguf"), &at("k")]);
    assert!(["start", "step", "eval", "checkpoint"].iter().all(|name| seen.contains(*name)), "{seen:?}");
    let line = "eval {} --data {} --data {} --adapter {} --with-base --context 32 --device cpu";
    assert!(good(&["eval"], line, &[base(), &data, &lines, &at("a.gguf")]).contains("progress"));
    let line = "eval {} --data {} --metric rouge,bleu,accuracy --max-tokens 4 --device cpu";
    good(&["eval"], line, &[base(), &lines]);
    let line = "compare {} {} --data {} --context 32 --device cpu";
    assert!(good(&["compare"], line, &[base(), &at("b.gguf"), &data]).contains("progress"));
    good(&["generate"], "generate {} --prompt Hello --max-tokens 4 --device cpu", &[base()]);
    good(&["adapter"], "adapter verify {} --base {}", &[&at("a.gguf"), base()]);
    good(&["adapter"], "adapter to-peft {} --base {} -o {}", &[&at("a.gguf"), base(), &at("peft")]);
    good(&["data inspect"], "data inspect {} --model {}", &[&lines, base()]);
    good(&["bench"], "bench {} --prompt 16 --generate 4 --train 32 --device cpu", &[base()]);
    good(&["demo", "convert", "train"], "demo --steps 1 --device cpu", &[]);
}

/// The last event of a run that failed.
#[track_caller]
fn error(outcome: &Outcome, code: i32) -> Value {
    assert_eq!(outcome.code, code, "{outcome:?}");
    assert!(outcome.stderr.contains("error:"), "people are told too: {outcome:?}");
    let last = outcome.objects().pop().unwrap_or_else(|| panic!("no event: {outcome:?}"));
    assert_eq!(last["event"], "error", "{last}");
    assert!(last["message"].as_str().is_some_and(|message| !message.is_empty()), "{last}");
    assert!(last.get("hint").is_some(), "{last}");
    last
}

#[test]
fn every_verb_tells_of_its_failure_as_an_event() {
    let folder = tempfile::tempdir().expect("temp dir");
    let (missing, out) = (folder.path().join("missing.gguf"), folder.path().join("out"));
    let lines = [
        "convert {} -o {}",
        "imatrix {} --data x.txt -o {}",
        "logits {} --tokens 1 -o {}",
        "train {} --data x.jsonl -o {}",
        "adapter verify {} --base {}",
        "adapter from-peft {} --base m.gguf -o {}",
        "adapter to-peft {} --base m.gguf -o {}",
        "compare {} {} --data x.txt",
    ];
    for line in lines {
        let failed = error(&run(&format!("{line} --json"), &[&missing, &out]), 1);
        assert!(["file", "format"].contains(&failed["kind"].as_str().expect("a kind")), "{line}: {failed}");
    }
    for line in
        ["inspect {}", "tokenize {} --text a", "plan {}", "eval {} --data x.txt", "generate {} -p a", "bench {}"]
    {
        let failed = error(&run(&format!("{line} --json"), &[&missing]), 1);
        assert_eq!(failed["kind"], "file", "{line}");
        assert!(failed["message"].as_str().is_some_and(|text| text.contains("missing.gguf")), "{failed}");
    }
    let failed = error(&run("data inspect x.jsonl --model {} --json", &[&missing]), 1);
    assert_eq!(failed["kind"], "file");
    let pull = error(&loam(["pull", "a/b", "--endpoint", "http://127.0.0.1:1", "-o", "x/y/z", "--json"]), 1);
    assert!(["network", "file"].contains(&pull["kind"].as_str().expect("a kind")), "{pull}");
    let demo = error(&run("demo --device nonsense --json", &[]), 1);
    assert_eq!(demo["kind"], "device");
}

#[test]
fn kinds_tell_failures_apart() {
    let folder = tempfile::tempdir().expect("temp dir");
    let data = folder.path().join("d.jsonl");
    fs::write(&data, "not json\n").expect("writes");
    let kind = |line: &str, paths: &[&Path], code| error(&run(&format!("{line} --json"), paths), code)["kind"].clone();
    assert_eq!(kind("generate {}", &[base()], 2), "usage");
    assert_eq!(kind("generate {} --prompt a --no-such-flag", &[base()], 2), "usage");
    assert_eq!(kind("logits {} --tokens 1 -o {}", &[base(), base()], 2), "usage");
    assert_eq!(kind("eval {} --data {} --device cpu", &[base(), &data], 1), "data");
    assert_eq!(kind("generate {} -p a --device no-such-gpu", &[base()], 1), "device");
    assert_eq!(kind("generate {} -p a --adapter {} --device cpu", &[base(), base()], 1), "format");
    let long = "a ".repeat(3000);
    let outcome = loam([
        "generate".as_ref(),
        base().as_os_str(),
        "-p".as_ref(),
        long.as_ref(),
        "--device=cpu".as_ref(),
        "--json".as_ref(),
    ]);
    assert_eq!(error(&outcome, 1)["kind"], "prompt");
    let missing = run("generate {} --json", &[base()]);
    let message = error(&missing, 2)["message"].as_str().expect("a text").to_owned();
    assert!(message.contains("--prompt"), "{message}");
    // Without --json standard output stays empty.
    run("generate {}", &[base()]).bad(2, &["--prompt"]);
}

#[test]
fn an_answer_streams() {
    let line = "generate {} --prompt Hello --max-tokens 12 --device cpu --json";
    let objects = run(line, &[base()]).good().objects();
    let pieces: Vec<&str> =
        objects.iter().filter(|o| o["event"] == "text").filter_map(|o| o["text"].as_str()).collect();
    assert!(pieces.len() > 1, "it comes in pieces: {objects:?}");
    assert!(pieces.iter().all(|piece| !piece.is_empty()));
    let done = objects.last().expect("a result");
    assert_eq!((done["event"].as_str(), done["text"].as_str()), (Some("done"), Some(pieces.concat().as_str())));
}

#[test]
fn sizes_are_taken_as_they_are_printed() {
    let folder = tempfile::tempdir().expect("temp dir");
    let out = folder.path().join("b.gguf");
    for size in ["1500000", "1.5M", "1.5MB", "1MiB", "0.5GiB", "1G", "1GB", "1gb"] {
        let line = format!("convert {{}} -o {{}} --plan --split-size {size}");
        run(&line, &[&micro(), &out]).good();
    }
    run("convert {} -o {} --plan --split-size 2XB", &[&micro(), &out]).bad(2, &["GiB"]);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_with_an_event() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().expect("temp dir");
    let (data, out) = (demo_data("train.jsonl"), folder.path().join("a.gguf"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_loam"))
        .args(["train", "--device", "cpu", "--steps", "100000", "--json", "--data"])
        .args([&data, Path::new("-o"), &out, Path::new("-m"), base()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("\"step\""))).expect("it trains").expect("a line");
    // SAFETY: the process is a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    let last = lines.last().expect("a last line").expect("a line");
    let last: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!((&last["event"], &last["kind"]), (&"error".into(), &"interrupted".into()), "{last}");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
}
