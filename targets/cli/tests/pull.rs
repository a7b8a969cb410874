//! `loam pull`, and `loam convert` of a repository, against a hub on loopback.

mod support;

#[path = "../../../tests/hub/server.rs"]
#[allow(dead_code, reason = "the misbehaviour is for the library's own tests")]
mod server;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use server::{Ending, Reply, Server};
use support::micro;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Serves the test model as `some/model`; a few listed files, digests in the listing.
fn hub(change: impl Fn(&str, usize, Reply) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |request, before| {
        let reply = match request.path.strip_prefix(&format!("/some/model/resolve/{COMMIT}/")) {
            Some(name) => match std::fs::read(micro().join(name)) {
                Ok(bytes) => part(&bytes, request.start()),
                Err(_) => Reply::new(404, ""),
            },
            None if request.path.starts_with("/api/models/some/model/revision/main?") => {
                Reply::new(200, listing().to_string()).header("content-type", "application/json")
            }
            None => Reply::new(404, "").header("x-error-code", "RepoNotFound"),
        };
        change(&request.path, before, reply)
    })
}

fn part(bytes: &[u8], start: Option<usize>) -> Reply {
    match start {
        None => Reply::new(200, bytes),
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
            Reply::new(206, &bytes[start..]).header("content-range", range)
        }
    }
}

fn listing() -> Value {
    let sibling = |name: &str| {
        let bytes = std::fs::read(micro().join(name)).expect("a file of the model");
        let digest = loam::digest::sha256_hex(&bytes);
        json!({"rfilename": name, "size": bytes.len(), "lfs": {"sha256": digest, "size": bytes.len()}})
    };
    let names =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    json!({"sha": COMMIT, "siblings": names.iter().map(|name| sibling(name)).collect::<Vec<_>>()})
}

fn command(folder: &Path, endpoint: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loam"));
    for name in
        ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"]
    {
        command.env_remove(name);
    }
    command.env_remove("HF_TOKEN").env_remove("HF_ENDPOINT").env("NO_COLOR", "1");
    command.env("LOAM_ENDPOINT", endpoint).env("LOAM_CACHE", folder.join("cache")).current_dir(folder);
    command
}

fn ended(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stdout}\n{stderr}");
    (stdout, stderr)
}

#[test]
fn a_pull_reports_and_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().expect("temp dir");
    let server = hub(|path, before, reply| {
        let breaks = path.ends_with("model.safetensors") && before == 0;
        if breaks { reply.ending(Ending::CloseAfter(100_000)) } else { reply }
    });
    let args = ["pull", "some/model", "-o", "here", "--json"];
    let output = command(folder.path(), &server.url()).args(args).env("HF_TOKEN", "hf_x").output().expect("starts");
    let (stdout, stderr) = ended(&output, 0);
    assert_eq!(stderr, "");
    let events: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for event in ["pinned", "file", "retry", "check"] {
        assert!(events.iter().any(|e| e["event"] == event), "{event}: {stdout}");
    }
    let done = events.last().expect("a result");
    assert_eq!((&done["event"], &done["commit"]), (&json!("done"), &json!(COMMIT)));
    assert_eq!(done["files"].as_array().map(Vec::len), Some(5));
    let same = |name: &str| {
        std::fs::read(folder.path().join("here").join(name)).expect("pulled")
            == std::fs::read(micro().join(name)).expect("a file")
    };
    assert!(same("model.safetensors") && same("tokenizer.json"));
    assert_eq!(server.asked("model.safetensors")[1].start(), Some(100_000));
    assert!(server.requests().iter().all(|request| request.header("authorization") == Some("Bearer hf_x")));
    // All is there: nothing is asked but the commit.
    let before = server.requests().len();
    let output =
        command(folder.path(), &server.url()).args(["pull", "some/model", "-o", "here"]).output().expect("starts");
    let (stdout, _) = ended(&output, 0);
    assert!(stdout.contains("5 (0 new)") && stdout.contains(COMMIT), "{stdout}");
    assert_eq!(server.requests().len(), before + 1);
}

