//! IA3 (Liu et al. 2022): keys, values and what the feed-forward layer has between its products, each column times a
//! learned factor. Factors start at one. As in PEFT they scale the output of a linear layer, bias included, or, for the
//! down projection, its input. A user's scale s makes a factor l into s l + (1 - s).

use loam_files::adapter::Parameter;
use loam_files::adapter::ia3::{INPUT, METHOD, OUTPUT};
use loam_files::adapter::weights::kind_of;

use super::{Linear, Part, Rate, Record, Tuning};
use crate::adapter::new::Starting;
use crate::adapter::site::Site;
use crate::error::Result;

use crate::ops::scale_columns::{Scales, scale_columns};
use crate::plan::{Recorder, Tensor, Weight};

/// What IA3 does.
pub static TUNING: Tuning = Tuning {
    method: &METHOD,
    about: "Learned factors of keys, values and the feed-forward layer",
    parts: &[
        Part { name: INPUT, rate: Rate::Plain, decays: true, neutral: Some(1.0) },
        Part { name: OUTPUT, rate: Rate::Plain, decays: true, neutral: Some(1.0) },
    ],
    rate: 1.5e-2,
    options: &[],
    // Queries only where they are in one matrix with keys and values.
    targets: "attn_k,attn_v,attn_qkv,ffn_down",
    drops: |_| Err("IA3 has none".into()),
    set: |_| Ok(Vec::new()),
    start,
    scale: |strength, _, _| strength,
    facts: |_| Vec::new(),
    record: Record { input: Some(input), output: Some(output), ..Record::NOTHING },
};

/// Factors of one: PEFT's feed-forward modules are the down projections.
fn start(of: &Starting<'_>) -> Result<Vec<Parameter>> {
    let target = of.target;
    let (part, len) = match kind_of(target.name) {
        Some("ffn_down") => (INPUT, target.cols),
        _ => (OUTPUT, target.rows),
    };
    Ok(vec![Parameter { site: target.name.to_owned(), part, shape: vec![len as u64], values: vec![1.0; len] }])
}

fn input(r: &mut Recorder, site: &Site, weight: &Weight, x: Tensor) -> Tensor {
    scaled(r, site, INPUT, weight, x)
}

fn output(r: &mut Recorder, site: &Site, layer: Linear<'_>) -> Tensor {
    scaled(r, site, OUTPUT, layer.weight, layer.y)
}

fn scaled(r: &mut Recorder, site: &Site, part: &str, weight: &Weight, x: Tensor) -> Tensor {
    match site.part(part) {
        Some(placed) => {
            let scales = Scales { value: placed.value, strength: site.scale, gradient: placed.gradient };
            scale_columns(r, &weight.name, x, scales)
        }
        None => x,
    }
}
