//! Adapters on an engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Engine, Resources};
use crate::adapter::{Arena, Attach, Sites};
use crate::base::Base;
use crate::error::Result;
use crate::plan::{Content, Pool};

/// Adapters that are attached to an engine, or none. Clones share them: when the last one is dropped, their memory and
/// the programs that run with them are freed.
#[derive(Debug, Clone, Default)]
pub struct AdapterHandle(Option<Arc<Attached>>);

#[derive(Debug)]
struct Attached {
    /// From 1, never used again.
    number: u64,
    sites: Sites,
    resources: Resources,
    notes: Vec<String>,
}

/// Number of the next adapters.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// Where a model without adapters is touched.
static NOWHERE: std::sync::LazyLock<Sites> = std::sync::LazyLock::new(Sites::default);

impl AdapterHandle {
    /// No adapter: the base alone.
    pub fn none() -> Self {
        Self::default()
    }

    /// Where the adapters touch the model.
    pub fn sites(&self) -> &Sites {
        self.0.as_ref().map_or(&NOWHERE, |attached| &attached.sites)
    }

    /// A number that no other adapters have, if there are any.
    pub fn number(&self) -> Option<u64> {
        self.0.as_ref().map(|attached| attached.number)
    }

    /// What a user should know about adapters and base.
    pub fn notes(&self) -> &[String] {
        self.0.as_ref().map_or(&[], |attached| &attached.notes)
    }

    /// Checks that the adapters are attached to `engine`.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] if they are attached to another one.
    pub fn check(&self, engine: &Engine) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |attached| engine.owns(&attached.resources))
    }
}

impl Engine {
    /// Declares `adapters`, which act together, and returns a handle to them.
    ///
    /// # Errors
    /// An adapter that does not fit the base.
    pub fn attach(&mut self, base: &Base, adapters: &[Attach<'_>]) -> Result<AdapterHandle> {
        let (mut sites, mut resources, mut notes) = (Sites::default(), self.resources(), Vec::new());
        for attach in adapters {
            notes.extend(base.check(attach.adapter, attach.path)?);
            let arena = Arena::new(attach.adapter);
            let content = Content::Words(arena.pack(attach.adapter));
            let id = self.add(&mut resources, "adapter", Pool::Adapter, arena.words(), content)?;
            arena.attach(&mut sites, id, None, attach.scale);
        }
        let number = || NUMBERS.fetch_add(1, Ordering::Relaxed);
        let attached = || Arc::new(Attached { number: number(), sites, resources, notes });
        Ok(AdapterHandle((!adapters.is_empty()).then(attached)))
    }
}
