//! Outputs: told before the work if they cannot be written, never one of the inputs, never where the program keeps
//! files of its own, and the user's own in folders that others can write to.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{base, demo_data, listing, loam, micro, run};

const TRAINING: &str = "--device cpu --steps 1 --context 32 --batch 1";

/// A folder with a copy of everything that a verb reads.
struct Inputs {
    folder: tempfile::TempDir,
}

impl Inputs {
    fn new() -> Self {
        let inputs = Inputs { folder: tempfile::tempdir().expect("temp dir") };
        let line = "{\"prompt\":\"Hello\",\"completion\":\"Hi there.\"}\n";
        fs::copy(base(), inputs.file("base.gguf")).expect("copied");
        fs::write(inputs.file("d.jsonl"), line.repeat(4)).expect("written");
        fs::write(inputs.file("h.jsonl"), line).expect("written");
        fs::write(inputs.file("t.jinja"), "{% for m in messages %}{{ m.content }}{% endfor %}").expect("written");
        fs::write(inputs.file("c.txt"), "A text to calibrate with. ".repeat(40)).expect("written");
        inputs
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Arguments whose words that are names of files here become paths.
    fn args(&self, line: &str) -> Vec<String> {
        let path = |word: &str| self.file(word).display().to_string();
        let named = |word: &str| word.contains('.') && !word.starts_with('-') && word.parse::<f64>().is_err();
        line.split_whitespace().map(|word| if named(word) { path(word) } else { word.to_owned() }).collect()
    }
}

#[test]
fn no_verb_overwrites_what_it_reads() {
    let inputs = Inputs::new();
    let adapter = format!("train base.gguf --data d.jsonl -o a.gguf {TRAINING} --force");
    loam(inputs.args(&adapter)).good();
    run("adapter to-peft {} --base {} -o {}", &[&inputs.file("a.gguf"), &inputs.file("base.gguf"), &inputs.file("p")])
        .good();
    let calibrated = "imatrix base.gguf --data c.txt --context 16 --chunks 1 --device cpu -o i.gguf";
    loam(inputs.args(calibrated)).good();
    // Each line with every file that it reads as its output.
    let train = "train base.gguf --data d.jsonl h.jsonl --eval-data h.jsonl --chat-template t.jinja --init a.gguf";
    let verbs: [(&str, &[&str]); 9] = [
        (train, &["base.gguf", "d.jsonl", "h.jsonl", "t.jinja"]),
        ("train base.gguf --data d.jsonl --init a.gguf -o new.gguf --log", &["base.gguf", "d.jsonl", "a.gguf"]),
        ("train base.gguf --data d.jsonl --init a.gguf -o new.gguf --report", &["base.gguf", "d.jsonl", "a.gguf"]),
        ("imatrix base.gguf --data c.txt --chat-template t.jinja", &["base.gguf", "c.txt", "t.jinja"]),
        ("logits base.gguf --tokens 1,2 --adapter a.gguf", &["base.gguf", "a.gguf"]),
        ("convert base.gguf --imatrix i.gguf", &["base.gguf", "i.gguf"]),
        ("convert out.gguf.loam-part", &["out.gguf"]),
        ("convert out-00001-of-00002.gguf --split-size 1M", &["out.gguf"]),
        ("adapter from-peft p --base base.gguf", &["base.gguf"]),
    ];
    for (line, outputs) in verbs {
        for output in outputs {
            let flag = if line.ends_with("--log") || line.ends_with("--report") { "" } else { "-o" };
            let mut args = inputs.args(&format!("{line} {flag} {output}"));
            args.iter_mut().filter(|word| *word == "p").for_each(|word| *word = inputs.file("p").display().to_string());
            let before = fs::read(inputs.file(output)).ok();
            loam(args).bad(2, &[output]);
            assert_eq!(fs::read(inputs.file(output)).ok(), before, "{line} -o {output}");
        }
    }
    // One that continues with its own result is the exception, but not where it can be asked to continue.
    loam(inputs.args(&format!("{adapter} --init a.gguf"))).good();
    loam(inputs.args(&format!("{adapter} --init a.gguf --checkpoint-dir state.d"))).bad(2, &["are one file"]);
    loam(inputs.args("train base.gguf --data d.jsonl -o x.gguf --log x.gguf")).bad(2, &["to be written twice"]);
}

#[test]
fn nothing_is_written_where_the_program_keeps_its_own() {
    let inputs = Inputs::new();
    fs::create_dir(inputs.file("state.d")).expect("made");
    for name in ["checkpoint.lock", "checkpoint-00000001.gguf", "adapter.gguf"] {
        for flag in ["-o", "-o new.gguf --log", "-o new.gguf --report"] {
            let line = format!("train base.gguf --data d.jsonl --checkpoint-dir state.d {flag} state.d/{name}");
            loam(inputs.args(&line)).bad(2, &["--checkpoint-dir", name]);
        }
    }
    assert_eq!(listing(&inputs.file("state.d")), [""; 0]);
}

#[test]
fn what_a_killed_program_left_beside_an_output_goes_with_the_next() {
    let inputs = Inputs::new();
    let folder = inputs.file("out.d");
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join(".loam-Qx3mYz.tmp"), "half of a file").expect("written");
    loam(inputs.args("logits base.gguf --tokens 1,2 --device cpu -o out.d/l.npy")).good();
    assert_eq!(listing(&folder), ["l.npy"]);
}

