//! The buffers of plans' slots. Programs of one back end never run at the same time and expect nothing in a slot when
//! they start, so they share buffers: an evaluation runs in the memory of the training.

/// A buffer and how many programs use it.
#[derive(Debug, Clone, Copy, Default)]
struct Buffer {
    words: u64,
    users: u32,
}

/// Which buffers there are. A back end keeps the buffers themselves, at the same places.
#[derive(Debug, Clone, Default)]
pub struct SlotPool {
    buffers: Vec<Buffer>,
}

/// The buffers of one program.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// The place of each slot's buffer.
    pub places: Vec<usize>,
    /// Places whose buffer is new, with its length in words.
    pub new: Vec<(usize, u64)>,
}

/// Bytes of buffers with these places and lengths in words.
pub fn bytes(buffers: &[(usize, u64)]) -> u64 {
    buffers.iter().fold(0, |sum, (_, words)| sum.saturating_add(words.saturating_mul(4)))
}

impl Taken {
    /// Bytes of the new buffers.
    pub fn new_bytes(&self) -> u64 {
        bytes(&self.new)
    }
}

impl SlotPool {
    /// Buffers for slots of these lengths in words: for each, the largest first, the smallest free one that is long
    /// enough, else a new one. Buffers do not grow, because programs have bound them.
    pub fn take(&mut self, slots: &[u64]) -> Taken {
        let mut taken = Taken { places: vec![usize::MAX; slots.len()], new: Vec::new() };
        let mut mine = vec![false; self.buffers.len()];
        let mut order: Vec<usize> = (0..slots.len()).collect();
        order.sort_by_key(|&slot| (std::cmp::Reverse(slots[slot]), slot));
        for slot in order {
            let words = slots[slot];
            let fits =
                |&place: &usize| !mine[place] && self.buffers[place].users > 0 && self.buffers[place].words >= words;
            let place = (0..mine.len()).filter(fits).min_by_key(|&place| self.buffers[place].words);
            let place = place.unwrap_or_else(|| {
                let place = self.add(words);
                mine.resize(self.buffers.len(), false);
                taken.new.push((place, words));
                place
            });
            mine[place] = true;
            self.buffers[place].users += 1;
            taken.places[slot] = place;
        }
        taken
    }

    fn add(&mut self, words: u64) -> usize {
        let buffer = Buffer { words, users: 0 };
        match self.buffers.iter().position(|old| old.users == 0) {
            Some(place) => {
                self.buffers[place] = buffer;
                place
            }
            None => {
                self.buffers.push(buffer);
                self.buffers.len() - 1
            }
        }
    }

    /// Ends a program's use of its buffers. Returns those that no program uses any more, with their lengths in words.
    pub fn give_back(&mut self, places: &[usize]) -> Vec<(usize, u64)> {
        let mut unused = Vec::new();
        for &place in places {
            let buffer = &mut self.buffers[place];
            buffer.users -= 1;
            if buffer.users == 0 {
                unused.push((place, buffer.words));
            }
        }
        unused
    }

    /// Places that a back end needs room for.
    pub fn places(&self) -> usize {
        self.buffers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_program_runs_in_the_buffers_of_a_larger_one() {
        let mut pool = SlotPool::default();
        let train = pool.take(&[10, 100, 50]);
        assert_eq!((train.new.len(), train.new_bytes()), (3, 640));
        let evaluate = pool.take(&[40, 60, 60]);
        // 60 goes into 100; the other 60 fits nowhere else; 40 goes into 50.
        assert_eq!(evaluate.new.iter().map(|(_, words)| *words).collect::<Vec<_>>(), [60]);
        let mut places = evaluate.places.clone();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 3, "no two slots share a buffer");
        let unused = |list: Vec<(usize, u64)>| list.into_iter().map(|(_, words)| words).collect::<Vec<_>>();
        assert_eq!(unused(pool.give_back(&train.places)), [10]);
        let mut rest = unused(pool.give_back(&evaluate.places));
        rest.sort_unstable();
        assert_eq!(rest, [50, 60, 100]);
        assert_eq!(pool.take(&[7]).new, [(0, 7)], "places are used again");
        assert_eq!(pool.places(), 4);
    }
}
