//! A loss curve drawn with characters.

/// Draws `values` (one per step) as lines of text, at most `width` columns wide. Where there are more values than
/// columns, a column shows the mean of its values. `mark` is the character of a point.
pub fn draw(values: &[f64], width: usize, height: usize, mark: char) -> Vec<String> {
    let label = 8;
    let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    if finite.is_empty() || height < 2 || width < label + 10 {
        return Vec::new();
    }
    let columns = bucket(&finite, width - label - 1);
    let (low, high) = columns.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let span = if high > low { high - low } else { 1.0 };
    let row_of = |v: f64| ((high - v) / span * (height - 1) as f64).round() as usize;
    let mut lines = Vec::with_capacity(height + 2);
    for row in 0..height {
        let at = high - span * row as f64 / (height - 1) as f64;
        let points: String = columns.iter().map(|v| if row_of(*v) == row { mark } else { ' ' }).collect();
        lines.push(format!("{at:>label$.3}|{}", points.trim_end()));
    }
    lines.push(format!("{:label$}+{}", "", "-".repeat(columns.len())));
    let steps = finite.len().to_string();
    let gap = columns.len().saturating_sub(1 + steps.len()).max(1);
    lines.push(format!("{:label$} 1{:gap$}{steps}", "", ""));
    lines
}

/// Means of equal runs of values, one per column; fewer values than columns are spread out by repetition.
fn bucket(values: &[f64], columns: usize) -> Vec<f64> {
    let columns = columns.min(values.len().max(columns.min(40)));
    (0..columns)
        .map(|column| {
            let from = column * values.len() / columns;
            let to = ((column + 1) * values.len() / columns).max(from + 1);
            values[from..to].iter().sum::<f64>() / (to - from) as f64
        })
        .collect()
}

/// Columns of the terminal: what the system says, else `COLUMNS`, else 80.
pub fn terminal_width() -> usize {
    let named = || std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    system_width().or_else(named).unwrap_or(80).clamp(40, 200)
}

#[cfg(unix)]
fn system_width() -> Option<usize> {
    // SAFETY: all-zero is a valid `winsize`: it consists of integers.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the request fills one `winsize`; a descriptor that is no terminal makes the call fail.
    let done = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) } == 0;
    (done && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

#[cfg(not(unix))]
fn system_width() -> Option<usize> {
    None
}

/// A bullet where the locale can show it, else an asterisk.
pub fn mark() -> char {
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let unicode = locale.is_some_and(|l| l.to_ascii_uppercase().replace('-', "").contains("UTF8"));
    if unicode || cfg!(target_os = "macos") { '•' } else { '*' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_falling_loss_falls_from_the_first_to_the_last_row() {
        let values: Vec<f64> = (0..500).map(|i| 4.0 - f64::from(i) / 200.0).collect();
        let lines = draw(&values, 80, 8, '*');
        assert_eq!(lines.len(), 10);
        assert!(lines.iter().all(|l| l.chars().count() <= 80), "{lines:#?}");
        assert!(lines[0].contains("|*") && lines[7].ends_with('*'), "{lines:#?}");
        assert!(lines[9].ends_with("500"));
    }

    #[test]
    fn flat_short_and_empty_curves_draw_without_panic() {
        assert!(draw(&[], 80, 8, '*').is_empty());
        assert!(draw(&[f64::NAN], 80, 8, '*').is_empty());
        assert_eq!(draw(&[2.0], 80, 8, '*').len(), 10);
        assert_eq!(draw(&[2.0, 2.0, 2.0], 40, 2, '*').len(), 4);
        assert!(draw(&[1.0, 2.0], 5, 8, '*').is_empty());
    }
}
