//! What the model says without an adapter, for objectives that compare with it: once per example.

use crate::data::Batch;

/// Log-probabilities of the examples of a data set without adapter, each summed over its labels. Each is computed when
/// its example is first needed, then kept, in checkpoints too: a run that continues has the same bits, whatever its
/// batches are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct References {
    /// By number of the example; shorter than the data set as long as nothing is known of its end.
    known: Vec<Option<f64>>,
}

/// Those of both data sets of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KnownReferences {
    /// Of what is learned from.
    pub train: References,
    /// Of what is only measured.
    pub held_out: References,
}

/// Words of an example in a checkpoint: whether it is known, and its value.
const WORDS: usize = 3;

impl References {
    /// The values for the sequences of `batch`, if all are known.
    pub fn get(&self, batch: &Batch) -> Option<Vec<f64>> {
        batch.examples.iter().map(|&example| self.known.get(example).copied().flatten()).collect()
    }

    /// Takes the `values` of the sequences of `batch`. What is known already stays.
    pub fn put(&mut self, batch: &Batch, values: &[f64]) {
        for (&example, &value) in batch.examples.iter().zip(values) {
            if self.known.len() <= example {
                self.known.resize(example + 1, None);
            }
            self.known[example].get_or_insert(value);
        }
    }

    /// Whether they can be those of a data set of `examples` examples.
    pub fn fits(&self, examples: usize) -> bool {
        self.known.len() <= examples
    }

    /// As a buffer of a checkpoint.
    pub fn words(&self) -> Vec<u32> {
        let of = |value: &Option<f64>| {
            let bits = value.unwrap_or_default().to_bits();
            [u32::from(value.is_some()), bits as u32, (bits >> 32) as u32]
        };
        self.known.iter().flat_map(of).collect()
    }

    /// Reads [`Self::words`] back.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(words: &[u32]) -> Result<Self, &'static str> {
        let of = |words: &[u32]| match words {
            [0, 0, 0] => Ok(None),
            [1, low, high] => Ok(Some(f64::from_bits(u64::from(*low) | u64::from(*high) << 32))),
            _ => Err("has reference log-probabilities that are neither there nor missing"),
        };
        if !words.len().is_multiple_of(WORDS) {
            return Err("has reference log-probabilities of a wrong length");
        }
        Ok(Self { known: words.chunks_exact(WORDS).map(of).collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_once_and_comes_back_from_a_checkpoint() {
        let batch =
            |examples: &[usize]| Batch { examples: examples.to_vec(), ..Batch::new(&[], 1, 2).expect("a batch") };
        let mut references = References::default();
        assert_eq!(references.get(&batch(&[1])), None);
        references.put(&batch(&[3, 1]), &[-3.5, f64::NEG_INFINITY]);
        references.put(&batch(&[1, 0]), &[7.0, -0.25]);
        assert_eq!(references.get(&batch(&[0, 1, 3])), Some(vec![-0.25, f64::NEG_INFINITY, -3.5]));
        assert_eq!(references.get(&batch(&[0, 2])), None);
        assert!(references.fits(4) && !references.fits(3));
        assert_eq!(References::read(&references.words()), Ok(references.clone()));
        assert!(References::read(&references.words()[1..]).is_err());
        assert!(References::read(&[2, 0, 0]).is_err());
    }
}
