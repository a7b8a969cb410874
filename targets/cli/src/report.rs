//! The page that `loam train --report` writes: one HTML file that needs nothing else. Everything in it may come from
//! files that are not trusted, so all text is escaped.

mod chart;
mod facts;
mod page;
mod samples;

use std::fmt::Write as _;
use std::io::Write as _;

use loam::file::AtomicFile;
use loam::train::History;
use loam::train::objective::Metrics;

use crate::failure::Result;
use crate::output::{escape, printable};
use chart::{Chart, Curve};
use facts::Rows;
pub use page::Page;

/// What the page tells.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What went wrong, if the run published nothing.
    pub failure: Option<String>,
    /// Results, by what they are called.
    pub results: Rows,
    /// What the run was asked to do.
    pub options: Vec<(String, String)>,
    /// The curves.
    pub history: History,
    /// Answers of the model.
    pub samples: Vec<Sample>,
}

/// A prompt of the held-out data and what the model makes of it.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// The text before the answer.
    pub prompt: String,
    /// The answer of the data.
    pub reference: String,
    /// The answer of the base.
    pub before: String,
    /// The answer with the adapter, if there is one.
    pub after: Option<String>,
}

impl Report {
    /// Puts the page in place in one go.
    pub fn write(&self, mut file: AtomicFile) -> Result {
        let written = file.write_all(self.page().as_bytes());
        written.map_err(loam::file::io_error("write", file.path()))?;
        Ok(file.commit()?)
    }

    /// The page as text.
    fn page(&self) -> String {
        let mut page = format!("{HEAD}<h1>loam train</h1>\n");
        if let Some(failure) = &self.failure {
            let _ = writeln!(page, "<p class=\"failure\">No adapter was written: {}</p>", text(failure));
        }
        table(&mut page, "Results", &self.results);
        for chart in self.charts() {
            page += &chart.svg();
        }
        self.write_samples(&mut page);
        table(&mut page, "Options", &self.options);
        page + "</body></html>\n"
    }

    fn charts(&self) -> Vec<Chart> {
        let steps = &self.history.steps;
        let of = |value: fn(&loam::train::StepReport) -> f64| -> Vec<(u64, f64)> {
            steps.iter().map(|(step, report)| (*step, value(report))).collect()
        };
        let held_out = |value: fn(&Metrics) -> f64| -> Vec<(u64, f64)> {
            self.history.held_out.iter().map(|(step, metrics)| (*step, value(metrics))).collect()
        };
        let chart = |title, curves: Vec<Curve>| Chart { title, curves };
        let curve = |name, class, points| Curve { name, class, points };
        let mut losses = vec![curve("training", "a", of(|report| report.metrics.loss))];
        if !self.history.held_out.is_empty() {
            losses.push(curve("held-out", "b", held_out(|metrics| metrics.loss)));
        }
        // The objective's metrics have a chart each, by their order.
        let count = steps.first().map_or(0, |(_, report)| report.metrics.others.len());
        let others = (0..count).map(|at| {
            let value = move |metrics: &Metrics| metrics.others.get(at).map_or(f64::NAN, |metric| metric.value);
            let trained = steps.iter().map(|(step, report)| (*step, value(&report.metrics))).collect();
            let mut curves = vec![curve("training", "a", trained)];
            if !self.history.held_out.is_empty() {
                let points = self.history.held_out.iter().map(|(step, metrics)| (*step, value(metrics))).collect();
                curves.push(curve("held-out", "b", points));
            }
            chart(steps[0].1.metrics.others[at].name, curves)
        });
        let mut charts = vec![
            chart("Loss", losses),
            chart("Learning rate", vec![curve("learning rate", "a", of(|report| f64::from(report.lr)))]),
            chart(
                "Gradient norm before clipping",
                vec![curve("gradient norm", "a", of(|report| f64::from(report.grad_norm)))],
            ),
        ];
        charts.splice(1..1, others);
        charts
    }

    fn write_samples(&self, page: &mut String) {
        if self.samples.is_empty() {
            return;
        }
        *page += "<h2>Answers before and after</h2>\n";
        for sample in &self.samples {
            let after = sample.after.as_deref().unwrap_or("-");
            let rows = [
                ("prompt", sample.prompt.as_str()),
                ("the data says", &sample.reference),
                ("before", &sample.before),
                ("after", after),
            ];
            *page += "<table class=\"sample\">\n";
            for (name, value) in rows {
                let _ = writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", text(value.trim()));
            }
            *page += "</table>\n";
        }
    }
}

