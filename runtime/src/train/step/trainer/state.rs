//! What training changes on the device: read for checkpoints and files, and written when a run continues.

use super::Trainer;
use crate::adapter::AdapterFile;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::plan::{Pool, StorageId};

impl Trainer {
    /// Length of [`Self::values`].
    pub fn words(&self) -> u64 {
        self.arena.words()
    }

    /// The adapter's values as they lie on the device.
    ///
    /// # Errors
    /// A device failure.
    pub async fn values(&self, engine: &mut Engine) -> Result<Vec<u32>> {
        self.read(engine, self.buffers.parameters).await
    }

    /// Puts values of [`Self::values`] back.
    ///
    /// # Errors
    /// Values of another trainer, or a device failure.
    pub fn set_values(&self, engine: &mut Engine, values: &[u32]) -> Result<()> {
        engine.owns(&self.resources)?;
        engine.backend.write(self.buffers.parameters, 0, values)
    }

    /// Makes the adapter one that has learned nothing: `start`, or one that changes nothing.
    ///
    /// # Errors
    /// A device failure.
    pub fn forget(&self, engine: &mut Engine, start: Option<&AdapterFile>) -> Result<()> {
        engine.owns(&self.resources)?;
        let words = start.map_or_else(|| self.arena.neutral(), |start| self.arena.pack(start));
        engine.backend.write(self.buffers.parameters, 0, &words)
    }

    /// The adapter as it is now.
    ///
    /// # Errors
    /// A device failure, or a value that is not finite.
    pub async fn adapter(&self, engine: &mut Engine) -> Result<AdapterFile> {
        let words = self.read(engine, self.buffers.parameters).await?;
        let parameters = self.arena.unpack(&words);
        match parameters.iter().find(|parameter| parameter.values.iter().any(|v| !v.is_finite())) {
            Some(parameter) => Err(Error::NonFinite(format!("the adapter on {}", parameter.site))),
            None => Ok(AdapterFile { parameters, ..self.adapter.clone() }),
        }
    }

    /// The summed gradients of all parameters, as they are before [`Self::update`].
    ///
    /// # Errors
    /// A device failure.
    pub async fn gradients(&self, engine: &mut Engine) -> Result<AdapterFile> {
        let words = self.read(engine, self.buffers.gradients).await?;
        let parameters = self.arena.unpack(&words);
        Ok(AdapterFile { parameters, ..self.adapter.clone() })
    }

    /// Updates done: the optimizer's own count, without the skipped ones.
    pub fn updates(&self) -> u64 {
        self.step
    }

    /// Everything on the device that training changes: the stored buffers of adapter and optimizer by name, with
    /// gradients that are `summed` up; between two steps they are zero and are not there.
    ///
    /// # Errors
    /// A device failure.
    pub async fn buffers(&self, engine: &mut Engine, summed: bool) -> Result<Vec<(String, Vec<u32>)>> {
        engine.owns(&self.resources)?;
        let mut buffers = Vec::new();
        for (id, name, words) in self.changing(engine, summed) {
            buffers.push((name, engine.backend.read(id, 0, words).await?));
        }
        Ok(buffers)
    }

    /// Puts [`Self::buffers`] of a trainer of the same base, adapter and options back, after `updates` updates, with
    /// gradients that are `summed` up or without.
    ///
    /// # Errors
    /// [`Error::Argument`] for buffers of another trainer, or a device failure.
    pub fn restore(
        &mut self,
        engine: &mut Engine,
        (buffers, summed): (&[(String, Vec<u32>)], bool),
        updates: u64,
    ) -> Result<()> {
        engine.owns(&self.resources)?;
        let changing = self.changing(engine, summed);
        let lengths = |list: &mut dyn Iterator<Item = (&str, u64)>| {
            list.map(|(name, words)| format!("{name} ({words} words)")).collect::<Vec<_>>().join(", ")
        };
        let needed = lengths(&mut changing.iter().map(|(_, name, words)| (name.as_str(), *words)));
        let found = lengths(&mut buffers.iter().map(|(name, words)| (name.as_str(), words.len() as u64)));
        if needed != found {
            return Err(Error::Argument(format!("the state of the run has {found}; it needs {needed}")));
        }
        for ((id, ..), (_, words)) in changing.iter().zip(buffers) {
            engine.backend.write(*id, 0, words)?;
        }
        if !summed {
            engine.backend.write(self.buffers.gradients, 0, &vec![0; self.words() as usize])?;
        }
        self.step = updates;
        Ok(())
    }

    /// The stored buffers that training changes, with gradients that are `summed` up or without.
    fn changing(&self, engine: &Engine, summed: bool) -> Vec<(StorageId, String, u64)> {
        let kept = self.resources.buffers().iter().filter(|id| summed || **id != self.buffers.gradients);
        let entries = kept.map(|id| (*id, engine.storage.get(*id)));
        let changing = entries.filter(|(_, entry)| matches!(entry.pool, Pool::Adapter | Pool::Optimizer));
        changing.map(|(id, entry)| (id, entry.name.clone(), entry.words)).collect()
    }

    async fn read(&self, engine: &mut Engine, id: StorageId) -> Result<Vec<u32>> {
        engine.owns(&self.resources)?;
        engine.backend.read(id, 0, self.arena.words()).await
    }
}
