//! Small JSON files of a model folder, read with a size limit, and typed access to their fields.

use std::io::Read;
use std::path::{Path, PathBuf};

use loam_files::file::is_lfs_pointer;
use serde_json::Value;

use crate::problem::SourceProblem;
use crate::{Error, Result};

/// Most bytes of the files of a folder, by the ends of their names. The largest that were published: config.json some
/// 100 KB, tokenizer_config.json 5 MB, an index 9 MB, tokenizer.json 35 MB.
const LIMITS: [(&str, u64); 5] = [
    ("tokenizer.json", 128 << 20),
    ("tokenizer.model", 128 << 20),
    (".index.json", 32 << 20),
    ("tokenizer_config.json", 32 << 20),
    ("added_tokens.json", 32 << 20),
];
/// Of all others: configurations, templates.
const LIMIT: u64 = 1 << 20;
/// Bytes of memory that a value takes in its list at most, while the list grows; a list more; an object more.
const MEMORY: [u64; 3] = [220, 300, 480];
/// The memory that is taken is so many times the length of the file ..
const FACTOR: u64 = 64;
/// .. and so much more. Vocabularies take 10 to 40 times their length.
const FLOOR: u64 = 64 << 20;

/// A JSON object with the file it came from, so that every complaint can name file and field.
#[derive(Debug, Clone)]
pub struct Json {
    /// The file.
    pub path: PathBuf,
    /// Dotted path of this object inside the file, empty at the top.
    prefix: String,
    /// The object.
    value: Value,
}

impl Json {
    /// Reads `path`, whose top level must be an object.
    ///
    /// # Errors
    /// The file cannot be read, is larger than files of its name are, or is no JSON object.
    pub fn read(path: &Path) -> Result<Json> {
        let bytes = read_limited(path)?;
        let bad = |problem: String| Error::Json { path: path.into(), problem };
        if memory(&bytes) > FLOOR + FACTOR * bytes.len() as u64 {
            return Err(bad(format!("its {} bytes hold more values than any configuration", bytes.len())));
        }
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        if !value.is_object() {
            return Err(bad("the top level is no object".into()));
        }
        Ok(Json { path: path.into(), prefix: String::new(), value })
    }

    /// As [`Json::read`], `None` if there is no such file.
    ///
    /// # Errors
    /// As [`Json::read`].
    pub fn read_optional(path: &Path) -> Result<Option<Json>> {
        if present(path)? { Json::read(path).map(Some) } else { Ok(None) }
    }

    /// An object that did not come from a file of its own.
    pub fn from_value(path: &Path, prefix: &str, value: Value) -> Json {
        Json { path: path.into(), prefix: prefix.into(), value }
    }

