//! Where an adapter goes that a training does not publish: beside the name that was asked for, so that no finished work
//! is lost.

use std::path::{Path, PathBuf};

use loam::adapter::AdapterFile;
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;

/// Most adapters that are kept beside one name.
const MOST: u32 = 1000;

/// Writes `adapter`, which was refused with `failure`, beside `path`, and says how to take it.
pub fn keep(adapter: &AdapterFile, path: &Path, failure: Failure, output: Output) -> Failure {
    let Failure::Failed { error, told, hint } = failure else { return failure };
    let place = place(path);
    let told_to_programs = || output.object(&json!({"event": "rejected", "adapter": place.to_string_lossy()}));
    let kept = match adapter.write(&place) {
        Ok(()) => {
            if let Err(closed) = told_to_programs() {
                return closed;
            }
            format!(
                "what was trained is in {}, and {} is as it was: use it under that name if you want it; ",
                place.display(),
                path.display()
            )
        }
        Err(error) => format!("what was trained could not be kept: {error}; "),
    };
    Failure::Failed { error, told, hint: Some(kept + &hint.unwrap_or_default()) }
}

/// A name beside `path` that is free.
fn place(path: &Path) -> PathBuf {
    let named = |number: u32| {
        let number = if number == 1 { String::new() } else { format!("-{number}") };
        path.with_extension(format!("rejected{number}.gguf"))
    };
    (1..MOST).map(named).find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| named(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_adapter_takes_no_name_that_is_used() {
        let folder = tempfile::tempdir().expect("temp dir");
        let output = folder.path().join("my.adapter.gguf");
        assert_eq!(place(&output), folder.path().join("my.adapter.rejected.gguf"));
        std::fs::write(place(&output), "").expect("writes");
        assert_eq!(place(&output), folder.path().join("my.adapter.rejected-2.gguf"));
    }
}
