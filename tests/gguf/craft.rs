//! Byte-exact files, right and wrong, made without loam's writer.

use loam::gguf::GgmlType;
use loam_tests::Random;

pub const F32: u32 = 0;
pub const STRING: u32 = 8;
pub const ARRAY: u32 = 9;

/// `u64` length and bytes.
pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// A key-value pair: key, value type, value as it stands in the file.
pub fn pair(key: impl AsRef<[u8]>, ty: u32, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&string(key), &ty.to_le_bytes()[..], value.as_ref()].concat()
}

/// The value of an array.
pub fn array(ty: u32, count: u64, items: impl AsRef<[u8]>) -> Vec<u8> {
    [&ty.to_le_bytes()[..], &count.to_le_bytes(), items.as_ref()].concat()
}

/// `general.alignment` as u32.
pub fn alignment(value: u32) -> Vec<u8> {
    pair("general.alignment", 4, value.to_le_bytes())
}

/// A tensor declaration.
pub fn tensor(name: impl AsRef<[u8]>, shape: &[u64], ty: u32, offset: u64) -> Vec<u8> {
    let shape_bytes: Vec<u8> = shape.iter().flat_map(|d| d.to_le_bytes()).collect();
    let count = (shape.len() as u32).to_le_bytes();
    [&string(name), &count[..], &shape_bytes, &ty.to_le_bytes(), &offset.to_le_bytes()].concat()
}

/// Magic, version and counts.
pub fn header(version: u32, tensors: u64, pairs: u64) -> Vec<u8> {
    [&b"GGUF"[..], &version.to_le_bytes(), &tensors.to_le_bytes(), &pairs.to_le_bytes()].concat()
}

/// A version 3 file of these parts, with padding to 32 before `data`.
pub fn file(pairs: &[Vec<u8>], tensors: &[Vec<u8>], data: &[u8]) -> Vec<u8> {
    aligned(32, pairs, tensors, data)
}

/// As [`file`], padded to `alignment` (which the pairs must declare).
pub fn aligned(alignment: usize, pairs: &[Vec<u8>], tensors: &[Vec<u8>], data: &[u8]) -> Vec<u8> {
    let mut bytes = header(3, tensors.len() as u64, pairs.len() as u64);
    bytes.extend(pairs.concat());
    bytes.extend(tensors.concat());
    bytes.resize(bytes.len().next_multiple_of(alignment), 0);
    bytes.extend(data);
    bytes
}

/// A file with one pair and no tensors.
pub fn with_pair(pair: Vec<u8>) -> Vec<u8> {
    file(&[pair], &[], &[])
}

/// A file with one declaration and 64 bytes of data.
pub fn with_tensor(tensor: Vec<u8>) -> Vec<u8> {
    file(&[], &[tensor], &[0; 64])
}

/// `count` pairs of random types with the values' bytes, scalars and arrays; keys "my_key_0"...
pub fn random_pairs(random: &mut Random, count: u32) -> Vec<(String, u32, Vec<u8>)> {
    (0..count)
        .map(|i| {
            let ty = random.below(13);
            let value = if ty == ARRAY { random_array(random) } else { random_value(random, ty) };
            (format!("my_key_{i}"), ty, value)
        })
        .collect()
}

fn random_array(random: &mut Random) -> Vec<u8> {
    let ty = match random.below(13) {
        ARRAY => STRING,
        ty => ty,
    };
    let count = u64::from(random.below(12));
    let items: Vec<u8> = (0..count).flat_map(|_| random_value(random, ty)).collect();
    array(ty, count, items)
}

fn random_value(random: &mut Random, ty: u32) -> Vec<u8> {
    let bits = random.bits().to_le_bytes();
    match ty {
        0 | 1 => bits[..1].to_vec(),
        2 | 3 => bits[..2].to_vec(),
        4..=6 => bits[..4].to_vec(),
        7 => vec![bits[0] & 1],
        STRING => string(&bits[..random.below(9) as usize]),
        _ => bits.to_vec(),
    }
}

/// A tensor: name, shape, type id, bytes of its data.
pub type Tensor = (String, Vec<u64>, u32, usize);

/// `count` small tensors of all types; names "my_tensor_0"...
pub fn random_tensors(random: &mut Random, count: u32) -> Vec<Tensor> {
    let types: Vec<GgmlType> = GgmlType::all().collect();
    (0..count)
        .map(|i| {
            let ty = types[random.below(types.len() as u32) as usize];
            let mut shape = vec![ty.block_len() * u64::from(1 + random.below(2))];
            (0..random.below(4)).for_each(|_| shape.push(u64::from(1 + random.below(3))));
            let elements: u64 = shape.iter().product();
            let bytes = elements / ty.block_len() * ty.block_bytes();
            (format!("my_tensor_{i}"), shape, ty.id(), bytes as usize)
        })
        .collect()
}

/// Declarations with contiguous offsets, padded to `alignment`, and the length of all data with padding.
pub fn declare(tensors: &[Tensor], alignment: usize) -> (Vec<Vec<u8>>, usize) {
    let mut offset = 0;
    let mut declarations = Vec::new();
    for (name, shape, ty, bytes) in tensors {
        declarations.push(tensor(name, shape, *ty, offset as u64));
        offset = (offset + bytes).next_multiple_of(alignment);
    }
    (declarations, offset)
}

/// A whole random file; data are random too.
pub fn random_file(seed: u64, pairs: u32, tensors: u32) -> Vec<u8> {
    let mut random = Random::new(seed);
    let pairs: Vec<Vec<u8>> = random_pairs(&mut random, pairs).iter().map(|(k, t, v)| pair(k, *t, v)).collect();
    let (declarations, length) = declare(&random_tensors(&mut random, tensors), 32);
    let data: Vec<u8> = (0..length).map(|_| random.bits() as u8).collect();
    file(&pairs, &declarations, &data)
}
