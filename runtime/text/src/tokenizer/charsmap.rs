//! SentencePiece's precompiled normalisation (`tokenizer.ggml.precompiled_charsmap`): a double array that finds the
//! longest prefix with a replacement, and the replacements.
//!
//! Layout: length of the array in bytes (u32), the array (u32 each), the replacements, each ended by a zero. An entry
//! holds the offset of its children (bits 10 to 30, shifted by 8 more if bit 9 is set), its own byte (bits 0 to 7) and
//! whether a value follows (bit 8); a value's entry has bit 31 set.

use crate::{Error, Result};

/// A parsed map.
pub(super) struct Charsmap {
    entries: Vec<u32>,
    replacements: Vec<u8>,
}

fn wrong(problem: &str) -> Error {
    Error::Tokenizer(format!("tokenizer.ggml.precompiled_charsmap {problem}").into())
}

impl Charsmap {
    /// Parses the bytes of the key; none for no map.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the parts do not fit into the bytes.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let (size, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| wrong("is cut short"))?;
        let size = u32::from_le_bytes(*size) as usize;
        if !size.is_multiple_of(4) || size >= rest.len() {
            return Err(wrong("is cut short"));
        }
        let (array, replacements) = rest.split_at(size);
        let entries = array.chunks_exact(4).map(|e| u32::from_le_bytes([e[0], e[1], e[2], e[3]])).collect();
        if replacements.last() != Some(&0) {
            return Err(wrong("has a replacement without an end"));
        }
        Ok(Some(Charsmap { entries, replacements: replacements.to_vec() }))
    }

    /// The longest prefix of `text` that has a replacement: its length, and the replacement.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the array leads out of itself.
    pub(super) fn longest(&self, text: &[u8]) -> Result<Option<(usize, &[u8])>> {
        let entry =
            |index: u32| self.entries.get(index as usize).copied().ok_or_else(|| wrong("leads out of its array"));
        let base = |entry: u32| (entry >> 10) << ((entry & (1 << 9)) >> 6);
        let mut found = None;
        let mut node = base(entry(0)?);
        for (at, &byte) in text.iter().enumerate() {
            if byte == 0 {
                break;
            }
            node ^= u32::from(byte);
            let here = entry(node)?;
            if here & ((1 << 31) | 0xff) != u32::from(byte) {
                break;
            }
            node ^= base(here);
            if (here >> 8) & 1 == 1 {
                found = Some((at + 1, entry(node)? & !(1 << 31)));
            }
        }
        let Some((length, offset)) = found else { return Ok(None) };
        let text =
            self.replacements.get(offset as usize..).ok_or_else(|| wrong("names a replacement that is not there"))?;
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        Ok(Some((length, &text[..end])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `A` becomes `bc`: the root at 0 leads to 1 + 'A', which leads to its value.
    fn sample() -> Vec<u8> {
        let mut entries = [0u32; 256];
        entries[0] = 1 << 10;
        entries[usize::from(1 ^ b'A')] = (2 << 10) | (1 << 8) | u32::from(b'A');
        entries[usize::from(1 ^ b'A' ^ 2)] = 1 << 31;
        let mut bytes = 1024u32.to_le_bytes().to_vec();
        bytes.extend(entries.iter().flat_map(|e| e.to_le_bytes()));
        bytes.extend(b"bc\0");
        bytes
    }

    #[test]
    fn prefixes_are_replaced() {
        let map = Charsmap::parse(&sample()).unwrap().unwrap();
        assert_eq!(map.longest(b"Ax").unwrap(), Some((1, &b"bc"[..])));
        assert_eq!(map.longest(b"xA").unwrap(), None);
        assert_eq!(map.longest(b"\0").unwrap(), None);
    }

    #[test]
    fn lies_are_errors() {
        let good = sample();
        for length in [1, 4, 100, good.len() - 3, good.len() - 1] {
            assert!(Charsmap::parse(&good[..length]).is_err(), "{length}");
        }
        let mut far = good.clone();
        far[4..8].copy_from_slice(&(1u32 << 20).to_le_bytes());
        assert!(Charsmap::parse(&far).unwrap().unwrap().longest(b"A").is_err());
        let mut value = good;
        let at = 4 + 4 * usize::from(1 ^ b'A' ^ 2);
        value[at..at + 4].copy_from_slice(&((1u32 << 31) | 9).to_le_bytes());
        assert!(Charsmap::parse(&value).unwrap().unwrap().longest(b"A").is_err());
        assert!(Charsmap::parse(&[]).unwrap().is_none());
    }
}
