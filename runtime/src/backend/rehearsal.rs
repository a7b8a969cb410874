//! A back end that computes nothing and allocates nothing, but counts what the device would hold: whoever declares
//! buffers and compiles plans on it learns their memory from the very code that will need it.

use std::collections::HashMap;
use std::future::ready;

use loam_shaders::Step;

use super::overhead::{ReadBack, STEP_BYTES, UPLOAD_BYTES, Uploads, params_bytes, upload_rows};
use super::slots::{self, SlotPool};
use super::{Backend, DeviceInfo, Kind, Pending, ProgramId, Usage};
use crate::error::{Error, Result};
use crate::plan::{Content, Entry, Plan, Pool, StorageId};

/// Counts what a device would hold. What is read from it is zero.
#[derive(Debug)]
pub struct Rehearsal {
    info: DeviceInfo,
    usage: Usage,
    stored: HashMap<StorageId, (Pool, u64)>,
    slots: SlotPool,
    programs: Vec<Option<Program>>,
    uploads: Uploads,
    read_back: ReadBack,
}

/// A program that is not there.
#[derive(Debug)]
struct Program {
    /// Of the slots.
    places: Vec<usize>,
    /// Bytes of the parameters on the device.
    params: u64,
}

impl Rehearsal {
    /// For the device that `info` describes.
    pub fn new(info: DeviceInfo) -> Self {
        let mut usage = Usage::default();
        if info.kind != Kind::Cpu {
            usage.memory.add(Pool::Inputs, STEP_BYTES);
        }
        Self {
            info: DeviceInfo { rehearsed: true, ..info },
            usage,
            stored: HashMap::new(),
            slots: SlotPool::default(),
            programs: Vec::new(),
            uploads: Uploads::default(),
            read_back: ReadBack::default(),
        }
    }

    /// The CPU uses weights where the file is mapped and needs no uniforms; everything else goes up to a GPU.
    fn is_gpu(&self) -> bool {
        self.info.kind != Kind::Cpu
    }

    fn stage(&mut self, words: usize) {
        if words > 0 && self.uploads.add(&mut self.usage.memory, words as u64 * 4) {
            self.uploads.flush(&mut self.usage.memory);
        }
    }

    fn upload(&mut self, content: &Content) {
        match content {
            Content::Zeros => {}
            Content::Words(words) => {
                words.chunks(UPLOAD_BYTES as usize / 4).for_each(|chunk| self.stage(chunk.len()));
            }
            Content::Weight { format, rows, cols, .. } => {
                let step = upload_rows(*format, *cols);
                for first in (0..*rows).step_by(step) {
                    let count = step.min(rows - first);
                    self.stage(count * format.quant_words(*cols));
                    self.stage(count * format.scale_words(*cols));
                }
            }
        }
    }

    /// Counts a stored buffer.
    fn store(&mut self, id: StorageId, entry: &Entry) -> Result<()> {
        let bytes = match &entry.content {
            Content::Weight { blocks, .. } if !self.is_gpu() => blocks.length(),
            _ => entry.words.saturating_mul(4),
        };
        if bytes > self.info.limits.max_buffer_bytes {
            let what = format!("device {}: size of buffer {} in bytes", self.info.name, entry.name);
            return Err(Error::Limit { what, value: bytes, limit: self.info.limits.max_buffer_bytes });
        }
        self.release(id);
        self.usage.memory.add(entry.pool, bytes);
        self.stored.insert(id, (entry.pool, bytes));
        if self.is_gpu() {
            self.upload(&entry.content);
        }
        Ok(())
    }

    /// Counts a program.
    fn add_program(&mut self, plan: &Plan) -> ProgramId {
        let params = if self.is_gpu() { params_bytes(plan) } else { 0 };
        self.uploads.flush(&mut self.usage.memory);
        let taken = self.slots.take(&plan.slots);
        self.usage.memory.add(Pool::Activations, taken.new_bytes().saturating_add(params));
        self.programs.push(Some(Program { places: taken.places, params }));
        ProgramId(self.programs.len() as u32 - 1)
    }
}

impl Backend for Rehearsal {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn usage(&self) -> &Usage {
        &self.usage
    }

    fn allocate<'a>(&'a mut self, id: StorageId, entry: &'a Entry) -> Pending<'a, ()> {
        Box::pin(ready(self.store(id, entry)))
    }

    fn release(&mut self, id: StorageId) {
        if let Some((pool, bytes)) = self.stored.remove(&id) {
            self.usage.memory.sub(pool, bytes);
        }
    }

    fn write(&mut self, _id: StorageId, _offset: u64, _words: &[u32]) -> Result<()> {
        Ok(())
    }

    fn read(&mut self, _id: StorageId, _offset: u64, words: u64) -> Pending<'_, Vec<u32>> {
        if self.is_gpu() && words > 0 {
            self.uploads.flush(&mut self.usage.memory);
            self.read_back.reserve(&mut self.usage.memory, words, false);
            if ReadBack::is_too_large(words) {
                self.read_back.free(&mut self.usage.memory);
            }
        }
        Box::pin(ready(Ok(vec![0; words as usize])))
    }

    fn compile<'a>(&'a mut self, plan: &'a Plan) -> Pending<'a, ProgramId> {
        Box::pin(ready(Ok(self.add_program(plan))))
    }

    fn discard(&mut self, program: ProgramId) {
        if let Some(Program { places, params }) = self.programs.get_mut(program.0 as usize).and_then(Option::take) {
            let unused = self.slots.give_back(&places);
            self.usage.memory.sub(Pool::Activations, slots::bytes(&unused).saturating_add(params));
        }
    }

    fn run(&mut self, _program: ProgramId, _step: &Step, _part: usize) -> Result<Option<usize>> {
        Ok(None)
    }

    fn settle(&mut self) -> Pending<'_, ()> {
        Box::pin(ready(Ok(())))
    }
}
