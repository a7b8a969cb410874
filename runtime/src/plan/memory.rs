//! Memory: temporaries share slots when their lives do not overlap.

use super::{Location, Node};

/// First and last node that uses a temporary.
#[derive(Debug, Clone, Copy)]
struct Life {
    first: usize,
    last: usize,
}

/// Assigns every temporary of `nodes` to a slot, rewrites the views to slot numbers and returns the slots' lengths in
/// words. A temporary that is born at a node never gets the slot of one that dies there, so no node reads and writes
/// the same buffer.
pub fn assign(nodes: &mut [Node], temporaries: &[u64]) -> Vec<u64> {
    let lives = lives(nodes, temporaries.len());
    let mut slots: Vec<u64> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut slot_of = vec![usize::MAX; temporaries.len()];
    for (index, node) in nodes.iter_mut().enumerate() {
        let used: Vec<usize> = temporaries_of(node).collect();
        for &t in used.iter().filter(|&&t| lives[t].is_some_and(|life| life.first == index)) {
            if slot_of[t] == usize::MAX {
                slot_of[t] = take(&mut slots, &mut free, temporaries[t]);
            }
        }
        for view in &mut node.operands {
            if let Location::Slot(t) = view.location {
                view.location = Location::Slot(slot_of[t as usize] as u32);
            }
        }
        for &t in used.iter().filter(|&&t| lives[t].is_some_and(|life| life.last == index)) {
            if !free.contains(&slot_of[t]) {
                free.push(slot_of[t]);
            }
        }
    }
    slots
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

/// The smallest free slot that fits; else the largest free one, grown; else a new one.
fn take(slots: &mut Vec<u64>, free: &mut Vec<usize>, words: u64) -> usize {
    let fits = (0..free.len()).filter(|&i| slots[free[i]] >= words).min_by_key(|&i| slots[free[i]]);
    let chosen = fits.or_else(|| (0..free.len()).max_by_key(|&i| slots[free[i]]));
    match chosen {
        Some(i) => {
            let slot = free.swap_remove(i);
            slots[slot] = slots[slot].max(words);
            slot
        }
        None => {
            slots.push(words);
            slots.len() - 1
        }
    }
}
