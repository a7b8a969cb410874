//! The loop: what is to be done next ([`next`](mod@next)), the driver that does it, what is reported, and what is
//! remembered.

mod control;
mod describe;
mod driver;
mod early_stopping;
mod event;
mod general;
mod history;
mod job;
mod next;
mod open;
mod options;
mod progress;
mod verdict;

pub use control::Control;
use driver::Ended;
pub(super) use driver::{Driver, Save, Setup};
pub use early_stopping::{Best, EarlyStopping, Keep};
pub(super) use event::Events;
pub use event::{Event, Outcome, Why};
pub use history::History;
pub use job::Job;
pub(super) use next::Action;
pub(super) use open::agenda;
pub use open::check;
pub use options::RunOptions;
pub use progress::Progress;

use crate::adapter::AdapterFile;
use crate::engine::Engine;
use crate::error::Result;

/// Trains an adapter of the job's base, which is on `engine`: does what `job` says, as `options` say, and reports to
/// `sink` what happens. Where a device fails and is opened again, the engine is a new one: what other tenants had is
/// lost with it.
///
/// # Errors
/// Options or data that allow no training, a device failure, an adapter with values that are not finite; unless the
/// options force it, a run that ends with losses or gradients that are not finite, or with a higher held-out loss than
/// it began with, whose adapter comes in [`Event::Refused`];
/// [`Error::Stopped`](crate::Error::Stopped) if it was stopped; what opening the folder of checkpoints returns.
pub async fn run(
    job: &Job<'_>,
    engine: &mut Engine,
    options: RunOptions,
    sink: &mut dyn FnMut(&Event),
) -> Result<(AdapterFile, Outcome)> {
    let setup = open::open(job, engine.backend.info(), options).await?;
    let mut driver = Driver::new(job, engine, setup, Events::new(sink));
    while driver.advance().await? != Action::Finish {}
    let Ended { mut adapter, outcome, refusal } = driver.into_result()?;
    adapter.metadata = describe::describe(job, &adapter, &outcome)?;
    let Some(refusal) = refusal else { return Ok((adapter, outcome)) };
    sink(&Event::Refused { adapter: Box::new(adapter), outcome: Box::new(outcome) });
    Err(refusal)
}
