//! Plots as SVG: lines over an axis of time, of percentiles, or of either. Knows no benchmark and no page.
//!
//! Colours are the page's, by the classes `line-0` and so on, so that a plot follows its scheme; lines also differ by their dashes. A
//! column of a plot has its values as a tooltip, for which no script is needed.

use std::fmt::Write as _;

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// Evenly, from zero.
    Linear,
    /// Each decade as wide as the next.
    Logarithmic,
    /// Shares of a whole below 1: each nine as wide as the next.
    Nines,
}

/// An axis with its numbers.
pub(super) struct Axis {
    /// What it shows, with its unit.
    pub(super) title: &'static str,
    /// How it is divided.
    pub(super) scale: Scale,
    /// A number beside it, in words.
    pub(super) show: fn(f64) -> String,
}

/// One line.
pub(super) struct Line {
    /// In the legend.
    pub(super) name: String,
    /// Its colour's number.
    pub(super) colour: usize,
    /// Of another run: drawn thin and dashed.
    pub(super) is_other: bool,
    /// Places and values, from left to right.
    pub(super) points: Vec<(f64, f64)>,
}

/// The plot's size, in its own units; a page may show it at any.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 34.0;
/// Numbers beside an axis, about.
const LABELS: f64 = 5.0;
/// A tooltip for each column: the most that are told apart with a pointer.
const COLUMNS_MAX: usize = 120;
/// The most nines of a percentile: a histogram of a day has no more.
const NINES_MAX: f64 = 7.0;

impl Scale {
    /// 0 for the axis' least value, growing with it.
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Logarithmic => value.max(f64::MIN_POSITIVE).log10(),
            Self::Nines => (-(1.0 - value).max(0.1_f64.powf(NINES_MAX)).log10()).max(0.0),
        }
    }

    /// The values that get a number, from `least` to `most`.
    fn labels(self, least: f64, most: f64) -> Vec<f64> {
        match self {
            Self::Linear => {
                let rough = (most - least).max(f64::MIN_POSITIVE) / LABELS;
                let power = 10_f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].iter().map(|by| by * power).find(|&step| step >= rough);
                let step = step.unwrap_or(rough);
                let first = (least / step).ceil();
                let all = (0..20).map(|at| (first + f64::from(at)) * step);
                all.take_while(|&at| at <= most * 1.000_001).collect()
            }
            Self::Logarithmic => {
                let decades = (least.log10().floor() as i32)..=(most.log10().ceil() as i32);
                // Few decades have room for more numbers.
                let by: &[f64] = if decades.clone().count() <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let all = decades.flat_map(|decade| by.iter().map(move |by| by * 10_f64.powi(decade)));
                all.filter(|at| (least..=most).contains(at)).take(20).collect()
            }
            Self::Nines => {
                let all = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999_999];
                all.into_iter().filter(|&at| self.place(at) <= self.place(most)).collect()
            }
        }
    }
}

/// Draws lines; an empty text if there is nothing to draw.
pub(super) fn draw(name: &str, x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let points =
        || lines.iter().flat_map(|line| &line.points).filter(|(x, y)| x.is_finite() && y.is_finite());
    if points().count() < 2 {
        return String::new();
    }
    let bound = |read: fn(&(f64, f64)) -> f64, scale: Scale| {
        let (least, most) =
            points().map(read).fold((f64::MAX, f64::MIN), |(least, most), at| (least.min(at), most.max(at)));
        match scale {
            Scale::Linear => (least.min(0.0), if most > 0.0 { most } else { 1.0 }),
            Scale::Logarithmic => (least.max(1e-9), most.max(least.max(1e-9) * 1.01)),
            Scale::Nines => (0.0, most.max(0.9)),
        }
    };
    let frame = Frame {
        x: (x.scale, bound(|point| point.0, x.scale)),
        y: (y.scale, bound(|point| point.1, y.scale)),
    };
    let mut out = String::new();
    let _ =
        write!(out, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escape(name));
    frame.draw_axes(&mut out, x, y);
    for line in lines {
        frame.draw_line(&mut out, line);
    }
    frame.draw_tooltips(&mut out, x, y, lines);
    out.push_str("</svg>");
    out
}

/// Where values are.
struct Frame {
    x: (Scale, (f64, f64)),
    y: (Scale, (f64, f64)),
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        LEFT + share(self.x, value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - share(self.y, value) * (HEIGHT - TOP - BOTTOM)
    }

