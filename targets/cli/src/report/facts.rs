//! What the page of a training says in tables.

use std::path::Path;

use loam::train::{Optimizer, Outcome};
use loam::{Base, TrainOptions};

use crate::args::TrainArgs;
use crate::memory;
use crate::output::bytes;

/// Names and values.
pub type Rows = Vec<(&'static str, String)>;

/// What the run was asked to do.
pub fn options(args: &TrainArgs, options: &TrainOptions) -> Rows {
    let o = options;
    let length = o.steps.map_or_else(|| format!("{} epochs", o.epochs), |steps| format!("{steps} steps"));
    let seldom = |value: f32| if value == 0.0 { "off".to_owned() } else { value.to_string() };
    vec![
        ("model", path(&args.base.model)),
        ("data", args.data.iter().map(|data| path(data)).collect::<Vec<_>>().join(", ")),
        ("length", format!("{length}, {} x {} sequences of {} tokens", o.accumulate, o.batch, o.context)),
        (
            "order",
            format!("{}, {}", word(o.shuffle, "shuffled", "as in the files"), word(o.pack, "packed", "not packed")),
        ),
        ("adapter", format!("rank {}, alpha {}, on {}", o.lora.rank, o.lora.alpha, o.lora.targets)),
        ("optimizer", optimizer(o)),
        ("learning rate", format!("{}, {:?}, {} steps of warm-up", o.lr, o.schedule, o.warmup)),
        ("clipping", seldom(o.clip)),
        ("dropout", seldom(o.dropout)),
        ("noise (NEFTune)", seldom(o.neftune_noise_alpha)),
        ("seed", o.seed.to_string()),
    ]
}

fn optimizer(options: &TrainOptions) -> String {
    let mut text = options.optimizer.name().to_owned();
    let decay = match options.optimizer {
        Optimizer::AdamW(adamw) | Optimizer::AdamW8Bit(adamw) => adamw.weight_decay,
        Optimizer::Lion(lion) => lion.weight_decay,
        Optimizer::Sgd(sgd) => {
            text += &format!(", momentum {}", sgd.momentum);
            sgd.weight_decay
        }
    };
    text += &format!(", weight decay {decay}");
    if options.loraplus_lr_ratio != 1.0 {
        text += &format!(", {} times the rate for B (LoRA+)", options.loraplus_lr_ratio);
    }
    text
}

fn word(yes: bool, one: &'static str, other: &'static str) -> &'static str {
    if yes { one } else { other }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// What the run worked with.
pub fn origins(base: &Base, data: &str, device: &str) -> Rows {
    vec![("device", device.to_owned()), ("base digest", base.digest().to_owned()), ("data digest", data.to_owned())]
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
    rows.push(("loss", format!("{:.4} -> {:.4}", o.loss_first, o.loss_last)));
    if let (Some(before), Some(after)) = (o.eval_loss_before, o.eval_loss_after) {
        rows.push(("held-out loss", format!("{before:.4} -> {after:.4}")));
    }
    if o.skipped > 0 {
        rows.push(("skipped", format!("{} steps with a gradient that was not finite", o.skipped)));
    }
    let host = memory::peak_host_bytes().map_or("?".into(), bytes);
    rows.push(("peak memory", format!("{} on the device, {host} of the process", bytes(o.peak_device_bytes))));
    rows
}
