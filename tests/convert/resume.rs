//! A conversion that is killed continues where it was, and ends with the bytes of one that was not.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use loam_convert::{Options, Progress, Summary, convert};
use loam_shaders::Format;
use loam_tests::Random;

use super::folder::micro;
use loam_tests::folder::Folder;

/// Tells this program, started again as a child, what to convert: source, output, format, split size, and the tensor at
/// which to die (none: work slowly and wait to be killed).
const CHILD: &str = "LOAM_TEST_CONVERT";

fn options(format: &str, split: &str) -> Options {
    let format = Format::ALL.into_iter().find(|f| f.name() == format).unwrap();
    Options { sync_every: Duration::ZERO, split_bytes: split.parse().ok(), ..Options::new(format) }
}

/// The child's work; in the parent it checks that a conversion without a kill resumes nothing.
#[test]
fn child() {
    let Ok(work) = std::env::var(CHILD) else {
        let out = tempfile::tempdir().unwrap();
        let summary = convert(&micro(), &out.path().join("m.gguf"), &options("q8_0", ""), &mut |_| ()).unwrap();
        assert_eq!(summary.resumed, 0);
        return;
    };
    let [source, out, format, split, die_at] = work.split('|').collect::<Vec<_>>().try_into().unwrap();
    let die_at: Option<usize> = die_at.parse().ok();
    let mut step = |progress: Progress<'_>| match die_at {
        Some(at) if progress.index == at => std::process::abort(),
        Some(_) => {}
        None => std::thread::sleep(Duration::from_millis(3)),
    };
    convert(source.as_ref(), out.as_ref(), &options(format, split), &mut step).unwrap();
}

fn start(source: &Path, out: &Path, format: &str, split: &str, die_at: Option<usize>) -> Child {
    let die_at = die_at.map_or(String::new(), |at| at.to_string());
    let work = format!("{}|{}|{format}|{split}|{die_at}", source.display(), out.display());
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "resume::child"])
        .env(CHILD, work)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Leaves what a conversion leaves that dies at tensor `at`.
fn interrupted(source: &Path, out: &Path, format: &str, split: &str, at: usize) {
    assert!(!start(source, out, format, split, Some(at)).wait().unwrap().success());
}

fn finish(source: &Path, out: &Path, format: &str, split: &str) -> Summary {
    convert(source, out, &options(format, split), &mut |_| ()).unwrap()
}

/// All files of a folder with their bytes.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut list: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().into(), std::fs::read(&path).unwrap()))
        .collect();
    list.sort();
    list
}

fn undisturbed(source: &Path, format: &str, split: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let out = tempfile::tempdir().unwrap();
    finish(source, &out.path().join("m.gguf"), format, split);
    files(out.path())
}

#[test]
fn kills_at_random_moments_do_not_change_a_byte() {
    let mut random = Random::new(11);
    for split in ["", "300000"] {
        let expected = undisturbed(&micro(), "q8_0", split);
        let (mut kills, mut ends) = (0, 0);
        while kills < 12 || ends < 1 {
            let out = tempfile::tempdir().unwrap();
            let path = out.path().join("m.gguf");
            loop {
                let mut child = start(&micro(), &path, "q8_0", split, None);
                let moment = (random.values(1)[0].abs() * 120.0) as u64;
                std::thread::sleep(Duration::from_millis(5 + moment));
                let _ = child.kill();
                if child.wait().unwrap().success() {
                    ends += 1;
                    break;
                }
                kills += 1;
                let complete = files(out.path()).into_iter().filter(|(name, _)| name.extension().unwrap() == "gguf");
                assert!(complete.into_iter().all(|file| expected.contains(&file)), "half-written under a final name");
            }
            assert!(files(out.path()) == expected, "after {kills} kills");
        }
    }
}

#[test]
fn work_that_is_done_is_not_done_again() {
    for (split, at) in [("", 17), ("300000", 17), ("300000", 1), ("", 37)] {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("m.gguf");
        interrupted(&micro(), &path, "q8_0", split, at);
        let mut first = None;
        let mut note = |progress: Progress<'_>| {
            first.get_or_insert((progress.index, progress.bytes));
        };
        let summary = convert(&micro(), &path, &options("q8_0", split), &mut note).unwrap();
        let (index, bytes) = first.unwrap();
        assert_eq!((summary.resumed, index), (at, at), "split {split:?}");
        assert!(bytes > 0);
        assert!(files(out.path()) == undisturbed(&micro(), "q8_0", split));
    }
}

