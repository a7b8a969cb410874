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

/// A number of bytes, over zero: plain, or with K, M, G or T for powers of 1000 as llama-gguf-split counts.
pub fn size(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.trim().char_indices().last() {
        Some((at, 'K' | 'k')) => (&text.trim()[..at], 1_000),
        Some((at, 'M' | 'm')) => (&text.trim()[..at], 1_000_000),
        Some((at, 'G' | 'g')) => (&text.trim()[..at], 1_000_000_000),
        Some((at, 'T' | 't')) => (&text.trim()[..at], 1_000_000_000_000),
        _ => (text.trim(), 1),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|n| *n > 0);
    bytes.ok_or_else(|| "not a number of bytes; write 2000000000, 500M or 2G".to_owned())
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
    fn sizes_have_decimal_units() {
        assert_eq!((size("700"), size("500M"), size("2g")), (Ok(700), Ok(500_000_000), Ok(2_000_000_000)));
        assert!(["", "0", "M", "1.5G", "-1", "2GB", "99999999999T"].iter().all(|text| size(text).is_err()));
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
