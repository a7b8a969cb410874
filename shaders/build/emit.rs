//! Writes `source.rs` and the expanded texts that it includes.

use std::fmt::Write as _;
use std::path::Path;

use super::reflect::Reflection;
use super::variants::{FORMATS, Variant};

/// A variant with everything that its `Source` says.
pub struct Generated {
    /// Name, file and family.
    pub variant: Variant,
    /// Expanded text.
    pub text: String,
    /// Bindings and sizes.
    pub reflection: Reflection,
}

/// Writes `source.rs` and one `.wgsl` per variant to `out`.
pub fn write(out: &Path, all: &[Generated]) -> std::io::Result<()> {
    for generated in all {
        std::fs::write(out.join(format!("{}.wgsl", generated.variant.name)), &generated.text)?;
    }
    std::fs::write(out.join("source.rs"), source(all))
}

/// The content of `source.rs`.
pub fn source(all: &[Generated]) -> String {
    let mut text = String::new();
    for generated in all {
        text.push_str(&constant(generated));
    }
    let mut families: Vec<&str> = all.iter().filter_map(|generated| generated.variant.family.as_deref()).collect();
    families.sort_unstable();
    families.dedup();
    for family in families {
        text.push_str(&array(family, all));
    }
    let names: Vec<String> =
        all.iter().map(|generated| format!("&{}", constant_name(&generated.variant.name))).collect();
    let _ = writeln!(text, "/// All variants by name.\npub static SOURCES: &[&Source] = &[{}];", names.join(", "));
    text
}

fn constant_name(name: &str) -> String {
    name.to_uppercase()
}

fn constant(generated: &Generated) -> String {
    let Generated { variant, reflection, .. } = generated;
    let name = &variant.name;
    let bindings: Vec<String> = reflection.bindings.iter().map(|(name, written)| binding(name, *written)).collect();
    format!(
        "/// From `{file}`.\npub static {constant}: Source = Source {{\n    name: {name:?},\n    \
         wgsl: include_str!(concat!(env!(\"OUT_DIR\"), \"/{name}.wgsl\")),\n    bindings: &[{bindings}],\n    \
         workgroup: {workgroup:?},\n    params_bytes: {params},\n    needs: &[{needs}],\n}};\n",
        file = variant.file,
        constant = constant_name(name),
        bindings = bindings.join(", "),
        workgroup = reflection.workgroup,
        params = reflection.params_bytes,
        needs = reflection.needs.iter().map(|need| format!("Need::{need}")).collect::<Vec<_>>().join(", "),
    )
}

fn binding(name: &str, written: bool) -> String {
    let access = if written { "ReadWrite" } else { "Read" };
    format!("Binding {{ name: {name:?}, access: Access::{access} }}")
}

/// The sources of a family in the order of `Format`: index it by `format as usize`.
fn array(family: &str, all: &[Generated]) -> String {
    let member = |format: &&str| {
        let define = ("FORMAT".to_owned(), (*format).to_owned());
        let member = all.iter().find(|generated| {
            generated.variant.family.as_deref() == Some(family) && generated.variant.defines.contains(&define)
        });
        member.map_or_else(String::new, |generated| format!("&{}", constant_name(&generated.variant.name)))
    };
    let members: Vec<String> = FORMATS.iter().map(member).collect();
    format!(
        "/// One per block format, by `Format as usize`.\npub static {}: [&Source; {}] = [{}];\n",
        constant_name(family),
        members.len(),
        members.join(", ")
    )
}
