//! Dropout on what an adapter sees; its mask is drawn again where it is needed again.

use loam_shaders::dropout::{self as kernels, Params};

use crate::plan::{Recorder, Tensor};

/// A mask: whoever applies the same one in the same step gets the same elements for a row of the batch, in whatever
/// micro-batch that row is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Where in the model; sites have masks that are independent of each other.
    pub site: u32,
    /// Share of the elements that become 0, below 1. The others are divided by what is left.
    pub rate: f32,
    /// Row of the mask that the first row of a tensor has.
    pub first_row: u32,
    /// Rows of a tensor that are a row of the batch, if they are rows of it.
    pub context: Option<u32>,
}

/// Fours of a row of the batch, which has `context` rows of `x`; 0 if it does not end with one.
pub fn fours(context: u32, x: Tensor) -> u32 {
    let elements = context.saturating_mul(x.cols as u32);
    if elements.is_multiple_of(4) { elements / 4 } else { 0 }
}

impl Dropout {
    /// out (+)= mask * x / (1 - rate), elements in the order in which they lie. The gradient goes the same way.
    pub fn apply(self, r: &mut Recorder, label: &str, x: Tensor, out: Tensor, add: bool) {
        let first = self.first_row.wrapping_mul((x.cols as u32).div_ceil(4));
        let params = Params {
            first,
            row: self.context.map_or(0, |context| fours(context, x)),
            ..Params::new(x.len() as u32, self.site, self.rate, add)
        };
        r.call(label, kernels::apply(params), &[x.view(), out.view()]);
    }

    /// [`Self::apply`] to a new temporary.
    pub fn applied(self, r: &mut Recorder, label: &str, x: Tensor) -> Tensor {
        let out = r.temporary(x.rows, x.cols);
        self.apply(r, label, x, out, false);
        out
    }
}
