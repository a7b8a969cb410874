//! Every parse in these tests runs under a budget: no panic, little memory, little time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use loam::gguf::Gguf;
use loam_files::GgufProblem;
use loam_files::{Error, Result};
use loam_tests::budget::measure;

/// Parses under the budget of the hostile-input rules, tightened: a file of n bytes may cost 32 n + 64 KiB, at most
/// n + 64 MiB, and two seconds.
pub fn parse(bytes: &[u8]) -> Result<Gguf> {
    let run = || catch_unwind(AssertUnwindSafe(|| Gguf::parse(Path::new("hostile.gguf"), bytes)));
    let (result, peak, time) = measure(run);
    let size = bytes.len() as u64;
    let allowed = (32 * size + (64 << 10)).min(size + (64 << 20));
    assert!(peak <= allowed, "{size} bytes made the reader allocate {peak}");
    assert!(time < Duration::from_secs(2), "{size} bytes took {time:?}");
    result.unwrap_or_else(|_| panic!("the reader panicked"))
}

/// What the reader objects to: field, offset, rule. Panics if it accepts the file.
pub fn refused(bytes: &[u8]) -> (String, u64, GgufProblem) {
    match parse(bytes) {
        Err(Error::Gguf { path, field, offset, problem }) => {
            assert_eq!(path, Path::new("hostile.gguf"));
            assert!(!field.is_empty());
            assert!(offset <= bytes.len() as u64, "offset {offset} is behind the file");
            (field, offset, problem)
        }
        Err(other) => panic!("not a GGUF error: {other}"),
        Ok(_) => panic!("accepted"),
    }
}

/// Only the rule.
pub fn problem(bytes: &[u8]) -> GgufProblem {
    refused(bytes).2
}

#[test]
fn the_budget_sees_allocations() {
    let (length, peak, _) = measure(|| vec![1u8; 1 << 20].len());
    assert!(peak >= length as u64 && peak < 2 << 20);
}
