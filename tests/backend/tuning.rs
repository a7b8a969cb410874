//! Choices between kernels by measurement: they are kept, they are checked, and they change no bit.

use std::path::{Path, PathBuf};

use loam::backend::Backend;
use loam::backend::choice::Choosing;
use loam::plan::Pool;
use loam_shaders::Format;
use pollster::block_on;

use crate::feed_forward::result;
use crate::fixture::{
    A, B, OUT, gpu, mix, mix_with_a_wrong_variant, node, plan, read, run, slot, stored, values, zeros,
};

const TOKENS: u32 = 70;
const CLASS: &str = "matmul_tile_q4_0 70,256,0,512,512,0,2,0";

fn tuned(folder: &Path) -> Option<Choosing> {
    Some(Choosing::new(Box::new(gpu()?)).tuned(Some(folder.to_owned())))
}

fn bits(backend: &mut dyn Backend) -> Vec<u32> {
    result(backend, Format::Q4_0, TOKENS).into_iter().map(f32::to_bits).collect()
}

fn choice(backend: &Choosing) -> Option<&str> {
    backend.choices().expect("tuned").get(CLASS).map(String::as_str)
}

fn file(folder: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let file = files.next().expect("a file of choices");
    assert!(files.next().is_none(), "one file per device");
    file
}

#[test]
fn choices_are_kept_and_change_no_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mut plain) = gpu() else { return };
    let Some(mut first) = tuned(folder.path()) else { return };
    let expected = bits(&mut plain);
    assert_eq!(bits(&mut first), expected);
    let names = ["matmul_tile_q4_0", "matmul_tile_wide_q4_0", "matmul_tile_small_q4_0"];
    let chosen = choice(&first).expect("gate and up were measured").to_owned();
    assert!(names.contains(&chosen.as_str()), "{chosen}");

    // The next process takes what the file says, for each of the kernels.
    let path = file(folder.path());
    let text = std::fs::read_to_string(&path).expect("readable");
    for name in names {
        std::fs::write(&path, text.replace(&format!("\"{chosen}\""), &format!("\"{name}\""))).expect("writable");
        let Some(mut again) = tuned(folder.path()) else { return };
        assert_eq!(bits(&mut again), expected, "{name}");
        assert_eq!(choice(&again), Some(name), "not measured again");
    }
}

#[test]
fn a_file_that_does_not_hold_is_measured_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mut first) = tuned(folder.path()) else { return };
    let expected = bits(&mut first);
    let path = file(folder.path());
    let text = std::fs::read_to_string(&path).expect("readable");
    let other = text.replacen("\"device\": \"", "\"device\": \"another ", 1);
    assert_ne!(other, text);
    for damaged in ["", "{", "[1, 2]", &text[..text.len() / 2], &other] {
        std::fs::write(&path, damaged).expect("writable");
        let Some(mut again) = tuned(folder.path()) else { return };
        assert!(again.choices().expect("tuned").is_empty(), "{damaged:?}");
        assert_eq!(bits(&mut again), expected);
        assert!(choice(&again).is_some());
    }
    // A name that no kernel has means the recorded one.
    std::fs::write(&path, text.replace("\"matmul_tile", "\"no_kernel")).expect("writable");
    let Some(mut again) = tuned(folder.path()) else { return };
    assert_eq!(bits(&mut again), expected);
}

#[test]
fn a_variant_that_computes_something_else_is_never_used() {
    let Some(gpu) = gpu() else { return };
    let mut backend = Choosing::new(Box::new(gpu)).tuned(None);
    for (id, entry) in [(A, values(&[1.0; 64])), (B, values(&[2.0; 64])), (OUT, zeros(64))] {
        block_on(backend.allocate(id, &entry)).expect("allocated");
    }
    let all = |id| stored(id, 64);
    let nodes = vec![
        node("first", mix_with_a_wrong_variant(64, 3.0), &[all(A), all(B), slot(0, 64)]),
        node("second", mix(64, 0.0), &[slot(0, 64), all(B), all(OUT)]),
    ];
    let program = block_on(backend.compile(&plan(&[64], nodes))).expect("compiled");
    let choices: Vec<&String> = backend.choices().expect("tuned").values().collect();
    assert_eq!(choices, ["test_mix"]);
    run(&mut backend, program);
    assert_eq!(read(&mut backend, OUT, 0, 64), [7.0; 64]);
}

#[test]
fn nothing_is_measured_unless_asked_for() {
    let Some(gpu) = gpu() else { return };
    let mut plain = Choosing::new(Box::new(gpu));
    bits(&mut plain);
    assert!(plain.choices().is_none());
    assert_eq!(plain.replacements().count(), 0, "single precision replaces no kernel");
}

/// What is measured has buffers of its own for that time; a buffer to read back into is kept.
#[test]
fn a_measurement_leaves_no_memory_behind() {
    let (Some(mut plain), Some(gpu)) = (gpu(), gpu()) else { return };
    let mut tuned = Choosing::new(Box::new(gpu)).tuned(None);
    assert_eq!(bits(&mut tuned), bits(&mut plain));
    let kept = |backend: &dyn Backend| {
        let mut pools = backend.usage().memory.current.clone();
        let staging = pools.remove(&Pool::Staging).unwrap_or(0);
        (pools, staging)
    };
    let ((tuned, staging), (plain, read_back)) = (kept(&tuned), kept(&plain));
    assert_eq!(tuned, plain);
    assert!(staging <= 2 * read_back, "{staging} bytes of staging, {read_back} without measurements");
}
