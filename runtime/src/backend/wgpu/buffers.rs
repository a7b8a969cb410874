//! Stored buffers: allocation, uploads, and what they cost.
//!
//! A weight goes up in chunks of rows, so that neither its packed copy on the host nor the driver's upload memory ever
//! holds more than a chunk or two of it.

use std::collections::HashMap;

use ::wgpu as api;
use loam_files::FileRange;
use loam_shaders::Format;

use super::device::Gpu;
use crate::backend::Memory;
use crate::backend::overhead::{UPLOAD_BYTES, Uploads, upload_rows};
use crate::backend::slots::{self, SlotPool, Taken};
use crate::error::{Error, Result};
use crate::plan::{Content, Entry, Plan, Pool, StorageId};

/// A weight in blocks.
#[derive(Clone, Copy)]
struct WeightShape {
    format: Format,
    rows: usize,
    cols: usize,
}

/// A buffer of the device that counts in a pool.
#[derive(Debug)]
pub struct Stored {
    /// Name for messages.
    pub name: String,
    /// The buffer.
    pub buffer: api::Buffer,
    /// Its length in words.
    pub words: u64,
    pool: Pool,
    weight: bool,
}

/// All stored buffers by id.
#[derive(Debug, Default)]
pub struct Buffers {
    stored: HashMap<StorageId, Stored>,
    uploads: Uploads,
}

impl Buffers {
    /// The buffer `id`.
    ///
    /// # Errors
    /// If it is not allocated.
    pub fn get(&self, gpu: &Gpu, id: StorageId) -> Result<&Stored> {
        let missing = || gpu.failure(format!("stored buffer {} is not allocated", id.0));
        self.stored.get(&id).ok_or_else(missing)
    }

    /// Allocates and fills the buffer `id`. What it held before is freed.
    ///
    /// # Errors
    /// Over the device's largest buffer, out of memory, or content that does not fit the declared length.
    pub async fn allocate(&mut self, gpu: &Gpu, memory: &mut Memory, id: StorageId, entry: &Entry) -> Result<()> {
        self.release(memory, id);
        check_content(gpu, entry)?;
        let usage = api::BufferUsages::STORAGE | api::BufferUsages::COPY_SRC | api::BufferUsages::COPY_DST;
        let buffer = create(gpu, &entry.name, entry.words, usage)?;
        memory.add(entry.pool, entry.words * 4);
        let weight = matches!(entry.content, Content::Weight { .. });
        let stored = Stored { name: entry.name.clone(), buffer, words: entry.words, pool: entry.pool, weight };
        let filled = self.fill(gpu, memory, &stored, &entry.content).await;
        self.stored.insert(id, stored);
        if filled.is_err() {
            self.release(memory, id);
        }
        filled
    }

    /// Frees the buffer `id`, if it is allocated.
    pub fn release(&mut self, memory: &mut Memory, id: StorageId) {
        if let Some(old) = self.stored.remove(&id) {
            old.buffer.destroy();
            memory.sub(old.pool, old.words * 4);
        }
    }

    /// Overwrites words of a buffer that is no weight.
    ///
    /// # Errors
    /// If the range is outside the buffer, or the device failed.
    pub fn write(&self, gpu: &Gpu, id: StorageId, offset: u64, words: &[u32]) -> Result<()> {
        let stored = self.get(gpu, id)?;
        if stored.weight {
            return Err(gpu.failure(format!("{} is a weight and cannot be written", stored.name)));
        }
        check_range(gpu, stored, offset, words.len() as u64)?;
        gpu.queue.write_buffer(&stored.buffer, offset * 4, bytemuck::cast_slice(words));
        gpu.check(&stored.name, words.len() as u64 * 4)
    }

    /// Hands pending uploads to the device and waits until their upload memory is free again.
    ///
    /// # Errors
    /// If the device failed.
    pub async fn flush(&mut self, gpu: &Gpu, memory: &mut Memory) -> Result<()> {
        if self.uploads.flush(memory) { gpu.idle().await } else { Ok(()) }
    }

    async fn fill(&mut self, gpu: &Gpu, memory: &mut Memory, stored: &Stored, content: &Content) -> Result<()> {
        match content {
            // wgpu hands out cleared memory.
            Content::Zeros => Ok(()),
            Content::Words(words) => {
                let step = UPLOAD_BYTES as usize / 4;
                for (chunk, at) in words.chunks(step).zip((0..).step_by(step)) {
                    self.stage(gpu, memory, stored, at as u64, chunk).await?;
                }
                Ok(())
            }
            Content::Weight { format, rows, cols, blocks } => {
                let shape = WeightShape { format: *format, rows: *rows, cols: *cols };
                self.fill_weight(gpu, memory, stored, shape, blocks).await
            }
        }
    }

    async fn fill_weight(
        &mut self,
        gpu: &Gpu,
        memory: &mut Memory,
        stored: &Stored,
        shape: WeightShape,
        blocks: &FileRange,
    ) -> Result<()> {
        let WeightShape { format, rows, cols } = shape;
        let (quants, scales) = (format.quant_words(cols), format.scale_words(cols));
        let row_bytes = format.row_bytes(cols).unwrap_or(0);
        let chunk_rows = upload_rows(format, cols);
        for first in (0..rows).step_by(chunk_rows) {
            let count = chunk_rows.min(rows - first);
            let start = (first * row_bytes) as u64;
            let chunk = blocks.part(start..start + (count * row_bytes) as u64).load()?;
            let packed = format.pack(count, cols, chunk.bytes());
            let (quant_part, scale_part) = packed.split_at(count * quants);
            self.stage(gpu, memory, stored, (first * quants) as u64, quant_part).await?;
            self.stage(gpu, memory, stored, (rows * quants + first * scales) as u64, scale_part).await?;
        }
        Ok(())
    }

