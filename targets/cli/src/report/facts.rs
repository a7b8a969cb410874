//! What the page of a training says in tables.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use loam::train::Outcome;
use loam::{Base, TrainOptions};

use crate::args::{TrainArgs, UpkeepArgs};
use crate::failure::Result;
use crate::output::bytes;
use crate::upkeep::EVERY;
use crate::{flag, losses, memory};

/// Names and values.
pub type Rows = Vec<(&'static str, String)>;

/// What the run was asked to do, by the names of the flags.
pub fn options(args: &TrainArgs, options: &TrainOptions) -> Vec<(String, String)> {
    let paths = |paths: &[PathBuf]| paths.iter().map(|one| path(one)).collect::<Vec<_>>().join(", ");
    let file = |one: &Option<PathBuf>| one.as_deref().map_or("none".to_owned(), path);
    let or = |value: Option<String>, none: &str| value.unwrap_or_else(|| none.to_owned());
    let UpkeepArgs { checkpoint_dir, checkpoint_every, resume: _, duty, deadline, foreground } = &args.upkeep;
    let named = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_owned());
    let data = [
        ("model", path(&args.base.model)),
        ("--chat-template", or(args.base.chat_template.as_deref().map(path), "of the model")),
        ("--data", paths(&args.data)),
        ("--skip-bad", args.skip_bad.to_string()),
        ("--map", or(args.map.as_ref().map(ToString::to_string), "none")),
        ("--control-tokens", if args.control_tokens { "on" } else { "off" }.to_owned()),
        ("--eval-data", file(&args.eval_data)),
        ("--eval-split", or(args.eval_split.map(|share| share.to_string()), "none")),
        ("--init", file(&args.init)),
    ];
    let around = [
        ("--checkpoint-dir", file(checkpoint_dir)),
        ("--checkpoint-every", checkpoint_every.map_or(EVERY.get(), u64::from).to_string()),
        ("--duty", duty.to_string()),
        ("--deadline", or(deadline.map(|time| format!("{}s", time.as_secs())), "none")),
        ("--foreground", if *foreground { "on" } else { "off" }.to_owned()),
        ("--device", args.device.name()),
        ("--precision", or(named(args.device.precision.to_possible_value()), "")),
    ];
    let owned = |(name, value): (&str, String)| (name.to_owned(), value);
    let run = options.fields().into_iter().map(|(field, value)| flag::shown(field, value));
    data.into_iter().map(owned).chain(run).chain(around.into_iter().map(owned)).collect()
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// What the run worked with.
///
/// # Errors
/// If the base cannot be read.
pub fn origins(base: &Base, data: &str, device: &str) -> Result<Rows> {
    let digest = base.digest()?.to_owned();
    Ok(vec![("device", device.to_owned()), ("base digest", digest), ("data digest", data.to_owned())])
}

/// What came out.
pub fn results(args: &TrainArgs, outcome: &Outcome) -> Rows {
    let o = outcome;
    let mut rows = vec![("adapter", path(&args.output))];
    let early = if o.stopped_early { ", stopped early" } else { "" };
    rows.push((
        "steps",
        format!("{} in {:.1} s, the adapter is that of step {}{early}", o.steps, o.seconds, o.adapter_step),
    ));
    let speed = o.tokens_per_second();
    rows.push(("tokens", format!("{} ({} trained), {speed:.0} per second", o.tokens, o.trained_tokens)));
    rows.extend(losses::rows(o));
    rows.extend(losses::forgotten(o, &args.output).map(|warning| ("forgotten", warning)));
    if o.skipped > 0 {
        rows.push(("skipped", format!("{} steps with a gradient that was not finite", o.skipped)));
    }
    let host = memory::peak_host_bytes().map_or("?".into(), bytes);
    rows.push(("peak memory", format!("{} on the device, {host} of the process", bytes(o.peak_device_bytes))));
    rows
}

#[cfg(test)]
mod tests {
    use clap::{Args, Parser};
    use loam::ops::sgd::Sgd;
    use loam::train::{ObjectiveOptions, Optimizer, objective};

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn every_flag_that_has_a_say_is_on_the_page() {
        let cli =
            Cli::try_parse_from(["loam", "train", "m.gguf", "--data", "d.jsonl", "-o", "a.gguf"]).expect("parses");
        let Command::Train(args) = &cli.command else { panic!("not a training") };
        let sgd = Optimizer::Sgd(Sgd { momentum: 0.9, weight_decay: 0.0 });
        // The objective and the optimizer that look at the most options.
        let objective = ObjectiveOptions::new(&objective::DPO);
        let rows = super::options(args, &TrainOptions { optimizer: sgd, objective, ..TrainOptions::default() });
        // What the page begins with, where results go, how they look, the other word for --pack, and what is let pass.
        let others = ["model", "output", "report", "log", "json", "resume", "tune", "no-pack", "any-base"];
        let command = TrainArgs::augment_args(clap::Command::new("train"));
        for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
            let shown = rows.iter().any(|(name, _)| name.strip_prefix("--") == Some(flag));
            assert!(shown != others.contains(&flag), "--{flag}");
        }
        assert!(rows.iter().all(|(_, value)| !value.is_empty()), "{rows:?}");
    }
}
