//! The build script's three steps: expansion, reflection, generated code.

#[path = "../build.rs"]
#[allow(dead_code, reason = "cargo runs main, the tests call its parts")]
mod build;

use std::path::PathBuf;

use build::expand::{self, Expanded};
use build::reflect::{Reflection, reflect};
use build::variants::{self, Variant};

/// A shaders folder with these files.
fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&root);
    for (file, text) in files {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("can create");
        std::fs::write(path, text).expect("can write");
    }
    root
}

fn expanded(name: &str, files: &[(&str, &str)], defines: &[(&str, &str)]) -> Result<Expanded, String> {
    let defines: Vec<_> = defines.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    expand::expand(&folder(name, files), "op/a.wgsl", &defines)
}

#[test]
fn imports_are_inserted_once_and_lines_know_where_they_came_from() {
    let files = [
        ("op/a.wgsl", "// a comment\n#import \"include/one.wgsl\"\n\n#import \"format/FORMAT.wgsl\"\nlast\n"),
        ("include/one.wgsl", "one\n#import \"format/q8_0.wgsl\"\n"),
        ("format/q8_0.wgsl", "  // another\nq8\n"),
    ];
    let result = expanded("imports", &files, &[("FORMAT", "q8_0")]).expect("expands");
    assert_eq!(result.text, "one\nq8\nlast\n");
    let origins = [("include/one.wgsl", 1), ("format/q8_0.wgsl", 2), ("op/a.wgsl", 5)];
    assert_eq!(result.origins, origins.map(|(file, line)| (file.to_owned(), line)));
}

#[test]
fn definitions_replace_whole_identifiers_from_their_line_on() {
    let text = "COLS\n#define COLS params.width\nCOLS+COLS2-(COLS)*xCOLS,COLS\n#define FLAG\n[FLAG]\n";
    let result = expanded("defines", &[("op/a.wgsl", text)], &[]).expect("expands");
    assert_eq!(result.text, "COLS\nparams.width+COLS2-(params.width)*xCOLS,params.width\n[]\n");
}

#[test]
fn conditions_nest() {
    let text = "#ifdef A\na\n#ifdef B\nab\n#else\na-\n#endif\n#else\n-\n#ifndef B\n--\n#import \"missing.wgsl\"\n#endif\n\
                #endif\nend\n";
    let with = |defines: &[(&str, &str)]| expanded("conditions", &[("op/a.wgsl", text)], defines).map(|e| e.text);
    assert_eq!(with(&[("A", ""), ("B", "")]).as_deref(), Ok("a\nab\nend\n"));
    assert_eq!(with(&[("A", "")]).as_deref(), Ok("a\na-\nend\n"));
    assert_eq!(with(&[("B", "")]).as_deref(), Ok("-\nend\n"));
    assert!(with(&[]).expect_err("the import is taken").starts_with("op/a.wgsl:12: missing.wgsl: "));
}

#[test]
fn repeats_write_their_lines_once_per_number() {
    let text = "#define N 2\n#repeat i in 0..N\nvar sum{i} = {i}u;\n#repeat j in 1..3\n{i}{j} {k}\n#endrepeat\n#endrepeat\nend\n";
    let result = expanded("repeats", &[("op/a.wgsl", text)], &[]).expect("expands");
    let lines = ["var sum0 = 0u;", "01 {k}", "02 {k}", "var sum1 = 1u;", "11 {k}", "12 {k}", "end"];
    assert_eq!(result.text.lines().collect::<Vec<_>>(), lines);
    let numbers: Vec<usize> = result.origins.iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers, [3, 5, 5, 3, 5, 5, 8]);
    let text = "#repeat i in 3..3\n#endif\n#endrepeat\n#ifdef A\n#repeat i in 0..B\nx\n#endrepeat\n#endif\nend\n";
    let none = expanded("repeats", &[("op/a.wgsl", text)], &[]).expect("what is left out is not read");
    assert_eq!(none.text, "end\n");
    let text = "#define RUN sum\n#repeat i in 0..2\nRUN{i} RUN1\n#endrepeat\n";
    let joined = expanded("repeats", &[("op/a.wgsl", text)], &[]).expect("expands");
    assert_eq!(joined.text, "sum0 RUN1\nsum1 RUN1\n", "definitions come before numbers");
}

#[test]
fn imports_with_arguments_are_inserted_every_time() {
    let files = [
        (
            "op/a.wgsl",
            "#define FROM b\n#repeat i in 0..2\n#import \"one.wgsl\" NAME=f{i} LOAD=FROM\n#endrepeat\nNAME LOAD\n",
        ),
        ("one.wgsl", "fn NAME LOAD\n#import \"two.wgsl\"\n"),
        ("two.wgsl", "two NAME\n"),
    ];
    let result = expanded("arguments", &files, &[]).expect("expands");
    assert_eq!(result.text, "fn f0 b\ntwo f0\nfn f1 b\nNAME LOAD\n", "one without arguments is inserted once");
}

