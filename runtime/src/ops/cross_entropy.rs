//! The training loss in chunks of rows: tokens x vocabulary logits never exist.

use loam_shaders::cross_entropy::{self as kernels, Params};

use super::{elementwise, rows};
use crate::plan::{Recorder, Tensor, View};

/// Where the loss reads and writes.
#[derive(Debug, Clone, Copy)]
pub struct LossInputs {
    /// Rows of the hidden state that have a label, `u32[T]`; trained rows first, then [`loam_shaders::step::NONE`].
    pub rows: View,
    /// Their labels, `u32[T]`.
    pub labels: View,
    /// Their weights in the gradient, `f32[T]`: minus the derivative of the loss by each log-probability.
    pub weights: View,
    /// The log-probability of each label, `f32[T]`, in nats.
    pub log_probabilities: View,
    /// Rows per chunk.
    pub chunk: usize,
    /// The log-probabilities are those of logits capped by [`super::softcap`] with this cap.
    pub softcap: Option<f32>,
}

/// Logits [n, V] of rows [n, D]; the number says how many rows with a loss were before them.
pub type Head<'h, 'a> = &'h dyn Fn(&mut Recorder<'a>, Tensor, usize) -> Tensor;

/// The log-probabilities of the labels by `head` applied to the listed rows of `hidden` [T, D]. With `gradient`,
/// returns dL/dhidden by the weights: it is computed chunk by chunk while the chunk's logits exist (as in Liger's and
/// Apple's fused losses), so the loss is both the end of the forward pass and the start of the reverse one. Gradients
/// of what is trained in the head are summed up over the chunks.
pub fn loss<'a>(
    r: &mut Recorder<'a>,
    hidden: Tensor,
    head: Head<'_, 'a>,
    io: LossInputs,
    gradient: bool,
) -> Option<Tensor> {
    let dhidden = gradient.then(|| r.temporary(hidden.rows, hidden.cols));
    if let Some(dhidden) = dhidden {
        elementwise::fill(r, "loss", dhidden, 0.0);
    }
    for offset in (0..hidden.rows).step_by(io.chunk) {
        let count = io.chunk.min(hidden.rows - offset);
        r.if_trained_above(offset as u32, |r| {
            let x = rows::gather(r, "loss", io.rows, offset, count, hidden);
            let chunk = r.taped(x, |r, x| head(r, x, offset));
            let logits = chunk.output;
            let params = Params {
                rows: count as u32,
                vocab: logits.cols as u32,
                offset: offset as u32,
                gradient: gradient.into(),
                softcap: io.softcap.unwrap_or(0.0),
                ..bytemuck::Zeroable::zeroed()
            };
            r.call("loss", kernels::forward(params), &[io.labels, io.weights, logits.view(), io.log_probabilities]);
            if let Some(dhidden) = dhidden {
                // The kernel has put the gradient of the logits in their place.
                let dx = r.back(chunk, logits);
                rows::scatter(r, "loss", io.rows, offset, dx, dhidden);
            }
        });
    }
    dhidden
}
