//! Model folders to convert: the committed ones, copies to change, generated ones.

use std::path::{Path, PathBuf};

use loam::gguf::GgufFile;
use loam_convert::{Options, Recipe, Summary, convert};

/// The committed test model: hidden 64, 4 layers, tied, bf16.
pub fn micro() -> PathBuf {
    loam_tests::asset("loam-micro")
}

/// The embedded default model: hidden 256, 8 layers, tied, bf16.
pub fn tiny() -> PathBuf {
    loam_tests::asset("loam-tiny")
}

/// Converts without progress.
pub fn to(recipe: impl Into<Recipe>, dir: &Path, out: &Path) -> loam_convert::Result<Summary> {
    convert(dir, out, &Options::new(recipe), &mut |_| ())
}

/// A tensor of a GGUF file, dequantised.
pub fn gguf_values(file: &GgufFile, name: &str) -> Vec<f32> {
    let tensor = file.gguf.tensor(name).unwrap();
    let mut out = vec![0.0; tensor.elements() as usize];
    tensor.ty.format().unwrap().decode_row(file.bytes(tensor).unwrap().bytes(), &mut out);
    out
}
