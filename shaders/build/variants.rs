//! Which kernels the `.wgsl` files make: one per file, or what the file `variants` lists, one kernel per line:
//!
//! ```text
//! matmul/tile.wgsl     matmul_tile_{format}  ELEMENT=f32
//! attention/tile.wgsl  attention_tile_64     HEAD_DIM=64u
//! ```
//!
//! `{format}` makes one kernel per block format and defines `FORMAT` (`q4_0`), so that
//! `#import "format/FORMAT.wgsl"` brings the loader. `NAME=text` defines more. A file that is not listed makes one
//! kernel named after folder and file: `rmsnorm/forward.wgsl` is `rmsnorm_forward`.

use std::path::{Path, PathBuf};

include!("../format/list.rs");

/// The names in the list.
macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident $name:ident,)*) => { &[$(stringify!($name)),*] };
}

/// Block formats in the order of `loam_shaders::Format`.
pub const FORMATS: &[&str] = formats!(names);

/// Folders of the shaders folder that hold no kernels.
const NO_OPS: [&str; 4] = ["build", "format", "include", "tests"];

/// A kernel to be made from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Kernel name, an identifier.
    pub name: String,
    /// Path from the shaders folder.
    pub file: String,
    /// Definitions before the first line.
    pub defines: Vec<(String, String)>,
    /// Name without the format, if this is one of a family over all formats.
    pub family: Option<String>,
}

/// Folders that hold an op.
pub fn op_folders(root: &Path) -> Result<Vec<PathBuf>, String> {
    let listing = std::fs::read_dir(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let mut folders: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).filter(|path| is_op(path)).collect();
    folders.sort();
    Ok(folders)
}

fn is_op(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(".");
    path.is_dir() && !name.starts_with('.') && !NO_OPS.contains(&name)
}

/// All `<op>/<file>.wgsl`, sorted, as paths from the shaders folder.
pub fn kernel_files(root: &Path) -> Result<Vec<String>, String> {
    let mut files = Vec::new();
    for folder in op_folders(root)? {
        let op = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let listing = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let names = listing.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        files.extend(names.filter(|name| name.ends_with(".wgsl")).map(|name| format!("{op}/{name}")));
    }
    files.sort();
    Ok(files)
}

/// Which kernels the files make; `listing` is the content of `variants`.
pub fn variants(files: &[String], listing: &str) -> Result<Vec<Variant>, String> {
    let mut all = Vec::new();
    for (index, line) in listing.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(file) = words.next() else { continue };
        let at = |problem: &str| format!("variants:{}: {problem}", index + 1);
        if !files.iter().any(|known| known == file) {
            return Err(at(&format!("there is no file {file}")));
        }
        let name = words.next().ok_or_else(|| at("a kernel name is missing"))?;
        let defines: Option<Vec<_>> = words.map(|word| word.split_once('=').map(own)).collect();
        all.extend(listed(file, name, defines.ok_or_else(|| at("expected NAME=text"))?));
    }
    for file in files {
        if !all.iter().any(|variant| variant.file == *file) {
            let name = file.trim_end_matches(".wgsl").replace('/', "_");
            all.push(Variant { name, file: file.clone(), defines: Vec::new(), family: None });
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    match all.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(format!("two variants are named {}", pair[0].name)),
        None => Ok(all),
    }
}

fn own((name, text): (&str, &str)) -> (String, String) {
    (name.to_owned(), text.to_owned())
}

/// The variants of one line of the listing.
fn listed(file: &str, name: &str, defines: Vec<(String, String)>) -> Vec<Variant> {
    if !name.contains("{format}") {
        return vec![Variant { name: name.to_owned(), file: file.to_owned(), defines, family: None }];
    }
    let family = name.replace("_{format}", "");
    let one = |format: &str| Variant {
        name: name.replace("{format}", format),
        file: file.to_owned(),
        defines: defines.iter().cloned().chain([own(("FORMAT", format))]).collect(),
        family: Some(family.clone()),
    };
    FORMATS.iter().copied().map(one).collect()
}