    async fn stage(
        &mut self,
        gpu: &Gpu,
        memory: &mut Memory,
        stored: &Stored,
        offset: u64,
        words: &[u32],
    ) -> Result<()> {
        let bytes = words.len() as u64 * 4;
        if bytes == 0 {
            return Ok(());
        }
        gpu.queue.write_buffer(&stored.buffer, offset * 4, bytemuck::cast_slice(words));
        gpu.check(&stored.name, bytes)?;
        if self.uploads.add(memory, bytes) { self.flush(gpu, memory).await } else { Ok(()) }
    }
}

/// Copies are for measurements.
const SLOT_USAGE: api::BufferUsages =
    api::BufferUsages::STORAGE.union(api::BufferUsages::COPY_SRC).union(api::BufferUsages::COPY_DST);

/// The buffers of slots, which programs share.
#[derive(Debug, Default)]
pub struct Slots {
    pool: SlotPool,
    buffers: Vec<Option<api::Buffer>>,
}

impl Slots {
    /// The buffer at `place`.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, gpu: &Gpu, place: usize) -> Result<&api::Buffer> {
        let buffer = self.buffers.get(place).and_then(Option::as_ref);
        buffer.ok_or_else(|| gpu.failure(format!("slot buffer {place} does not exist")))
    }

    /// Takes buffers for the slots of `plan`, and counts the new ones.
    ///
    /// # Errors
    /// Out of memory, or over the device's largest buffer.
    pub fn take(&mut self, gpu: &Gpu, memory: &mut Memory, plan: &Plan) -> Result<Vec<usize>> {
        let taken = self.pool.take(&plan.slots);
        match self.create(gpu, &taken, &plan.name) {
            Ok(()) => {
                memory.add(Pool::Activations, taken.new_bytes());
                Ok(taken.places)
            }
            Err(error) => {
                self.free(&taken.places);
                Err(error)
            }
        }
    }

    fn create(&mut self, gpu: &Gpu, taken: &Taken, plan: &str) -> Result<()> {
        self.buffers.resize_with(self.pool.places(), || None);
        for &(place, words) in &taken.new {
            let name = format!("{plan} slot buffer {place}");
            self.buffers[place] = Some(create(gpu, &name, words, SLOT_USAGE)?);
        }
        Ok(())
    }

    /// Frees those of the buffers at `places` that no other program uses.
    pub fn give_back(&mut self, memory: &mut Memory, places: &[usize]) {
        let freed = self.free(places);
        memory.sub(Pool::Activations, freed);
    }

    fn free(&mut self, places: &[usize]) -> u64 {
        let unused = self.pool.give_back(places);
        for (place, _) in &unused {
            if let Some(buffer) = self.buffers[*place].take() {
                buffer.destroy();
            }
        }
        slots::bytes(&unused)
    }
}

/// Creates a buffer of `words` words.
///
/// # Errors
/// Over the device's largest buffer, or out of memory.
pub fn create(gpu: &Gpu, name: &str, words: u64, usage: api::BufferUsages) -> Result<api::Buffer> {
    let limit = gpu.info.limits.max_buffer_bytes;
    let bytes = words.checked_mul(4).filter(|&bytes| bytes <= limit).ok_or_else(|| Error::Limit {
        what: format!("device {}: size of buffer {name} in bytes", gpu.info.name),
        value: words.saturating_mul(4),
        limit,
    })?;
    let descriptor = api::BufferDescriptor { label: Some(name), size: bytes, usage, mapped_at_creation: false };
    let buffer = gpu.device.create_buffer(&descriptor);
    gpu.check(name, bytes).map(|()| buffer)
}

/// Checks that `words` words at `offset` lie in `stored`.
///
/// # Errors
/// If they do not.
pub fn check_range(gpu: &Gpu, stored: &Stored, offset: u64, words: u64) -> Result<()> {
    if offset.checked_add(words).is_some_and(|end| end <= stored.words) {
        return Ok(());
    }
    Err(gpu.failure(format!("{words} words at {offset} are outside of {}, which has {}", stored.name, stored.words)))
}

fn check_content(gpu: &Gpu, entry: &Entry) -> Result<()> {
    let found = match &entry.content {
        Content::Zeros => return Ok(()),
        Content::Words(words) => words.len() as u64,
        Content::Weight { format, rows, cols, blocks } => {
            let expected = format.row_bytes(*cols).and_then(|bytes| bytes.checked_mul(*rows));
            if expected.map(|bytes| bytes as u64) != Some(blocks.length()) {
                let bytes = blocks.length();
                return Err(gpu.failure(format!("{}: {bytes} bytes for {rows} x {cols} {format}", entry.name)));
            }
            format.packed_words(*rows, *cols)
        }
    };
    if found == entry.words {
        return Ok(());
    }
    Err(gpu.failure(format!("{}: {found} words of content for a buffer of {}", entry.name, entry.words)))
}
