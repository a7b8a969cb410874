//! Changes of inputs: of any bytes, of JSON by its structure, of GGUF files by keys and tensors.

use std::path::Path;

use loam::gguf::{Array, Gguf, Metadata, TensorDeclaration, Value as Entry, Writer};
use loam_tests::Random;
use serde_json::{Map, Value, json};

/// Numbers at which sizes, counts and signs go wrong.
fn edge(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => u64::from(random.below(17)),
        1 => 1 << random.below(64),
        2 => (1u64 << random.below(64)).wrapping_sub(1),
        3 => u64::MAX - u64::from(random.below(16)),
        4 => [31, 33, 255, 256, 257, 4095, 65_535, 65_536, 65_537, 1_000_000][random.below(10) as usize],
        _ => random.bits(),
    }
}

fn index(length: usize, random: &mut Random) -> usize {
    random.below(length.max(1) as u32) as usize
}

/// Changes bytes anywhere.
pub fn bytes(input: &mut Vec<u8>, random: &mut Random) {
    any(input, random, &[b"\0", b"\xff", b"\"", b"{", b"}", b"[", b"]", b"-", b"e9", b"\n", b"\xc3", b"../"]);
}

fn any(input: &mut Vec<u8>, random: &mut Random, words: &[&[u8]]) {
    let at = index(input.len(), random);
    let put = |input: &mut Vec<u8>, new: &[u8]| new.iter().zip(&mut input[at..]).for_each(|(new, old)| *old = *new);
    let until = |length: usize, random: &mut Random| (at + 1 + random.below(40) as usize).min(length);
    match random.below(9) {
        0 | 1 if !input.is_empty() => input[at] ^= 1 << random.below(8),
        2 if !input.is_empty() => input[at] = random.bits() as u8,
        3 => put(input, &edge(random).to_le_bytes()),
        4 => put(input, &(edge(random) as u32).to_le_bytes()),
        5 => drop(input.splice(at..at, words[index(words.len(), random)].iter().copied())),
        6 if !input.is_empty() => drop(input.drain(at..until(input.len(), random))),
        7 if !input.is_empty() => {
            let part = input[at..until(input.len(), random)].to_vec();
            let to = index(input.len(), random);
            // Now and then many times: long runs and deep nesting.
            let times = if random.below(8) == 0 { 1 << random.below(13) } else { 1 };
            input.splice(to..to, part.repeat(times));
        }
        8 => input.truncate(at),
        _ => {}
    }
}

/// Changes a chat template.
pub fn template(input: &mut Vec<u8>, random: &mut Random) {
    let words: [&[u8]; 44] = [
        b"{% for i in range(99999) %}",
        b"{% endfor %}",
        b"{% if x %}",
        b"{% else %}",
        b"{% endif %}",
        b"{{",
        b"}}",
        b"{%",
        b"%}",
        b"{#",
        b"#}",
        b"{% macro f(n) %}",
        b"{% endmacro %}",
        b"{{ f(f) }}",
        b"messages",
        b"[::-1]",
        b"[0]",
        b"|tojson(indent=99)",
        b"|length",
        b"* 10**9",
        b"~",
        b"namespace(a=1)",
        b"{% set x = messages %}",
        b"raise_exception('x')",
        b"strftime_now('%Y')",
        b".split('')",
        b".replace('','x')",
        b"|join",
        b"{% generation %}",
        b"is defined",
        b"|list|string",
        b"'a'",
        // What enlarges.
        b"{% set ns.x = ns.x ~ ns.x %}",
        b"{% set ns.l = [ns.l, ns.l] %}",
        b"{% set ns.m = namespace(a=ns) %}",
        b"{% for i in range(60) %}",
        b"{% set y %}",
        b"{% endset %}",
        b"|indent(1000000000)",
        b"|replace('a', 'b' * 100000)",
        b"|join('b' * 100000)",
        b"|map('center', 100000)|list",
        b"|batch(1000000, 1)",
        b"|format(ns.x, ns.x)",
    ];
    any(input, random, &words);
}

/// Changes a JSON document by its structure, sometimes its bytes.
pub fn json(input: &mut Vec<u8>, random: &mut Random) {
    match serde_json::from_slice::<Value>(input) {
        Ok(mut value) if random.below(8) > 0 => {
            let other = part(&value, random).clone();
            edit(&mut value, &other, random, 0);
            *input = value.to_string().into_bytes();
        }
        _ => bytes(input, random),
    }
}

