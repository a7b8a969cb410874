//! Memory: temporaries share slots when their lives do not overlap.

use super::{Location, Node};

/// First and last node that uses a temporary.
#[derive(Debug, Clone, Copy)]
struct Life {
    first: usize,
    last: usize,
}

/// A slot and the lives in it, in order.
struct Slot {
    words: u64,
    lives: Vec<Life>,
}

/// Assigns every temporary of `nodes` to a slot, rewrites the views to slot numbers and returns the slots' lengths in
/// words. A temporary that is born at a node never gets the slot of one that dies there, so no node reads and writes
/// the same buffer.
///
/// The largest temporaries choose first, so that a slot never grows, and take the smallest slot that is free while they
/// live ("greedy by size" of Pisarchyk & Lee 2020, for buffers that cannot be cut).
pub fn assign(nodes: &mut [Node], temporaries: &[u64]) -> Vec<u64> {
    let lives = lives(nodes, temporaries.len());
    let mut order: Vec<(usize, Life)> =
        lives.into_iter().enumerate().filter_map(|(t, life)| life.map(|life| (t, life))).collect();
    order.sort_by_key(|&(t, life)| (std::cmp::Reverse(temporaries[t]), life.first, t));
    let mut slots: Vec<Slot> = Vec::new();
    let mut slot_of = vec![0; temporaries.len()];
    for (t, life) in order {
        slot_of[t] = take(&mut slots, life, temporaries[t]) as u32;
    }
    for view in nodes.iter_mut().flat_map(|node| &mut node.operands) {
        if let Location::Slot(t) = view.location {
            view.location = Location::Slot(slot_of[t as usize]);
        }
    }
    slots.into_iter().map(|slot| slot.words).collect()
}

fn temporaries_of(node: &Node) -> impl Iterator<Item = usize> + '_ {
    node.operands.iter().filter_map(|view| match view.location {
        Location::Slot(t) => Some(t as usize),
        Location::Stored(_) => None,
    })
}

fn lives(nodes: &[Node], count: usize) -> Vec<Option<Life>> {
    let mut lives: Vec<Option<Life>> = vec![None; count];
    for (index, node) in nodes.iter().enumerate() {
        for t in temporaries_of(node) {
            lives[t].get_or_insert(Life { first: index, last: index }).last = index;
        }
    }
    lives
}

impl Slot {
    /// Where `life` would come among the lives, and the nodes before it in which the slot is idle. `None`: it is in
    /// use.
    fn room(&self, life: Life) -> Option<(usize, usize)> {
        let at = self.lives.partition_point(|other| other.first < life.first);
        let free = self.lives.get(at).is_none_or(|next| life.last < next.first);
        let before = at.checked_sub(1).map_or(0, |i| self.lives[i].last + 1);
        (free && before <= life.first).then(|| (at, life.first - before))
    }
}

/// The smallest slot that is free during `life`, of equal ones the one that was idle for the shortest time; else a new
/// one.
fn take(slots: &mut Vec<Slot>, life: Life, words: u64) -> usize {
    let free = slots.iter().enumerate().filter_map(|(i, slot)| slot.room(life).map(|(at, idle)| (i, at, idle)));
    match free.min_by_key(|&(i, _, idle)| (slots[i].words, idle, i)) {
        Some((i, at, _)) => {
            slots[i].lives.insert(at, life);
            i
        }
        None => {
            slots.push(Slot { words, lives: vec![life] });
            slots.len() - 1
        }
    }
}
