//! Stored buffers: what is provided or written is what is read.

use std::sync::Arc;

use loam::SharedBytes;
use loam::backend::Backend;
use loam::plan::{Content, Entry, Pool};
use loam_shaders::Format;
use pollster::block_on;

use crate::fixture::{A, B, gpu, read, values, zeros};

#[test]
fn words_come_back_at_odd_lengths_and_offsets() {
    let Some(mut gpu) = gpu() else { return };
    for len in [1, 3, 64, 1023, 70_001u64] {
        let content: Vec<f32> = (0..len).map(|i| i as f32 - 0.5).collect();
        block_on(gpu.allocate(A, &values(&content))).unwrap();
        assert_eq!(read(&mut gpu, A, 0, len), content);
        assert_eq!(read(&mut gpu, A, len / 3, len - len / 3), content[len as usize / 3..]);
        assert!(read(&mut gpu, A, len, 0).is_empty());
    }
}

#[test]
fn writes_change_only_their_range() {
    let Some(mut gpu) = gpu() else { return };
    block_on(gpu.allocate(A, &zeros(101))).unwrap();
    gpu.write(A, 7, &[1.0f32.to_bits(), 2.0f32.to_bits(), 3.0f32.to_bits()]).unwrap();
    gpu.write(A, 100, &[4.0f32.to_bits()]).unwrap();
    gpu.write(A, 101, &[]).unwrap();
    let mut expected = vec![0.0; 101];
    expected[7..10].copy_from_slice(&[1.0, 2.0, 3.0]);
    expected[100] = 4.0;
    assert_eq!(read(&mut gpu, A, 0, 101), expected);
}

#[test]
fn ranges_outside_are_refused() {
    let Some(mut gpu) = gpu() else { return };
    block_on(gpu.allocate(A, &zeros(10))).unwrap();
    for (offset, words) in [(10, 1), (0, 11), (u64::MAX, 2)] {
        let error = block_on(gpu.read(A, offset, words)).unwrap_err().to_string();
        assert!(error.contains("outside of zeros"), "{error}");
        let error = gpu.write(A, offset, &vec![0; words as usize]).unwrap_err().to_string();
        assert!(error.contains("outside of zeros"), "{error}");
    }
    let error = gpu.write(B, 0, &[0]).unwrap_err().to_string();
    assert!(error.contains("stored buffer 1 is not allocated"), "{error}");
}

/// 700 columns are padded to 704; the F32 weight is larger than one upload chunk of 16 MiB, the Q4_0 one has two
/// planes.
#[test]
fn weights_go_up_packed_in_chunks() {
    let Some(mut gpu) = gpu() else { return };
    for (format, rows, cols) in [(Format::F32, 7001, 700), (Format::Q4_0, 50_021, 704), (Format::Q4_K, 17, 512)] {
        let bytes = rows * format.row_bytes(cols).unwrap();
        let blocks: Vec<u8> = (0..bytes).map(|i| (i * 31 + i / 251) as u8).collect();
        let expected = format.pack(rows, cols, &blocks);
        let weight = loam_tests::plans::weight(format, rows, cols, blocks);
        let words = weight.words;
        block_on(gpu.allocate(A, &weight)).unwrap();
        assert_eq!(gpu.usage().memory.current[&Pool::Weights], words * 4);
        let found = block_on(gpu.read(A, 0, words)).unwrap();
        assert!(found == expected, "{format}: {rows} x {cols}");
        let error = gpu.write(A, 0, &[0]).unwrap_err().to_string();
        assert!(error.contains("is a weight"), "{error}");
    }
}

#[test]
fn content_of_another_length_is_refused() {
    let Some(mut gpu) = gpu() else { return };
    let entry = Entry { words: 4, ..values(&[1.0; 5]) };
    let error = block_on(gpu.allocate(A, &entry)).unwrap_err().to_string();
    assert!(error.contains("5 words of content for a buffer of 4"), "{error}");
    let blocks = SharedBytes { source: Arc::new(vec![0u8; 17]), range: 0..17 }.into();
    let content = Content::Weight { format: Format::Q4_0, rows: 1, cols: 32, blocks };
    let error = block_on(gpu.allocate(A, &Entry { content, ..zeros(8) })).unwrap_err().to_string();
    assert!(error.contains("17 bytes for 1 x 32 q4_0"), "{error}");
}

#[test]
fn release_and_replace_are_counted() {
    let Some(mut gpu) = gpu() else { return };
    let before = gpu.usage().memory.current.clone();
    block_on(gpu.allocate(A, &zeros(1000))).unwrap();
    assert_eq!(gpu.usage().memory.current[&Pool::Cache], 4000);
    block_on(gpu.allocate(A, &zeros(500))).unwrap();
    assert_eq!(gpu.usage().memory.current[&Pool::Cache], 2000);
    gpu.release(A);
    gpu.release(A);
    assert_eq!(gpu.usage().memory.current[&Pool::Cache], 0);
    assert_eq!(gpu.usage().memory.current[&Pool::Inputs], before[&Pool::Inputs]);
    assert!(gpu.usage().memory.peak_bytes >= 4000);
}
