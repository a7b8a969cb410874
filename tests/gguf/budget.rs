//! Every parse in these tests runs under a budget: no panic, little memory, little time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use loam::error::GgufProblem;
use loam::gguf::Gguf;
use loam::{Error, Result};

/// The system allocator, counting per thread, so that tests can run side by side.
pub struct Counting;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    // `try_with`: a thread that is ending allocates too.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: everything is passed on to the system allocator unchanged; the counters are plain cells that neither
// allocate nor drop.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Result, peak of additional live bytes on this thread, duration.
fn measure<T>(run: impl FnOnce() -> T) -> (T, u64, Duration) {
    let before = LIVE.get();
    PEAK.set(before);
    let start = Instant::now();
    let result = run();
    (result, (PEAK.get() - before) as u64, start.elapsed())
}

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
