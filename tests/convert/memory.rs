//! A conversion holds a band of one tensor in memory, whatever the model's size. Alone in its binary: the allocator below
//! counts everything that the process allocates.

#[path = "folder.rs"]
#[allow(dead_code, reason = "shared with the other conversion tests, which use the rest of it")]
mod folder;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use loam_convert::{Options, convert};
use loam_shaders::Format;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; only sizes are counted on the side.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn peak_memory_does_not_follow_the_model() {
    let out = tempfile::tempdir().unwrap();
    let mut peaks = Vec::new();
    for layers in [1, 4] {
        // 4 layers: 59 MB of F32; the largest tensor, the embedding, has 8 MB.
        let folder = folder::Folder::random(512, 1536, layers);
        let size = std::fs::metadata(folder.file("model.safetensors")).unwrap().len() as usize;
        let before = NOW.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let options = Options { threads: Some(2), ..Options::new(Format::F32) };
        convert(folder.path(), &out.path().join("model.gguf"), &options, &mut |_| ()).unwrap();
        let peak = PEAK.load(Ordering::Relaxed) - before;
        // The tokenizer's JSON tree takes some megabytes; a band has 4 MB in F32.
        assert!(peak < 12 << 20, "{layers} layers, {size} bytes: peak {peak}");
        peaks.push((size, peak));
    }
    let [(small, first), (large, second)] = peaks[..] else { unreachable!() };
    assert!(large > 50 << 20 && large > 2 * small, "{small} {large}");
    assert!(second < first + (1 << 20), "peak grew from {first} to {second}");
}
