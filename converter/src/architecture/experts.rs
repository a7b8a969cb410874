//! Experts: llama.cpp wants one 3-D tensor per projection. Transformers 4 wrote a matrix per expert, Transformers 5
//! writes 3-D tensors with gate and up fused. Either way a stack is rows of mapped tensors, taken one after the other.

use super::{Config, ModelTensor, Origin, Piece};
use crate::source::Checkpoint;

/// A projection: GGUF name, module of an expert, fused parameter, which part of how many of the fused rows of an
/// expert.
const STACKS: [(&str, &str, &str, u64, u64); 3] = [
    ("ffn_gate_exps", "gate_proj", "gate_up_proj", 0, 2),
    ("ffn_up_exps", "up_proj", "gate_up_proj", 1, 2),
    ("ffn_down_exps", "down_proj", "down_proj", 0, 1),
];

/// A tensor of the checkpoint with its shape in PyTorch's order.
pub(super) type Need = (String, Vec<u64>);

/// The stacks of a block, and the tensors of the checkpoint that they need. `hf` is the block's prefix
/// (`model.layers.0.`).
pub(super) fn stacks(config: &Config, weights: &Checkpoint, layer: u64, hf: &str) -> Vec<(ModelTensor, Vec<Need>)> {
    let Some(experts) = &config.experts else { return Vec::new() };
    let fused = weights.contains(&format!("{hf}mlp.experts.gate_up_proj"));
    let stack = |(gguf, module, parameter, part, parts): (&str, &str, &str, u64, u64)| {
        let (inner, rows) = match gguf {
            "ffn_down_exps" => (experts.intermediate, config.hidden),
            _ => (config.hidden, experts.intermediate),
        };
        let (mut pieces, mut needs) = (Vec::new(), Vec::new());
        for expert in 0..experts.count {
            if fused {
                let row = (expert * parts + part) * rows;
                pieces.push(Piece { name: format!("{hf}mlp.experts.{parameter}"), row });
            } else {
                let name = format!("{hf}mlp.experts.{expert}.{module}.weight");
                needs.push((name.clone(), vec![rows, inner]));
                pieces.push(Piece { name, row: 0 });
            }
        }
        if fused {
            needs.push((pieces[0].name.clone(), vec![experts.count, parts * rows, inner]));
        }
        let origin = Origin::Checkpoint { pieces, permuted_heads: None, plus: 0.0 };
        let name = format!("blk.{layer}.{gguf}.weight");
        (ModelTensor { name, shape: vec![inner, rows, experts.count], origin }, needs)
    };
    STACKS.into_iter().map(stack).collect()
}
