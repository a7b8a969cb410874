//! A conversion holds a band of one tensor in memory, whatever the model's size, and gives the pages of its source
//! back. Alone in its binary: the allocator below counts everything that the process allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use loam_convert::{Options, convert};
use loam_shaders::Format;
use loam_tests::folder::Folder;

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

/// Tests of this binary measure the whole process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// The process's largest resident set since the last call of [`forget_peak`], in bytes: mapped pages count.
#[cfg(target_os = "linux")]
fn resident_peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<usize>().unwrap() * 1024
}

/// The committed tokenizer with F32 weights of these sizes, all zero: a file with a hole, which costs no time.
#[cfg(target_os = "linux")]
fn zeros(hidden: usize, intermediate: usize, layers: usize) -> Folder {
    let (folder, shapes) = Folder::sized(hidden, intermediate, layers);
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in shapes {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        header.insert(name, serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]}));
    }
    let header = serde_json::Value::Object(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let path = folder.file("model.safetensors");
    std::fs::write(&path, &bytes).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len((bytes.len() + end) as u64).unwrap();
    folder
}

#[cfg(target_os = "linux")]
#[test]
fn pages_of_the_source_are_given_back() {
    let _alone = ALONE.lock().unwrap();
    // 285 MB of F32; the largest tensors, of the feed-forward, have 67 MB.
    let folder = zeros(2048, 8192, 1);
    let size = std::fs::metadata(folder.file("model.safetensors")).unwrap().len() as usize;
    assert!(size > 280_000_000, "{size}");
    let gguf = folder.file("f16.gguf");
    for (source, out, format) in
        [(folder.path(), gguf.clone(), Format::F16), (&gguf, folder.file("q8.gguf"), Format::Q8_0)]
    {
        if std::fs::write("/proc/self/clear_refs", "5").is_err() {
            return loam_tests::skipped("the peak of the resident set cannot be reset");
        }
        let before = resident_peak();
        let options = Options { threads: Some(2), ..Options::new(format) };
        let planned = loam_convert::plan(source, &out, &options).unwrap().peak_host_bytes as usize;
        convert(source, &out, &options, &mut |_| ()).unwrap();
        let peak = resident_peak() - before;
        assert!(peak < (67 << 20) + (48 << 20), "{size} bytes to {}: peak {peak}", format.name());
        assert!(peak < planned && planned < 3 * (67 << 20) + (300 << 20), "peak {peak}, planned {planned}");
    }
}

/// What is read of JSON takes no more than 64 bytes for each of its bytes, and 64 MiB, however dense it is.
#[test]
fn json_takes_memory_in_proportion_to_its_length() {
    let _alone = ALONE.lock().unwrap();
    let folder = Folder::new();
    let path = folder.file("tokenizer_config.json");
    let mut accepted = 0;
    for unit in ["0,", "[],", "[0],", "{\"a\":0},", "\"\",", "{\"a\":{}},"] {
        for padding in [0, 2, 4, 8, 16] {
            let unit = format!("{unit}{}", " ".repeat(padding));
            let text = format!("{{\"x\":[{}0]}}", unit.repeat(4_000_000 / unit.len()));
            std::fs::write(&path, &text).unwrap();
            let before = NOW.load(Ordering::Relaxed);
            PEAK.store(before, Ordering::Relaxed);
            accepted += usize::from(loam_convert::source::Json::read(&path).is_ok());
            let peak = PEAK.load(Ordering::Relaxed) - before;
            assert!(peak < 64 * text.len() + (64 << 20), "{unit:?}: {peak} for {}", text.len());
        }
    }
    assert!((10..25).contains(&accepted), "{accepted} of 30");
}

#[test]
fn a_listing_of_a_hub_takes_memory_in_proportion_to_its_length() {
    let _alone = ALONE.lock().unwrap();
    for file in [r#"{"rfilename":"a"}"#, r#"{"rfilename":"a","x":[[],[],{},{},0,0,0,0,0,0,0,0,0,0,0,0,0,0]}"#] {
        let files = vec![file; 190_000].join(",");
        let text =
            format!("{{\"sha\":\"{}\",\"x\":[{}0],\"siblings\":[{files}]}}", "c".repeat(40), "[],".repeat(1 << 20));
        let before = NOW.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let listing = loam_convert::hub::listing::Listing::parse(text.as_bytes()).expect("well-formed");
        let peak = PEAK.load(Ordering::Relaxed) - before;
        assert_eq!(listing.files.len(), 190_000);
        assert!(peak < 16 * text.len(), "{peak} for {}", text.len());
    }
}

#[test]
fn peak_memory_does_not_follow_the_model() {
    let _alone = ALONE.lock().unwrap();
    let out = tempfile::tempdir().unwrap();
    let mut peaks = Vec::new();
    for layers in [1, 4] {
        // 4 layers: 59 MB of F32; the largest tensor, the embedding, has 8 MB.
        let folder = Folder::random(512, 1536, layers);
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
