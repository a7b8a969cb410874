//! Keys about the rotation: each that llama.cpp reads is followed, or the file is refused by its name.

use loam::Base;
use loam::gguf::{Metadata, Value};
use loam::model::RopeScaling;
use loam_shaders::Format;
use loam_tests::rewrite::rewrite;

use crate::convert;

/// `name`'s base with other keys.
fn with(name: &str, change: impl FnOnce(&mut Metadata)) -> loam::Result<Base> {
    let (_, folder, path) = convert(name, Format::F32);
    Base::open(rewrite(&path, folder.path(), "changed.gguf", |metadata, _| change(metadata)))
}

fn scaling(name: &str, keys: &[(&str, Value)]) -> RopeScaling {
    let set = |metadata: &mut Metadata| keys.iter().for_each(|(key, value)| metadata.set(*key, value.clone()));
    with(name, set).unwrap_or_else(|error| panic!("{keys:?}: {error}")).config().rope.scaling
}

#[test]
fn positions_are_divided_as_llama_cpp_divides_them() {
    let (factor, old, kind) = ("qwen2.rope.scaling.factor", "qwen2.rope.scale_linear", "qwen2.rope.scaling.type");
    let number = |x: f32| Value::F32(x);
    let table: [(&[(&str, Value)], RopeScaling); 10] = [
        (&[], RopeScaling::None),
        (&[(factor, number(4.0))], RopeScaling::Linear(4.0)),
        (&[(old, number(4.0))], RopeScaling::Linear(4.0)),
        (&[(factor, number(4.0)), (old, number(8.0))], RopeScaling::Linear(4.0)),
        // The new key counts where it is there, also with 0, which is "not at all".
        (&[(factor, number(0.0)), (old, number(8.0))], RopeScaling::None),
        (&[(factor, number(1.0))], RopeScaling::None),
        (&[(kind, "linear".into()), (old, number(2.0))], RopeScaling::Linear(2.0)),
        (&[(kind, "linear".into())], RopeScaling::None),
        (&[(kind, "none".into()), (factor, number(4.0))], RopeScaling::None),
        (
            &[(kind, "yarn".into()), (old, number(4.0))],
            RopeScaling::Yarn { factor: 4.0, beta_fast: 32.0, beta_slow: 1.0 },
        ),
    ];
    for (keys, expected) in table {
        assert_eq!(scaling("qwen2", keys), expected, "{keys:?}");
    }
}

#[test]
fn a_divided_position_has_the_angles_of_the_quotient() {
    let divided = with("qwen2", |metadata| metadata.set("qwen2.rope.scale_linear", 4.0f32)).expect("followed");
    let plain = with("qwen2", |_| ()).expect("a base");
    let (divided, plain) = (divided.config().rope, plain.config().rope);
    let width = plain.rotary;
    assert_eq!(divided.table(9, None)[8 * width..9 * width], plain.table(3, None)[2 * width..3 * width]);
}

#[test]
fn keys_that_are_not_followed_are_refused_by_name() {
    let table: [(&str, &str, Value); 9] = [
        ("qwen2", "rope.scaling.alpha", Value::F32(1000.0)),
        ("qwen2", "rope.scaling.yarn_ext_factor", Value::F32(0.5)),
        ("qwen2", "rope.scaling.yarn_attn_factor", Value::F32(0.5)),
        ("qwen2", "rope.scaling.yarn_log_multiplier", Value::F32(0.1)),
        ("qwen2", "rope.dimension_count_swa", Value::U32(2)),
        ("qwen2", "rope.dimension_sections", Value::from(vec![16i32, 24, 24, 0])),
        ("qwen2", "rope.freq_base_swa", Value::F32(12_345.0)),
        ("qwen2", "rope.freq_base_per_layer", Value::from(vec![1e4f32, 1e6])),
        ("phi3", "rope.scaling.factor", Value::F32(4.0)),
    ];
    for (architecture, suffix, value) in table {
        let key = format!("{architecture}.{suffix}");
        let set = |metadata: &mut Metadata| {
            metadata.set(key.as_str(), value.clone());
            if architecture == "phi3" {
                metadata.set("phi3.rope.scaling.type", "longrope");
            }
        };
        let error = with(architecture, set).err().unwrap_or_else(|| panic!("{key} is passed over"));
        assert!(error.to_string().contains(&key), "{error}");
    }
}

#[test]
fn keys_that_change_nothing_are_no_reason_to_refuse() {
    let neutral = |metadata: &mut Metadata| {
        metadata.set("qwen2.rope.scaling.finetuned", true);
        metadata.set("qwen2.rope.scaling.yarn_ext_factor", 1.0f32);
        metadata.set("qwen2.rope.scaling.yarn_log_multiplier", 0.0f32);
        metadata.set("qwen2.rope.dimension_sections", vec![0i32; 4]);
        if let Some(base) = metadata.get("qwen2.rope.freq_base").cloned() {
            metadata.set("qwen2.rope.freq_base_swa", base);
        }
    };
    let (found, plain) = (with("qwen2", neutral).expect("taken"), with("qwen2", |_| ()).expect("a base"));
    assert_eq!(found.config().rope, plain.config().rope);
    // A base of its own for windowed layers is followed where the architecture has it.
    let own = with("gemma3", |metadata| metadata.set("gemma3.rope.freq_base_swa", 12_345.0f32)).expect("followed");
    assert_eq!(own.config().local_rope.map(|rope| rope.base), Some(12_345.0));
}