#[test]
fn wrong_directives_name_file_and_line() {
    let cases = [
        ("\n#ifdef A\n", "op/a.wgsl: #endif is missing"),
        ("#else\n", "op/a.wgsl:1: #else without #ifdef"),
        ("#ifdef A\n#else\n#else\n#endif\n", "op/a.wgsl:3: #else without #ifdef"),
        ("\n#endif\n", "op/a.wgsl:2: #endif without #ifdef"),
        ("#ifdef\n#endif\n", "op/a.wgsl:1: malformed #ifdef"),
        ("x\n#include \"b\"\n", "op/a.wgsl:2: unknown directive #include"),
        ("#import b\n", "op/a.wgsl:1: expected #import \"path\""),
        ("#import \"b\" C\n", "op/a.wgsl:1: expected #import \"path\" NAME=text"),
        ("#define A 1\n#import \"b\" A=2\n", "op/a.wgsl:2: A is already defined"),
        ("#repeat i\n#endrepeat\n", "op/a.wgsl:1: expected #repeat i in 0..4"),
        ("#repeat i in 0..N\n#endrepeat\n", "op/a.wgsl:1: expected #repeat i in 0..4"),
        ("#repeat i in 0..2\n#repeat j in 0..2\n#endrepeat\n", "op/a.wgsl:1: #endrepeat is missing"),
        ("#repeat i in 0..2\n#ifdef A\n#endrepeat\n#endif\n", "op/a.wgsl: #endif is missing"),
        ("\n#endrepeat\n", "op/a.wgsl:2: #endrepeat without #repeat"),
        ("#define 1 2\n", "op/a.wgsl:1: expected #define NAME text"),
        ("#define A 1\n#define A 2\n", "op/a.wgsl:2: A is already defined"),
    ];
    for (text, message) in cases {
        assert_eq!(expanded("wrong", &[("op/a.wgsl", text)], &[]), Err(message.to_owned()), "{text:?}");
    }
}

#[test]
fn variants_come_from_file_names_and_the_listing() {
    let files = ["matmul/tile.wgsl".to_owned(), "rope/rotate.wgsl".to_owned(), "attention/tile.wgsl".to_owned()];
    let listing =
        "# a comment\nmatmul/tile.wgsl matmul_tile_{format}\n\nattention/tile.wgsl attention_tile_64 DIM=64 X=\n";
    let variants = variants::variants(&files, listing).expect("a good listing");
    let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
    let mut formats: Vec<String> = variants::FORMATS.iter().map(|format| format!("matmul_tile_{format}")).collect();
    formats.sort();
    let after = 1 + formats.len();
    assert_eq!(names[0], "attention_tile_64");
    assert_eq!(names[1..after], formats);
    assert_eq!(names[after..], ["rope_rotate"]);
    let own = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    assert_eq!(variants[0].defines, [own("DIM", "64"), own("X", "")]);
    let expected = Variant {
        name: "matmul_tile_q4_0".to_owned(),
        file: "matmul/tile.wgsl".to_owned(),
        defines: vec![own("FORMAT", "q4_0")],
        family: Some("matmul_tile".to_owned()),
    };
    assert_eq!(variants.iter().find(|variant| variant.name == expected.name), Some(&expected));
    for (listing, message) in [
        ("a/b.wgsl c\n", "variants:1: there is no file a/b.wgsl"),
        ("\nrope/rotate.wgsl\n", "variants:2: a kernel name is missing"),
        ("rope/rotate.wgsl r X\n", "variants:1: expected NAME=text"),
        ("rope/rotate.wgsl attention_tile\n", "two variants are named attention_tile"),
    ] {
        assert_eq!(variants::variants(&files, listing), Err(message.to_owned()), "{listing:?}");
    }
}

const KERNEL: &str = "struct Params { n: u32, a: u32, b: u32, c: u32 }
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;
var<workgroup> shared_words: array<u32, 64>;
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32) {
    shared_words[thread] = 1u;
    if thread < params.n { y[thread] = x[thread]; }
}
";

fn reflected(text: &str) -> Result<Reflection, String> {
    let origins = text.lines().enumerate().map(|(index, _)| ("op/a.wgsl".to_owned(), index + 101)).collect();
    reflect(&Expanded { text: text.to_owned(), origins })
}

