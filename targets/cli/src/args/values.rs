//! Parsers of single values. What they refuse is a usage error (exit code 2).

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use embassy_time::Duration;
use loam::adapter::{TUNINGS, Tuning};
use loam::train::Objective;
use loam::train::objective::ALL;

/// `A[:SCALE]`: an adapter file and the factor of its output.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterSpec {
    /// The GGUF file.
    pub path: PathBuf,
    /// 1 unless given.
    pub scale: f32,
}

impl FromStr for AdapterSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A file of that very name wins, so that a colon in a name (or a Windows drive) needs no quoting.
        let plain = || AdapterSpec { path: PathBuf::from(text), scale: 1.0 };
        match text.rsplit_once(':') {
            Some((path, scale)) if !path.is_empty() && !Path::new(text).exists() => match scale.parse::<f32>() {
                Ok(scale) if scale.is_finite() => Ok(AdapterSpec { path: PathBuf::from(path), scale }),
                Ok(_) => Err(format!("the scale {scale} is not finite")),
                // `C:\adapter.gguf` and `a:b.gguf` are paths; `a.gguf:x` is a mistyped scale.
                Err(_) if scale.contains(['/', '\\', '.']) => Ok(plain()),
                Err(_) => Err(format!("`{scale}` behind the colon is not a scale; write FILE or FILE:0.5")),
            },
            _ => Ok(plain()),
        }
    }
}

/// `[LABEL=]FILE`: a data file and what it is called in results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSpec {
    /// The name of the file unless given.
    pub label: String,
    /// The file.
    pub path: PathBuf,
}

impl FromStr for DataSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            // A file of that very name wins, so that an equals sign in a name needs no quoting.
            Some((label, path)) if !label.contains(['/', '\\']) && !Path::new(text).exists() => {
                match label.is_empty() || path.is_empty() {
                    true => Err("write FILE or LABEL=FILE".to_owned()),
                    false => Ok(DataSpec { label: label.to_owned(), path: PathBuf::from(path) }),
                }
            }
            _ => {
                let path = PathBuf::from(text);
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
                Ok(DataSpec { label: name, path })
            }
        }
    }
}

/// The name of an objective that is `wanted`.
pub fn objective(wanted: fn(&Objective) -> bool) -> impl TypedValueParser<Value = &'static Objective> {
    let known = ALL.iter().filter(move |objective| wanted(objective));
    let values = known.map(|objective| PossibleValue::new(objective.name).help(objective.summary));
    PossibleValuesParser::new(values).try_map(|name| Objective::named(&name).ok_or("no objective has this name"))
}

/// The name of a tuning method.
pub fn method() -> impl TypedValueParser<Value = &'static Tuning> {
    let values = TUNINGS.iter().map(|tuning| PossibleValue::new(tuning.method.name).help(tuning.about));
    let named = |name: String| TUNINGS.into_iter().find(|tuning| tuning.method.name == name);
    PossibleValuesParser::new(values).try_map(move |name| named(name).ok_or("no method has this name"))
}

/// `1,2,3`: token ids, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenList(pub Vec<u32>);

impl FromStr for TokenList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = |part: &str| {
            let part = part.trim();
            part.parse().map_err(|_| format!("`{part}` is not a token id; write numbers such as 1,2,3"))
        };
        text.split(',').map(id).collect::<Result<_, _>>().map(TokenList)
    }
}

fn number(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value.is_finite() { Ok(value) } else { Err("not finite".to_owned()) }
}

/// A finite number over zero.
pub fn above_zero(text: &str) -> Result<f32, String> {
    number(text).and_then(|v| if v > 0.0 { Ok(v) } else { Err("must be above 0".to_owned()) })
}

