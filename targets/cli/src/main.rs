//! The loam command line: reads arguments, calls the libraries, and shows what they return.
//!
//! # Layout
//! - [`args`]: the arguments as typed
//! - [`verbs`]: one file per verb
//! - [`output`], [`failure`]: what is printed, for people or as JSON; errors, hints and exit codes
//! - [`model`], [`answer`]: opening bases, devices and adapters; generating one answer
//! - [`dataset`]: data files as the flags ask
//! - [`curve`], [`memory`], [`npy`]: a loss curve in characters, peak memory, NumPy files

mod answer;
mod args;
mod curve;
mod dataset;
mod failure;
mod memory;
mod model;
mod npy;
mod output;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Wrong arguments end here: clap prints them and exits with 2, `--help` and `--version` with 0.
    let cli = args::Cli::parse();
    match verbs::run(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code())
        }
    }
}