    fn draw_axes(&self, out: &mut String, x: &Axis, y: &Axis) {
        let bottom = HEIGHT - BOTTOM;
        let (right, middle) = (WIDTH - RIGHT, (LEFT + WIDTH - RIGHT) / 2.0);
        let (scale, (least, most)) = self.y;
        for value in scale.labels(least, most) {
            let at = self.y(value);
            let _ = write!(out, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>");
            let text = escape(&(y.show)(value));
            let _ = write!(
                out,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 5.0,
                at + 4.0
            );
        }
        let (scale, (least, most)) = self.x;
        for value in scale.labels(least, most) {
            let at = self.x(value);
            let _ = write!(out, "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/>");
            let text = escape(&(x.show)(value));
            let _ = write!(
                out,
                "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
                bottom + 14.0
            );
        }
        let _ = write!(out, "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>");
        let text = escape(x.title);
        let _ = write!(
            out,
            "<text class=\"title\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
            HEIGHT - 5.0
        );
    }

    fn draw_line(&self, out: &mut String, line: &Line) {
        let class = if line.is_other { " other" } else { "" };
        let _ = write!(out, "<path class=\"line line-{}{class}\" d=\"", line.colour);
        let mut command = 'M';
        for &(x, y) in &line.points {
            // A gap stays one: nothing was measured there.
            if !(x.is_finite() && y.is_finite()) {
                command = 'M';
                continue;
            }
            let _ = write!(out, "{command}{:.1} {:.1}", self.x(x), self.y(y));
            command = 'L';
        }
        out.push_str("\"/>");
    }

    /// Columns that are told apart by the first line's points.
    fn draw_tooltips(&self, out: &mut String, x: &Axis, y: &Axis, lines: &[Line]) {
        let Some(first) = lines.first().filter(|line| line.points.len() <= COLUMNS_MAX) else { return };
        for (at, &(place, _)) in first.points.iter().enumerate() {
            let from = self.x(place);
            let next = first.points.get(at + 1).map_or(WIDTH - RIGHT, |&(next, _)| self.x(next));
            let _ = write!(
                out,
                "<rect class=\"column\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\"><title>{}",
                (next - from).max(0.5),
                HEIGHT - TOP - BOTTOM,
                escape(&(x.show)(place))
            );
            for line in lines.iter().filter(|line| !line.is_other) {
                if let Some(&(_, value)) = line.points.get(at).filter(|point| point.1.is_finite()) {
                    let _ = write!(out, "\n{}: {}", escape(&line.name), escape(&(y.show)(value)));
                }
            }
            out.push_str("</title></rect>");
        }
    }
}

fn share((scale, (least, most)): (Scale, (f64, f64)), value: f64) -> f64 {
    let (from, to) = (scale.place(least), scale.place(most));
    if to <= from { 0.0 } else { ((scale.place(value) - from) / (to - from)).clamp(0.0, 1.0) }
}

/// A text as HTML and SVG write it, within tags and within quotes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char if char.is_control() && char != '\n' => out.push('\u{fffd}'),
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beside_an_axis_are_round_and_few() {
        assert_eq!(Scale::Linear.labels(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(Scale::Linear.labels(0.0, 0.9), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8]);
        assert_eq!(Scale::Logarithmic.labels(30.0, 900.0), [50.0, 100.0, 200.0, 500.0]);
        assert_eq!(Scale::Logarithmic.labels(1.0, 1e5).len(), 6);
        assert_eq!(Scale::Nines.labels(0.0, 0.9995), [0.5, 0.9, 0.99, 0.999]);
        for (least, most) in [(0.0, 1.0), (0.0, 1e12), (0.0, 1e-9), (1.0, 1.0), (0.1, 1e300)] {
            assert!(Scale::Linear.labels(least, most).len() <= 20);
            assert!(Scale::Logarithmic.labels(least.max(1e-9), most).len() <= 20);
        }
    }

    #[test]
    fn whatever_is_drawn_stays_within_the_frame_and_gaps_stay_gaps() {
        let axis = |scale| Axis { title: "a<b", scale, show: |value| format!("{value}") };
        let points = vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 1e12), (3.0, 0.0), (4.0, f64::INFINITY)];
        let line = Line { name: "<p50>".to_owned(), colour: 0, is_other: false, points };
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let svg = draw("a\"b", &axis(Scale::Linear), &axis(scale), std::slice::from_ref(&line));
            assert!(
                svg.starts_with("<svg")
                    && svg.ends_with("</svg>")
                    && !svg.contains("NaN")
                    && !svg.contains("inf")
            );
            assert!(svg.contains("a&quot;b") && svg.contains("&lt;p50&gt;") && !svg.contains("<p50>"));
            let path = svg.split("line-0\" d=\"").nth(1).unwrap().split('"').next().unwrap();
            assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1), "{path}");
        }
        assert_eq!(draw("", &axis(Scale::Linear), &axis(Scale::Linear), &[]), "");
    }

    #[test]
    fn text_cannot_end_a_tag() {
        assert_eq!(escape("<a href='x'>&\"\u{1b}"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\u{fffd}");
    }
}
