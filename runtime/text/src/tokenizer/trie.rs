//! A trie over bytes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Maps byte strings to ids, walked byte by byte.
#[derive(Default)]
pub(super) struct Trie {
    children: HashMap<u64, u32, BuildHasherDefault<Mix>>,
    /// Id of the string that ends at a node, by node.
    values: Vec<Option<u32>>,
}

/// Spreads nodes, which are numbered in turn: a step is looked up for each byte of a text.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(self.0 ^ u64::from(byte)));
    }

    fn write_u64(&mut self, value: u64) {
        let product = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }
}

/// A node and a byte as one number.
fn edge(node: u32, byte: u8) -> u64 {
    u64::from(node) << 8 | u64::from(byte)
}

/// The node before the first byte.
pub(super) const ROOT: u32 = 0;

impl Trie {
    /// Adds `key`; a key that is there already gets the new value.
    pub(super) fn insert(&mut self, key: &[u8], value: u32) {
        if self.values.is_empty() {
            self.values.push(None);
        }
        let mut node = ROOT;
        for &byte in key {
            let fresh = self.values.len() as u32;
            node = *self.children.entry(edge(node, byte)).or_insert(fresh);
            if node == fresh {
                self.values.push(None);
            }
        }
        self.values[node as usize] = Some(value);
    }

    /// The node that `byte` leads to.
    pub(super) fn step(&self, node: u32, byte: u8) -> Option<u32> {
        self.children.get(&edge(node, byte)).copied()
    }

    /// The value of a node.
    pub(super) fn value(&self, node: u32) -> Option<u32> {
        *self.values.get(node as usize)?
    }

    /// How many bytes of `text` the trie can follow, whether or not a key ends there.
    pub(super) fn depth(&self, text: &[u8]) -> usize {
        let mut node = ROOT;
        for (depth, &byte) in text.iter().enumerate() {
            match self.step(node, byte) {
                Some(next) => node = next,
                None => return depth,
            }
        }
        text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_depths() {
        let mut trie = Trie::default();
        assert_eq!((trie.depth(b"a"), trie.value(ROOT)), (0, None));
        trie.insert(b"ab", 1);
        trie.insert(b"abcd", 2);
        let b = trie.step(trie.step(ROOT, b'a').unwrap(), b'b').unwrap();
        assert_eq!((trie.value(b), trie.step(b, b'x')), (Some(1), None));
        assert_eq!((trie.depth(b"abcx"), trie.depth(b"x"), trie.depth(b"abcdef")), (3, 0, 4));
    }
}
