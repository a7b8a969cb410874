//! A base on a device: its weights, and whatever tenants store beside them.
//!
//! The engine owns the device. Tenants (a session, a trainer, a scorer, ..) own [`Resources`] on it and borrow it to
//! run.

mod adapters;
mod inputs;
mod resources;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use loam_shaders::Step;

pub use adapters::AdapterHandle;
pub use inputs::{InputBuffers, list};
pub use resources::Resources;

use self::resources::{Held, Released};
use crate::backend::slots::SlotPool;
use crate::backend::{self, Backend, Limits, Memory, Precision, ProgramId};
use crate::base::Base;
use crate::error::{Error, Result};
use crate::host;
use crate::model::{ModelConfig, Weights};
use crate::plan::{Checkpointing, Content, Entry, Location, Plan, Pool, Recorder, Storage, StorageId};

/// How often this process has put the weights of a base on a device.
static WEIGHT_UPLOADS: AtomicU64 = AtomicU64::new(0);

/// How often this process has put the weights of a base on a device, all engines together.
pub fn weight_uploads() -> u64 {
    WEIGHT_UPLOADS.load(Ordering::Relaxed)
}

/// A base's weights on a device, and everything else that is stored there.
pub struct Engine {
    /// What runs the plans.
    pub backend: Box<dyn Backend>,
    /// Declarations of all stored buffers.
    pub storage: Storage,
    /// Hyper-parameters.
    pub config: ModelConfig,
    /// Where the weights are.
    pub weights: Weights,
    /// Declared, but not on the device yet.
    pending: VecDeque<StorageId>,
    /// The stored buffers that each program binds, without weights.
    programs: BTreeMap<ProgramId, Vec<StorageId>>,
    released: Released,
}

impl Engine {
    /// Declares the weights of `base`. Nothing is allocated before [`Self::allocate`].
    ///
    /// # Errors
    /// A tensor that does not fit the metadata or the device's limits.
    pub fn new(base: &Base, backend: Box<dyn Backend>) -> Result<Self> {
        let mut storage = Storage::default();
        let config = base.config().clone();
        let limits: Limits = backend.info().limits;
        let weights = Weights::declare(base.file(), &config, limits, &mut storage)?;
        let pending = storage.entries().map(|(id, _)| id).collect();
        let (programs, released) = (BTreeMap::new(), Released::default());
        Ok(Self { backend, storage, config, weights, pending, programs, released })
    }

    /// A recorder for plans of the model: what its products can do besides depends on the precision.
    pub fn recorder<'a>(&self, checkpointing: Checkpointing) -> Recorder<'a> {
        Recorder::with(checkpointing).updates_apart(self.backend.info().precision != Precision::F32)
    }

    /// An empty set of resources, for a new tenant.
    pub fn resources(&self) -> Resources {
        Resources::new(self.released.clone())
    }

    /// Declares a stored buffer of a tenant.
    ///
    /// # Errors
    /// Over a limit of the device.
    pub fn add(
        &mut self,
        resources: &mut Resources,
        name: &str,
        pool: Pool,
        words: u64,
        content: Content,
    ) -> Result<StorageId> {
        self.owns(resources)?;
        self.free_released();
        let limits = self.backend.info().limits;
        // Adapters and their moments are bound in ranges, everything else whole.
        let limit = match pool {
            Pool::Adapter | Pool::Optimizer => limits.max_buffer_bytes,
            _ => limits.max_binding_bytes,
        };
        if words.saturating_mul(4) > limit {
            return Err(Error::Limit { what: format!("{name} in bytes"), value: words.saturating_mul(4), limit });
        }
        let id = self.storage.add(Entry { name: name.to_owned(), pool, words, content });
        self.pending.push_back(id);
        resources.held.buffers.push(id);
        Ok(id)
    }