#[test]
fn a_repository_is_converted_by_its_name() {
    let folder = tempfile::tempdir().expect("temp dir");
    let server = hub(|_, _, reply| reply);
    let convert = |source: &str, out: &str| {
        let args = ["convert", source, "-o", out, "--format", "q8_0"];
        command(folder.path(), &server.url()).args(args).output().expect("starts")
    };
    let (_, stderr) = ended(&convert("some/model", "a.gguf"), 0);
    assert!(stderr.contains(COMMIT), "{stderr}");
    assert!(folder.path().join("cache/some/model/config.json").is_file());
    ended(&convert(&micro().to_string_lossy(), "b.gguf"), 0);
    let read = |name: &str| loam::gguf::GgufFile::open(&folder.path().join(name)).expect("a base");
    assert_eq!(read("a.gguf").content_digest().unwrap(), read("b.gguf").content_digest().unwrap());
    // Before anything is fetched: where the output cannot go.
    let asked = server.requests().len();
    ended(&convert("some/model", "no/such/folder/a.gguf"), 1);
    assert_eq!(server.requests().len(), asked);
    let (_, stderr) = ended(&convert("some/other", "a.gguf"), 1);
    assert!(stderr.contains("no such repository"), "{stderr}");
    // What is there wins over what could be pulled.
    std::fs::create_dir_all(folder.path().join("some/model")).expect("made");
    let (_, stderr) = ended(&convert("some/model", "a.gguf"), 1);
    assert!(stderr.contains("config.json"), "{stderr}");
}

/// A mistyped folder is no repository where the folder that it would be in is there; else it is told what is done.
#[test]
fn a_mistyped_folder_does_not_go_to_the_hub_unnoticed() {
    let folder = tempfile::tempdir().expect("temp dir");
    let server = hub(|_, _, reply| reply);
    let convert = || {
        let args = ["convert", "some/model", "-o", "a.gguf", "--format", "q8_0"];
        command(folder.path(), &server.url()).args(args).output().expect("starts")
    };
    std::fs::create_dir(folder.path().join("some")).expect("made");
    let (_, stderr) = ended(&convert(), 1);
    assert!(stderr.contains("no folder some/model") && stderr.contains("loam pull some/model"), "{stderr}");
    assert!(server.requests().is_empty(), "{stderr}");
    std::fs::remove_dir(folder.path().join("some")).expect("removed");
    let (_, stderr) = ended(&convert(), 0);
    assert!(stderr.contains("no folder some/model") && stderr.contains(&server.url()), "{stderr}");
}

#[test]
fn files_of_the_user_are_kept_unless_forced() {
    let folder = tempfile::tempdir().expect("temp dir");
    let server = hub(|_, _, reply| reply);
    let config = folder.path().join("here/config.json");
    std::fs::create_dir(folder.path().join("here")).expect("made");
    std::fs::write(&config, "mine").expect("written");
    let pull = |more: &[&str]| {
        let args = ["pull", "some/model", "-o", "here"];
        command(folder.path(), &server.url()).args(args).args(more).output().expect("starts")
    };
    let (_, stderr) = ended(&pull(&[]), 1);
    assert!(stderr.contains("config.json is there already") && stderr.contains("--force"), "{stderr}");
    assert_eq!(std::fs::read(&config).expect("there"), b"mine");
    ended(&pull(&["--force"]), 0);
    assert!(std::fs::read(&config).expect("there") != b"mine");
}

#[test]
fn passwords_in_addresses_are_not_shown() {
    let folder = tempfile::tempdir().expect("temp dir");
    let proxy = ("ALL_PROXY", "nonsense://user:SECRET@x");
    let mut bad = command(folder.path(), "http://hub.invalid");
    let output = bad.env(proxy.0, proxy.1).args(["pull", "a/b", "-o", "x"]).output().expect("starts");
    assert!(!ended(&output, 2).1.contains("SECRET"));
    for address in ["https://user:SECRET@mirror", "user:SECRET@mirror", "http://u:SE/SECRET@h/x", "ftp://SECRET@x"] {
        for (name, args) in [
            ("LOAM_ENDPOINT", vec!["pull", "a/b", "-o", "x"]),
            ("HF_ENDPOINT", vec!["pull", "a/b", "-o", "x"]),
            ("LOAM_ENDPOINT", vec!["convert", "a/b", "-o", "x.gguf"]),
            ("NOTHING", vec!["pull", "a/b", "-o", "x", "--endpoint", address]),
            ("NOTHING", vec!["pull", address, "-o", "x"]),
        ] {
            if args[1] == address && !address.contains("://") {
                continue;
            }
            let mut command = command(folder.path(), "http://hub.invalid");
            command.env_remove("LOAM_ENDPOINT").env(name, address).args(args);
            let output = command.output().expect("starts");
            let shown = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(!shown.contains("SECRET") && !shown.is_empty(), "{name} {address}: {shown}");
        }
    }
}

