//! SentencePiece's `ModelProto`, as far as a conversion needs it, from the protobuf wire format.

use std::path::Path;

use crate::{Error, Result};

/// A piece of the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    /// As in GGUF: normal 1, unknown 2, control 3, user-defined 4, unused 5, byte 6.
    pub(super) kind: i32,
}

/// A SentencePiece model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Model {
    pub(super) pieces: Vec<Piece>,
    /// 1 unigram, 2 BPE, 3 word, 4 character.
    pub(super) kind: u64,
    pub(super) charsmap: Vec<u8>,
    pub(super) add_dummy_prefix: bool,
    pub(super) remove_extra_whitespaces: bool,
}

/// A field: its number and value.
enum Value<'a> {
    Varint(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    /// Eight bytes that no field here has.
    Fixed64,
}

/// The fields of a message, checked one by one.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or("ends inside a number")?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            value |= bits.checked_shl(shift).filter(|v| v >> shift == bits).ok_or("has a number over 64 bits")?;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("has a number over 64 bits")
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8], &'static str> {
        let fits = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (found, rest) = fits.ok_or("claims more bytes than there are")?;
        self.rest = rest;
        Ok(found)
    }

    /// The next field; `None` at the end.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, &'static str> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.bytes(8)?;
                Value::Fixed64
            }
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.bytes(length)?)
            }
            5 => {
                let bytes = self.bytes(4)?;
                Value::Fixed32(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            }
            _ => return Err("has a field of a type that no such file has"),
        };
        Ok(Some((key >> 3, value)))
    }
}

/// Reads tokenizer.model.
///
/// # Errors
/// The file cannot be read, is over 256 MiB, or is no SentencePiece model.
pub(super) fn read(path: &Path) -> Result<Model> {
    let bytes = crate::source::json::read_limited(path)?;
    parse(&bytes).map_err(|problem| Error::Tokenizer {
        path: path.into(),
        problem: format!("is no SentencePiece model: {problem}").into(),
    })
}

fn parse(bytes: &[u8]) -> Result<Model, String> {
    let mut model = Model {
        pieces: Vec::new(),
        kind: 1,
        charsmap: Vec::new(),
        add_dummy_prefix: true,
        remove_extra_whitespaces: true,
    };
    let mut fields = Fields { rest: bytes };
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(bytes)) => {
                let id = model.pieces.len();
                model.pieces.push(piece(bytes).map_err(|problem| format!("piece {id} {problem}"))?);
            }
            (2, Value::Bytes(bytes)) => {
                let mut trainer = Fields { rest: bytes };
                while let Some(field) = trainer.next()? {
                    if let (3, Value::Varint(kind)) = field {
                        model.kind = kind;
                    }
                }
            }
            (3, Value::Bytes(bytes)) => normalizer(bytes, &mut model)?,
            _ => {}
        }
    }
    if model.pieces.is_empty() {
        return Err("it has no pieces".into());
    }
    Ok(model)
}

fn piece(bytes: &[u8]) -> Result<Piece, &'static str> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: 1 };
    let mut fields = Fields { rest: bytes };
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(text)) => piece.text = std::str::from_utf8(text).map_err(|_| "is no UTF-8")?.to_owned(),
            (2, Value::Fixed32(bits)) => piece.score = f32::from_bits(bits),
            (3, Value::Varint(kind @ 1..=6)) => piece.kind = kind as i32,
            (3, Value::Varint(_)) => return Err("has an unknown type"),
            _ => {}
        }
    }
    if piece.score.is_nan() {
        return Err("has a score that is no number");
    }
    Ok(piece)
}

fn normalizer(bytes: &[u8], model: &mut Model) -> Result<(), &'static str> {
    let mut fields = Fields { rest: bytes };
    while let Some(field) = fields.next()? {
        match field {
            (2, Value::Bytes(map)) => model.charsmap = map.to_vec(),
            (3, Value::Varint(flag)) => model.add_dummy_prefix = flag != 0,
            (4, Value::Varint(flag)) => model.remove_extra_whitespaces = flag != 0,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The wire form of a field with bytes.
    fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, value.len() as u8][..], value].concat()
    }

    /// A piece of a vocabulary.
    pub(crate) fn piece(text: &str, score: f32, kind: i32) -> Piece {
        Piece { text: text.into(), score, kind }
    }

    /// The wire form of a model of type BPE with these pieces.
    pub(crate) fn model(pieces: &[Piece], dummy_prefix: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for Piece { text, score, kind } in pieces {
            let fields = [&bytes(1, text.as_bytes())[..], &[0x15], &score.to_le_bytes(), &[0x18, *kind as u8]].concat();
            out.extend(bytes(1, &fields));
        }
        out.extend(bytes(2, &[0x18, 2]));
        out.extend(bytes(3, &[0x18, u8::from(dummy_prefix), 0x20, 0]));
        out
    }

    #[test]
    fn pieces_and_flags_are_read() {
        let read = parse(&model(&[piece("<unk>", 0.0, 2), piece("▁a", -1.5, 1)], false)).unwrap();
        assert_eq!(read.pieces[1], piece("▁a", -1.5, 1));
        assert_eq!((read.kind, read.add_dummy_prefix, read.remove_extra_whitespaces), (2, false, false));
    }

    #[test]
    fn broken_files_are_errors() {
        let good = model(&[piece("<unk>", 0.0, 2), piece("▁a", -1.5, 1)], true);
        for length in 0..good.len() {
            // Cut between two fields it is a shorter file; anywhere else an error. Never a panic.
            let _ = parse(&good[..length]);
        }
        for at in 0..good.len() {
            for value in [0, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = parse(&bad);
            }
        }
        let cases: [(&[u8], &str); 7] = [
            (b"", "no pieces"),
            (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "more bytes"),
            (&[0xff; 11], "over 64 bits"),
            (&[0x0a], "ends inside"),
            (&[0x0b], "a type that no such file"),
            (&bytes(1, &[0x18, 9]), "unknown type"),
            (&bytes(1, &bytes(1, &[0xff])), "no UTF-8"),
        ];
        for (file, expected) in cases {
            let error = parse(file).unwrap_err();
            assert!(error.contains(expected), "{file:?}: {error}");
        }
        assert!(parse(&model(&[piece("a", f32::NAN, 1)], true)).unwrap_err().contains("no number"));
    }
}