/// Changes one line of JSON lines.
pub fn lines(input: &mut Vec<u8>, random: &mut Random) {
    let mut all: Vec<Vec<u8>> = input.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let at = index(all.len(), random);
    json(&mut all[at], random);
    *input = all.join(&b'\n');
}

/// Changes the JSON header of a safetensors file, or any bytes.
pub fn safetensors(input: &mut Vec<u8>, random: &mut Random) {
    let length = input.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b)) as usize;
    match length.checked_add(8).and_then(|end| input.get(8..end)) {
        Some(header) if random.below(4) > 0 => {
            let mut header = header.to_vec();
            json(&mut header, random);
            let data = input.split_off(8 + length);
            *input = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
        }
        _ => bytes(input, random),
    }
}

/// Some part of a value.
fn part<'v>(value: &'v Value, random: &mut Random) -> &'v Value {
    let inner: Vec<&Value> = match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => return value,
    };
    if inner.is_empty() || random.below(3) == 0 { value } else { part(inner[index(inner.len(), random)], random) }
}

fn edit(value: &mut Value, other: &Value, random: &mut Random, depth: usize) {
    let inside = match value {
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => false,
    };
    if inside && (depth == 0 || random.below(4) > 0) {
        match value {
            Value::Array(list) => edit_list(list, other, random, depth),
            Value::Object(map) => edit_map(map, other, random, depth),
            _ => {}
        }
        return;
    }
    *value = match random.below(8) {
        0 => other.clone(),
        1 => json!(edge(random)),
        2 => json!(-(random.below(3) as i64)),
        3 => json!(f64::from_bits(random.bits())),
        4 => [json!(null), json!(true), json!(""), json!([]), json!({}), json!(0.5), json!("\u{0}")]
            [random.below(7) as usize]
            .clone(),
        5 => json!([value.take()]),
        _ => match value {
            Value::String(text) => {
                let mut raw = std::mem::take(text).into_bytes();
                bytes(&mut raw, random);
                json!(String::from_utf8_lossy(&raw))
            }
            Value::Number(number) => json!(number.as_i64().unwrap_or(0).wrapping_add(i64::from(random.below(5)) - 2)),
            _ => json!("x".repeat(1 << random.below(14))),
        },
    };
}

fn edit_list(list: &mut Vec<Value>, other: &Value, random: &mut Random, depth: usize) {
    let at = index(list.len(), random);
    match random.below(10) {
        0 => drop(list.remove(at)),
        1 => list.insert(at, list[at].clone()),
        2 => list.push(other.clone()),
        3 => list.swap(at, 0),
        _ => edit(&mut list[at], other, random, depth + 1),
    }
}

fn edit_map(map: &mut Map<String, Value>, other: &Value, random: &mut Random, depth: usize) {
    let keys: Vec<String> = map.keys().cloned().collect();
    let key = &keys[index(keys.len(), random)];
    match random.below(10) {
        0 => drop(map.remove(key)),
        1 => drop(map.insert(format!("{key}x"), other.clone())),
        2 => {
            let value = map.remove(key).unwrap_or_default();
            map.insert(keys[index(keys.len(), random)].clone(), value);
        }
        _ => edit(&mut map[key.as_str()], other, random, depth + 1),
    }
}

/// Changes keys and tensors of a GGUF file so that it stays well-formed, or any bytes.
pub fn gguf(input: &mut Vec<u8>, random: &mut Random) {
    let changed = if random.below(4) > 0 { Gguf::parse(Path::new("seed"), input).ok() } else { None };
    match changed.and_then(|gguf| rewritten(&gguf, input, random)) {
        Some(new) => *input = new,
        None => bytes(input, random),
    }
}

