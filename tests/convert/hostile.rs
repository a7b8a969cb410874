//! Damaged bytes anywhere in a folder: an error or a result, never a panic, a hang or a half-written file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use loam::gguf::GgufFile;
use loam_convert::{Options, from_peft, plan};
use loam_shaders::Format;
use loam_tests::Random;

use super::folder::to;
use loam_tests::folder::Folder;

/// Overwrites, inserts, removes or repeats a few bytes somewhere in the first `reach` bytes.
fn damage(bytes: &mut Vec<u8>, reach: usize, random: &mut Random) {
    for _ in 0..1 + random.below(3) {
        let at = random.below(reach.min(bytes.len()) as u32) as usize;
        match random.below(5) {
            0 => bytes[at] = random.bits() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes.insert(at, b"\"{}[],:0-9eE\\\0"[random.below(14) as usize]),
            3 => drop(bytes.drain(at..(at + 1 + random.below(40) as usize).min(bytes.len()))),
            _ => bytes.truncate(at.max(1)),
        }
    }
}

/// Damages `file` in `rounds` ways and calls `run`, which must not panic.
fn attack(file: &Path, reach: usize, rounds: u64, run: impl Fn() -> bool) {
    let good = std::fs::read(file).unwrap();
    let mut refused = 0;
    for seed in 0..rounds {
        let mut bytes = good.clone();
        damage(&mut bytes, reach, &mut Random::new(seed));
        std::fs::write(file, bytes).unwrap();
        let result = catch_unwind(AssertUnwindSafe(&run));
        let accepted = result.unwrap_or_else(|_| panic!("{}: panic with seed {seed}", file.display()));
        refused += u64::from(!accepted);
    }
    std::fs::write(file, good).unwrap();
    assert!(run(), "{}: the undamaged file is refused", file.display());
    assert!(refused > rounds / 4, "{}: only {refused} of {rounds} were refused", file.display());
}

#[test]
fn damaged_model_folders() {
    let folder = Folder::micro();
    let options = Options::new(Format::Q4_0);
    let run = || plan(folder.path(), Path::new("never.gguf"), &options).is_ok();
    attack(&folder.file("config.json"), 1 << 20, 200, run);
    attack(&folder.file("tokenizer_config.json"), 1 << 20, 100, run);
    attack(&folder.file("tokenizer.json"), 1 << 20, 200, run);
    attack(&folder.file("model.safetensors"), 2000, 300, run);
}

#[test]
fn damaged_adapter_folders() {
    let model = Folder::micro();
    to(Format::F32, model.path(), &model.file("base.gguf")).unwrap();
    let base = GgufFile::open(&model.file("base.gguf")).unwrap();
    let dir = super::adapters::sample(&model);
    let out = model.file("adapter.gguf");
    let run = || {
        let done = from_peft(&dir, &base, &out).is_ok();
        assert_eq!(out.exists(), done, "half-written");
        let _ = std::fs::remove_file(&out);
        done
    };
    attack(&dir.join("adapter_config.json"), 1 << 20, 200, run);
    attack(&dir.join("adapter_model.safetensors"), 4000, 300, run);
}
