//! The kernel of `kv_cache` against its reference.

use loam_shaders::kv_cache::{self, Params};
use loam_shaders::step::NONE;
use loam_tests::{Operand, Random, check_kernel};

#[test]
fn rows_go_where_the_list_says() {
    let mut random = Random::new(150);
    let lists: [(&[u32], u32); 5] =
        [(&[0], 1), (&[16], 17), (&[64, 5, 32], 70), (&[NONE, 1, 70, 0], 70), (&[3, 9, 4, 11, 5, NONE], 12)];
    for (places, capacity) in lists {
        for width in [4, 48, 260] {
            let p = Params { tokens: places.len() as u32, width, capacity, pad: 0 };
            let src = random.values(places.len() * width as usize);
            let operands = [Operand::f32(&src), Operand::u32(places), Operand::unset((capacity * width) as usize)];
            let cache = check_kernel(&kv_cache::append(p), &operands).remove(0);
            let kept = places.iter().filter(|place| **place < capacity).count();
            let written = cache.iter().filter(|value| !value.is_nan()).count();
            assert_eq!(written, kept * width as usize, "{p:?} at {places:?}: words written");
            for (row, &place) in src.chunks(width as usize).zip(places).filter(|(_, place)| **place < capacity) {
                assert_eq!(&cache[(place * width) as usize..][..width as usize], row, "{p:?} at {places:?}");
            }
        }
    }
}