#[test]
fn reflection_lists_bindings_in_order() {
    let expected = Reflection {
        bindings: vec![("x".to_owned(), false), ("y".to_owned(), true)],
        workgroup: [64, 1, 1],
        params_bytes: 16,
        needs: Vec::new(),
    };
    assert_eq!(reflected(KERNEL), Ok(expected));
}

#[test]
fn needs_follow_from_what_the_text_enables_and_uses() {
    let needs = |text: &str| reflected(text).map(|reflection| reflection.needs);
    let half = format!("enable f16;\n{KERNEL}");
    assert_eq!(needs(&half), Ok(vec!["Half".to_owned()]));
    let zero = "let zero = coop_mat8x8<f32, C>(); shared_words[thread] = 1u;";
    let matrices = format!("enable f16;\nenable wgpu_cooperative_matrix;\n{KERNEL}");
    let matrices = matrices.replace("shared_words[thread] = 1u;", zero).replace("u32, 64>", "u32, 8000>");
    assert_eq!(needs(&matrices), Ok(vec!["Half".to_owned(), "Cooperative(8)".to_owned()]));
    let hidden = KERNEL.replace("thread < params.n", "f16(thread) < 1.0h");
    assert!(needs(&hidden).is_err_and(|error| error.contains("f16")), "what is not enabled cannot be used");
}

#[test]
fn conventions_are_enforced() {
    let cases = [
        ("@binding(1) var<storage", "@binding(2) var<storage", "without holes, expected 1"),
        ("@group(0) @binding(0)", "@group(2) @binding(0)", "storage belongs to group 0"),
        ("@binding(0) var<uniform>", "@binding(2) var<uniform>", "params: uniforms are params"),
        (", c: u32 }", " }", "12 bytes, must be a multiple of 16"),
        ("@workgroup_size(64)", "@workgroup_size(8, 8)", "must be one-dimensional"),
        ("@workgroup_size(64)", "@workgroup_size(512)", "at most 256 threads"),
        ("array<u32, 64>", "array<u32, 4097>", "16388 bytes of workgroup memory"),
        ("fn main", "fn start", "must be the compute shader main"),
        ("x[thread];", "z[thread];", "op/a.wgsl:109: "),
        ("x[thread];", "x[thread] + 1u;", "op/a.wgsl:109: "),
    ];
    for (from, to, message) in cases {
        assert!(KERNEL.contains(from), "{from}");
        let error = reflected(&KERNEL.replacen(from, to, 1)).expect_err(to);
        assert!(error.contains(message), "{to}: {error}");
    }
    let nine: String = (2..9).map(|i| format!("@group(0) @binding({i}) var<storage> v{i}: array<u32>;\n")).collect();
    let error = reflected(&format!("{KERNEL}{nine}")).expect_err("nine bindings");
    assert!(error.contains("9 storage bindings"), "{error}");
}

#[test]
fn generated_code_names_every_variant() {
    let files = [("op/a.wgsl", KERNEL), ("op/b.wgsl", KERNEL), ("variants", "op/b.wgsl op_b_{format}\n")];
    let root = folder("generated", &files);
    let out = folder("generated-out", &[("keep", "")]);
    let watched = build::generate(&root, &out).expect("generates");
    assert!(watched.contains(&root.join("op")));
    let source = std::fs::read_to_string(out.join("source.rs")).expect("source.rs");
    assert!(source.contains("pub static OP_A: Source"));
    let family: Vec<String> =
        variants::FORMATS.iter().map(|format| format!("&OP_B_{}", format.to_uppercase())).collect();
    let family = family.join(", ");
    assert!(source.contains(&format!("pub static OP_B: [&Source; {}] = [{family}]", variants::FORMATS.len())));
    let text = std::fs::read_to_string(out.join("op_a.wgsl")).expect("text");
    assert!(text.lines().eq(KERNEL.lines().map(str::trim)), "{text}");
}

#[test]
fn every_broken_variant_is_reported() {
    let broken = KERNEL.replace("x[thread];", "z[thread];");
    let files = [("op/a.wgsl", broken.as_str()), ("op/b.wgsl", "#endif\n"), ("op/c.wgsl", KERNEL), ("variants", "")];
    let errors = build::generate(&folder("broken", &files), &folder("broken-out", &[])).expect_err("two are broken");
    assert_eq!(errors.len(), 2);
    assert!(errors[0].starts_with("op_a: op/a.wgsl:9: "), "{}", errors[0]);
    assert!(errors[1].starts_with("op_b: op/b.wgsl:1: #endif"), "{}", errors[1]);
}

#[test]
fn the_formats_are_those_of_the_library() {
    assert_eq!(variants::FORMATS, loam_shaders::Format::ALL.map(|format| format.name()));
    for (index, format) in loam_shaders::Format::ALL.into_iter().enumerate() {
        assert_eq!(format as usize, index);
    }
}
