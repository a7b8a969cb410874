//! The verbs, one file each.

mod adapter;
mod bench;
mod chat;
mod compare;
mod convert;
mod data;
mod demo;
mod devices;
mod eval;
mod generate;
mod imatrix;
mod inspect;
mod logits;
pub mod plan;
mod pull;
mod tokenize;
mod train;

use crate::args::Command;
use crate::failure::Result;

/// Does what was asked.
pub fn run(command: &Command) -> Result {
    match command {
        Command::Demo(args) => demo::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Pull(args) => pull::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Imatrix(args) => imatrix::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Tokenize(args) => tokenize::run(args),
        Command::Logits(args) => logits::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Train(args) => train::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Chat(args) => chat::run(args),
        Command::Adapter(command) => adapter::run(command),
        Command::Data(command) => data::run(command),
        Command::Bench(args) => bench::run(args),
    }
}
