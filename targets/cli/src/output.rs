//! What goes to standard output (results) and standard error (progress, notes), for people or as JSON.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::shown::ascii_where_unsafe;
pub use crate::shown::{escape, printable, want_json};

/// Where a verb reports to.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// With `json`, standard output carries JSON objects only, one a line.
    pub fn new(json: bool) -> Self {
        Output { json }
    }

    /// Whether results are JSON.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// A line for people on standard output; nothing with `--json`.
    pub fn line(self, text: impl Display) -> Result {
        if self.json { Ok(()) } else { write(&(printable(&text.to_string()) + "\n")) }
    }

    /// Text for people without a line end, shown at once: a streamed answer.
    pub fn text(self, text: &str) -> Result {
        if self.json { Ok(()) } else { write(&printable(text)) }
    }

    /// An object for programs on standard output; nothing without `--json`.
    pub fn object(self, value: &Value) -> Result {
        if self.json { write(&(ascii_where_unsafe(&value.to_string()) + "\n")) } else { Ok(()) }
    }

    /// A line for people on standard error: what is being done. Nothing with `--json`, where events tell it.
    pub fn note(self, text: impl Display) {
        if !self.json {
            // A closed standard error is no reason to stop working.
            let _ = writeln!(std::io::stderr().lock(), "{}", printable(&text.to_string()));
        }
    }

    /// What a user should know about the input, on standard error, or as an event with `--json`.
    pub fn warn(self, text: &str) {
        self.note(format!("note: {}", escape(text)));
        // If standard error is closed, the result will tell.
        let _ = self.object(&json!({"event": "note", "message": text}));
    }

    /// A progress bar on standard error, hidden with `--json` and where standard error is no terminal.
    pub fn bar(self, length: u64, what: &'static str) -> ProgressBar {
        let target = if self.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(length), target);
        let template = "{prefix:>10} [{bar:30}] {pos}/{len} {elapsed}, {eta} left  {wide_msg}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(what);
        bar
    }

    /// Progress of work in `total` pieces.
    pub fn progress(self, what: &'static str, total: usize) -> Progress {
        Progress { output: self, bar: self.bar(total as u64, what), what, total, failed: None }
    }

    /// As [`Output::bar`] for bytes that come from elsewhere.
    pub fn transfer_bar(self, what: &'static str) -> ProgressBar {
        let bar = self.bar(0, what);
        let template = "{prefix:>10} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left  {wide_msg}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    }

    /// A spinner on standard error for work whose length is not known.
    pub fn spinner(self, what: &str) -> ProgressBar {
        let target = if self.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_message(what.to_owned());
        if !bar.is_hidden() {
            turn(&bar);
        }
        bar
    }
}

/// Turns a spinner until it is finished or dropped. Where the system gives no thread for it, it stands still.
fn turn(bar: &ProgressBar) {
    const TICK: Duration = Duration::from_millis(120);
    let bar = bar.downgrade();
    let ticks = move || {
        while let Some(bar) = bar.upgrade().filter(|bar| !bar.is_finished()) {
            bar.tick();
            drop(bar);
            std::thread::sleep(TICK);
        }
    };
    let started = std::thread::Builder::new().name("spinner".into()).spawn(ticks);
    // It ends with its bar; nothing waits for it.
    drop(started);
}

/// How far work is: a bar on a terminal, about ten lines on another standard error, about twenty events with `--json`.
pub struct Progress {
    output: Output,
    bar: ProgressBar,
    what: &'static str,
    total: usize,
    failed: Option<Failure>,
}

impl Progress {
    /// So many pieces are done.
    pub fn at(&mut self, done: usize) {
        self.bar.set_position(done as u64);
        let (what, total) = (self.what, self.total);
        let due = |lines: usize| done.is_multiple_of(total.div_ceil(lines).max(1)) || done == total;
        if self.output.json && due(20) {
            let told = self.output.object(&json!({"event": "progress", "what": what, "done": done, "total": total}));
            // The work continues; that standard output is closed is reported at its end.
            self.failed = self.failed.take().or(told.err());
        } else if self.bar.is_hidden() && due(10) {
            self.output.note(format!("{what} {done}/{total}"));
        }
    }

    /// Takes the bar away.
    ///
    /// # Errors
    /// If an event could not be written.
    pub fn finish(self) -> Result {
        self.bar.finish_and_clear();
        self.failed.map_or(Ok(()), Err)
    }
}

fn write(text: &str) -> Result {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::Failed {
            error: format!("cannot write to standard output: {error}").into(),
            told: None,
            hint: None,
        },
    })
}

/// A byte count for people.
pub fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = "bytes";
    for next in units {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "bytes" { format!("{count} bytes") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_direction_characters_never_reach_the_terminal() {
        assert_eq!(escape("a\x1b[31mb\n\u{202e}c"), "a\\u{1b}[31mb\\n\\u{202e}c");
        assert_eq!(printable("a\n\tb\x07\u{9b}\u{200b}\u{e0041}"), "a\n\tb\\u{7}\\u{9b}\\u{200b}\\u{e0041}");
        assert_eq!(printable("👩\u{200d}🚀"), "👩\u{200d}🚀");
        let value = json!({"\u{202e}": "a\x7f\u{9b}\n\u{e0041}"});
        let safe = ascii_where_unsafe(&value.to_string());
        assert!(safe.is_ascii() && !safe.contains('\x7f'), "{safe}");
        assert_eq!(serde_json::from_str::<Value>(&safe).expect("JSON"), value);
        assert_eq!(escape("naïve 日本"), "naïve 日本");
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }
}
