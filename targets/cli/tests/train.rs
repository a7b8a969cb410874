//! What `loam train` does around the training: the report page, the guard against publishing something worse, and the
//! flags of optimizers and noise.

mod support;

use std::fs;
use std::path::Path;

use support::{base, demo_data, run};

const SMALL: &str = "--device cpu --batch 2 --context 64 --rank 4";

#[test]
fn a_report_is_one_page_with_curves_and_escaped_samples() {
    let folder = tempfile::tempdir().expect("temp dir");
    let path = |name: &str| folder.path().join(name);
    let (data, held_out, adapter, page) = (path("d.jsonl"), path("h.jsonl"), path("a.gguf"), path("r.html"));
    let line = |prompt: &str| format!("{{\"prompt\":\"{prompt}\",\"completion\":\"<b>yes</b> & no\"}}\n");
    fs::write(&data, line("Who are you?").repeat(4)).expect("writes");
    fs::write(&held_out, line("<script>alert('x')</script>")).expect("writes");
    let flags = format!("{SMALL} --steps 4 --eval-every 2 --lr 0.003 --keep best --json");
    let line = format!("train {{}} --data {{}} --eval-data {{}} -o {{}} --report {{}} {flags}");
    let done = run(&line, &[base(), &data, &held_out, &adapter, &page]).good();
    let evaluations: Vec<_> = done.objects().into_iter().filter(|object| object["event"] == "eval").collect();
    assert_eq!(evaluations.iter().map(|e| e["step"].as_u64()).collect::<Vec<_>>(), [Some(0), Some(2), Some(4)]);
    assert!(evaluations.iter().all(|e| e["best"].is_boolean()));
    let done = done.result();
    assert!(done["best_step"].is_u64() && done["adapter_step"] == done["best_step"], "{done}");
    assert_eq!(done["stopped_early"], false);
    assert_eq!(done["weight_uploads"], 1, "for the training and the answers before and after it");

    let page = fs::read_to_string(page).expect("a page");
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
    assert!(page.contains("&lt;b&gt;yes&lt;/b&gt; &amp; no"), "the answer of the data");
    assert_eq!(page.matches("<svg").count(), 3, "loss, learning rate and gradient norm");
    assert!(page.matches("<polyline").count() >= 4, "with the held-out loss");
    assert!(
        ["base digest", "data digest", "peak memory", "--optim", "--eval-every", "before", "after"]
            .iter()
            .all(|w| page.contains(w))
    );
    let answered = page.matches("<tr><th>after</th><td>-</td>").count();
    assert_eq!(answered, 0, "the adapter was asked");
}

/// A page without what depends on the clock.
fn timeless(page: &Path) -> Vec<String> {
    let page = fs::read_to_string(page).expect("a page");
    let timed =
        |line: &str| ["steps", "tokens", "peak memory"].iter().any(|name| line.contains(&format!("<th>{name}</th>")));
    page.lines().filter(|line| !timed(line)).map(str::to_owned).collect()
}

#[test]
fn the_report_of_a_resumed_run_is_that_of_the_whole() {
    let folder = tempfile::tempdir().expect("temp dir");
    let path = |name: &str| folder.path().join(name);
    let (adapter, page, state) = (path("a.gguf"), path("r.html"), path("state"));
    let (data, held_out) = (demo_data("train.jsonl"), demo_data("heldout.jsonl"));
    let flags = format!("{SMALL} --steps 6 --eval-every 2 --lr 0.003 --checkpoint-every 2");
    let line = format!("train {{}} --data {{}} --eval-data {{}} -o {{}} --report {{}} --checkpoint-dir {{}} {flags}");
    let paths = [base(), &data, &held_out, &adapter, &page, &state];
    run(&line, &paths).good();
    let whole = timeless(&page);
    assert!(whole.iter().filter(|line| line.starts_with("<polyline")).count() >= 4);
    // As if the run had ended after step 4.
    fs::remove_file(state.join("checkpoint-00000003.gguf")).expect("the checkpoint behind step 6");
    fs::remove_file(&page).expect("removed");
    // What refuses a run is reported before the base is asked, and leaves no page.
    run(&line, &paths).bad(1, &["not asked", "--resume continues"]);
    run(&format!("{line} --resume --optim lion"), &paths).bad(1, &["its --optim is adamw, now it is lion"]);
    assert!(!page.exists());
    let told = run(&format!("{line} --resume"), &paths).good().stderr;
    assert!(told.contains("going on after step 4/6"), "{told}");
    assert_eq!(timeless(&page), whole);
}

