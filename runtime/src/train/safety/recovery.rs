//! What a run does when the device fails under it: a device that is gone is opened again; for one that has not enough memory
//! layers are computed again in the backward pass, then micro-batches get smaller. All go on from a copy on the host, to the same
//! adapter.

use embassy_time::{Duration, Instant};

use crate::backend::{Backend, Kind};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::plan::Checkpointing;
use crate::train::checkpoint::State;
use crate::train::{Event, Progress, TrainOptions, Trainer};

/// Opens the device of a run again.
pub type Reopen = Box<dyn FnMut() -> Result<Box<dyn Backend>>>;

/// So often within [`WITHIN`] a device may be lost: one that is lost more often is broken.
const MOST: usize = 3;
const WITHIN: Duration = Duration::from_secs(600);
/// A copy is taken when the work since the last one took this many times as long as that copy: copies then cost a few
/// per cent at most, and as much work is repeated after a loss.
const RATIO: u32 = 20;

/// The way back.
pub(in crate::train) struct Rescue {
    reopen: Option<Reopen>,
    /// Interface and name of the device: a run goes on where it was.
    device: (String, String),
    /// Where the run can go on. `None`: at the start.
    pub state: Option<State>,
    /// Rows of a micro-batch.
    pub batch: usize,
    /// What is kept of the forward pass.
    pub checkpointing: Checkpointing,
    /// Nobody asked for that.
    open: bool,
    losses: Vec<Instant>,
    /// When the last copy was taken, and how long that took.
    copied: Option<(Instant, Duration)>,
}

impl Rescue {
    /// For a run on `backend` as `chosen` has it, from `state` on. `open`: checkpointing was left to the run.
    pub fn new(
        reopen: Option<Reopen>,
        backend: &dyn Backend,
        (chosen, open): (&TrainOptions, bool),
        state: Option<State>,
    ) -> Self {
        let device = (backend.info().backend.clone(), backend.info().name.clone());
        let batch = state.as_ref().map_or(chosen.batch, |state| state.progress.batch);
        let checkpointing = chosen.checkpointing.unwrap_or_default();
        Self { reopen, device, state, batch, checkpointing, open, losses: Vec::new(), copied: None }
    }

    /// Takes a copy, if it is time. The CPU is never lost.
    ///
    /// # Errors
    /// A device failure.
    pub async fn copy(&mut self, engine: &mut Engine, trainer: &Trainer, progress: &Progress) -> Result<()> {
        let due = self.copied.is_none_or(|(at, cost)| at.elapsed() >= cost * RATIO);
        if self.reopen.is_none() || engine.backend.info().kind == Kind::Cpu || !due {
            return Ok(());
        }
        let began = Instant::now();
        self.state = Some(State { progress: progress.clone(), buffers: trainer.buffers(engine).await? });
        self.copied = Some((Instant::now(), began.elapsed()));
        Ok(())
    }

    /// A device to go on with after `error`, which has ended the use of the last one.
    ///
    /// # Errors
    /// `error`, if that cannot be helped; what opening the device says.
    pub fn after(&mut self, error: Error, asked: usize, on_event: &mut dyn FnMut(&Event)) -> Result<Box<dyn Backend>> {
        let Some(reopen) = &mut self.reopen else { return Err(error) };
        let plan = match &error {
            Error::DeviceLost { .. } => {
                self.losses.retain(|at| at.elapsed() < WITHIN);
                if self.losses.len() == MOST {
                    return Err(error);
                }
                self.losses.push(Instant::now());
                "the device is opened again".to_owned()
            }
            Error::OutOfMemory { .. } if self.open && self.checkpointing == Checkpointing::None => {
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
        on_event(&Event::Note { message: format!("{}: {plan}", error.chain()) });
        self.copied = None;
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
