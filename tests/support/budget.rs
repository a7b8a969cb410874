//! An allocator that counts, so that tests can hold parsers to a budget of memory and time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// The system allocator, counting per thread, so that tests can run side by side.
#[derive(Debug)]
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

/// Result, peak of additional live bytes on this thread, time that this thread has run.
pub fn measure<T>(run: impl FnOnce() -> T) -> (T, u64, Duration) {
    let before = LIVE.get();
    PEAK.set(before);
    let (start, ran) = (Instant::now(), processor_time());
    let result = run();
    let time = ran.zip(processor_time()).map_or(start.elapsed(), |(before, after)| after.saturating_sub(before));
    (result, (PEAK.get() - before) as u64, time)
}

/// Time that this thread has run, where the system tells: a busy machine makes other times long.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
