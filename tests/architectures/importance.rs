//! The importance of experts: against plain sums in Transformers (`make_importance.py`), and what a conversion makes of
//! experts that no token was sent to.

use loam::backend::Backend;
use loam::importance::Collector;
use loam::{Base, Engine, Importance};
use loam_convert::Options;
use loam_shaders::Format;
use loam_tests::{back_ends, relative};
use safetensors::SafeTensors;

const STACKS: [&str; 3] = ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"];

fn collect(base: &Base, backend: Box<dyn Backend>, chunks: &[Vec<u32>]) -> Importance {
    let mut engine = Engine::new(base, backend).expect("engine");
    let mut collector = pollster::block_on(Collector::new(base, &mut engine, chunks[0].len())).expect("collector");
    chunks.iter().for_each(|chunk| pollster::block_on(collector.run(&mut engine, chunk)).expect("chunk"));
    collector.finish(vec!["golden".into()])
}

#[test]
fn statistics_of_experts_are_those_of_transformers() {
    let (golden, _folder, path) = super::convert("qwen3moe", Format::F32);
    let base = Base::open(path).expect("base");
    let (_, shape, bits) = super::values(&golden, "tokens");
    let rows: Vec<Vec<u32>> = bits.chunks(shape[1]).map(|row| row.iter().map(|b| b.to_bits()).collect()).collect();
    let expected = include_bytes!("qwen3moe/importance.safetensors");
    let names = SafeTensors::deserialize(expected).expect("safetensors").len();
    for (device, backend) in back_ends() {
        let importance = collect(&base, backend, &rows);
        assert_eq!(2 * importance.entries.len(), names, "{device}");
        for (name, entry) in &importance.entries {
            let (_, shape, sums) = super::values(expected, &format!("{name}.sums"));
            assert_eq!([entry.counts.len(), entry.inputs()], *shape, "{device}: {name}");
            let (_, _, counts) = super::values(expected, &format!("{name}.counts"));
            assert_eq!(entry.counts, counts, "{device}: {name}");
            for (expert, (found, sums)) in entry.sums.chunks(shape[1]).zip(sums.chunks(shape[1])).enumerate() {
                let error = relative(found, sums);
                assert!(error < 1e-5, "{device}: {name}, matrix {expert} is off by {error:.1e}");
            }
        }
    }
}

/// Three tokens reach at most six of eight experts. So few are not sorted, unless experts are watched.
#[test]
fn experts_that_no_token_was_sent_to() {
    let (_, folder, path) = super::convert("qwen3moe", Format::F32);
    let base = Base::open(path).expect("base");
    let (file, out) = (folder.path().join("m.gguf"), folder.path().join("out.gguf"));
    for (device, backend) in back_ends() {
        let importance = collect(&base, backend, &[vec![3, 1, 4]]);
        for name in STACKS.map(|stack| format!("blk.1.{stack}.weight")) {
            let entry = &importance.entries[&name];
            assert_eq!((entry.counts.len(), entry.counts.iter().sum::<f32>()), (8, 6.0), "{device}: {name}");
            assert!(entry.counts.contains(&0.0), "{device}: {name}");
            let (means, inputs) = (entry.means(), entry.inputs());
            for (expert, (sums, means)) in entry.sums.chunks(inputs).zip(means.chunks(inputs)).enumerate() {
                let unseen = sums.iter().all(|x| *x == 0.0) && means.iter().all(|x| *x == 1.0);
                assert_eq!(unseen, entry.counts[expert] == 0.0, "{device}: {name}, expert {expert}");
            }
        }
        importance.write(&file).expect("write");
        assert_eq!(Importance::read(&file).expect("read"), importance);
        let options = Options { imatrix: Some(file.clone()), ..Options::new(Format::Q4_0) };
        let summary = loam_convert::convert(folder.path(), &out, &options, &mut |_| ()).expect("conversion");
        let note = summary.notes.iter().find(|note| note.contains("no token was sent to some experts"));
        assert!(note.is_some_and(|note| note.contains("blk.0.ffn_down_exps.weight")), "{device}: {:?}", summary.notes);
        Base::open(&out).expect("a base");
    }
}
