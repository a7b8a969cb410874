//! What an objective is asked for.

use super::{ALL, Objective};
use crate::error::Result;
use crate::option::OptionError;

/// An objective and its options. Those that it does not look at must not be set.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ObjectiveOptions {
    /// What is learned.
    pub objective: &'static Objective,
    /// How strongly rewards count: the smaller, the further may the model move away from its reference. `None`: 0.1.
    pub beta: Option<f32>,
    /// The share of records whose answers are taken to be in the wrong order; at least 0 and below 0.5. `None`: 0.
    pub label_smoothing: Option<f32>,
}

impl ObjectiveOptions {
    /// Nothing but the objective is said.
    pub fn new(objective: &'static Objective) -> Self {
        Self { objective, ..Self::default() }
    }

    /// See the field.
    pub fn beta(&self) -> f32 {
        self.beta.unwrap_or(0.1)
    }

    /// See the field.
    pub fn label_smoothing(&self) -> f32 {
        self.label_smoothing.unwrap_or(0.0)
    }

    /// The options that the objective looks at, by the names of their fields, with their values.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let all = [("beta", self.beta()), ("label_smoothing", self.label_smoothing())];
        let used = all.into_iter().filter(|(name, _)| self.objective.options.contains(name));
        used.map(|(name, value)| (name, value.to_string())).collect()
    }

    /// Checks every option.
    ///
    /// # Errors
    /// [`crate::Error::Option`] for one that is out of its range, or that the objective does not look at.
    pub fn check(&self) -> Result<()> {
        for (name, is_set) in [("beta", self.beta.is_some()), ("label_smoothing", self.label_smoothing.is_some())] {
            if is_set && !self.objective.options.contains(&name) {
                let users = ALL.iter().filter(|objective| objective.options.contains(&name));
                let users: Vec<&str> = users.map(|objective| objective.name).collect();
                let problem = format!("is for the objective {}, not for {}", users.join(" or "), self.objective.name);
                return Err(OptionError::new(name, problem).into());
            }
        }
        if !(self.beta().is_finite() && self.beta() > 0.0) {
            return Err(OptionError::range("beta", self.beta(), "positive").into());
        }
        if !(0.0..0.5).contains(&self.label_smoothing()) {
            let value = self.label_smoothing();
            return Err(OptionError::range("label_smoothing", value, "at least 0 and below 0.5").into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DPO, SFT};
    use super::*;

    #[test]
    fn options_belong_to_objectives() {
        let options = ObjectiveOptions { beta: Some(0.5), label_smoothing: Some(0.1), ..ObjectiveOptions::new(&DPO) };
        assert!(options.check().is_ok());
        assert_eq!(options.fields().len(), 2);
        for wrong in [
            ObjectiveOptions { beta: Some(0.0), ..options },
            ObjectiveOptions { beta: Some(f32::NAN), ..options },
            ObjectiveOptions { label_smoothing: Some(0.5), ..options },
            ObjectiveOptions { beta: Some(0.5), ..ObjectiveOptions::new(&SFT) },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
        let error = ObjectiveOptions { label_smoothing: Some(0.1), ..ObjectiveOptions::new(&SFT) }.check();
        assert!(error.is_err_and(|error| error.to_string().contains("objective dpo")));
    }
}