#[test]
fn another_conversion_begins_anew() {
    let expected = undisturbed(&micro(), "q4_0", "");
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("m.gguf");
    interrupted(&micro(), &path, "q8_0", "", 17);
    assert_eq!(finish(&micro(), &path, "q4_0", "").resumed, 0);
    assert!(files(out.path()) == expected);

    let folder = Folder::micro();
    interrupted(folder.path(), &path, "q8_0", "", 17);
    // The same bytes, written again: the source might be another one.
    folder.change(|_| ());
    assert_eq!(finish(folder.path(), &path, "q8_0", "").resumed, 0);
    interrupted(folder.path(), &path, "q8_0", "", 17);
    let restart = Options { restart: true, ..options("q8_0", "") };
    assert_eq!(convert(folder.path(), &path, &restart, &mut |_| ()).unwrap().resumed, 0);
    assert_eq!(files(out.path()).len(), 1);
}

/// Another model under the name, size, times and first bytes of the one that half a file was made of.
#[test]
fn a_source_that_was_replaced_unnoticeably_starts_over() {
    let folder = Folder::micro();
    let (weights, out) = (folder.file("model.safetensors"), tempfile::tempdir().unwrap());
    let path = out.path().join("m.gguf");
    interrupted(folder.path(), &path, "q8_0", "", 17);
    let changed = std::fs::metadata(&weights).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&weights).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    // The lowest bits of BF16 values after the first 64 KiB.
    (data + 100_000..bytes.len()).step_by(2_000).for_each(|at| bytes[at] ^= 1);
    std::fs::write(&weights, &bytes).unwrap();
    std::fs::File::options().write(true).open(&weights).unwrap().set_modified(changed).unwrap();
    let summary = finish(folder.path(), &path, "q8_0", "");
    assert!(summary.resumed < 17, "{}", summary.resumed);
    assert!(files(out.path()) == undisturbed(folder.path(), "q8_0", ""), "half of each model");
}

#[test]
fn damaged_remains_are_found_out() {
    let expected = undisturbed(&micro(), "q8_0", "");
    type Damage = fn(&mut Vec<u8>);
    let cases: [(&str, Damage, std::ops::RangeInclusive<usize>); 7] = [
        ("m.gguf.loam-part", |bytes| *bytes.last_mut().unwrap() ^= 1, 0..=19),
        ("m.gguf.loam-part", |bytes| bytes[3] ^= 1, 0..=0),
        ("m.gguf.loam-part", |bytes| bytes.truncate(bytes.len() / 2), 0..=19),
        ("m.gguf.loam-part", Vec::clear, 0..=0),
        ("m.gguf.loam-journal", |bytes| bytes.truncate(bytes.len() - 3), 19..=19),
        ("m.gguf.loam-journal", |bytes| bytes[20] ^= 1, 0..=0),
        ("m.gguf.loam-journal", |bytes| bytes.extend([0xff; 100]), 0..=20),
    ];
    for (name, damage, resumed) in cases {
        let out = tempfile::tempdir().unwrap();
        interrupted(&micro(), &out.path().join("m.gguf"), "q8_0", "", 20);
        let file = out.path().join(name);
        let mut bytes = std::fs::read(&file).unwrap();
        damage(&mut bytes);
        std::fs::write(&file, bytes).unwrap();
        let summary = finish(&micro(), &out.path().join("m.gguf"), "q8_0", "");
        assert!(resumed.contains(&summary.resumed), "{name}: {}", summary.resumed);
        assert!(files(out.path()) == expected, "{name}");
    }
}

#[test]
fn two_at_once_are_told() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("m.gguf");
    let mut second = None;
    let mut step = |_: Progress<'_>| {
        second.get_or_insert_with(|| convert(&micro(), &path, &options("q8_0", ""), &mut |_| ()));
    };
    convert(&micro(), &path, &options("q8_0", ""), &mut step).unwrap();
    let error = second.unwrap().unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.to_string().contains("m.gguf") && cause.contains("another process"), "{error}: {cause}");
    assert!(files(out.path()) == undisturbed(&micro(), "q8_0", ""));
}
