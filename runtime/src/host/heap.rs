//! What the heap holds. A program that names [`CountingAllocator`] its global allocator has every allocation counted by the thread
//! that makes it, so that what some code keeps, and the most it has at once, are known to the byte and the same in every run,
//! which the system's figures (pages, with what the allocator has not given back) are not.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

/// The system's allocator, counting.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator;

thread_local! {
    /// Bytes that this thread took and did not give back; less than zero where it gives back what others took.
    static TAKEN: Cell<i64> = const { Cell::new(0) };
    /// The most that `TAKEN` was.
    static MOST: Cell<i64> = const { Cell::new(0) };
    /// `TAKEN` and what is pretended.
    static LIVE: Cell<i64> = const { Cell::new(0) };
    /// The most that `LIVE` was since a [`Gauge`] began.
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it is; counting neither allocates nor panics.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(held(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(held(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        count(-held(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(start, layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(held(size) - held(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.realloc(start, layout, size) }
    }
}

/// Bytes that an allocation of `size` takes with the allocator's own word, rounded up as glibc does.
fn held(size: usize) -> i64 {
    ((size as i64).saturating_add(8 + 15) / 16 * 16).max(32)
}

fn count(bytes: i64) {
    TAKEN.set(TAKEN.get().saturating_add(bytes));
    MOST.set(MOST.get().max(TAKEN.get()));
    pretend(bytes);
}

/// Counts `bytes` as if they were taken (or given back, below zero), for [`Gauge`]s: a rehearsal takes nothing.
pub fn pretend(bytes: i64) {
    LIVE.set(LIVE.get().saturating_add(bytes));
    PEAK.set(PEAK.get().max(LIVE.get()));
}

/// Bytes of `count` values in an allocation of their own.
pub fn bytes_of<T>(count: usize) -> u64 {
    if count == 0 { 0 } else { held(count.saturating_mul(size_of::<T>())) as u64 }
}

/// Whether this program counts its heap.
pub fn is_counted() -> bool {
    let before = TAKEN.get();
    let one = black_box(Box::new(before));
    TAKEN.get() != *one
}

/// The most bytes that this thread had at once.
pub fn most() -> u64 {
    MOST.get().max(0) as u64
}

/// Watches this thread's heap from its start on.
#[derive(Debug)]
pub struct Gauge {
    before: i64,
    peak_before: i64,
}

impl Gauge {
    /// Watches from now on.
    pub fn start() -> Self {
        let before = LIVE.get();
        Self { before, peak_before: PEAK.replace(before) }
    }

    /// Bytes more than at the start.
    pub fn kept(&self) -> u64 {
        (LIVE.get() - self.before).max(0) as u64
    }

    /// The most bytes more than at the start.
    pub fn peak(&self) -> u64 {
        (PEAK.get() - self.before).max(0) as u64
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        PEAK.set(PEAK.get().max(self.peak_before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_tells_what_is_kept_and_the_most_there_was() {
        let outer = Gauge::start();
        pretend(1000);
        let inner = Gauge::start();
        pretend(500);
        pretend(-300);
        assert_eq!((inner.kept(), inner.peak()), (200, 500));
        drop(inner);
        pretend(-700);
        pretend(100);
        assert_eq!((outer.kept(), outer.peak()), (600, 1500));
    }

    #[test]
    fn an_allocator_rounds_up() {
        assert_eq!((held(1), held(24), held(25)), (32, 32, 48));
        assert_eq!(bytes_of::<u32>(10), 48);
        assert_eq!(bytes_of::<u32>(0), 0);
    }
}