    /// The value of `key`; JSON null counts as absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|v| !v.is_null())
    }

    /// Whether `key` is there and null.
    pub fn is_null(&self, key: &str) -> bool {
        self.value.get(key).is_some_and(Value::is_null)
    }

    /// Sets `key` to `value` if it is not there at all, as a whole number if it is one.
    pub fn default(&mut self, key: &str, value: f64) {
        let Some(map) = self.value.as_object_mut() else { return };
        let whole = value.fract() == 0.0;
        map.entry(key).or_insert_with(|| if whole { Value::from(value as u64) } else { Value::from(value) });
    }

    /// This object with the fields of `other` in place of its own.
    pub fn with(&self, other: &Json) -> Json {
        let mut both = self.clone();
        if let (Some(map), Some(others)) = (both.value.as_object_mut(), other.value.as_object()) {
            map.extend(others.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        both
    }

    /// Keys in file order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.value.as_object().into_iter().flat_map(|map| map.keys().map(String::as_str))
    }

    /// The nested object `key`.
    ///
    /// # Errors
    /// The field is there and no object.
    pub fn object(&self, key: &str) -> Result<Option<Json>> {
        match self.get(key) {
            None => Ok(None),
            Some(v) if v.is_object() => Ok(Some(Json::from_value(&self.path, &self.name(key), v.clone()))),
            Some(v) => Err(self.wrong(key, "an object", v)),
        }
    }

    /// As [`Json::object`], taken out instead of copied: vocabularies are large.
    ///
    /// # Errors
    /// The field is there and no object.
    pub fn take_object(&mut self, key: &str) -> Result<Option<Json>> {
        match self.value.get_mut(key).map(Value::take) {
            None | Some(Value::Null) => Ok(None),
            Some(v) if v.is_object() => Ok(Some(Json::from_value(&self.path, &self.name(key), v))),
            Some(v) => Err(self.wrong(key, "an object", &v)),
        }
    }

    /// The unsigned integer `key`, from 1 to `limit`.
    ///
    /// # Errors
    /// The field is there and no such number.
    pub fn count(&self, key: &str, limit: u64) -> Result<Option<u64>> {
        let Some(v) = self.get(key) else { return Ok(None) };
        match v.as_u64() {
            Some(n) if (1..=limit).contains(&n) => Ok(Some(n)),
            _ => Err(self.wrong(key, &format!("an integer from 1 to {limit}"), v)),
        }
    }

    /// As [`Json::count`] for a field that must be there.
    ///
    /// # Errors
    /// The field is missing or no such number.
    pub fn need_count(&self, key: &str, limit: u64) -> Result<u64> {
        self.count(key, limit)?.ok_or_else(|| self.error(key, "is missing"))
    }

    /// The finite number `key`.
    ///
    /// # Errors
    /// The field is there and no finite number.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(v) = self.get(key) else { return Ok(None) };
        match v.as_f64() {
            Some(n) if n.is_finite() => Ok(Some(n)),
            _ => Err(self.wrong(key, "a number", v)),
        }
    }

    /// The positive number `key`.
    ///
    /// # Errors
    /// The field is there and not positive.
    pub fn positive(&self, key: &str) -> Result<Option<f64>> {
        match self.number(key)? {
            Some(n) if n <= 0.0 => Err(self.error(key, format!("must be positive, is {n}"))),
            n => Ok(n),
        }
    }

    /// The truth value `key`.
    ///
    /// # Errors
    /// The field is there and neither true nor false.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some(v) = self.get(key) else { return Ok(None) };
        v.as_bool().map(Some).ok_or_else(|| self.wrong(key, "true or false", v))
    }

    /// The string `key`.
    ///
    /// # Errors
    /// The field is there and no string.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        let Some(v) = self.get(key) else { return Ok(None) };
        v.as_str().map(Some).ok_or_else(|| self.wrong(key, "a string", v))
    }

    /// The array `key`; empty if absent.
    ///
    /// # Errors
    /// The field is there and no array.
    pub fn list(&self, key: &str) -> Result<&[Value]> {
        match self.get(key) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(v) => Err(self.wrong(key, "a list", v)),
        }
    }

    /// An error about the field `key`.
    pub fn error(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::field(&self.path, self.name(key), problem)
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value) -> Error {
        self.error(key, format!("must be {expected}, is {}", brief(found)))
    }

    fn name(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.into() } else { format!("{}.{key}", self.prefix) }
    }
}

/// A value as a short piece of a message; control characters are escaped by the JSON form.
pub fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// No less than the memory that the text `json` takes, by commas and opened brackets outside of strings.
fn memory(json: &[u8]) -> u64 {
    let [value, list, object] = MEMORY;
    let (mut bytes, mut inside, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b',' if !inside => bytes += value,
            b'[' if !inside => bytes += list,
            b'{' if !inside => bytes += object,
            _ => {}
        }
    }
    bytes
}

/// Reads a small text file of the folder.
///
/// # Errors
/// The file cannot be read, is no regular file, stands for another one, or is larger than files of its name are.
pub fn read_limited(path: &Path) -> Result<Vec<u8>> {
    let file = open_regular(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let limit = LIMITS.iter().find(|(end, _)| name.ends_with(end)).map_or(LIMIT, |(_, limit)| *limit);
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::source(path, SourceProblem::TooLarge { limit }));
    }
    if is_lfs_pointer(&bytes) {
        return Err(Error::source(path, SourceProblem::LfsPointer));
    }
    Ok(bytes)
}

