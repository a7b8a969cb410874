//! The loam command line: reads arguments, calls the libraries, and shows what they return.
//!
//! # Layout
//! - [`args`]: the arguments as typed
//! - [`verbs`]: one file per verb
//! - [`output`], [`failure`]: what is printed, for people or as JSON; errors and exit codes
//! - [`flag`], [`hint`]: what options of the libraries are called here; what to do about an error
//! - [`model`], [`answer`]: opening bases, devices and adapters; generating one answer
//! - [`dataset`]: data files as the flags ask; [`files`]: no output overwrites an input
//! - [`upkeep`], [`log`]: what surrounds a training run: checkpoints, its pace, the log of its steps; [`signals`]
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
mod log;
mod memory;
mod model;
mod npy;
mod output;
mod prediction;
mod report;
mod signals;
mod upkeep;
mod verbs;
mod verified;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
// The runtime measures time through embassy-time; the final program chooses the clock: its `std` feature.
use embassy_time as _;

fn main() -> ExitCode {
    runtime_folder();
    signals::prepare();
    // Wrong arguments end here: clap prints them and exits with 2, `--help` and `--version` with 0.
    let matches = args::Cli::command().get_matches();
    let cli = args::Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match files::check_arguments(&matches).and_then(|()| verbs::run(&cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code())
        }
    }
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
