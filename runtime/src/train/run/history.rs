//! What happened in a run, step by step, for reports. It goes into checkpoints, so that a run that was resumed tells as much
//! as one that never ended; so it is bounded.

use super::Event;
use crate::train::StepReport;

/// Most steps, and most evaluations, that are kept. A longer run keeps every second, every fourth, ..
const MOST: usize = 4096;
/// Words of a step and of an evaluation in a checkpoint.
const STEP_WORDS: usize = 10;
const LOSS_WORDS: usize = 4;
/// Names of the two among the buffers of a checkpoint.
const STEPS: &str = "history_steps";
const HELD_OUT: &str = "history_held_out";

/// The curves of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// Each step with its number; of a long run every second, every fourth, .. from the first on.
    pub steps: Vec<(u64, StepReport)>,
    /// Held-out losses with the number of steps before them.
    pub held_out: Vec<(u64, f64)>,
}

impl History {
    /// Takes an event.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Step { step, report, .. } => self.step(*step, *report),
            Event::Evaluated { step, loss, .. } => self.evaluated(*step, *loss),
            Event::Resumed { history, .. } => *self = History::clone(history),
            _ => {}
        }
    }

    /// Takes a step.
    pub fn step(&mut self, step: u64, report: StepReport) {
        let (first, every) = match self.steps[..] {
            [] => (step, 1),
            [(first, _)] => (first, 1),
            [(first, _), (second, _), ..] => (first, second - first),
        };
        if (step - first).is_multiple_of(every) {
            self.steps.push((step, report));
        }
        if self.steps.len() > MOST {
            self.steps.retain(|(step, _)| (step - first).is_multiple_of(2 * every));
        }
    }

    /// Takes a held-out loss after `step` steps.
    pub fn evaluated(&mut self, step: u64, loss: f64) {
        self.held_out.push((step, loss));
        if self.held_out.len() > MOST {
            self.held_out = self.held_out.iter().copied().step_by(2).collect();
        }
    }

    /// Both as buffers of a checkpoint.
    pub fn buffers(&self) -> Vec<(&'static str, Vec<u32>)> {
        let wide = |value: u64| [value as u32, (value >> 32) as u32];
        let steps = self.steps.iter().flat_map(|(step, report)| {
            let StepReport { loss, lr, grad_norm, trained_tokens, tokens } = *report;
            let narrow = [lr.to_bits(), grad_norm.to_bits()];
            [wide(*step), wide(loss.to_bits()), narrow, wide(trained_tokens as u64), wide(tokens as u64)].concat()
        });
        let losses = self.held_out.iter().flat_map(|(step, loss)| [wide(*step), wide(loss.to_bits())].concat());
        let all = [(STEPS, steps.collect::<Vec<u32>>()), (HELD_OUT, losses.collect())];
        all.into_iter().filter(|(_, words)| !words.is_empty()).collect()
    }

    /// Takes [`Self::buffers`] out of the buffers of a checkpoint after `steps` steps, where they are the last ones.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn restore(buffers: &mut Vec<(String, Vec<u32>)>, steps: u64) -> Result<Self, &'static str> {
        let held_out = buffers.pop_if(|(name, _)| name == HELD_OUT).map_or_else(Vec::new, |(_, words)| words);
        let done = buffers.pop_if(|(name, _)| name == STEPS).map_or_else(Vec::new, |(_, words)| words);
        let wide = |words: &[u32]| u64::from(words[0]) | u64::from(words[1]) << 32;
        let step = |words: &[u32]| {
            let report = StepReport {
                loss: f64::from_bits(wide(&words[2..])),
                lr: f32::from_bits(words[4]),
                grad_norm: f32::from_bits(words[5]),
                trained_tokens: wide(&words[6..]) as usize,
                tokens: wide(&words[8..]) as usize,
            };
            (wide(words), report)
        };
        let fits = |words: &[u32], each: usize| words.len().is_multiple_of(each) && words.len() / each <= MOST;
        if !fits(&done, STEP_WORDS) || !fits(&held_out, LOSS_WORDS) {
            return Err("has a history of a wrong length");
        }
        let history = History {
            steps: done.chunks(STEP_WORDS).map(step).collect(),
            held_out: held_out
                .chunks(LOSS_WORDS)
                .map(|words| (wide(words), f64::from_bits(wide(&words[2..]))))
                .collect(),
        };
        let numbers = [
            history.steps.iter().map(|(step, _)| *step).collect::<Vec<u64>>(),
            history.held_out.iter().map(|(step, _)| *step).collect(),
        ];
        let sound = |list: &Vec<u64>| list.is_sorted_by(|a, b| a < b) && list.last().is_none_or(|&last| last <= steps);
        if numbers.iter().all(sound) { Ok(history) } else { Err("has a history that is not in order") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(step: u64) -> StepReport {
        StepReport { loss: step as f64, lr: 1e-3, grad_norm: f32::INFINITY, trained_tokens: 3, tokens: usize::MAX / 3 }
    }

    #[test]
    fn long_runs_keep_evenly_spaced_steps_and_the_first() {
        let mut history = History::default();
        for step in 1..=50_000 {
            history.step(step, report(step));
            history.evaluated(step, 1.0);
        }
        assert!((MOST / 2..=MOST).contains(&history.steps.len()) && history.held_out.len() <= MOST);
        let numbers: Vec<u64> = history.steps.iter().map(|(step, _)| *step).collect();
        assert!(numbers[0] == 1 && numbers.windows(2).all(|pair| pair[1] - pair[0] == 16), "{:?}", &numbers[..3]);
    }

    #[test]
    fn buffers_come_back_and_nonsense_is_refused() {
        let mut history = History::default();
        (1..=9).for_each(|step| history.step(step, report(step)));
        history.evaluated(0, 2.5);
        let mut buffers = vec![("adapter".to_owned(), vec![1])];
        buffers.extend(history.buffers().into_iter().map(|(name, words)| (name.to_owned(), words)));
        let stored = buffers.clone();
        assert_eq!(History::restore(&mut buffers, 9).as_ref(), Ok(&history));
        assert_eq!(buffers.len(), 1);
        assert!(History::restore(&mut stored.clone(), 8).is_err(), "a step that is not done");
        let mut short = stored.clone();
        short[1].1.pop();
        assert!(History::restore(&mut short, 9).is_err());
        let mut twice = stored;
        twice[1].1[STEP_WORDS] = 1;
        assert!(History::restore(&mut twice, 9).is_err());
        assert_eq!(History::restore(&mut vec![("adapter".to_owned(), vec![1])], 9), Ok(History::default()));
    }
}
