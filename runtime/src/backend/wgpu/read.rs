//! Reading back: a copy into a mappable buffer, and a future that resolves when it is mapped.

use ::wgpu as api;

use super::answer::Answer;
use super::buffers;
use super::device::Gpu;
use crate::backend::Memory;
use crate::backend::overhead::ReadBack;
use crate::error::Result;

/// The read-back buffer.
#[derive(Debug)]
struct Staging {
    buffer: api::Buffer,
    /// Mapped, or about to be: set while a read is under way, and left set by a read that was given up.
    mapped: bool,
}

/// Reads words back, one request at a time.
#[derive(Debug, Default)]
pub struct Reader {
    staging: Option<Staging>,
    size: ReadBack,
}

impl Reader {
    /// Copies `words` words at `offset` of `source` to the host.
    ///
    /// # Errors
    /// If the device failed, or there is no memory for the copy.
    pub async fn read(
        &mut self,
        gpu: &Gpu,
        memory: &mut Memory,
        source: &api::Buffer,
        offset: u64,
        words: u64,
    ) -> Result<Vec<u32>> {
        let staging = self.reserve(gpu, memory, words)?;
        let bytes = words * 4;
        let mut encoder = gpu.device.create_command_encoder(&api::CommandEncoderDescriptor { label: Some("read") });
        encoder.copy_buffer_to_buffer(source, offset * 4, &staging.buffer, 0, bytes);
        let submission = gpu.submit([encoder.finish()]);
        gpu.check("read", bytes)?;
        staging.mapped = true;
        mapped(gpu, &submission, &staging.buffer, bytes).await?;
        let view = staging.buffer.get_mapped_range(..bytes).map_err(|error| gpu.failure(error.to_string()))?;
        let result = bytemuck::pod_collect_to_vec(&view);
        drop(view);
        staging.buffer.unmap();
        staging.mapped = false;
        if ReadBack::is_too_large(words) {
            self.free(memory);
        }
        Ok(result)
    }

    /// A buffer for `words` words that is not mapped.
    fn reserve(&mut self, gpu: &Gpu, memory: &mut Memory, words: u64) -> Result<&mut Staging> {
        let busy = self.staging.as_ref().is_none_or(|staging| staging.mapped);
        if let Some(words) = self.size.reserve(memory, words, busy) {
            self.destroy();
            let usage = api::BufferUsages::MAP_READ | api::BufferUsages::COPY_DST;
            let buffer = buffers::create(gpu, "read", words, usage).inspect_err(|_| self.size.free(memory))?;
            self.staging = Some(Staging { buffer, mapped: false });
        }
        self.staging.as_mut().ok_or_else(|| gpu.failure("no read-back buffer"))
    }

    fn free(&mut self, memory: &mut Memory) {
        self.destroy();
        self.size.free(memory);
    }

    fn destroy(&mut self) {
        if let Some(old) = self.staging.take() {
            old.buffer.destroy();
        }
    }
}

/// Waits until `submission` is done and its result is mapped. Native devices only call back while they are polled, so
/// this waits for the submission there; a browser calls back by itself.
async fn mapped(gpu: &Gpu, submission: &api::SubmissionIndex, buffer: &api::Buffer, bytes: u64) -> Result<()> {
    let answer = Answer::default();
    let given = answer.clone();
    buffer.map_async(api::MapMode::Read, ..bytes, move |result| given.give(result));
    let result = if cfg!(target_family = "wasm") {
        answer.await
    } else {
        gpu.wait(submission)?;
        answer.take().ok_or_else(|| gpu.failure("read: no answer"))?
    };
    result.map_err(|error| gpu.failure(format!("read: {error}")))
}
