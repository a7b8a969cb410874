//! What happened in a run, step by step, for reports. It goes into checkpoints, so that a run that was resumed tells
//! as much as one that never ended; so it is bounded.

use super::Event;
use crate::train::StepReport;
use crate::train::objective::Metrics;

/// Most steps, and most evaluations, that are kept. A longer run keeps every second, every fourth, ..
const MOST: usize = 4096;
/// Words of a step in a checkpoint besides its metrics.
const FIXED_WORDS: usize = 8;
/// Names of the two among the buffers of a checkpoint.
const STEPS: &str = "history_steps";
const HELD_OUT: &str = "history_held_out";

/// The curves of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// Each step with its number; of a long run every second, every fourth, .. from the first on.
    pub steps: Vec<(u64, StepReport)>,
    /// Loss and metrics of the held-out data with the number of steps before them.
    pub held_out: Vec<(u64, Metrics)>,
}

impl History {
    /// Takes an event.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Step { step, report, .. } => self.step(*step, report.clone()),
            Event::Evaluated { step, metrics, .. } => self.evaluated(*step, metrics.clone()),
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

    /// Takes what held-out data had after `step` steps.
    pub fn evaluated(&mut self, step: u64, metrics: Metrics) {
        self.held_out.push((step, metrics));
        if self.held_out.len() > MOST {
            self.held_out = self.held_out.iter().step_by(2).cloned().collect();
        }
    }

    /// Both as buffers of a checkpoint.
    pub fn buffers(&self) -> Vec<(&'static str, Vec<u32>)> {
        let wide = |value: u64| [value as u32, (value >> 32) as u32];
        let steps = self.steps.iter().flat_map(|(step, report)| {
            let StepReport { metrics, lr, grad_norm, trained_tokens, tokens } = report;
            let narrow = [lr.to_bits(), grad_norm.to_bits()];
            let fixed = [wide(*step), narrow, wide(*trained_tokens as u64), wide(*tokens as u64)].concat();
            [fixed, metrics.words()].concat()
        });
        let held_out =
            self.held_out.iter().flat_map(|(step, metrics)| [wide(*step).to_vec(), metrics.words()].concat());
        let all = [(STEPS, steps.collect::<Vec<u32>>()), (HELD_OUT, held_out.collect())];
        all.into_iter().filter(|(_, words)| !words.is_empty()).collect()
    }

    /// Takes [`Self::buffers`] out of the buffers of a checkpoint after `steps` steps, where they are the last ones.
    /// `names` are those of the objective's metrics.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn restore(
        buffers: &mut Vec<(String, Vec<u32>)>,
        steps: u64,
        names: &[&'static str],
    ) -> Result<Self, &'static str> {
        let held_out = buffers.pop_if(|(name, _)| name == HELD_OUT).map_or_else(Vec::new, |(_, words)| words);
        let done = buffers.pop_if(|(name, _)| name == STEPS).map_or_else(Vec::new, |(_, words)| words);
        let wide = |words: &[u32]| u64::from(words[0]) | u64::from(words[1]) << 32;
        let step = |words: &[u32]| {
            let report = StepReport {
                metrics: Metrics::read(&words[FIXED_WORDS..], names)?,
                lr: f32::from_bits(words[2]),
                grad_norm: f32::from_bits(words[3]),
                trained_tokens: wide(&words[4..]) as usize,
                tokens: wide(&words[6..]) as usize,
            };
            Some((wide(words), report))
        };
        let evaluation = |words: &[u32]| Some((wide(words), Metrics::read(&words[2..], names)?));
        let metric_words = 2 * (1 + names.len());
        let (step_words, held_out_words) = (FIXED_WORDS + metric_words, 2 + metric_words);
        const WRONG: &str = "has a history of a wrong length";
        let fits = |words: &[u32], each: usize| words.len().is_multiple_of(each) && words.len() / each <= MOST;
        if !fits(&done, step_words) || !fits(&held_out, held_out_words) {
            return Err(WRONG);
        }
        let history = History {
            steps: done.chunks(step_words).map(step).collect::<Option<_>>().ok_or(WRONG)?,
            held_out: held_out.chunks(held_out_words).map(evaluation).collect::<Option<_>>().ok_or(WRONG)?,
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
    use crate::train::objective::Metric;

    const NAMES: [&str; 1] = ["rewards/margins"];

    fn metrics(loss: f64) -> Metrics {
        Metrics { loss, others: vec![Metric { name: NAMES[0], value: -loss }] }
    }

    fn report(step: u64) -> StepReport {
        let metrics = metrics(step as f64);
        StepReport { metrics, lr: 1e-3, grad_norm: f32::INFINITY, trained_tokens: 3, tokens: usize::MAX / 3 }
    }

    #[test]
    fn long_runs_keep_evenly_spaced_steps_and_the_first() {
        let mut history = History::default();
        for step in 1..=50_000 {
            history.step(step, report(step));
            history.evaluated(step, metrics(1.0));
        }
        assert!((MOST / 2..=MOST).contains(&history.steps.len()) && history.held_out.len() <= MOST);
        let numbers: Vec<u64> = history.steps.iter().map(|(step, _)| *step).collect();
        assert!(numbers[0] == 1 && numbers.windows(2).all(|pair| pair[1] - pair[0] == 16), "{:?}", &numbers[..3]);
    }

    #[test]
    fn buffers_come_back_and_nonsense_is_refused() {
        let mut history = History::default();
        (1..=9).for_each(|step| history.step(step, report(step)));
        history.evaluated(0, metrics(2.5));
        let mut buffers = vec![("adapter".to_owned(), vec![1])];
        buffers.extend(history.buffers().into_iter().map(|(name, words)| (name.to_owned(), words)));
        let stored = buffers.clone();
        assert_eq!(History::restore(&mut buffers, 9, &NAMES).as_ref(), Ok(&history));
        assert_eq!(buffers.len(), 1);
        assert!(History::restore(&mut stored.clone(), 8, &NAMES).is_err(), "a step that is not done");
        let mut short = stored.clone();
        short[1].1.pop();
        assert!(History::restore(&mut short, 9, &NAMES).is_err());
        let mut twice = stored;
        twice[1].1[FIXED_WORDS + 4] = 1;
        assert!(History::restore(&mut twice, 9, &NAMES).is_err());
        assert_eq!(History::restore(&mut vec![("adapter".to_owned(), vec![1])], 9, &NAMES), Ok(History::default()));
    }
}
