//! Kernels of `elementwise` against their references.

use loam_shaders::elementwise::{self, Params};
use loam_tests::{Operand, Random, check_kernel};

fn params(len: usize) -> Params {
    Params { len: len as u32, value: -1.75, pad: [0; 2] }
}

#[test]
fn all_of_them() {
    let mut random = Random::new(130);
    for len in [1, 3, 255, 256, 257, 1000] {
        let p = params(len);
        let mut values = || Operand::f32(&random.values(len));
        let (a, b, out) = (values(), values(), values());
        let unset = Operand::unset(len);
        check_kernel(&elementwise::add(p), &[a.clone(), b, unset.clone()]);
        check_kernel(&elementwise::accumulate(p), &[a.clone(), out.clone()]);
        check_kernel(&elementwise::copy(p), &[a, unset.clone()]);
        let filled = check_kernel(&elementwise::fill(p), &[unset]).remove(0);
        assert!(filled.iter().all(|value| *value == -1.75));
        check_kernel(&elementwise::scale(p), &[out]);
    }
}

/// A copy keeps bits that are no numbers, such as ids; what lies after `len` stays.
#[test]
fn copies_words_and_stops_at_len() {
    let words = Operand::u32(&[u32::MAX, 1, 0x7fc0_1234, 7]);
    let copied = check_kernel(&elementwise::copy(params(3)), &[words, Operand::u32(&[9; 4])]).remove(0);
    let bits: Vec<u32> = copied.iter().map(|value| value.to_bits()).collect();
    assert_eq!(bits, [u32::MAX, 1, 0x7fc0_1234, 9]);
}

/// More elements than one dimension of a grid has threads.
#[test]
fn folded_grid() {
    let len = 65_535 * 256 + 1000;
    let call = elementwise::fill(params(len));
    assert_eq!(call.grid, [65_535, 2, 1]);
    check_kernel(&call, &[Operand::unset(len)]);
}