/// `90s`, `30m`, `8h`: a length of time above zero.
pub fn time(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let wrong = || "write a number with s, m or h behind it: 90s, 30m, 8h".to_owned();
    let (number, seconds) = units.iter().find_map(|(unit, s)| Some((text.strip_suffix(unit)?, s))).ok_or_else(wrong)?;
    let number: u32 = number.parse().ok().filter(|&number| number > 0).ok_or_else(wrong)?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

/// A finite number, zero or more.
pub fn not_negative(text: &str) -> Result<f32, String> {
    number(text).and_then(|v| if v >= 0.0 { Ok(v) } else { Err("must be 0 or more".to_owned()) })
}

/// A number over zero and at most one.
pub fn fraction(text: &str) -> Result<f32, String> {
    number(text).and_then(|v| if v > 0.0 && v <= 1.0 { Ok(v) } else { Err("must be above 0 and at most 1".to_owned()) })
}

/// A number from zero to under one.
pub fn share(text: &str) -> Result<f32, String> {
    number(text)
        .and_then(|v| if (0.0..1.0).contains(&v) { Ok(v) } else { Err("must be at least 0 and under 1".to_owned()) })
}

/// A number over zero and under one.
pub fn split(text: &str) -> Result<f32, String> {
    number(text).and_then(|v| if v > 0.0 && v < 1.0 { Ok(v) } else { Err("must be between 0 and 1".to_owned()) })
}

/// Units of sizes: powers of 1000 as llama-gguf-split counts and as disks are sold, powers of 1024 as results are
/// printed.
const UNITS: [(&str, u64); 13] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("k", 1_000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("bytes", 1),
];

/// A number of bytes, over zero: plain, or with one of [`UNITS`] after it, in any case. What is printed as a size can
/// be typed as one.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || "not a number of bytes; write 2000000000, 500M (or MB), 1.5G, 512MiB or 2GiB".to_owned();
    let text = text.trim().to_ascii_lowercase();
    let unit = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = unit.unwrap_or((&text, 1));
    if factor == 1 && number.contains('.') {
        return Err(wrong());
    }
    let (whole, decimals) = number.trim_end().split_once('.').unwrap_or((number.trim_end(), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(decimals) || decimals.len() > 6 || number.trim_end().ends_with('.')
    {
        return Err(wrong());
    }
    // Millionths, so that 1.5 GiB is exact.
    let millionths = format!("{whole}{decimals:0<6}").parse::<u128>().map_err(|_| wrong())?;
    let bytes = millionths.checked_mul(u128::from(factor)).map(|product| product / 1_000_000);
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapter_specs_split_at_a_numeric_scale_only() {
        let parse = |text: &str| text.parse::<AdapterSpec>();
        assert_eq!(parse("a.gguf"), Ok(AdapterSpec { path: "a.gguf".into(), scale: 1.0 }));
        assert_eq!(parse("a.gguf:-0.5"), Ok(AdapterSpec { path: "a.gguf".into(), scale: -0.5 }));
        assert_eq!(parse(r"C:\a.gguf"), Ok(AdapterSpec { path: r"C:\a.gguf".into(), scale: 1.0 }));
        assert!(parse("a.gguf:big").is_err());
        assert!(parse("a.gguf:inf").is_err());
    }

    #[test]
    fn token_lists_are_numbers() {
        assert_eq!("1, 2,3".parse::<TokenList>(), Ok(TokenList(vec![1, 2, 3])));
        assert!("".parse::<TokenList>().is_err());
        assert!("1,-2".parse::<TokenList>().is_err());
    }

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        assert_eq!((size("700"), size("500M"), size("2g")), (Ok(700), Ok(500_000_000), Ok(2_000_000_000)));
        assert_eq!((size("2GB"), size("2 GiB"), size("3mib")), (Ok(2_000_000_000), Ok(2 << 30), Ok(3 << 20)));
        assert_eq!((size("1.5G"), size("1.5GiB"), size("0.5k")), (Ok(1_500_000_000), Ok(3 << 29), Ok(500)));
        for text in ["", "0", "M", "-1", "1.", ".5G", "1e9", "2X", "2Gib2", "99999999999T", "0.1", "1.5", "+5"] {
            assert!(size(text).is_err(), "{text}");
        }
        for printed in [1023u64, 1536, 3 << 30, 5 << 40] {
            assert_eq!(size(&crate::output::bytes(printed)), Ok(printed));
        }
    }

    #[test]
    fn data_files_have_labels() {
        let parse = |text: &str| text.parse::<DataSpec>();
        assert_eq!(parse("a/b.txt"), Ok(DataSpec { label: "b.txt".into(), path: "a/b.txt".into() }));
        assert_eq!(parse("wiki=a/b.txt"), Ok(DataSpec { label: "wiki".into(), path: "a/b.txt".into() }));
        assert_eq!(parse("a=b/c.txt").map(|spec| spec.label), Ok("a".into()));
        assert_eq!(parse("a/x=1/c.txt").map(|spec| spec.label), Ok("c.txt".into()));
        assert!(parse("=b.txt").is_err() && parse("a=").is_err());
    }

    #[test]
    fn ranges_exclude_what_they_say() {
        assert!(above_zero("0").is_err() && above_zero("nan").is_err() && above_zero("1e-4").is_ok());
        assert!(not_negative("-1").is_err() && not_negative("0").is_ok());
        assert!(fraction("1").is_ok() && fraction("1.5").is_err());
        assert!(split("1").is_err() && split("0.1").is_ok());
        assert!(share("1").is_err() && share("0").is_ok());
    }
}
