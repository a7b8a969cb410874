//! Fast host function of `embed`: a task per token decodes its row from the blocks.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::format::cpu::with_rows;
use crate::kernel::{Bind, operands, params};

/// `out[t] = scale * weight[tokens[t] - row0]`; rows that are not in this part stay.
pub(super) fn forward(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [tokens, weight, out] = operands(bound);
    let width = p.width as usize;
    if width == 0 {
        return;
    }
    let out = &mut out.f32_mut()[..p.tokens as usize * width];
    with_rows(p.format, p.rows, p.width, weight, |weight| {
        out.par_chunks_mut(width).zip(tokens.words()).for_each(|(out, token)| {
            let row = token.wrapping_sub(p.row0) as usize;
            if row < weight.rows {
                weight.decode(row, 0, width, out);
                if p.scale != 1.0 {
                    out.iter_mut().for_each(|x| *x *= p.scale);
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use crate::check::{Operand, Random, check};
    use crate::embed;

    #[test]
    fn agrees_with_the_reference() {
        for format in Format::ALL {
            for (row0, scale) in [(0, 1.0), (5, 12.0)] {
                let p = Params { tokens: 9, width: 512, row0, rows: 7, format: format.ggml_id(), scale, pad: [0; 2] };
                let tokens = Operand::u32(&[0, 4, 5, 6, 11, 12, 3, u32::MAX, u32::MAX - 1]);
                let operands =
                    [tokens, Operand::weight(format, 7, 512, &mut Random::new(1)), Operand::random(9 * 512, 2)];
                check(&Step::default(), &embed::forward(format, p), &operands);
            }
        }
    }
}
