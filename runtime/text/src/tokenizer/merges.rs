//! Byte-pair merges: the pair with the best rank first, the first of equals, until no pair has a rank.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Which pairs of tokens become one.
pub(super) struct Merges(HashMap<(u32, u32), Merge>);

/// What a pair becomes.
#[derive(Clone, Copy)]
struct Merge {
    rank: u32,
    id: u32,
}

/// A token at a place, between its neighbours.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    prev: u32,
    next: u32,
}

/// No neighbour; as an id: joined to the symbol before.
const NONE: u32 = u32::MAX;

/// Symbols of a piece and the pairs that can be joined, kept between pieces.
#[derive(Default)]
pub(super) struct Scratch {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<(u32, u32)>>,
}

impl Merges {
    /// Pairs in order of rank with what they become.
    pub(super) fn new(pairs: impl Iterator<Item = ((u32, u32), u32)>) -> Self {
        Merges(pairs.enumerate().map(|(rank, (pair, id))| (pair, Merge { rank: rank as u32, id })).collect())
    }

    /// Appends `ids`, joined as far as they can be.
    pub(super) fn append(
        &self,
        ids: impl Iterator<Item = u32>,
        most: usize,
        scratch: &mut Scratch,
        out: &mut Vec<u32>,
    ) {
        let Scratch { symbols, queue } = scratch;
        symbols.clear();
        queue.clear();
        symbols.reserve_exact(most);
        symbols.extend(ids.zip(0u32..).map(|(id, at)| Symbol { id, prev: at.wrapping_sub(1), next: at + 1 }));
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        queue.reserve(symbols.len());
        (0..symbols.len() as u32).for_each(|left| self.offer(symbols, left, queue));
        while let Some(Reverse((rank, left))) = queue.pop() {
            let symbol = symbols[left as usize];
            let Some(merge) = self.pair(symbols, left).filter(|merge| merge.rank == rank) else { continue };
            let right = symbols[symbol.next as usize];
            symbols[symbol.next as usize].id = NONE;
            symbols[left as usize] = Symbol { id: merge.id, next: right.next, ..symbol };
            if let Some(after) = symbols.get_mut(right.next as usize) {
                after.prev = left;
            }
            self.offer(symbols, symbol.prev, queue);
            self.offer(symbols, left, queue);
        }
        out.extend(symbols.iter().map(|symbol| symbol.id).filter(|&id| id != NONE));
    }

    /// What the symbol `left` and the one after it become.
    fn pair(&self, symbols: &[Symbol], left: u32) -> Option<Merge> {
        let symbol = symbols.get(left as usize).filter(|symbol| symbol.id != NONE)?;
        let next = symbols.get(symbol.next as usize)?;
        self.0.get(&(symbol.id, next.id)).copied()
    }

    fn offer(&self, symbols: &[Symbol], left: u32, queue: &mut BinaryHeap<Reverse<(u32, u32)>>) {
        queue.extend(self.pair(symbols, left).map(|merge| Reverse((merge.rank, left))));
    }
}