#[test]
fn what_is_worse_than_before_is_not_published_unless_forced() {
    let folder = tempfile::tempdir().expect("temp dir");
    let path = |name: &str| folder.path().join(name);
    let (data, adapter, page) = (path("d.jsonl"), path("a.gguf"), path("r.html"));
    let line = "{\"prompt\":\"a\",\"completion\":\"zzz qqq xxx zzz qqq jjj\"}\n";
    fs::write(&data, line.repeat(4)).expect("writes");
    fs::write(&adapter, "the adapter before").expect("writes");
    let flags = format!("{SMALL} --steps 8 --lr 0.05 --clip 0");
    let heldout = demo_data("heldout.jsonl");
    let line = format!("train {{}} --data {{}} --eval-data {{}} -o {{}} --report {{}} {flags}");
    let paths = [base(), &data, &heldout, &adapter, &page];
    run(&line, &paths).bad(1, &["worse than none", "held-out loss", "--force", "a.rejected.gguf", "as it was"]);
    assert_eq!(fs::read_to_string(&adapter).expect("still there"), "the adapter before");
    // What was trained is beside it, and can be used.
    let rejected = path("a.rejected.gguf");
    run("adapter verify {} --base {}", &[&rejected, base()]).good();
    assert!(fs::read_to_string(&page).expect("a page").contains("No adapter was written: the adapter is worse"));
    let forced = run(&format!("{line} --force --json"), &paths).good();
    let evaluations = forced.objects().into_iter().filter(|object| object["event"] == "eval");
    assert!(evaluations.map(|e| e["best"].clone()).all(|best| best == false), "worse than the base is not the best");
    let done = forced.result();
    assert!(done["eval_loss_after"].as_f64() > done["eval_loss_before"].as_f64(), "{done}");
    run("adapter verify {} --base {}", &[&adapter, base()]).good();
}

#[test]
fn without_held_out_data_the_rows_of_the_last_step_tell() {
    let folder = tempfile::tempdir().expect("temp dir");
    let adapter = folder.path().join("a.gguf");
    let line = |flags: &str| format!("train {{}} --data {{}} -o {{}} {SMALL} {flags}");
    let paths = [base(), &demo_data("train.jsonl"), &adapter];
    run(&line("--steps 6 --lr 5"), &paths).bad(1, &["worse than none", "rows of the last step", "--force"]);
    run(&line("--steps 4 --lr 1e6"), &paths).bad(1, &["lower --lr"]);
    run(&line("--steps 3 --lr 1e30 --force"), &paths).bad(1, &["the limit is 1000000000", "not even --force"]);
    assert!(!adapter.exists());
    let grouped = line("--steps 2 --lr 0.001 --group-by-length");
    run(&grouped, &paths).good();
    // Continues from there: it is compared with that, and with none, which may be better than what a run started from.
    let further = folder.path().join("b.gguf");
    let line = "train {} --data {} --init {} -o {} --device cpu --batch 2 --context 64";
    let paths = [base(), &demo_data("train.jsonl"), &adapter, &further];
    run(&format!("{line} --steps 1 --lr 0.001"), &paths).good();
    run(&format!("{line} --steps 6 --lr 5"), &paths).bad(1, &["worse than what it started from", "--force"]);
    let worse = folder.path().join("worse.gguf");
    run(&format!("{line} --steps 6 --lr 5 --force"), &[paths[0], paths[1], paths[2], &worse]).good();
    let held_out = demo_data("heldout.jsonl");
    for flags in ["", "--eval-data {}"] {
        let small = "--device cpu --batch 2 --context 64 --steps 1 --lr 0.00001";
        let line = format!("train {{}} --init {{}} -o {{}} {small} --data {{}} {flags}");
        let paths = [base(), &worse, &further, paths[1], &held_out];
        run(&line, &paths[..4 + usize::from(!flags.is_empty())]).bad(1, &["worse than none", "--force"]);
    }
}

/// A template that writes the time, and how it is now: a run has one time, that of its start.
const SECONDS: &str = "{{ strftime_now('%H:%M:%S') }}{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}\
    {% if add_generation_prompt %}<assistant>{% endif %}";

