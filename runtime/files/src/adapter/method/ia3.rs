//! The files of IA3 (Liu et al. 2022): for each weight W [out, in] learned factors of its columns or rows, as a vector
//! `<name of W>.ia3_in` {in} or `<name of W>.ia3_out` {out}. llama.cpp loads no IA3 adapters; it refuses their
//! `adapter.type`.

use super::{Method, Problem};
use crate::adapter::weights::{LINEAR, ROUTER, kind_of};
use crate::adapter::{Parameter, part};
use crate::gguf::TensorInfo;

/// Name of the factors of a layer's input.
pub const INPUT: &str = "ia3_in";
/// Name of the factors of a layer's output.
pub const OUTPUT: &str = "ia3_out";

/// The method.
pub static METHOD: Method =
    Method { name: "ia3", llama_cpp: false, parts: &[INPUT, OUTPUT], settings: &[], takes, check, fits };

/// Linear layers of blocks, and the head: as PEFT, no embedding, and no parameters without a linear layer around them
/// (routers and experts).
fn takes(name: &str) -> bool {
    kind_of(name).is_some_and(|kind| kind == "output" || (kind != ROUTER && LINEAR.contains(&kind)))
}

fn check(of: &[&Parameter]) -> Result<(), Problem> {
    match of.iter().find(|parameter| parameter.shape.len() != 1) {
        None => Ok(()),
        Some(found) => {
            let problem = format!("has {} dimensions, factors have 1", found.shape.len());
            Err(Problem { part: found.part, problem })
        }
    }
}

fn fits(of: &[&Parameter], weight: &TensorInfo) -> Result<(), String> {
    for (name, has, side) in [(INPUT, weight.cols(), "columns"), (OUTPUT, weight.rows(), "rows")] {
        if let Some(factors) = part(of, name).filter(|factors| factors.shape != [has]) {
            return Err(format!("{name} has {} factors, the base's weight has {has} {side}", factors.values.len()));
        }
    }
    Ok(())
}
