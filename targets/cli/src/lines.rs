//! Lines that a person types, with editing and a history on a terminal; plain lines from anywhere else.

use std::io::{BufRead, IsTerminal};

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::failure::{Failure, Result};

/// Where lines come from.
pub enum Lines {
    /// A terminal. The history is kept in memory only: a conversation is private.
    Terminal(Box<DefaultEditor>),
    /// A pipe or a file.
    Plain,
}

/// What came.
pub enum Line {
    /// A line, without its end.
    Text(String),
    /// Ctrl-C on a terminal: the line is thrown away.
    Cancelled,
    /// There is no more.
    End,
}

impl Lines {
    /// Lines of standard input; edited if a person sees what is typed.
    pub fn new() -> Result<Self> {
        if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
            return Ok(Lines::Plain);
        }
        DefaultEditor::new().map(|editor| Lines::Terminal(Box::new(editor))).map_err(failed)
    }

    /// The next one.
    pub fn next(&mut self) -> Result<Line> {
        let Lines::Terminal(editor) = self else { return plain() };
        match editor.readline("> ") {
            Ok(text) => {
                // A line that cannot be remembered is still a line.
                let _ = editor.add_history_entry(&text);
                Ok(Line::Text(text))
            }
            Err(ReadlineError::Interrupted) => Ok(Line::Cancelled),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(failed(error)),
        }
    }
}

fn plain() -> Result<Line> {
    let mut line = Vec::new();
    match std::io::stdin().lock().read_until(b'\n', &mut line) {
        Ok(0) => Ok(Line::End),
        Ok(_) => Ok(Line::Text(String::from_utf8_lossy(&line).into_owned())),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed { error: format!("cannot read standard input: {error}").into(), told: None, hint: None }
}
