//! The kernel of `kv_cache` against its reference.

use loam_shaders::Step;
use loam_shaders::kv_cache::{self, Params};
use loam_tests::{Operand, Random, check_kernel_at};

#[test]
fn appends_at_the_step() {
    let mut random = Random::new(150);
    for (tokens, past, capacity) in [(1, 0, 1), (1, 16, 17), (3, 5, 70), (65, 0, 65), (17, 60, 70), (2, 80, 70)] {
        for width in [4, 48, 260] {
            let p = Params { tokens, width, capacity, pad: 0 };
            let step = Step { past, ..Step::default() };
            let src = random.values((tokens * width) as usize);
            let operands = [Operand::f32(&src), Operand::unset((capacity * width) as usize)];
            let cache = check_kernel_at(&step, &kv_cache::append(p), &operands).remove(0);
            let kept = tokens.min(capacity.saturating_sub(past));
            let written = cache.iter().filter(|value| !value.is_nan()).count();
            assert_eq!(written, (kept * width) as usize, "{p:?} after {past}: words written");
            let first = (past.min(capacity) * width) as usize;
            assert_eq!(cache[first..first + written], src[..written], "{p:?} after {past}");
        }
    }
}
