//! What a step or an evaluation is measured by.

/// A number that an objective reports, by the name that TRL gives it where it has one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// E.g. `rewards/margins`.
    pub name: &'static str,
    /// A mean over labels or over records, see [`super::Unit`].
    pub value: f64,
}

/// The loss, and what else an objective reports.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics {
    /// The objective's loss.
    pub loss: f64,
    /// The others, in the objective's order.
    pub others: Vec<Metric>,
}

impl Metrics {
    /// Loss and metrics as words of a checkpoint, two each.
    pub fn words(&self) -> Vec<u32> {
        let all = [self.loss].into_iter().chain(self.others.iter().map(|metric| metric.value));
        all.flat_map(|value| [value.to_bits() as u32, (value.to_bits() >> 32) as u32]).collect()
    }

    /// Reads [`Self::words`] back, of an objective with metrics of these names. `None` for another number of words.
    pub fn read(words: &[u32], names: &[&'static str]) -> Option<Self> {
        if words.len() != 2 * (1 + names.len()) {
            return None;
        }
        let mut values =
            words.chunks_exact(2).map(|pair| f64::from_bits(u64::from(pair[0]) | u64::from(pair[1]) << 32));
        let loss = values.next()?;
        Some(Self { loss, others: names.iter().zip(values).map(|(&name, value)| Metric { name, value }).collect() })
    }
}
