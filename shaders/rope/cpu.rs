//! Fast host function of `rope`: tasks of whole rows.

use rayon::prelude::*;

use super::{Params, Style};
use crate::Step;
use crate::kernel::{Bind, operands, params};

/// Elements of a task.
const TASK: usize = 1 << 14;

/// Turns the pairs of every head. A position past the table turns its row to NaN, which the caller's checks report:
/// it would be wrong silently otherwise.
pub(super) fn rotate(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [positions, table, x] = operands(bound);
    let (positions, table) = (positions.words(), table.f32());
    let (rotary, width) = (p.rotary as usize, p.heads as usize * p.head_dim as usize);
    if width == 0 || rotary < 2 {
        return;
    }
    let rows = (TASK / width).max(1);
    let x = &mut x.f32_mut()[..p.tokens as usize * width];
    x.par_chunks_mut(rows * width).zip(positions.par_chunks(rows)).for_each(|(x, positions)| {
        for (x, &position) in x.chunks_exact_mut(width).zip(positions) {
            let start = (position as usize).saturating_mul(rotary);
            let Some(turns) = table.get(start..start.saturating_add(rotary)) else {
                x.fill(f32::NAN);
                continue;
            };
            for head in x.chunks_exact_mut(p.head_dim as usize) {
                turn(&mut head[..rotary], turns, p.style == Style::Adjacent as u32, p.sign);
            }
        }
    });
}

/// `(a, b)` becomes `(a cos - b sin, a sin + b cos)`; `turns` holds (cos, sin) of every pair.
fn turn(head: &mut [f32], turns: &[f32], adjacent: bool, sign: f32) {
    let (turns, _) = turns.as_chunks::<2>();
    let rotated = |a: f32, b: f32, [cos, sin]: [f32; 2]| (a * cos - b * (sign * sin), a * (sign * sin) + b * cos);
    if adjacent {
        for ([a, b], turn) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
            (*a, *b) = rotated(*a, *b, *turn);
        }
    } else {
        let (first, second) = head.split_at_mut(turns.len());
        for ((a, b), turn) in first.iter_mut().zip(second).zip(turns) {
            (*a, *b) = rotated(*a, *b, *turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, check};
    use crate::rope;

    #[test]
    fn agrees_with_the_reference() {
        for (tokens, heads, head_dim, rotary) in [(1, 1, 2, 2), (5, 3, 64, 64), (90, 9, 64, 48)] {
            let styles = [Style::Adjacent, Style::Halves].map(|style| style as u32);
            for (style, sign) in styles.into_iter().flat_map(|style| [(style, 1.0), (style, -1.0)]) {
                let p = Params { tokens, heads, head_dim, rotary, style, sign, ..Default::default() };
                let positions: Vec<u32> = (0..tokens).map(|t| t * 7 % 30).collect();
                let x = Operand::random((tokens * heads * head_dim) as usize, 2);
                let operands = [Operand::u32(&positions), Operand::random(30 * rotary as usize, 1), x];
                check(&Step::default(), &rope::rotate(p), &operands);
            }
        }
    }

    #[test]
    fn positions_past_the_table_give_nan() {
        let p = Params { tokens: 2, heads: 1, head_dim: 2, rotary: 2, sign: 1.0, ..Default::default() };
        let (positions, table) = ([u32::MAX, 0], [1f32, 0.0].map(f32::to_bits));
        let mut x = [1f32; 4].map(f32::to_bits);
        let mut bound = [Bind::Read(&positions), Bind::Read(&table), Bind::Write(&mut x)];
        rotate(&Step::default(), bytemuck::bytes_of(&p), &mut bound);
        let x = x.map(f32::from_bits);
        assert!(x[0].is_nan() && x[1].is_nan());
        assert_eq!(x[2..], [1.0, 1.0]);
    }
}
