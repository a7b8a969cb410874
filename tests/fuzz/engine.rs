//! Feeds a parser with changed inputs for some time and holds it to its budgets.

use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use loam::digest::sha256_hex;
use loam_tests::Random;
use loam_tests::budget::measure;

/// Longest time that an input may take; it is tried again before it is blamed for what the machine did meanwhile.
const TIME: Duration = Duration::from_secs(2);
/// Bytes that a parser may allocate for each byte of its input, and besides.
const MEMORY: (u64, u64) = (64, 64 << 20);
/// Stack of the parser's thread.
const STACK: usize = 1 << 20;
/// Longest input.
const LONGEST: usize = 1 << 20;
/// Accepted inputs that are kept to be changed further.
const POOL: usize = 64;

/// Parses; whether the input was accepted.
type Parse = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// A parser and what to feed it with.
pub struct Target {
    /// Its name: that of the test.
    pub name: &'static str,
    /// Inputs to change; it accepts the first one.
    pub seeds: Vec<Vec<u8>>,
    /// How inputs are changed.
    pub mutate: fn(&mut Vec<u8>, &mut Random),
    /// Parses; whether the input was accepted.
    pub run: Parse,
}

/// Runs `target` for `LOAM_FUZZ_SECONDS` (default 2) with the inputs of `LOAM_FUZZ_SEED` (default 1), or only with the
/// file `LOAM_FUZZ_REPLAY` if its name begins with that of the target.
pub fn fuzz(target: Target) {
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || drive(target)).expect("a thread");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Where failing inputs are kept.
fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join("loam-fuzz");
    fs::create_dir_all(&folder).expect("a folder for failing inputs");
    folder
}

fn drive(mut target: Target) {
    if let Some(path) = std::env::var_os("LOAM_FUZZ_REPLAY").map(PathBuf::from) {
        let of_this = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(target.name));
        if of_this {
            check(&mut target, &fs::read(&path).expect("an input"));
        }
        return;
    }
    let seed = number("LOAM_FUZZ_SEED", 1);
    let start = Instant::now();
    let end = start + Duration::from_secs(number("LOAM_FUZZ_SECONDS", 2));
    for (number, input) in target.seeds.clone().iter().enumerate() {
        let accepted = check(&mut target, input);
        assert!(accepted || number > 0, "{}: the unchanged input is refused", target.name);
    }
    let mut pool = target.seeds.clone();
    let mut random = Random::new(seed);
    let (mut inputs, mut accepted) = (0u64, 0u64);
    let current = folder().join(format!("{}-current", target.name));
    while Instant::now() < end {
        let mut input = pool[random.below(pool.len() as u32) as usize].clone();
        for _ in 0..1 + random.below(4) {
            (target.mutate)(&mut input, &mut random);
        }
        input.truncate(LONGEST);
        // An abort or a full stack leaves no time for this later.
        fs::write(&current, &input).expect("the input is kept");
        let good = check(&mut target, &input);
        inputs += 1;
        accepted += u64::from(good);
        if good && random.below(8) == 0 {
            let at = target.seeds.len() + random.below((POOL - target.seeds.len()) as u32) as usize;
            if at < pool.len() { pool[at] = input } else { pool.push(input) }
        }
    }
    let _ = fs::remove_file(&current);
    let (name, seconds) = (target.name, start.elapsed().as_secs());
    // Not `eprintln!`, which the test runner hides when a test passes.
    let _ = writeln!(std::io::stderr(), "fuzz {name}: {inputs} inputs, {accepted} accepted, {seconds} s, seed {seed}");
    assert!(inputs > 0 && accepted < inputs, "{name}: {accepted} of {inputs} accepted: nothing is tested");
}

/// One input under all budgets.
fn check(target: &mut Target, input: &[u8]) -> bool {
    let mut problem = String::new();
    for _ in 0..3 {
        match budgeted(input.len(), || (target.run)(input)) {
            Ok(accepted) => return accepted,
            Err(Excess::Time(time)) => problem = format!("takes {time:?}"),
            Err(Excess::Other(what)) => fail(target.name, input, &what),
        }
    }
    fail(target.name, input, &problem)
}

/// A single case: runs `parse`, whose input has `length` bytes, under the same budgets.
#[track_caller]
pub fn within<T>(length: usize, parse: impl FnOnce() -> T) -> T {
    match budgeted(length, parse) {
        Ok(value) => value,
        Err(Excess::Time(time)) => panic!("an input of {length} bytes takes {time:?}"),
        Err(Excess::Other(what)) => panic!("an input of {length} bytes {what}"),
    }
}

/// What went beyond a budget.
enum Excess {
    Time(Duration),
    Other(String),
}

fn budgeted<T>(length: usize, parse: impl FnOnce() -> T) -> Result<T, Excess> {
    let (result, peak, time) = measure(|| catch_unwind(AssertUnwindSafe(parse)));
    let value = result.map_err(|_| Excess::Other("panics".into()))?;
    let allowed = MEMORY.0 * length as u64 + MEMORY.1;
    if peak > allowed {
        return Err(Excess::Other(format!("allocates {peak} bytes, {allowed} are allowed")));
    }
    if time > TIME { Err(Excess::Time(time)) } else { Ok(value) }
}

fn fail(name: &str, input: &[u8], what: &str) -> ! {
    let path = folder().join(format!("{name}-{}", &sha256_hex(input)[..16]));
    fs::write(&path, input).expect("the input is kept");
    let replay = format!("LOAM_FUZZ_REPLAY={} cargo test -p loam-tests --test fuzz {name}", path.display());
    panic!("{name}: an input of {} bytes {what}; {replay}", input.len());
}
