//! Tenants that have an engine to themselves.

use loam::adapter::Attach;
use loam::backend::Backend;
use loam::evaluate::Scorer;
use loam::{AdapterFile, Base, Engine, Result, Session, TrainOptions, Trainer};

/// A session with room for `context` tokens.
///
/// # Errors
/// As [`Session::new`].
pub fn new_session(
    base: &Base,
    backend: Box<dyn Backend>,
    context: usize,
    adapters: &[Attach<'_>],
) -> Result<(Engine, Session)> {
    let mut engine = Engine::new(base, backend)?;
    let adapters = engine.attach(base, adapters)?;
    let session = pollster::block_on(Session::new(&mut engine, context, &adapters))?;
    Ok((engine, session))
}

/// A trainer that starts from `adapter`, or a new one.
///
/// # Errors
/// As [`Trainer::new`].
pub fn new_trainer(
    base: &Base,
    backend: Box<dyn Backend>,
    adapter: Option<AdapterFile>,
    options: TrainOptions,
) -> Result<(Engine, Trainer)> {
    let mut engine = Engine::new(base, backend)?;
    let trainer = pollster::block_on(Trainer::new(&mut engine, adapter, options))?;
    Ok((engine, trainer))
}

/// A scorer of batches of `batch` rows with `context` tokens.
///
/// # Errors
/// As [`Scorer::new`].
pub fn new_scorer(
    base: &Base,
    backend: Box<dyn Backend>,
    adapters: &[Attach<'_>],
    batch: usize,
    context: usize,
) -> Result<(Engine, Scorer)> {
    let mut engine = Engine::new(base, backend)?;
    let adapters = engine.attach(base, adapters)?;
    let scorer = pollster::block_on(Scorer::new(&mut engine, &adapters, batch, context))?;
    Ok((engine, scorer))
}
