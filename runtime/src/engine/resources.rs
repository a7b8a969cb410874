//! What a tenant of an engine owns: stored buffers and programs, freed when it is dropped.

use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::ProgramId;
use crate::plan::StorageId;

/// Stored buffers and programs.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// In the order of their declaration.
    pub buffers: Vec<StorageId>,
    pub programs: Vec<ProgramId>,
}

/// What dropped tenants owned and the engine has not freed yet. Shared by an engine and all its tenants.
#[derive(Debug, Clone, Default)]
pub(super) struct Released(Arc<Mutex<Held>>);

impl Released {
    /// Takes everything that is to be freed.
    pub fn take(&self) -> Held {
        // Lists of numbers are whole whatever happened to the thread that held the lock.
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, mut held: Held) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.buffers.append(&mut held.buffers);
        all.programs.append(&mut held.programs);
    }

    /// Whether both are the list of one engine.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Stored buffers and programs of one tenant. When it is dropped, the engine frees them at its next call.
#[derive(Debug)]
pub struct Resources {
    pub(super) released: Released,
    pub(super) held: Held,
}

impl Resources {
    pub(super) fn new(released: Released) -> Self {
        Self { released, held: Held::default() }
    }

    /// The stored buffers in the order of their declaration.
    pub fn buffers(&self) -> &[StorageId] {
        &self.held.buffers
    }
}

impl Drop for Resources {
    fn drop(&mut self) {
        self.released.put(std::mem::take(&mut self.held));
    }
}
