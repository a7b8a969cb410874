//! What a run does when the device fails under it: a device that is gone is opened again; for one that has not enough
//! memory layers are computed again in the backward pass, then micro-batches get smaller. All continue from a copy on
//! the host, to the same adapter.

use embassy_time::{Duration, Instant};

use super::checkpoint::State;
use crate::backend::{Backend, DeviceInfo, Kind};
use crate::error::{Error, Result};
use crate::plan::Checkpointing;
use crate::train::TrainOptions;
use crate::train::run::Events;

/// Opens the device of a run again.
pub type Reopen = Box<dyn FnMut() -> Result<Box<dyn Backend>>>;

/// So often within [`WITHIN`] a device may be lost: one that is lost more often is broken.
const MOST: usize = 3;
const WITHIN: Duration = Duration::from_secs(600);
/// A copy is taken when the work since the last one took this many times as long as that copy: copies then cost a few
/// per cent at most, and as much work is repeated after a loss.
const RATIO: u32 = 20;

/// How a run can continue after a failure of its device.
pub struct Recovery {
    reopen: Option<Reopen>,
    /// Interface and name of the device: a run continues where it was.
    device: (String, String),
    /// Copies are taken of what is on the device.
    copies: bool,
    /// Where the run can continue. `None`: at the start.
    pub state: Option<State>,
    /// Rows of a micro-batch.
    pub batch: usize,
    /// What is kept of the forward pass.
    pub checkpointing: Checkpointing,
    /// Checkpointing was not asked for, so that the run may turn it on.
    may_checkpoint: bool,
    lost_at: Vec<Instant>,
    last_copy: Option<Copied>,
}

/// When a copy was taken, and how long that took.
struct Copied {
    at: Instant,
    cost: Duration,
}

impl Recovery {
    /// For a run on the device `info` with the options that were `chosen` for it, from `state` on. `may_checkpoint`:
    /// the run was not asked for or against checkpointing.
    pub fn new(
        reopen: Option<Reopen>,
        info: &DeviceInfo,
        chosen: &TrainOptions,
        may_checkpoint: bool,
        state: Option<State>,
    ) -> Self {
        Self {
            // The CPU is never lost.
            copies: reopen.is_some() && info.kind != Kind::Cpu,
            reopen,
            device: (info.backend.clone(), info.name.clone()),
            batch: state.as_ref().map_or(chosen.batch, |state| state.progress.batch),
            state,
            checkpointing: chosen.checkpointing.unwrap_or_default(),
            may_checkpoint,
            lost_at: Vec::new(),
            last_copy: None,
        }
    }

    /// For a rehearsal of a run with `options`: there is nothing to open again.
    pub fn rehearsed(options: &TrainOptions, copies: bool) -> Self {
        Self {
            reopen: None,
            device: Default::default(),
            copies,
            state: None,
            batch: options.batch,
            checkpointing: options.checkpointing.unwrap_or_default(),
            may_checkpoint: false,
            lost_at: Vec::new(),
            last_copy: None,
        }
    }

    /// Whether it is time for a copy.
    pub fn is_copy_due(&self) -> bool {
        self.copies && self.last_copy.as_ref().is_none_or(|copy| copy.at.elapsed() >= copy.cost * RATIO)
    }

    /// Takes a copy that was begun at `began`.
    pub fn keep(&mut self, state: State, began: Instant) {
        self.state = Some(state);
        self.last_copy = Some(Copied { at: Instant::now(), cost: began.elapsed() });
    }

    /// A device to continue on after `error`, which has ended the use of the last one. `asked`: rows of a micro-batch
    /// as the options have it.
    ///
    /// # Errors
    /// `error`, if that cannot be helped; what opening the device says.
    pub fn after(&mut self, error: Error, asked: usize, events: &mut Events<'_>) -> Result<Box<dyn Backend>> {
        let Some(reopen) = &mut self.reopen else { return Err(error) };
        let plan = match &error {
            Error::DeviceLost { .. } => {
                self.lost_at.retain(|at| at.elapsed() < WITHIN);
                if self.lost_at.len() == MOST {
                    return Err(error);
                }
                self.lost_at.push(Instant::now());
                "the device is opened again".to_owned()
            }
            Error::OutOfMemory { .. } if self.may_checkpoint && self.checkpointing == Checkpointing::None => {
                self.checkpointing = Checkpointing::Layers;
                "layers are computed again in the backward pass from now on".to_owned()
            }
            Error::OutOfMemory { .. } => {
                let Some(batch) = smaller(self.batch) else { return Err(error) };
                self.batch = batch;
                if let Some(state) = &mut self.state {
                    state.progress.divide(batch);
                }
                format!("micro-batches have {batch} of {asked} rows from now on, and steps more of them")
            }
            _ => return Err(error),
        };
        events.note(format!("{}: {plan}", error.chain()));
        self.last_copy = None;
        let backend = reopen()?;
        let found = backend.info();
        if (&found.backend, &found.name) != (&self.device.0, &self.device.1) {
            // Another device would end with another adapter.
            return Err(error);
        }
        Ok(backend)
    }
}

/// The next smaller number of rows that divides `batch`.
fn smaller(batch: usize) -> Option<usize> {
    (2..=batch).find(|divisor| batch.is_multiple_of(*divisor)).map(|divisor| batch / divisor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_get_smaller_by_their_divisors() {
        let sizes = |batch| std::iter::successors(Some(batch), |&batch| smaller(batch)).collect::<Vec<_>>();
        assert_eq!(sizes(8), [8, 4, 2, 1]);
        assert_eq!(sizes(6), [6, 3, 1]);
        assert_eq!(sizes(7), [7, 1]);
        assert_eq!(sizes(1), [1]);
    }
}
