//! What happened in a run, step by step, for reports.

use super::{Event, StepReport};

/// The curves of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// Each step with its number.
    pub steps: Vec<(u64, StepReport)>,
    /// Held-out losses with the number of steps before them.
    pub held_out: Vec<(u64, f64)>,
}

impl History {
    /// Takes an event.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Step { step, report, .. } => self.steps.push((*step, *report)),
            Event::Evaluated { step, loss, .. } => self.held_out.push((*step, *loss)),
            _ => {}
        }
    }
}
