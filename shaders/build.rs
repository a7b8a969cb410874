//! Expands, validates and reflects every shader variant; a broken shader fails `cargo build`.
//!
//! Three steps, one file each: `build/expand.rs` (the directives that `.wgsl` files may use are described there),
//! `build/reflect.rs` (naga parses and validates the text and lists bindings, workgroup size and sizes; the binding
//! conventions are checked), `build/emit.rs` (writes `source.rs` for `loam_shaders::source`). Which variants exist:
//! every `<op>/<file>.wgsl` is the kernel `<op>_<file>`, unless `variants` lists the file.

use std::path::{Path, PathBuf};

#[path = "build/emit.rs"]
pub mod emit;
#[path = "build/expand.rs"]
pub mod expand;
#[path = "build/reflect.rs"]
pub mod reflect;
#[path = "build/variants.rs"]
pub mod variants;

fn main() -> std::process::ExitCode {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    match generate(&root, &out) {
        Ok(folders) => {
            for path in folders {
                tell(&format!("rerun-if-changed={}", path.display()));
            }
            std::process::ExitCode::SUCCESS
        }
        Err(errors) => {
            for error in errors {
                tell(&format!("error={}", error.trim_end().replace('\n', "\ncargo::error=")));
            }
            std::process::ExitCode::FAILURE
        }
    }
}

/// Builds every variant; returns the paths that the result depends on, or all errors.
pub fn generate(root: &Path, out: &Path) -> Result<Vec<PathBuf>, Vec<String>> {
    let one = |error: String| vec![error];
    let files = variants::kernel_files(root).map_err(one)?;
    let listing = expand::read(root, "variants").map_err(one)?;
    let variants = variants::variants(&files, &listing).map_err(one)?;
    let mut errors = Vec::new();
    let mut generated = Vec::new();
    for variant in variants {
        let result = expand::expand(root, &variant.file, &variant.defines)
            .and_then(|text| reflect::reflect(&text).map(|reflection| (text, reflection)));
        match result {
            Ok((text, reflection)) => generated.push(emit::Generated { variant, text: text.text, reflection }),
            Err(error) => errors.push(format!("{}: {error}", variant.name)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    emit::write(out, &generated).map_err(|error| one(format!("cannot write to {}: {error}", out.display())))?;
    let watched = ["build.rs", "build", "variants", "include", "format"].map(|name| root.join(name)).into_iter();
    Ok(watched.chain(variants::op_folders(root).map_err(one)?).collect())
}

#[allow(clippy::print_stdout, reason = "standard output is how a build script talks to cargo")]
fn tell(line: &str) {
    println!("cargo::{line}");
}
