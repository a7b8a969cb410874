//! Makes a quantised base of a Hugging Face folder, after showing what would become of it.
//! `cargo run --release -p loam-examples --bin convert -- targets/cli/assets/loam-tiny base.gguf q4_k_m`
#![allow(clippy::print_stdout, reason = "a program, not a library")]

use std::path::Path;

use loam_convert::{Options, Recipe, convert, plan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, out, types] = &arguments[..] else { return Err("usage: convert FOLDER OUT TYPES".into()) };
    let (folder, out) = (Path::new(folder), Path::new(out));
    let options = Options::new(Recipe::named(types).ok_or("no such types")?);

    let planned = plan(folder, out, &options)?.summary();
    println!("{} tensors, {} bytes", planned.tensors, planned.bytes);
    let summary = convert(folder, out, &options, &mut |progress| {
        if progress.index + 1 == progress.tensors {
            println!("{}: {} of {} bytes", progress.tensor, progress.bytes, progress.total_bytes);
        }
    })?;
    println!("{}: {} weights", out.display(), summary.parameters);
    Ok(())
}
