//! Opening what a verb needs: base, engine and adapters.

use std::path::PathBuf;

use embassy_time::Duration;
use loam::Base;
use loam::adapter::{AdapterFile, Attach};
use loam::backend::{Backend, Options, TARGET, Tuning, select};
use loam::engine::{AdapterHandle, Engine};

use crate::args::{AdapterSpec, AnyBaseArgs, BaseArgs, DeviceArgs, TuneArg};
use crate::failure::{Failure, Result};
use crate::output::Output;

/// Templates are a few thousand bytes; a larger file is something else.
const TEMPLATE_LIMIT: u64 = 1 << 20;

/// Opens the base, with another chat template if one is given.
pub fn base(args: &BaseArgs) -> Result<Base> {
    let base = Base::open(&args.model)?;
    let Some(path) = &args.chat_template else { return Ok(base) };
    let source = loam::file::read_bounded(path, TEMPLATE_LIMIT)?;
    let wrong = |problem: String| loam_text::Error::Template(format!("{}: {problem}", path.display()));
    let source = String::from_utf8(source).map_err(|_| loam::Error::from(wrong("is not UTF-8".into())))?;
    base.with_template(&source).map_err(|error| match error {
        loam::Error::Text(loam_text::Error::Template(problem)) => loam::Error::from(wrong(problem)).into(),
        error => error.into(),
    })
}

/// As [`base`], of a verb that puts adapters on it.
pub fn base_for_adapters(args: &BaseArgs, origin: AnyBaseArgs) -> Result<Base> {
    Ok(taking(base(args)?, origin))
}

/// `base`, which takes any adapter if that was asked for.
pub fn taking(base: Base, origin: AnyBaseArgs) -> Base {
    if origin.any_base { base.taking_any_adapter() } else { base }
}

/// Puts `base` on the device that the flag or `LOAM_DEVICE` names: once for all that a verb does.
pub fn engine(base: &Base, args: &DeviceArgs) -> Result<Engine> {
    engine_for(base, args, TARGET)
}

/// The same for submissions of about `target`.
pub fn engine_for(base: &Base, args: &DeviceArgs, target: Duration) -> Result<Engine> {
    Ok(Engine::new(base, device(args, target)?)?)
}

/// Opens the device that the flag or `LOAM_DEVICE` names, for submissions of about `target`.
pub fn device(args: &DeviceArgs, target: Duration) -> loam::Result<Box<dyn Backend>> {
    let tuning = match args.tune {
        TuneArg::On => Tuning::Always,
        TuneArg::Auto => Tuning::RealGpus,
        TuneArg::Off => Tuning::Off,
    };
    let tuning_folder = if tuning == Tuning::Off { None } else { cache_folder() };
    let options = Options { precision: args.precision.into(), tuning, tuning_folder, target };
    pollster::block_on(select::open(&args.name(), &options))
}

/// Where choices of kernels are kept: `LOAM_CACHE`, else loam's folder in the system's place for caches.
fn cache_folder() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let places = [
        of("XDG_CACHE_HOME"),
        of("HOME").filter(|_| cfg!(target_os = "macos")).map(|home| home.join("Library/Caches")),
        of("LOCALAPPDATA").filter(|_| cfg!(windows)),
        of("HOME").map(|home| home.join(".cache")),
    ];
    let folder = of("LOAM_CACHE").or_else(|| places.into_iter().flatten().next().map(|place| place.join("loam")))?;
    // Without a place to keep them, choices hold for this process.
    std::fs::create_dir_all(&folder).is_ok().then_some(folder)
}

/// Adapters read from their files, with the factors they were asked for.
#[derive(Default)]
pub struct Adapters(Vec<(AdapterFile, PathBuf, f32)>);

impl Adapters {
    /// Reads all of `specs`.
    pub fn load(specs: &[AdapterSpec]) -> Result<Self> {
        let load = |spec: &AdapterSpec| Ok((AdapterFile::read(&spec.path)?, spec.path.clone(), spec.scale));
        Ok(Adapters(specs.iter().map(load).collect::<loam::Result<_>>()?))
    }

    /// Fails if one was trained with another chat template than `base` renders with.
    pub fn check_template(&self, base: &Base, output: Output) -> Result {
        for (adapter, path, _) in &self.0 {
            base.check_template(adapter, path)?.iter().for_each(|note| output.warn(note));
        }
        Ok(())
    }

    /// Attaches all of them to `engine`, and says what is to be known about them.
    pub fn attach(&self, base: &Base, engine: &mut Engine, output: Output) -> Result<AdapterHandle> {
        let attach = self.0.iter().map(|(adapter, path, scale)| Attach { adapter, path, scale: *scale });
        let handle = engine.attach(base, &attach.collect::<Vec<_>>())?;
        handle.notes().iter().for_each(|note| output.warn(note));
        Ok(handle)
    }
}

/// Tokens per sequence unless a flag says otherwise.
const CONTEXT: usize = 512;

/// The context that was asked for, if the model was made for it; without a wish 512 or the model's limit.
pub fn context(base: &Base, asked: Option<u32>) -> Result<usize> {
    context_or(base, asked, CONTEXT)
}

/// As [`context`], with another default.
pub fn context_or(base: &Base, asked: Option<u32>, default: usize) -> Result<usize> {
    let limit = base.config().context;
    match asked.map(|tokens| tokens as usize) {
        None => Ok(default.min(limit)),
        Some(tokens) if tokens <= limit => Ok(tokens),
        Some(tokens) => Err(Failure::Usage(format!("--context is {tokens}, the model was made for {limit} tokens"))),
    }
}
