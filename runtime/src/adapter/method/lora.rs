//! LoRA (Hu et al. 2021): y = x Wᵀ + alpha / rank (x Aᵀ) Bᵀ, with A [rank, in] and B [out, rank].

use loam_files::adapter::lora::{A, B, METHOD, Pair, alpha, is_lookup, rank};
use loam_files::adapter::weights::{ROUTER, kind_of};
use loam_files::adapter::{AdapterFile, Parameter, Setting};

use super::{Embedded, Experts, Part, Rate, Record, Tuning};
use crate::adapter::new::{NewAdapter, Starting};
use crate::adapter::site::{Placed, Site};
use crate::error::Result;
use crate::gguf::Value;
use crate::ops::dense::{self, LowRank};
use crate::ops::{moe, rows};
use crate::option::OptionError;
use crate::plan::Recorder;
use crate::random;

/// What LoRA does.
pub static TUNING: Tuning = Tuning {
    method: &METHOD,
    about: "Low-rank adaptation",
    parts: &[
        Part { name: A, rate: Rate::Plain, decays: true, neutral: None },
        Part { name: B, rate: Rate::LoraPlus, decays: true, neutral: Some(0.0) },
    ],
    rate: 5e-4,
    options: &["rank", "alpha"],
    targets: "all-linear",
    drops,
    set,
    start,
    scale,
    facts,
    record: Record { update: Some(low_rank), embed: Some(embed), experts: Some(experts), ..Record::NOTHING },
};

fn facts(adapter: &AdapterFile) -> Vec<(&'static str, Value)> {
    rank(adapter).map(|rank| ("loam.lora.rank", Value::U32(rank as u32))).into_iter().collect()
}

fn drops(adapter: &AdapterFile) -> Result<(), String> {
    let stack = adapter.parameters.iter().find(|parameter| parameter.shape.len() > 2);
    stack.map_or(Ok(()), |stack| Err(format!("experts have none (nor in PEFT), the adapter has {}", stack.site)))
}

fn set(new: &NewAdapter) -> Result<Vec<f32>> {
    match new.alpha.is_finite() && new.alpha > 0.0 {
        true => Ok(vec![new.alpha]),
        false => Err(OptionError::range("alpha", new.alpha, "a positive number").into()),
    }
}

/// A uniform in ±1/sqrt(in) (PEFT's Kaiming-uniform with a = sqrt(5)), B zero; on the embedding A zero and B standard
/// normal, as in PEFT. Either way training starts from the base exactly.
fn start(of: &Starting<'_>) -> Result<Vec<Parameter>> {
    let Starting { new: &NewAdapter { rank, seed, .. }, target, stream } = *of;
    let (rows, cols, matrices) = (target.rows, target.cols, target.matrices);
    // PEFT too takes ranks above a router's few rows.
    let most = if kind_of(target.name) == Some(ROUTER) { cols } else { rows.min(cols) };
    if rank == 0 || rank > most {
        return Err(OptionError::new("rank", format!("is {rank}, {} allows 1 to {most}", target.name)).into());
    }
    let pair = if is_lookup(target.name) {
        let value = |i: usize| random::normal(seed, stream, i as u64) as f32;
        Pair { a: vec![0.0; rows * rank], b: (0..cols * rank).map(value).collect(), rank, matrices }
    } else {
        let bound = 1.0 / (cols as f64).sqrt();
        let value = |i: usize| ((random::uniform(seed, stream, i as u64) * 2.0 - 1.0) * bound) as f32;
        let a = (0..matrices * rank * cols).map(value).collect();
        Pair { a, b: vec![0.0; matrices * rows * rank], rank, matrices }
    };
    Ok(pair.parameters(target.name).into())
}

/// The user's scale times alpha / rank.
fn scale(strength: f32, settings: &[Setting], of: &[Placed]) -> f32 {
    let rank = of.iter().find(|placed| placed.part == B).map_or(1, |b| b.value.cols);
    strength * alpha(settings) / rank as f32
}

fn low_rank(site: &Site) -> LowRank {
    let [a, b] = [A, B].map(|half| site.part(half).expect("a checked LoRA adapter has both halves"));
    LowRank { a: a.value, b: b.value, scale: site.scale, gradients: a.gradient.zip(b.gradient), dropout: site.dropout }
}

/// x += scale A[tokens] Bᵀ in place, with A [tokens of the vocabulary, rank] and B [x.cols, rank].
///
/// Backward, with u = A[tokens] and du = scale dx B: dB += scale dxᵀ u, and the rows of du are added to those of dA.
fn embed(r: &mut Recorder, site: &Site, at: Embedded<'_>) {
    let Embedded { label, tokens, rows: x, scale } = at;
    let l = low_rank(site);
    let l = LowRank { scale: scale * l.scale, ..l };
    let u = rows::gather(r, label, tokens, 0, x.rows, l.a);
    dense::up_projection(r, label, dense::Scaled { tensor: u, factor: l.scale }, x, l);
    if let Some((da, _)) = l.gradients {
        let label = label.to_owned();
        r.backward(x, move |r, g| {
            // Kept: there may be other updates.
            let Some(dx) = g.get(x) else { return };
            let du = dense::up_projection_backward(r, &label, dense::Scaled { tensor: u, factor: l.scale }, dx, l);
            rows::add(r, &label, tokens, 0, du, da);
        });
    }
}

fn experts(r: &mut Recorder, site: &Site, at: Experts<'_>) {
    moe::low_rank(r, at.label, at.x, at.y, at.routing, low_rank(site));
}
