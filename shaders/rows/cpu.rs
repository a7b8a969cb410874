//! Fast host functions of `rows`: tasks of whole rows. Rows outside of the matrix are left out like `NONE`.

use rayon::prelude::*;

use super::Params;
use crate::Step;
use crate::kernel::{Bind, operands, params};

/// Elements of a task.
const TASK: usize = 1 << 15;

/// `out[i] = x[rows[offset + i]]`, zeros for a row that is not there.
pub(super) fn gather(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [rows, x, out] = operands(bound);
    let (width, x) = (p.width as usize, x.f32());
    if width == 0 {
        return;
    }
    let rows = &rows.words()[p.offset as usize..][..p.count as usize];
    let per_task = (TASK / width).max(1);
    let out = &mut out.f32_mut()[..rows.len() * width];
    out.par_chunks_mut(per_task * width).zip(rows.par_chunks(per_task)).for_each(|(out, rows)| {
        for (out, &row) in out.chunks_exact_mut(width).zip(rows) {
            let start = (row as usize).saturating_mul(width);
            match x.get(start..start.saturating_add(width)) {
                Some(x) => out.copy_from_slice(x),
                None => out.fill(0.0),
            }
        }
    });
}

/// `out[rows[offset + i]] = src[i]`. In order on one thread: a row may be listed twice, and the copy is small.
pub(super) fn scatter(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [rows, src, out] = operands(bound);
    let (width, src, out) = (p.width as usize, src.f32(), out.f32_mut());
    if width == 0 {
        return;
    }
    let rows = &rows.words()[p.offset as usize..][..p.count as usize];
    for (src, &row) in src.chunks_exact(width).zip(rows) {
        let start = (row as usize).saturating_mul(width);
        if let Some(out) = out.get_mut(start..start.saturating_add(width)) {
            out.copy_from_slice(src);
        }
    }
}

/// `out[rows[offset + i]] += src[i]`. In order on one thread, as [`scatter`].
pub(super) fn add(_: &Step, bytes: &[u8], bound: &mut [Bind<'_>]) {
    let p: Params = params(bytes);
    let [rows, src, out] = operands(bound);
    let (width, src, out) = (p.width as usize, src.f32(), out.f32_mut());
    if width == 0 {
        return;
    }
    let rows = &rows.words()[p.offset as usize..][..p.count as usize];
    for (src, &row) in src.chunks_exact(width).zip(rows) {
        let start = (row as usize).saturating_mul(width);
        if let Some(out) = out.get_mut(start..start.saturating_add(width)) {
            out.iter_mut().zip(src).for_each(|(out, src)| *out += src);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Operand, check};
    use crate::rows;
    use crate::step::NONE;

    #[test]
    fn agrees_with_the_reference() {
        for (count, width, offset) in [(1, 1, 0), (9, 33, 2), (300, 576, 5)] {
            let p = Params { count, width, offset, ..Default::default() };
            let list: Vec<u32> = (0..count + offset).map(|i| if i % 4 == 3 { NONE } else { i * 7 % 400 }).collect();
            let (list, len) = (Operand::u32(&list), (count * width) as usize);
            let matrix = Operand::random(400 * width as usize, 1);
            check(&Step::default(), &rows::gather(p), &[list.clone(), matrix.clone(), Operand::unset(len)]);
            check(&Step::default(), &rows::scatter(p), &[list, Operand::random(len, 2), matrix.clone()]);
            let few: Vec<u32> = (0..count + offset).map(|i| if i % 4 == 3 { NONE } else { i * i % 5 }).collect();
            check(&Step::default(), &rows::add(p), &[Operand::u32(&few), Operand::random(len, 3), matrix]);
        }
    }

    #[test]
    fn rows_outside_are_left_out() {
        let p = Params { count: 2, width: 2, offset: 0, ..Default::default() };
        let (list, x) = ([4, NONE - 1], [7u32; 8]);
        let mut out = [1u32; 4];
        let mut bound = [Bind::Read(&list), Bind::Read(&x), Bind::Write(&mut out)];
        gather(&Step::default(), bytemuck::bytes_of(&p), &mut bound);
        assert_eq!(out, [0; 4]);
        let mut target = [5u32; 8];
        let mut bound = [Bind::Read(&list), Bind::Read(&x), Bind::Write(&mut target)];
        scatter(&Step::default(), bytemuck::bytes_of(&p), &mut bound);
        assert_eq!(target, [5; 8]);
    }
}
