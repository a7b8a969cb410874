//! Options by the names of their fields, with values as text: what a checkpoint keeps of them and a report shows.

use crate::adapter::NewAdapter;
use crate::ops::{adamw::AdamW, lion::Lion, sgd::Sgd};
use crate::plan::Checkpointing;

use super::{Keep, Optimizer, Schedule, TrainOptions};

impl TrainOptions {
    /// All options by the names of their fields, with their values.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        // Named one by one: the compiler then finds what a new option has forgotten here.
        let TrainOptions {
            adapter,
            objective,
            batch,
            accumulate,
            context,
            checkpointing,
            loss_chunk,
            budget,
            lr,
            schedule,
            warmup,
            steps,
            epochs,
            optimizer,
            loraplus_lr_ratio,
            dropout,
            neftune_noise_alpha,
            clip,
            seed,
            shuffle,
            pack,
            group_by_length,
            // What the data needs.
            lengths: _,
            eval_every,
            patience,
            keep,
            force,
        } = self;
        let NewAdapter { tuning, targets, seed: start, rank, alpha } = adapter;
        let mut all = vec![("method", tuning.method.name.to_owned())];
        let own = [("rank", rank.to_string()), ("alpha", alpha.to_string())];
        all.extend(own.into_iter().filter(|(option, _)| tuning.options.contains(option)));
        all.extend([
            ("targets", or(targets.as_ref(), tuning.targets)),
            ("objective", objective.objective.name.to_owned()),
            ("batch", batch.to_string()),
            ("accumulate", accumulate.to_string()),
            ("context", context.to_string()),
            ("checkpointing", way(*checkpointing).to_owned()),
            ("loss_chunk", or(loss_chunk.as_ref(), "auto")),
            ("budget", or(budget.as_ref(), "none")),
            ("lr", lr.to_string()),
            ("schedule", fall(*schedule).to_owned()),
            ("warmup", warmup.to_string()),
            ("steps", or(steps.as_ref(), "by epochs")),
            ("epochs", if steps.is_some() { "by steps".to_owned() } else { epochs.to_string() }),
            ("optimizer", optimizer.name().to_owned()),
        ]);
        all.extend(objective.fields());
        all.extend(constants(optimizer));
        let switch = |on: &bool| if *on { "on" } else { "off" }.to_owned();
        all.extend([
            ("loraplus_lr_ratio", loraplus_lr_ratio.to_string()),
            ("dropout", dropout.to_string()),
            ("neftune_noise_alpha", neftune_noise_alpha.to_string()),
            ("clip", clip.to_string()),
            ("seed", seed.to_string()),
            ("lora.seed", start.to_string()),
            ("shuffle", switch(shuffle)),
            ("pack", switch(pack)),
            ("group_by_length", switch(group_by_length)),
            ("eval_every", or(eval_every.as_ref(), "off")),
            ("patience", or(patience.as_ref(), "off")),
            ("keep", if *keep == Keep::Best { "best" } else { "last" }.to_owned()),
            ("force", switch(force)),
        ]);
        all
    }
}

fn or(value: Option<&impl ToString>, none: &str) -> String {
    value.map_or_else(|| none.to_owned(), ToString::to_string)
}

fn way(checkpointing: Option<Checkpointing>) -> &'static str {
    match checkpointing {
        None => "auto",
        Some(Checkpointing::None) => "off",
        Some(Checkpointing::Layers) => "on",
    }
}

fn fall(schedule: Schedule) -> &'static str {
    match schedule {
        Schedule::Cosine => "cosine",
        Schedule::Linear => "linear",
        Schedule::Constant => "constant",
    }
}

fn constants(optimizer: &Optimizer) -> Vec<(&'static str, String)> {
    let betas = |beta1: f32, beta2: f32| [("beta1", beta1.to_string()), ("beta2", beta2.to_string())];
    let (decay, others) = match *optimizer {
        Optimizer::AdamW(AdamW { beta1, beta2, eps, weight_decay })
        | Optimizer::AdamW8Bit(AdamW { beta1, beta2, eps, weight_decay }) => {
            let eps = Some(("eps", eps.to_string()));
            (weight_decay, betas(beta1, beta2).into_iter().chain(eps).collect::<Vec<_>>())
        }
        Optimizer::Lion(Lion { beta1, beta2, weight_decay }) => (weight_decay, betas(beta1, beta2).into()),
        Optimizer::Sgd(Sgd { momentum, weight_decay }) => (weight_decay, vec![("momentum", momentum.to_string())]),
    };
    [vec![("weight_decay", decay.to_string())], others].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Targets;

    #[test]
    fn every_field_is_there_once() {
        let targets = Some(Targets::Kinds(vec!["attn_q".into(), "output".into()]));
        let adapter = NewAdapter { targets, ..NewAdapter::default() };
        let sgd = Optimizer::Sgd(Sgd { momentum: 0.5, weight_decay: 0.25 });
        let options = TrainOptions { adapter, steps: Some(7), optimizer: sgd, ..TrainOptions::default() };
        let found = options.fields();
        let of = |name: &str| found.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        let expected = [
            ("targets", "attn_q,output"),
            ("steps", "7"),
            ("epochs", "by steps"),
            ("lr", "0.0002"),
            ("optimizer", "sgd"),
            ("momentum", "0.5"),
            ("weight_decay", "0.25"),
            ("schedule", "cosine"),
            ("pack", "on"),
            ("checkpointing", "auto"),
        ];
        expected.iter().for_each(|(name, value)| assert_eq!(of(name), Some(*value), "{name}"));
        let names: std::collections::BTreeSet<_> = found.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), found.len(), "no name twice");
        let eight = TrainOptions { optimizer: "adamw_8bit".parse().unwrap(), ..TrainOptions::default() };
        assert_ne!(eight.fields(), TrainOptions::default().fields(), "two optimizers with the same constants");
    }
}