#[test]
fn proxies_of_the_environment_are_used_and_bad_ones_not_passed_by() {
    let folder = tempfile::tempdir().expect("temp dir");
    let proxy = Server::start(|_, _| Reply::new(407, ""));
    let pull = |name: &str, value: &str, exempt: &str| {
        let mut command = command(folder.path(), "http://hub.invalid");
        command
            .args(["pull", "some/model", "-o", "here"])
            .env(name, value)
            .env("NO_PROXY", exempt)
            .output()
            .expect("starts")
    };
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        let before = proxy.requests().len();
        ended(&pull(name, &proxy.url(), ""), 1);
        assert!(proxy.requests().len() > before, "{name} is not used");
    }
    let (_, stderr) = ended(&pull("ALL_PROXY", "nonsense://x", ""), 2);
    assert!(stderr.contains("ALL_PROXY"), "{stderr}");
    // A host that is exempt is asked itself.
    let server = hub(|_, _, reply| reply);
    let before = proxy.requests().len();
    let mut exempt = command(folder.path(), &server.url());
    let exempt =
        exempt.args(["pull", "some/model", "-o", "there"]).env("ALL_PROXY", proxy.url()).env("NO_PROXY", "127.0.0.1");
    ended(&exempt.output().expect("starts"), 0);
    assert_eq!(proxy.requests().len(), before);
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    let folder = tempfile::tempdir().expect("temp dir");
    let run = |args: &[&str]| command(folder.path(), "http://127.0.0.1:9").args(args).output().expect("starts");
    for args in [["pull", "../x"], ["pull", "a/b/c"], ["pull", "a/b@"], ["pull", "a b"]] {
        ended(&run(&args), 2);
    }
    ended(&run(&["pull", "a/b", "--endpoint", "ftp://x", "-o", "here"]), 2);
    // Another repository in the folder.
    let server = hub(|_, _, reply| reply);
    std::fs::create_dir_all(folder.path().join("here/.loam-pull")).expect("made");
    std::fs::write(folder.path().join("here/.loam-pull/pulled.json"), r#"{"repo":"x/y"}"#).expect("written");
    let output =
        command(folder.path(), &server.url()).args(["pull", "some/model", "-o", "here"]).output().expect("starts");
    assert!(ended(&output, 2).1.contains("x/y"));
}

/// A limit on file sizes fails writes midway, as a full disk does: see `full_disk.rs`.
#[cfg(unix)]
#[test]
fn a_full_disk_keeps_what_came_and_says_so() {
    let folder = tempfile::tempdir().expect("temp dir");
    let server = hub(|_, _, reply| reply);
    let script = "trap '' XFSZ; ulimit -f 900; exec \"$0\" \"$@\"";
    let mut limited = Command::new("sh");
    limited.args(["-c", script, env!("CARGO_BIN_EXE_loam"), "pull", "some/model", "-o", "here"]);
    limited.env("LOAM_ENDPOINT", server.url()).env("NO_COLOR", "1").current_dir(folder.path());
    for name in ["ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
        limited.env_remove(name);
    }
    let (stdout, stderr) = ended(&limited.output().expect("starts"), 1);
    assert_eq!(stdout, "");
    assert!(stderr.contains(".part") && stderr.contains("continues where it ended"), "{stderr}");
    assert!(
        !folder.path().join("here/tokenizer.json").exists() || !folder.path().join("here/model.safetensors").exists()
    );
    let output =
        command(folder.path(), &server.url()).args(["pull", "some/model", "-o", "here"]).output().expect("starts");
    ended(&output, 0);
    assert!(server.requests().iter().any(|request| request.start().is_some_and(|start| start > 0)), "resumed");
}