/// Whether there is something called `path`. A link that leads nowhere is not the same as no file: a model would
/// silently lose what the file says, its chat template for one.
///
/// # Errors
/// [`SourceProblem::DanglingLink`]; it cannot be looked at.
pub fn present(path: &Path) -> Result<bool> {
    let absent = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match (std::fs::symlink_metadata(path), std::fs::metadata(path)) {
        (_, Ok(_)) => Ok(true),
        (Err(error), _) if absent(&error) => Ok(false),
        (Ok(_), Err(error)) if absent(&error) => Err(Error::source(path, SourceProblem::DanglingLink)),
        (_, Err(error)) => Err(Error::io("open", path)(error)),
    }
}

/// Opens `path` for reading if it is a regular file: a pipe would block, a device never end.
///
/// # Errors
/// There is no such file, it is something else, or it cannot be opened.
pub fn open_regular(path: &Path) -> Result<std::fs::File> {
    if !present(path)? {
        return Err(Error::io("open", path)(std::io::ErrorKind::NotFound.into()));
    }
    let meta = std::fs::metadata(path).map_err(Error::io("open", path))?;
    if !meta.is_file() {
        return Err(Error::source(path, SourceProblem::NotRegular));
    }
    std::fs::File::open(path).map_err(Error::io("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::from_value(Path::new("config.json"), "", serde_json::from_str(text).unwrap())
    }

    #[test]
    fn wrong_types_name_file_field_and_value() {
        let j = json(r#"{"hidden_size": "64", "heads": -1, "eps": [1], "rope": {"factor": 0}}"#);
        let message = j.need_count("hidden_size", 10).unwrap_err().to_string();
        assert_eq!(message, r#"config.json: hidden_size: must be an integer from 1 to 10, is "64""#);
        assert!(j.need_count("heads", 10).unwrap_err().to_string().contains("is -1"));
        assert!(j.need_count("absent", 10).unwrap_err().to_string().contains("absent: is missing"));
        assert!(j.number("eps").is_err());
        let rope = j.object("rope").unwrap().unwrap();
        assert!(rope.positive("factor").unwrap_err().to_string().contains("rope.factor"));
    }

    #[test]
    #[cfg(unix)]
    fn absent_is_absent_and_a_link_to_nothing_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chat_template.json");
        assert!(Json::read_optional(&path).unwrap().is_none());
        std::os::unix::fs::symlink(dir.path().join("pruned"), &path).unwrap();
        for error in [Json::read_optional(&path).unwrap_err(), Json::read(&path).unwrap_err()] {
            assert!(matches!(error, Error::Source { problem: SourceProblem::DanglingLink, .. }), "{error}");
        }
        std::fs::write(dir.path().join("pruned"), "{}").unwrap();
        assert!(Json::read_optional(&path).unwrap().is_some());
    }

    #[test]
    fn a_pointer_of_git_lfs_is_not_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n").unwrap();
        let error = Json::read(&path).unwrap_err();
        assert!(matches!(error, Error::Source { problem: SourceProblem::LfsPointer, .. }), "{error}");
    }

    #[test]
    fn files_are_no_larger_and_no_denser_than_those_of_their_name() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            Json::read(&path)
        };
        let long = |bytes: usize| format!("{{\"x\": \"{}\"}}", "y".repeat(bytes));
        for name in ["config.json", "generation_config.json", "adapter_config.json", "special_tokens_map.json"] {
            let error = read(name, long(1 << 20)).unwrap_err();
            assert!(matches!(error, Error::Source { problem: SourceProblem::TooLarge { .. }, .. }), "{name}: {error}");
        }
        for name in ["tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json"] {
            assert!(read(name, long(1 << 20)).is_ok(), "{name}");
            for dense in ["[],", "0,", "[[]],", "{\"\":0},"] {
                let text = format!("{{\"x\": [{}0]}}", dense.repeat(4_000_000 / dense.len()));
                assert!(matches!(read(name, text), Err(Error::Json { .. })), "{name}: {dense}");
            }
        }
        let [value, list, object] = MEMORY;
        assert_eq!(memory(br#"{"a,[{\"": [1, {"b": 2}]}"#), value + list + 2 * object);
    }

    #[test]
    fn a_folder_is_no_json_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Json::read(dir.path()), Err(Error::Source { .. })));
        assert!(matches!(Json::read(&dir.path().join("none")), Err(Error::Io { .. })));
    }
}