/// A table of names and values.
fn table<N: std::fmt::Display>(page: &mut String, title: &str, rows: &[(N, String)]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(page, "<h2>{title}</h2>\n<table>");
    for (name, value) in rows {
        let _ = writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", text(&escape(value)));
    }
    *page += "</table>\n";
}

/// Untrusted text as the content of an element: nothing in it is markup, and nothing turns the text around.
fn text(untrusted: &str) -> String {
    let mut safe = String::with_capacity(untrusted.len());
    for c in printable(untrusted).chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            c => safe.push(c),
        }
    }
    safe
}

/// The page up to its body. The policy allows nothing but the style below, should anything slip through.
const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
<meta name=\"viewport\" content=\"width=device-width\"><title>loam train</title>\n<style>\n\
body{font:15px/1.5 system-ui,sans-serif;max-width:56em;margin:2em auto;padding:0 1em;color:#222;background:#fff}\n\
h1,h2{font-weight:600}table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.2em .6em;\
border-bottom:1px solid #ddd}th{width:12em;font-weight:500;color:#555}td{white-space:pre-wrap;overflow-wrap:anywhere}\n\
.sample{margin-bottom:1.5em}.failure{padding:.6em;background:#fdd}svg{width:100%;height:auto}\n\
svg text{font-size:11px;fill:#555}.grid{stroke:#ddd}.a,.b{fill:none;stroke-width:1.5}.a{stroke:#36c}.b{stroke:#c50}\n\
circle.a{fill:#36c}circle.b{fill:#c50}text.a{fill:#36c;stroke:none}text.b{fill:#c50;stroke:none}\n\
</style></head><body>\n";

#[cfg(test)]
mod tests {
    use loam::train::StepReport;
    use loam::train::objective::Metric;

    use super::*;

    fn metrics(loss: f64) -> Metrics {
        Metrics { loss, others: vec![Metric { name: "rewards/margins", value: -loss }] }
    }

    fn report() -> Report {
        let hostile = "<script>alert(1)</script>&\"'\u{202e}\x1b[31m</td>".to_owned();
        let step = |step: u64| {
            let report = StepReport {
                metrics: metrics(3.0 / step as f64),
                lr: 1e-3,
                grad_norm: if step == 2 { f32::NAN } else { 0.5 },
                trained_tokens: 1,
                tokens: 2,
            };
            (step, report)
        };
        let sample =
            Sample { prompt: hostile.clone(), reference: hostile.clone(), before: hostile.clone(), after: None };
        Report {
            failure: Some(hostile.clone()),
            results: vec![("adapter", hostile.clone())],
            options: vec![("data".to_owned(), hostile)],
            history: History {
                steps: (1..=5).map(step).collect(),
                held_out: vec![(0, metrics(3.0)), (5, metrics(f64::NAN))],
            },
            samples: vec![sample],
        }
    }

    #[test]
    fn nothing_that_comes_from_outside_is_markup() {
        let page = report().page();
        assert!(!page.contains("<script") && !page.contains('\u{202e}') && !page.contains('\x1b'), "{page}");
        assert_eq!(page.matches("&lt;script&gt;").count(), 6);
        // Self-contained: no address but the name space of SVG, which an inline image does not even need.
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src=\""));
    }

    #[test]
    fn every_element_is_closed() {
        let page = report().page();
        for element in ["table", "tr", "th", "td", "svg", "h2", "p", "body", "html"] {
            let (opened, closed) = (format!("<{element}"), format!("</{element}>"));
            let opened =
                page.match_indices(&opened).filter(|(at, found)| page[at + found.len()..].starts_with(['>', ' ']));
            assert_eq!(opened.count(), page.matches(&closed).count(), "{element}");
        }
    }

    #[test]
    fn reports_of_nothing_and_of_long_runs_are_pages_too() {
        assert!(Report::default().page().ends_with("</html>\n"));
        let mut long = report();
        long.history.steps = (1..=100_000).map(|step| (step, long.history.steps[0].1.clone())).collect();
        assert!(long.page().len() < 200_000, "{} bytes", long.page().len());
    }
}