#[test]
fn a_run_goes_on_at_the_time_of_its_start_and_tells_what_has_changed() {
    let folder = tempfile::tempdir().expect("temp dir");
    let path = |name: &str| folder.path().join(name);
    let (template, state, first, second) = (path("t.jinja"), path("state"), path("a.gguf"), path("b.gguf"));
    fs::write(&template, SECONDS).expect("writes");
    let flags = format!("{SMALL} --steps 3 --lr 0.001 --checkpoint-every 1 --resume");
    let line = format!("train {{}} --data {{}} --chat-template {{}} --checkpoint-dir {{}} -o {{}} {flags}");
    let data = demo_data("train.jsonl");
    run(&line, &[base(), &data, &template, &state, &first]).good();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    // As if the run had been killed in its last step.
    fs::remove_file(state.join("checkpoint-00000003.gguf")).expect("removed");
    let kept = state.join("checkpoint-00000002.gguf");
    let mut bytes = fs::read(&kept).expect("a checkpoint");
    let key = b"loam.version";
    let at = bytes.windows(key.len()).position(|window| window == key).expect("the key") + key.len() + 12;
    assert_eq!(&bytes[at..at + 2], b"0.", "a version");
    bytes[at] = b'9';
    loam::train::checkpoint::seal(&mut bytes);
    fs::write(&kept, bytes).expect("writes");
    let done = run(&line, &[base(), &data, &template, &state, &second]).good();
    for words in ["going on after step 2/3", "the version of loam was \"9.", "may differ in its last bits"] {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    assert!(fs::read(first).expect("adapter") == fs::read(second).expect("adapter"), "the same bytes");
}

#[test]
fn optimizers_differ_and_their_state_is_counted() {
    let folder = tempfile::tempdir().expect("temp dir");
    let adapter = folder.path().join("a.gguf");
    let done = |flags: &str| {
        let line = format!("train {{}} --data {{}} -o {{}} {SMALL} --steps 2 --lr 0.001 --json {flags}");
        run(&line, &[base(), &demo_data("train.jsonl"), &adapter]).good().result()
    };
    let peak = |flags: &str| done(flags)["peak_device_bytes"].as_u64().expect("bytes");
    let (adamw, eight, lion, sgd) = (peak(""), peak("--optim adamw_8bit"), peak("--optim lion"), peak("--optim sgd"));
    let parameters = adamw - sgd;
    assert!(parameters > 0 && parameters.is_multiple_of(8), "two moments of four bytes: {adamw} {sgd}");
    let parameters = parameters / 8;
    assert_eq!(lion - sgd, 4 * parameters);
    // Two bytes, two magnitudes of four bytes for 256 parameters, and the map.
    assert_eq!(eight - sgd, 2 * parameters + parameters / 32 + 2048);
    assert_eq!(peak("--optim sgd --momentum 0.9"), lion);
    let noisy = done("--dropout 0.1 --neftune-noise-alpha 5 --loraplus-lr-ratio 16 --weight-decay 0.1");
    assert!(noisy["loss_first"] != done("")["loss_first"], "{noisy}");
    done("--group-by-length");
}

#[test]
fn flags_that_make_no_sense_together_are_usage_errors() {
    let folder = tempfile::tempdir().expect("temp dir");
    let adapter = folder.path().join("a.gguf");
    let usage = |flags: &str, words: &[&str]| {
        let line = format!("train {{}} --data {{}} -o {{}} --device cpu {flags}");
        run(&line, &[base(), &demo_data("train.jsonl"), &adapter]).bad(2, words);
    };
    usage("--momentum 0.9", &["--optim sgd"]);
    usage("--momentum 1", &["under 1"]);
    usage("--optim adam", &["adamw_8bit"]);
    usage("--dropout 1", &["--dropout"]);
    usage("--neftune-noise-alpha=-1", &["--neftune-noise-alpha"]);
    usage("--patience 2", &["--eval-every"]);
    let own = format!("--init {} --checkpoint-dir {}", adapter.display(), folder.path().join("state").display());
    usage(&own, &["--init and -o are one file"]);
    usage("--patience 2 --eval-every 2", &["--eval-data"]);
    usage("--pack --group-by-length", &["--group-by-length"]);
    assert!(!adapter.exists());
}