    /// Allocates everything declared so far on the device, if the host can hold it and the slots of `plans`.
    /// Returns the bytes of both.
    ///
    /// # Errors
    /// Out of memory.
    pub async fn allocate(&mut self, plans: &[&Plan]) -> Result<u64> {
        self.free_released();
        // On the CPU weights stay in the mapped file; on a GPU they may have memory of their own.
        let new = self.pending.iter().map(|id| self.storage.get(*id));
        let stored = new.filter(|entry| entry.pool != Pool::Weights).map(|entry| entry.words * 4);
        let mut pool = SlotPool::default();
        let slots = plans.iter().map(|plan| pool.take(&plan.slots).new_bytes());
        let bytes = stored.chain(slots).fold(0, u64::saturating_add);
        let info = self.backend.info();
        if !info.rehearsed && info.kind.shares_host() {
            let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
            host::check(&format!("the plan {}", names.join(", ")), bytes)?;
        }
        let has_weights = self.pending.iter().any(|id| self.storage.get(*id).pool == Pool::Weights);
        if has_weights && !self.backend.info().rehearsed {
            WEIGHT_UPLOADS.fetch_add(1, Ordering::Relaxed);
        }
        // What is not allocated because of an error stays declared.
        while let Some(&id) = self.pending.front() {
            self.backend.allocate(id, self.storage.get(id)).await?;
            self.pending.pop_front();
        }
        Ok(bytes)
    }

    /// Compiles a plan for a tenant, and allocates what it binds where that is not done. The program ends with any
    /// buffer that it binds.
    ///
    /// # Errors
    /// Out of memory, or a kernel that the device refuses.
    pub async fn compile(&mut self, resources: &mut Resources, plan: &Plan) -> Result<ProgramId> {
        self.owns(resources)?;
        // Adapters may have been attached since.
        self.allocate(&[]).await?;
        let program = self.backend.compile(plan).await?;
        let operands = plan.nodes.iter().flat_map(|node| &node.operands);
        let mut bound: Vec<StorageId> = operands
            .filter_map(|view| match view.location {
                Location::Stored(id) => Some(id).filter(|id| self.storage.get(*id).pool != Pool::Weights),
                Location::Slot(_) => None,
            })
            .collect();
        bound.sort_unstable();
        bound.dedup();
        self.programs.insert(program, bound);
        resources.held.programs.push(program);
        Ok(program)
    }

    /// Runs a program once.
    ///
    /// # Errors
    /// As [`Backend::run`].
    pub fn run(&mut self, program: ProgramId, step: &Step) -> Result<()> {
        backend::run(&mut *self.backend, program, step)
    }

    /// Whether `program` can still run: all buffers that it binds are there.
    pub fn has(&self, program: ProgramId) -> bool {
        self.programs.contains_key(&program)
    }

    /// Checks that `resources` are of this engine.
    ///
    /// # Errors
    /// [`Error::Argument`] for those of another one.
    pub fn owns(&self, resources: &Resources) -> Result<()> {
        if resources.released.is(&self.released) {
            return Ok(());
        }
        Err(Error::Argument("this was made on another engine, whose device and buffers are not these".into()))
    }

    /// Memory of the device, once what dropped tenants owned is freed.
    pub fn memory(&mut self) -> &Memory {
        self.free_released();
        &self.backend.usage().memory
    }

    /// Frees what dropped tenants owned.
    fn free_released(&mut self) {
        let Held { buffers, mut programs } = self.released.take();
        if !buffers.is_empty() {
            let ended = |bound: &[StorageId]| bound.iter().any(|id| buffers.contains(id));
            programs.extend(self.programs.iter().filter(|(_, bound)| ended(bound)).map(|(program, _)| *program));
        }
        for program in programs {
            if self.programs.remove(&program).is_some() {
                self.backend.discard(program);
            }
        }
        for id in buffers {
            self.pending.retain(|pending| *pending != id);
            self.backend.release(id);
            self.storage.remove(id);
        }
    }
}
