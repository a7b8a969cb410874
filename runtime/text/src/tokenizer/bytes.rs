//! The byte-level alphabet of GPT-2: each byte stands for one printable character.
//!
//! Bytes 33..=126, 161..=172 and 174..=255 are the characters of the same code; the other 68 take U+0100.. in order
//! (Radford et al. 2019, the encoder of GPT-2).

/// The texts of all bytes in order, as a byte-level vocabulary has them.
pub fn byte_texts() -> impl Iterator<Item = String> {
    (0..=u8::MAX).map(|byte| char_of(byte).to_string())
}

/// The character that stands for `byte`.
pub(super) fn char_of(byte: u8) -> char {
    match byte {
        0..=32 => offset(byte),
        127..=160 => offset(byte - 127 + 33),
        173 => offset(67),
        _ => char::from(byte),
    }
}

/// The `index`-th character from U+0100.
fn offset(index: u8) -> char {
    char::from_u32(256 + u32::from(index)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that `c` stands for, if any.
pub(super) fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (33..=126 | 161..=172 | 174..=255) => Some(code as u8),
        code @ 256..=288 => Some((code - 256) as u8),
        code @ 289..=322 => Some((code - 289 + 127) as u8),
        323 => Some(173),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        let mut seen = std::collections::HashSet::new();
        for byte in 0..=255u8 {
            assert!(seen.insert(char_of(byte)));
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
        assert_eq!((char_of(b' '), char_of(b'\n'), char_of(b'A')), ('Ġ', 'Ċ', 'A'));
        assert_eq!(byte_of('漢'), None);
    }
}
