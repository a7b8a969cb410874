//! Curves over steps as inline SVG.

use std::fmt::Write as _;

/// Most points of a curve that are drawn; more are averaged.
const POINTS: usize = 800;
/// Size of the image, and the margins around the curves.
const SIZE: (f64, f64) = (800.0, 240.0);
const LEFT: f64 = 70.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 24.0;

/// A few curves with common axes.
#[derive(Debug)]
pub struct Chart {
    /// What is above the image.
    pub title: &'static str,
    /// What is drawn.
    pub curves: Vec<Curve>,
}

/// Values by step.
#[derive(Debug)]
pub struct Curve {
    /// What it is called in the legend.
    pub name: &'static str,
    /// CSS class.
    pub class: &'static str,
    /// Step and value; values that are not finite leave a gap.
    pub points: Vec<(u64, f64)>,
}

/// Where values lie in the image.
struct Axes {
    steps: (f64, f64),
    values: (f64, f64),
}

impl Chart {
    /// A heading and the image; nothing without a finite value.
    pub fn svg(&self) -> String {
        let Some(axes) = self.axes() else { return String::new() };
        let (width, height) = SIZE;
        let mut svg = format!("<h2>{}</h2>\n<svg viewBox=\"0 0 {width} {height}\" role=\"img\">\n", self.title);
        axes.draw(&mut svg);
        for (index, curve) in self.curves.iter().enumerate() {
            curve.draw(&axes, &mut svg);
            if self.curves.len() > 1 {
                let x = LEFT + 110.0 * index as f64;
                let _ = writeln!(svg, "<text class=\"{}\" x=\"{x}\" y=\"14\">{}</text>", curve.class, curve.name);
            }
        }
        svg + "</svg>\n"
    }

    fn axes(&self) -> Option<Axes> {
        let points = self.curves.iter().flat_map(|curve| &curve.points);
        let finite: Vec<(f64, f64)> =
            points.filter(|(_, value)| value.is_finite()).map(|(step, value)| (*step as f64, *value)).collect();
        let range = |of: fn(&(f64, f64)) -> f64| {
            let ends = (f64::INFINITY, f64::NEG_INFINITY);
            finite.iter().map(of).fold(ends, |(low, high), x| (low.min(x), high.max(x)))
        };
        let widened = |(low, high): (f64, f64)| {
            let least = low.abs().max(1e-12) * 1e-3;
            if high - low < least { (low - least, high + least) } else { (low, high) }
        };
        (!finite.is_empty()).then(|| Axes { steps: widened(range(|p| p.0)), values: widened(range(|p| p.1)) })
    }
}

impl Axes {
    fn x(&self, step: f64) -> f64 {
        LEFT + (step - self.steps.0) / (self.steps.1 - self.steps.0) * (SIZE.0 - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        SIZE.1 - BOTTOM - (value - self.values.0) / (self.values.1 - self.values.0) * (SIZE.1 - TOP - BOTTOM)
    }

    /// Lines with their values, and the first and last step.
    fn draw(&self, svg: &mut String) {
        for line in 0..=4 {
            let value = self.values.0 + (self.values.1 - self.values.0) * f64::from(line) / 4.0;
            let (y, end) = (self.y(value), SIZE.0 - RIGHT);
            let _ = writeln!(svg, "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{end}\" y2=\"{y:.1}\"/>");
            let _ = writeln!(svg, "<text x=\"4\" y=\"{:.1}\">{}</text>", y + 4.0, short(value));
        }
        for (step, anchor) in [(self.steps.0, "start"), (self.steps.1, "end")] {
            let (x, y) = (self.x(step), SIZE.1 - 8.0);
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"{anchor}\">step {step:.0}</text>");
        }
    }
}

impl Curve {
    /// A line for each run of finite values; a single one is a dot.
    fn draw(&self, axes: &Axes, svg: &mut String) {
        let drawn = averaged(&self.points);
        for run in drawn.split(|(_, value)| !value.is_finite()).filter(|run| !run.is_empty()) {
            let class = self.class;
            if let [(step, value)] = run {
                let (x, y) = (axes.x(*step), axes.y(*value));
                let _ = writeln!(svg, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\"/>");
                continue;
            }
            let points: Vec<String> =
                run.iter().map(|(step, value)| format!("{:.1},{:.1}", axes.x(*step), axes.y(*value))).collect();
            let _ = writeln!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
        }
    }
}

/// At most [`POINTS`] points: means of equally many neighbors.
fn averaged(points: &[(u64, f64)]) -> Vec<(f64, f64)> {
    let mean = |run: &[(u64, f64)]| {
        let count = run.len() as f64;
        let sum = run.iter().fold((0.0, 0.0), |sum, (step, value)| (sum.0 + *step as f64, sum.1 + value));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(points.len().div_ceil(POINTS).max(1)).map(mean).collect()
}

/// A number for an axis.
fn short(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e5).contains(&size) { format!("{value:.2e}") } else { format!("{value:.4}") }
}
