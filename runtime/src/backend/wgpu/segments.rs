//! Where a program is cut into submissions.
//!
//! Operating systems reset a GPU whose work does not end (Windows after two seconds, phones earlier), and a busy queue
//! delays everything else on the machine. So a program goes out as segments of at most about a target each. It is not
//! known beforehand how long a node takes, so the first run uses short segments and later runs cut or join them by what
//! was measured. Where the cuts are has no influence on results.

use crate::backend::TARGET;

/// Nodes per segment in the first run with a target of [`TARGET`].
const FIRST: u64 = 16;

/// Nodes up to `end` (from the end of the previous segment) in one submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    end: usize,
    micros: Option<u64>,
}

/// The cuts of one program.
#[derive(Debug)]
pub struct Segments {
    list: Vec<Segment>,
    /// Counts the changes, so that a time measured for an older cut is recognised.
    version: u32,
    measured: bool,
    /// Longest time of one submission, in microseconds.
    target: u64,
    /// A node that always begins a segment: the first of the second phase.
    turn: Option<usize>,
}

impl Segments {
    /// Short segments for `nodes` nodes, which are to take `target` microseconds at most. Those from `turn` on run at
    /// another time than those before it.
    pub fn new(nodes: usize, target: u64, turn: Option<usize>) -> Self {
        let most = TARGET.as_micros();
        // With a lower target even the first run is to keep to it, as far as its kernels do.
        let first = if target < most { 1 } else { (FIRST.saturating_mul(target) / most).min(1 << 30) as usize };
        let regular = (first..nodes).step_by(first).chain((nodes > 0).then_some(nodes));
        let mut ends: Vec<usize> = regular.chain(turn.filter(|turn| (1..nodes).contains(turn))).collect();
        ends.sort_unstable();
        ends.dedup();
        let list = ends.into_iter().map(|end| Segment { end, micros: None }).collect();
        Self { list, version: 0, measured: false, target, turn }
    }

    /// What takes longer is halved: times vary, and those that are measured are to stay below the target.
    fn aim(&self) -> u64 {
        self.target - self.target / 4
    }

