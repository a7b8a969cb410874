//! Adapters with values, and how far two of them are apart.

use loam::adapter::lora;
use loam::{AdapterFile, random};

use crate::relative;

/// Gives every B of a LoRA adapter values in ±`size` / 2, so that it changes the base and A has a gradient.
pub fn fill_b(adapter: &mut AdapterFile, seed: u64, size: f64) {
    let halves = adapter.parameters.iter_mut().filter(|parameter| parameter.part == lora::B);
    for (stream, b) in halves.enumerate() {
        let value = |i: usize| ((random::uniform(seed, stream as u32, i as u64) - 0.5) * size) as f32;
        b.values.iter_mut().enumerate().for_each(|(i, b)| *b = value(i));
    }
}

/// All values of an adapter.
pub fn flat(adapter: &AdapterFile) -> Vec<f32> {
    adapter.parameters.iter().flat_map(|parameter| parameter.values.iter().copied()).collect()
}

/// The relative error of every parameter of `found`, with its name.
///
/// # Panics
/// If `expected` has others.
pub fn parameter_errors(found: &AdapterFile, expected: &AdapterFile) -> Vec<(String, f64)> {
    assert_eq!(found.parameters.len(), expected.parameters.len());
    let error = |expected: &loam::adapter::Parameter| {
        let name = expected.name();
        let found = found.parameters.iter().find(|parameter| parameter.name() == name);
        let error = relative(&found.unwrap_or_else(|| panic!("{name} is missing")).values, &expected.values);
        (name, error)
    };
    expected.parameters.iter().map(error).collect()
}