#[cfg(target_os = "linux")]
mod as_another_user {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::process::Command;

    use super::*;

    const USER: u32 = 54_333;

    fn open(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    }

    /// Exit code and standard error of `loam` run by [`USER`]. `None` where this process cannot become another user.
    fn as_user(args: &[String]) -> Option<(Option<i32>, String)> {
        if fs::metadata("/proc/self").expect("a process").uid() != 0 {
            return None;
        }
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={USER}"), format!("--regid={USER}"), "--clear-groups".into()]);
        let output = command.arg(env!("CARGO_BIN_EXE_loam")).args(args).env_remove("LOAM_DEVICE").output().ok()?;
        Some((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    #[test]
    fn a_folder_that_may_not_be_written_to_is_told_before_the_work() {
        let inputs = Inputs::new();
        open(inputs.folder.path(), 0o755);
        for name in ["base.gguf", "d.jsonl", "c.txt"] {
            open(&inputs.file(name), 0o644);
        }
        let (closed, free) = (inputs.file("closed.d"), inputs.file("free.d"));
        for (folder, mode) in [(&closed, 0o755), (&free, 0o777)] {
            fs::create_dir(folder).expect("made");
            open(folder, mode);
        }
        let model = micro().canonicalize().expect("a folder").display().to_string();
        let lines = [
            format!("train base.gguf --data d.jsonl -o closed.d/x.gguf {TRAINING}"),
            format!("train base.gguf --data d.jsonl -o free.d/x.gguf --log closed.d/x.jsonl {TRAINING}"),
            format!("train base.gguf --data d.jsonl -o free.d/x.gguf --report closed.d/x.html {TRAINING}"),
            "imatrix base.gguf --data c.txt --context 16 --device cpu -o closed.d/x.gguf".to_owned(),
            "logits base.gguf --tokens 1,2 --device cpu -o closed.d/x.npy".to_owned(),
            "convert MODEL -o closed.d/x.gguf".to_owned(),
            "convert base.gguf -o closed.d/x.gguf".to_owned(),
        ];
        for line in lines {
            let mut args = inputs.args(&line);
            args.iter_mut().filter(|word| *word == "MODEL").for_each(|word| word.clone_from(&model));
            let Some((code, message)) = as_user(&args) else { return };
            assert_eq!(code, Some(1), "{line}: {message}");
            assert!(message.starts_with("error: cannot write") && message.contains("closed.d/x."), "{line}: {message}");
            assert!(message.contains("ermission denied") && !message.contains("training on"), "{line}: {message}");
            assert!(listing(&free).is_empty() && listing(&closed).is_empty(), "{line}");
        }
    }

    #[test]
    fn a_file_of_another_user_in_a_shared_folder_is_told_before_the_work() {
        let inputs = Inputs::new();
        open(inputs.folder.path(), 0o1777);
        open(&inputs.file("base.gguf"), 0o644);
        fs::write(inputs.file("l.npy"), "root's").expect("written");
        open(&inputs.file("l.npy"), 0o666);
        let args = inputs.args("logits base.gguf --tokens 1,2 --device cpu -o l.npy");
        let Some((code, message)) = as_user(&args) else { return };
        assert!(code == Some(1) && message.contains("another user's"), "{message}");
        assert_eq!(fs::read(inputs.file("l.npy")).expect("there"), b"root's");
    }

    #[test]
    fn the_part_of_another_user_is_not_gone_on_with() {
        let inputs = Inputs::new();
        open(inputs.folder.path(), 0o1777);
        open(&inputs.file("base.gguf"), 0o644);
        let (model, out) = (micro(), inputs.file("m.gguf"));
        for suffix in ["loam-part", "loam-journal"] {
            let another = inputs.file(&format!("m.gguf.{suffix}"));
            fs::write(&another, "root's").expect("written");
            open(&another, 0o666);
            let Some((code, message)) = as_user(&inputs.args("convert base.gguf -o m.gguf")) else { return };
            assert!(code == Some(1) && message.contains("another user") && message.contains(suffix), "{message}");
            assert_eq!(fs::read(&another).expect("there"), b"root's");
            fs::remove_file(another).expect("removed");
        }
        // Root may remove what is another's, and begins with a file of its own.
        let theirs = inputs.file("m.gguf.loam-part");
        fs::write(&theirs, "theirs").expect("written");
        chown(&theirs, Some(USER), Some(USER)).expect("given away");
        open(&theirs, 0o666);
        run("convert {} -o {}", &[&model, &out]).good();
        assert_eq!(fs::metadata(&out).expect("there").uid(), 0);
        // What was there before and is another's lends its name, not its permissions.
        fs::write(&out, "theirs").expect("written");
        chown(&out, Some(USER), Some(USER)).expect("as before");
        open(&out, 0o666);
        run("convert {} -o {}", &[&model, &out]).good();
        let found = fs::metadata(&out).expect("there");
        assert!(found.uid() == 0 && found.mode() & 0o022 == 0, "{:o}", found.mode());
    }
}

#[test]
fn a_log_of_before_stays_when_it_cannot_be_replaced() {
    let inputs = Inputs::new();
    let held_out = demo_data("heldout.jsonl");
    let flags = "--device cpu --steps 4 --context 32 --batch 1 --checkpoint-every 2 --force";
    let paths = [base(), &held_out, &inputs.file("a.gguf"), &inputs.file("state"), &inputs.file("log")];
    let line = format!("train {{}} --data {{}} -o {{}} --checkpoint-dir {{}} --log {{}} {flags}");
    run(&line, &paths).good();
    let whole = fs::read_to_string(inputs.file("log")).expect("a log");
    let steps = |text: &str| text.lines().filter(|line| line.contains("\"event\":\"step\"")).count();
    assert_eq!(steps(&whole), 4);
    // As if it had ended after step 2, in the middle of a line.
    fs::remove_file(inputs.file("state").join("checkpoint-00000002.gguf")).expect("the newest");
    fs::write(inputs.file("log"), format!("{whole}{{\"event\":\"st")).expect("written");
    run(&format!("{line} --resume"), &paths).good();
    assert_eq!(steps(&fs::read_to_string(inputs.file("log")).expect("a log")), 4);
    assert_eq!(listing(inputs.folder.path()).iter().filter(|name| name.starts_with(".loam")).count(), 0);
}
