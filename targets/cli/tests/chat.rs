//! `loam chat`: its commands, and Ctrl-C.

mod support;

use support::{base, loam_with};

#[test]
fn commands_are_not_sent_to_the_model() {
    let chat = |input: &str| {
        let model = base().to_str().expect("UTF-8");
        loam_with(["chat", "-m", model, "--device", "cpu", "--max-tokens", "6"], input).good()
    };
    let help = chat("/help\n");
    assert!(["/help", "/reset", "/exit", "Ctrl-C"].iter().all(|word| help.stderr.contains(word)), "{help:?}");
    assert_eq!(help.stdout, "", "nothing was asked");
    let unknown = chat("/rest\n/Exit now\n");
    assert_eq!(unknown.stdout, "", "nothing was asked: {unknown:?}");
    assert!(unknown.stderr.contains("no command /rest") && unknown.stderr.contains("no command /Exit"), "{unknown:?}");
    let slashes = chat("//usr is what?\n/exit\nnever read\n");
    assert_eq!(slashes.stdout.lines().count(), 1, "one answer: {slashes:?}");
    assert_eq!(chat("/usr is what?\n").stdout, "");
    assert_eq!(chat("Hello\n/reset\nHello\n").stdout.lines().count(), 2);
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_the_answer_and_not_the_program() {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_loam"))
        .args(["chat", "--device", "cpu", "--max-tokens", "900", "--temperature", "9", "--context", "1000", "-m"])
        .arg(base())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let (mut input, mut output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    input.write_all(b"Hello\n").expect("writes");
    let mut first = [0; 1];
    output.read_exact(&mut first).expect("an answer begins");
    // SAFETY: the process is a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    input.write_all(b"/help\n").expect("the program still reads");
    drop(input);
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("UTF-8");
    assert_eq!(child.wait().expect("ends").code(), Some(0), "{stderr}");
    assert!(stderr.contains("(stopped") && stderr.contains("/reset"), "{stderr}");
}
