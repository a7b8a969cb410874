//! Bases made from the committed models, and the back ends to run them on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};

use loam::backend::cpu::CpuBackend;
use loam::backend::{Backend, Options, select};
use loam::data::Batch;
use loam_shaders::Format;

/// The committed Hugging Face folder of `loam-tiny` or `loam-micro`.
///
/// # Panics
/// If there is no such model.
pub fn asset(model: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    match model {
        "loam-tiny" => root.join("../targets/cli/assets/loam-tiny"),
        "loam-micro" => root.join("assets/loam-micro"),
        _ => panic!("no asset {model}"),
    }
}

/// `model` converted to `format`, once per process.
///
/// # Panics
/// If the conversion fails.
pub fn convert_asset(model: &str, format: &str) -> PathBuf {
    static DONE: Mutex<Option<(tempfile::TempDir, HashMap<String, PathBuf>)>> = Mutex::new(None);
    let mut done = DONE.lock().expect("no test panics while converting");
    let (folder, files) = done.get_or_insert_with(|| (tempfile::tempdir().expect("temporary folder"), HashMap::new()));
    let name = format!("{model}-{format}.gguf");
    files
        .entry(name.clone())
        .or_insert_with(|| {
            let out = folder.path().join(name);
            let options = loam_convert::Options::new(named(format));
            loam_convert::convert(&asset(model), &out, &options, &mut |_| ()).expect("conversion");
            out
        })
        .clone()
}

/// The CPU, and the first GPU adapter that is present, software included. Says so when there is none.
///
/// # Panics
/// If the CPU back end cannot be made.
pub fn back_ends() -> Vec<(&'static str, Box<dyn Backend>)> {
    back_ends_with(&Options::default())
}

/// As [`back_ends`], opened with `options`.
///
/// # Panics
/// If the CPU back end cannot be made.
pub fn back_ends_with(options: &Options) -> Vec<(&'static str, Box<dyn Backend>)> {
    let cpu: Box<dyn Backend> = Box::new(CpuBackend::new(None).expect("cpu back end").with_target(options.target));
    let mut all = vec![("cpu", cpu)];
    match pollster::block_on(select::open("gpu:0", options)) {
        Ok(gpu) => all.push(("wgpu", gpu)),
        Err(error) => {
            static SAID: Once = Once::new();
            SAID.call_once(|| crate::skipped(&format!("no GPU adapter ({error})")));
        }
    }
    all
}

/// ||found - expected|| / ||expected||, in f64.
///
/// # Panics
/// If the lengths differ.
pub fn relative(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let difference: f64 = found.iter().zip(expected).map(|(f, e)| (f64::from(*f) - f64::from(*e)).powi(2)).sum();
    let norm: f64 = expected.iter().map(|e| f64::from(*e).powi(2)).sum();
    (difference / norm.max(f64::MIN_POSITIVE)).sqrt()
}

/// `rows` of equal length as one batch in which every token but a row's last has the next one as its label.
///
/// # Panics
/// If there are no rows.
pub fn full_batch(rows: &[Vec<u32>]) -> Batch {
    let context = rows[0].len();
    let (mut list, mut labels) = (Vec::new(), Vec::new());
    for (b, row) in rows.iter().enumerate() {
        for t in 0..context - 1 {
            list.push((b * context + t) as u32);
            labels.push(row[t + 1]);
        }
    }
    let (trained, tokens) = (list.len(), rows.concat());
    let positions = (0..tokens.len()).map(|i| (i % context) as u32).collect();
    let (starts, tokens_used) = (vec![0; tokens.len()], tokens.len());
    let sequences = (0..rows.len()).map(|b| b * (context - 1)..(b + 1) * (context - 1)).collect();
    let examples = (0..rows.len()).collect();
    Batch { tokens, positions, starts, rows: list, labels, sequences, examples, trained, tokens_used }
}

/// `count` rows of `context` token ids below `vocabulary`, the same every time.
pub fn some_rows(count: usize, context: usize, vocabulary: u32) -> Vec<Vec<u32>> {
    let token = |b: usize, t: usize| loam::random::philox(7, [b as u32, t as u32, 0, 0])[0] % vocabulary;
    (0..count).map(|b| (0..context).map(|t| token(b, t)).collect()).collect()
}

fn named(name: &str) -> Format {
    Format::ALL.into_iter().find(|f| f.name() == name).unwrap_or_else(|| panic!("no format {name}"))
}