fn rewritten(gguf: &Gguf, file: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut metadata = gguf.metadata().clone();
    let mut tensors: Vec<(TensorDeclaration, Vec<u8>)> = Vec::new();
    for info in gguf.tensors() {
        let bytes = &file[info.offset as usize..(info.offset + info.bytes) as usize];
        tensors.push((
            TensorDeclaration { name: info.name.clone(), shape: info.shape.clone(), ty: info.ty },
            bytes.to_vec(),
        ));
    }
    if random.below(4) > 0 || tensors.is_empty() {
        change_key(&mut metadata, random)?;
    } else {
        change_tensor(&mut tensors, random);
    }
    let declarations: Vec<TensorDeclaration> = tensors.iter().map(|(declaration, _)| declaration.clone()).collect();
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Path::new("changed"), &metadata, &declarations).ok()?;
    for (declaration, bytes) in &tensors {
        writer.write(&declaration.name, bytes).ok()?;
    }
    writer.finish().ok()?;
    Some(out)
}

fn change_tensor(tensors: &mut Vec<(TensorDeclaration, Vec<u8>)>, random: &mut Random) {
    let at = index(tensors.len(), random);
    let other = tensors[index(tensors.len(), random)].0.name.clone();
    let (declaration, bytes) = &mut tensors[at];
    match random.below(6) {
        0 => drop(tensors.remove(at)),
        1 => declaration.shape.reverse(),
        2 => declaration.shape = vec![declaration.shape.iter().product()],
        3 => declaration.shape.push(1),
        4 => declaration.name = format!("{other}x"),
        _ => {
            let row = index(bytes.len() / 4, random) * 4;
            let value = [f32::NAN, f32::INFINITY, 1e38, -0.0, 1e-40][random.below(5) as usize];
            value.to_le_bytes().iter().zip(bytes.iter_mut().skip(row)).for_each(|(new, old)| *old = *new);
        }
    }
}

fn change_key(metadata: &mut Metadata, random: &mut Random) -> Option<()> {
    let keys: Vec<String> = metadata.iter().map(|(key, _)| key.to_owned()).collect();
    let key = keys.get(index(keys.len(), random))?;
    if random.below(10) == 0 {
        metadata.remove(key);
        return Some(());
    }
    let entry = match (metadata.get(key)?, random.below(8)) {
        (_, 0) => Entry::U32(edge(random) as u32),
        (_, 1) => Entry::F32(f32::from_bits(random.bits() as u32)),
        (_, 2) => Entry::String(b"x".repeat(1 << random.below(12))),
        (_, 3) => Entry::Array(Array::U8(vec![1; 1 << random.below(10)])),
        (Entry::U32(n), _) => Entry::U32(n.wrapping_add(random.below(5)).wrapping_sub(2)),
        (Entry::String(text), _) => {
            let mut text = text.clone();
            bytes(&mut text, random);
            Entry::String(text)
        }
        (Entry::Array(array), _) => Entry::Array(change_array(array, random)),
        (other, _) => other.clone(),
    };
    metadata.set(key.as_str(), entry);
    Some(())
}

fn change_array(array: &Array, random: &mut Random) -> Array {
    match array {
        Array::String(list) => {
            let mut all: Vec<Vec<u8>> = list.iter().map(<[u8]>::to_vec).collect();
            let at = index(all.len(), random);
            let other = all.get(index(all.len(), random)).cloned().unwrap_or_default();
            match random.below(6) {
                0 => all.push(other),
                1 if !all.is_empty() => drop(all.remove(at)),
                2 if !all.is_empty() => all[at] = other,
                3 if !all.is_empty() => all[at] = [b"<0x-1>", b"<0xZZ>", b"<0x41>"][random.below(3) as usize].to_vec(),
                _ if !all.is_empty() => bytes(&mut all[at], random),
                _ => {}
            }
            let mut out = loam::gguf::Strings::with_capacity(all.len(), 0);
            all.iter().for_each(|text| out.push(text));
            Array::String(out)
        }
        Array::I32(list) => {
            let mut list = list.clone();
            let at = index(list.len(), random);
            match random.below(3) {
                0 => list.push(1),
                1 => list.truncate(at),
                _ => list.iter_mut().skip(at).take(1).for_each(|n| *n = edge(random) as i32),
            }
            Array::I32(list)
        }
        Array::F32(list) => {
            let mut list = list.clone();
            let at = index(list.len(), random);
            list.iter_mut().skip(at).take(1).for_each(|x| *x = f32::from_bits(random.bits() as u32));
            Array::F32(list)
        }
        other => other.clone(),
    }
}
