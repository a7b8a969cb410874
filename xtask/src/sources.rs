//! The files of the repository.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A text file of the repository.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its path below the root, with `/`.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// The root of the repository that this program was built in.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository").to_owned()
}

/// All files below `root` whose name ends in one of `endings`, ordered by path; build output and hidden folders left
/// out.
///
/// # Errors
/// What the system says of a folder or file that cannot be read, or is not UTF-8.
pub fn sources(root: &Path, endings: &[&str]) -> io::Result<Vec<Source>> {
    let mut found = Vec::new();
    collect(root, root, endings, &mut found)?;
    Ok(found)
}

fn collect(root: &Path, folder: &Path, endings: &[&str], found: &mut Vec<Source>) -> io::Result<()> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            if name != "target" && name != "venv" && !name.starts_with('.') {
                collect(root, &path, endings, found)?;
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            let below = path.strip_prefix(root).expect("the walk starts at the root");
            let path_text = below.to_string_lossy().replace('\\', "/");
            found.push(Source { path: path_text, text: fs::read_to_string(&path)? });
        }
    }
    Ok(())
}
