//! The losses of a training as they are told: only what compares the same rows stands on both sides of an arrow.

use std::path::Path;

use loam::train::Outcome;

/// So many nats more on a general text are told as forgetting: a fifth more of perplexity.
const FORGOTTEN: f64 = 0.182;

/// Names and values.
pub fn rows(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let o = outcome;
    let arrow = |before: Option<f64>, after: Option<f64>| {
        before.zip(after).map(|(before, after)| format!("{before:.4} -> {after:.4}"))
    };
    let mut rows = Vec::new();
    if let Some(loss) = arrow(o.rows_loss_before, o.rows_loss_after) {
        rows.push(("loss", format!("{loss}, before and after on the rows of the last step")));
    }
    rows.push((
        "step loss",
        format!("{:.4} in the first step, {:.4} in the last: other rows", o.loss_first, o.loss_last),
    ));
    rows.extend(arrow(o.eval_loss_before, o.eval_loss_after).map(|loss| ("held-out loss", loss)));
    let general = match (o.general_loss_before, o.general_loss_after) {
        (Some(before), Some(after)) => {
            format!("perplexity {:.2} -> {:.2} on {} tokens of other text", before.exp(), after.exp(), o.general_tokens)
        }
        (Some(_), None) => "not measured: the time was over".to_owned(),
        (None, _) => "not measured: the run is too short for it".to_owned(),
    };
    rows.push(("general text", general));
    rows
}

/// What is said of a model that has forgotten, and what to do about it with the adapter at `path`.
pub fn forgotten(outcome: &Outcome, path: &Path) -> Option<String> {
    let (before, after) = (outcome.general_loss_before?, outcome.general_loss_after?);
    let is_worse = after - before > FORGOTTEN || after.is_nan();
    let told = || {
        format!(
            "the model has forgotten: its perplexity on general text is {:.2}, it was {:.2}. --adapter {}:0.7 uses \
             less of the adapter; a lower --lr, fewer steps or general examples among the data help in training",
            after.exp(),
            before.exp(),
            path.display()
        )
    };
    is_worse.then(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(before: f64, after: f64) -> Outcome {
        Outcome { general_loss_before: Some(before), general_loss_after: Some(after), ..Outcome::default() }
    }

    #[test]
    fn a_fifth_more_of_perplexity_is_forgetting() {
        let told = |before, after| forgotten(&outcome(before, after), Path::new("a.gguf"));
        assert!(told(3.0, 3.18).is_none() && told(3.0, 2.0).is_none());
        let warning = told(3.0, 3.2).expect("a warning");
        assert!(warning.contains("24.53") && warning.contains("20.09") && warning.contains("a.gguf:0.7"), "{warning}");
        assert!(told(3.0, f64::NAN).is_some());
        assert!(forgotten(&Outcome::default(), Path::new("a.gguf")).is_none());
    }

    #[test]
    fn an_arrow_stands_between_losses_of_the_same_rows_only() {
        let measured = Outcome { rows_loss_before: Some(4.0), rows_loss_after: Some(1.0), ..outcome(3.0, 3.0) };
        let told = rows(&measured);
        let of = |name: &str| told.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        assert_eq!(of("loss"), Some("4.0000 -> 1.0000, before and after on the rows of the last step"));
        assert!(of("step loss").is_some_and(|value| !value.contains("->")));
        assert!(of("held-out loss").is_none());
        assert!(of("general text").is_some_and(|value| value.starts_with("perplexity 20.09 -> 20.09")));
    }
}
