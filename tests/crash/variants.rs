//! Every optimizer and everything that draws random numbers or shapes batches: stopped anywhere, with a disk that fails
//! anywhere, the adapter is that of a run in peace.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::path::Path;
use std::rc::Rc;

use loam::adapter::{Tuning, ia3};
use loam::backend::Backend;
use loam::backend::cpu::CpuBackend;
use loam::file::disk::{self, Call, Verdict};
use loam::ops::{adamw::AdamW, lion::Lion, sgd::Sgd};
use loam::train::{Control, Event, Optimizer, RunOptions};
use loam::{Error, Result, TrainOptions};
use loam_tests::{Watched, watched};

use crate::job::{Job, kept_in};

/// A run with other options.
struct Variant {
    name: &'static str,
    change: fn(&mut TrainOptions),
}

fn adamw_8bit() -> Optimizer {
    Optimizer::AdamW8Bit(AdamW { weight_decay: 0.1, ..AdamW::default() })
}

/// Together they have each option at least once.
const VARIANTS: [Variant; 7] = [
    Variant { name: "8-bit AdamW, dropout", change: |o| (o.optimizer, o.dropout) = (adamw_8bit(), 0.2) },
    Variant {
        name: "Lion, noise",
        change: |o| (o.optimizer, o.neftune_noise_alpha) = (Optimizer::Lion(Lion::default()), 5.0),
    },
    Variant {
        name: "SGD with momentum, grouped rows",
        change: |o| {
            (o.optimizer, o.group_by_length) = (Optimizer::Sgd(Sgd { momentum: 0.9, weight_decay: 0.1 }), true);
            o.context = 64;
        },
    },
    Variant {
        name: "SGD, packed rows",
        change: |o| {
            (o.optimizer, o.pack) = (Optimizer::Sgd(Sgd { momentum: 0.0, weight_decay: 0.0 }), true);
            (o.context, o.batch) = (12, 1);
        },
    },
    Variant {
        name: "AdamW, packed rows, dropout, noise, LoRA+",
        change: |o| {
            (o.pack, o.dropout, o.neftune_noise_alpha, o.loraplus_lr_ratio) = (true, 0.1, 5.0, 4.0);
            (o.context, o.batch) = (12, 1);
        },
    },
    Variant {
        name: "IA3",
        change: |o| (o.adapter.tuning, o.adapter.targets) = (Tuning::for_method(&ia3::METHOD), None),
    },
    Variant { name: "8-bit AdamW, budget, dropout", change: |o| (o.optimizer, o.dropout) = (adamw_8bit(), 0.2) },
];

impl Variant {
    /// Two steps of several micro-batches, an evaluation after each.
    fn job(&self) -> Job {
        let mut job = Job::short();
        job.options.eval_every = NonZeroU64::new(1);
        (self.change)(&mut job.options);
        if self.name.contains("budget") {
            // The smallest one: rows and chunks are not those that were asked for.
            job.options.budget = Some(1);
            let folder = tempfile::tempdir().expect("temporary folder");
            let result = job.run(cpu(None), RunOptions::default(), &folder.path().join("a.gguf"), &mut |_| ());
            let Err(Error::OverBudget { needed, .. }) = result else { panic!("{result:?}") };
            job.options.budget = Some(needed);
        }
        job
    }
}

/// A CPU whose budget is counted in buffers, which are the same every time; a control is told to stop after so many
/// programs.
fn cpu(stop: Option<(Control, u32)>) -> Box<dyn Backend> {
    let mut count = 0;
    let mut backend = Watched::new(CpuBackend::new(Some(1)).expect("cpu back end"), move |_, call| {
        count += u32::from(call == watched::Call::Run);
        if let Some((control, runs)) = &stop
            && count > *runs
        {
            control.cancel();
        }
        Ok(())
    });
    backend.info.kind = loam::backend::Kind::Other;
    Box::new(backend)
}

/// Trains until `runs` programs have run, or to the end.
fn train(job: &Job, folder: &Path, runs: Option<u32>) -> Result<String> {
    let control = Control::new();
    let backend = cpu(runs.map(|runs| (control.clone(), runs)));
    let upkeep = RunOptions { control, ..kept_in(folder) };
    let mut on_event = |event: &Event| {
        if let Event::Note { message } = event {
            assert!(message.contains("no checkpoint"), "{message}");
        }
    };
    job.run(backend, upkeep, &folder.join("adapter.gguf"), &mut on_event)
}

#[test]
fn stopped_anywhere_with_any_options_the_adapter_is_the_same() {
    let mut digests = Vec::new();
    for variant in &VARIANTS {
        let job = variant.job();
        let folder = tempfile::tempdir().expect("temporary folder");
        let golden = train(&job, folder.path(), None).expect("trains");
        for runs in 0.. {
            let folder = tempfile::tempdir().expect("temporary folder");
            let name = variant.name;
            match train(&job, folder.path(), Some(runs)) {
                Ok(digest) => {
                    assert!(digest == golden && runs > 4, "{name}: {runs} programs");
                    break;
                }
                Err(Error::Stopped { checkpoint: Some(_), .. }) => {}
                Err(error) => panic!("{name}, stopped after {runs} programs: {error}"),
            }
            let digest = train(&job, folder.path(), None).expect("goes on");
            assert_eq!(digest, golden, "{name}, stopped after {runs} programs");
        }
        digests.push(golden);
    }
    // Each variant is a training of its own; where a budget puts rows does not count as one.
    digests.sort();
    digests.dedup();
    assert!(digests.len() >= VARIANTS.len() - 1, "{digests:?}");
}

#[test]
fn killed_at_any_call_on_the_disk_with_any_options_the_adapter_is_the_same() {
    for variant in &VARIANTS {
        let job = variant.job();
        let folder = tempfile::tempdir().expect("temporary folder");
        let golden = train(&job, folder.path(), None).expect("trains");
        let mut number = 1;
        loop {
            let folder = tempfile::tempdir().expect("temporary folder");
            // A write takes a few bytes, and then nothing more is done: the process is no more.
            let (mut count, hit) = (0, Rc::new(Cell::new(false)));
            let noted = Rc::clone(&hit);
            let watched = disk::watch(move |call| {
                count += 1;
                match call {
                    _ if count < number => Verdict::Go,
                    Call::Write(_, bytes) if count == number => {
                        noted.set(true);
                        Verdict::Short(bytes.len().div_ceil(3).max(1))
                    }
                    _ => {
                        noted.set(true);
                        Verdict::Fail(std::io::Error::other("the process is no more"))
                    }
                }
            });
            let result = train(&job, folder.path(), None);
            drop(watched);
            assert!(hit.get() || result.is_ok());
            let digest = train(&job, folder.path(), None);
            let digest = digest.unwrap_or_else(|error| panic!("{}: {}", variant.name, error.chain()));
            assert_eq!(digest, golden, "{}, killed at call {number}", variant.name);
            if !hit.get() {
                break;
            }
            // Every call of some steps is tried with plain options: here some of all.
            number += 4;
        }
        assert!(number > 20, "{}: {number} calls", variant.name);
    }
}