    /// Neighbours that together take at most this long are joined. Well under [`Self::aim`], so that joins are not
    /// undone.
    fn join(&self) -> u64 {
        self.target / 2
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The nodes of segment `index`.
    pub fn nodes(&self, index: usize) -> std::ops::Range<usize> {
        let start = if index == 0 { 0 } else { self.list[index - 1].end };
        start..self.list[index].end
    }

    /// Names the present cuts, for [`Segments::measure`].
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Notes that segment `index` of the cuts `version` took `micros`, or, if `at_most`, no longer than that. Ignored
    /// when the cuts have changed since, and when an upper bound is too high to say anything.
    pub fn measure(&mut self, version: u32, index: usize, micros: u64, at_most: bool) {
        if version == self.version
            && !(at_most && micros > self.join())
            && let Some(segment) = self.list.get_mut(index)
        {
            segment.micros = Some(micros);
            self.measured = true;
        }
    }

    /// Halves segments that took too long, and joins neighbours that took little. Call between runs.
    pub fn adapt(&mut self) {
        if !std::mem::take(&mut self.measured) {
            return;
        }
        let mut list: Vec<Segment> = Vec::with_capacity(self.list.len());
        let mut start = 0;
        for &segment in &self.list {
            let nodes = segment.end - start;
            let previous = list.last().and_then(|last| last.micros);
            match (previous, segment.micros) {
                (_, Some(micros)) if micros > self.aim() && nodes > 1 => {
                    list.push(Segment { end: start + nodes / 2, micros: None });
                    list.push(Segment { end: segment.end, micros: None });
                }
                (Some(before), Some(micros)) if before + micros <= self.join() && self.turn != Some(start) => {
                    list.pop();
                    list.push(Segment { end: segment.end, micros: Some(before + micros) });
                }
                _ => list.push(segment),
            }
            start = segment.end;
        }
        if !list.iter().map(|s| s.end).eq(self.list.iter().map(|s| s.end)) {
            self.version = self.version.wrapping_add(1);
        }
        self.list = list;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROS: u64 = 50_000;

    fn ends(segments: &Segments) -> Vec<usize> {
        segments.list.iter().map(|segment| segment.end).collect()
    }

    #[test]
    fn first_cuts_cover_all_nodes() {
        assert_eq!(Segments::new(0, MICROS, None).len(), 0);
        assert_eq!(ends(&Segments::new(16, MICROS, None)), [16]);
        let segments = Segments::new(40, MICROS, None);
        assert_eq!(ends(&segments), [16, 32, 40]);
        assert_eq!(ends(&Segments::new(5, MICROS / 8, None)), [1, 2, 3, 4, 5]);
        assert_eq!(ends(&Segments::new(3, 1, None)), [1, 2, 3]);
        assert_eq!(segments.nodes(0), 0..16);
        assert_eq!(segments.nodes(2), 32..40);
    }

    #[test]
    fn long_segments_are_halved_and_short_ones_joined() {
        let mut segments = Segments::new(64, MICROS, None);
        for (index, micros) in [80_000, 1_000, 2_000, 30_000].into_iter().enumerate() {
            segments.measure(0, index, micros, false);
        }
        segments.adapt();
        assert_eq!(ends(&segments), [8, 16, 48, 64]);
        assert_eq!(segments.version(), 1);
        segments.measure(0, 0, 90_000, false);
        segments.adapt();
        assert_eq!(ends(&segments), [8, 16, 48, 64], "a time of older cuts changes nothing");
    }

    #[test]
    fn phases_share_no_segment() {
        let mut segments = Segments::new(40, MICROS, Some(20));
        assert_eq!(ends(&segments), [16, 20, 32, 40]);
        (0..4).for_each(|index| segments.measure(0, index, 1_000, false));
        segments.adapt();
        assert_eq!(ends(&segments), [20, 40]);
    }

    #[test]
    fn a_single_long_node_stays_whole() {
        let mut segments = Segments::new(1, MICROS, None);
        segments.measure(0, 0, 10 * MICROS, false);
        segments.adapt();
        assert_eq!(ends(&segments), [1]);
        assert_eq!(segments.version(), 0);
    }

    /// As far as a program can be cut.
    #[test]
    fn slow_nodes_are_submitted_one_by_one_and_the_others_stay_below_the_aim() {
        let target = MICROS / 6;
        // Every third node alone is slower than the target, then all of them are.
        for slow in [3, 1] {
            let cost = |node: usize| if node.is_multiple_of(slow) { target + 700 } else { 900 };
            for mut segments in
                [Segments::new(64, target, None), Segments { target, ..Segments::new(64, MICROS, None) }]
            {
                for _ in 0..10 {
                    for index in 0..segments.len() {
                        let micros = segments.nodes(index).map(cost).sum();
                        segments.measure(segments.version(), index, micros, false);
                    }
                    segments.adapt();
                }
                for nodes in (0..segments.len()).map(|index| segments.nodes(index)) {
                    let micros: u64 = nodes.clone().map(cost).sum();
                    assert!(nodes.len() == 1 || micros <= target * 3 / 4, "{nodes:?} take {micros} of {target}");
                }
                assert!(slow > 1 || segments.len() == 64, "{:?}", ends(&segments));
            }
        }
    }

    #[test]
    fn a_late_look_is_no_reason_to_cut() {
        let mut segments = Segments::new(16, MICROS, None);
        segments.measure(0, 0, 10 * MICROS, true);
        segments.adapt();
        assert_eq!(ends(&segments), [16]);
    }

    #[test]
    fn every_program_settles() {
        // Node i takes 1 + (i % 7) * 900 microseconds.
        let cost = |range: std::ops::Range<usize>| range.map(|i| 1 + (i as u64 % 7) * 900).sum::<u64>();
        let mut segments = Segments::new(500, MICROS, None);
        for _ in 0..20 {
            for index in 0..segments.len() {
                segments.measure(segments.version(), index, cost(segments.nodes(index)), false);
            }
            segments.adapt();
        }
        let settled = ends(&segments);
        assert_eq!(settled.last(), Some(&500));
        assert!((0..segments.len()).all(|index| cost(segments.nodes(index)) <= MICROS));
        assert!(segments.len() <= 500 * 2800 / (MICROS / 2) as usize * 2, "{settled:?}");
    }
}
