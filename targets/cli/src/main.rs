//! The loam command line: reads arguments, calls the libraries, and shows what they return.
//!
//! # Layout
//! - [`args`]: the arguments as typed
//! - [`verbs`]: one file per verb
//! - [`output`], [`failure`]: what is printed, for people or as JSON; errors and exit codes
//! - [`flag`], [`hint`], [`kind`]: what options of the libraries are called here; what to do about an error; its kind
//! - [`lines`], [`interrupt`]: what a person types; Ctrl-C while an answer is made
//! - [`model`], [`answer`]: opening bases, devices and adapters; generating one answer
//! - [`dataset`]: data files as the flags ask; [`files`]: no output overwrites an input
//! - [`upkeep`], [`log`]: what surrounds a training run: checkpoints, its pace, the log of its steps; [`signals`]
//! - [`recommendation`]: which of several quantised models to take
//! - [`timing`]: how long a training takes
//! - [`losses`]: the losses of a run as they are told; [`rejected`]: where an adapter goes that is not published
//! - [`report`]: the HTML page of a training; [`verified`]: the search for values that are no numbers
//! - [`curve`], [`memory`], [`npy`]: a loss curve in characters, peak memory, NumPy files

mod answer;
mod args;
mod curve;
mod dataset;
mod failure;
mod files;
mod flag;
mod hint;
mod interrupt;
mod kind;
mod lines;
mod log;
mod losses;
mod memory;
mod model;
mod npy;
mod output;
mod prediction;
mod recommendation;
mod rejected;
mod report;
mod shown;
mod signals;
mod timing;
mod upkeep;
mod verbs;
mod verified;

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime_folder();
    signals::prepare();
    output::want_json(std::env::args_os().skip(1).any(|argument| argument == "--json"));
    let (cli, matches) = args::Cli::from_process().unwrap_or_else(|error| wrong_arguments(&error));
    match files::check_arguments(&matches).and_then(|()| verbs::run(&cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.code())
        }
    }
}

/// Prints what clap says and ends: with 2 for wrong arguments, with 0 for `--help` and `--version`.
fn wrong_arguments(error: &clap::Error) -> ! {
    if error.use_stderr() {
        let text = error.render().to_string();
        // The first paragraph; usage and hints follow.
        let message: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        let message = message.join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        failure::event(kind::USAGE, message, Some("run the verb with --help for its arguments"));
    }
    error.exit()
}

/// Vulkan drivers complain on standard error where the session has no folder for runtime files; any folder will do.
#[cfg(target_os = "linux")]
fn runtime_folder() {
    const NAME: &str = "XDG_RUNTIME_DIR";
    if std::env::var_os(NAME).is_none() {
        // SAFETY: called at the start of `main`, before anything could have started a thread that reads the
        // environment.
        unsafe { std::env::set_var(NAME, std::env::temp_dir()) };
    }
}

#[cfg(not(target_os = "linux"))]
fn runtime_folder() {}
