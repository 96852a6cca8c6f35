//! Small pictures as SVG: bars, a line over places, histograms, points. Each has its numbers in words, for those who do not see it.

use std::fmt::Write as _;

use crate::report::sanitise;
use crate::report::table::escaped;

/// Text that stands in the document.
pub(super) fn text(words: &str) -> String {
    escaped(&sanitise(words))
}

/// A picture with what it shows in words.
fn picture(width: f64, height: f64, words: &str, body: &str) -> String {
    format!(
        "<svg class=\"plot\" role=\"img\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\"><title>{}</title>{body}</svg>\n",
        text(words)
    )
}

/// A figure before and after.
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) before: f64,
    pub(super) after: f64,
    pub(super) before_text: String,
    pub(super) after_text: String,
}

/// Two bars a figure, each pair in the scale of its larger one.
pub(super) fn pairs(pairs: &[Pair]) -> String {
    const ROW: f64 = 46.0;
    const LEFT: f64 = 110.0;
    const LENGTH: f64 = 380.0;
    let mut body = String::new();
    for (index, pair) in pairs.iter().enumerate() {
        let y = index as f64 * ROW;
        let largest = pair.before.max(pair.after).max(f64::MIN_POSITIVE);
        let _ = write!(
            body,
            "<text x=\"0\" y=\"{:.0}\">{}</text>",
            y + 24.0,
            text(&pair.name)
        );
        for (step, class, value, words) in [
            (6.0, "before", pair.before, &pair.before_text),
            (22.0, "after", pair.after, &pair.after_text),
        ] {
            let length = (value / largest * LENGTH).max(1.0);
            let _ = write!(
                body,
                "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{:.0}\" width=\"{length:.1}\" height=\"13\"/><text class=\"small\" x=\"{:.1}\" y=\"{:.0}\">{}</text>",
                y + step,
                LEFT + length + 6.0,
                y + step + 11.0,
                text(words)
            );
        }
    }
    let words: Vec<String> = pairs
        .iter()
        .map(|pair| {
            format!(
                "{}: {} before, {} after",
                pair.name, pair.before_text, pair.after_text
            )
        })
        .collect();
    picture(
        LEFT + LENGTH + 120.0,
        pairs.len() as f64 * ROW,
        &words.join("; "),
        &body,
    )
}

/// A value at a place of a line, with the name of the place and the node of the drawing that it belongs to.
pub(super) struct Point {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) link: Option<String>,
}

/// Values along the nodes of a model: a dot each, the lowest ones marked.
pub(super) fn along(points: &[Point], unit: &str, marked: usize) -> String {
    const WIDTH: f64 = 760.0;
    const HEIGHT: f64 = 240.0;
    const LEFT: f64 = 48.0;
    const BOTTOM: f64 = 28.0;
    /// Lines of the grid, about.
    const LINES: f64 = 5.0;
    let (Some(low), Some(high)) = extremes(points.iter().map(|point| point.value)) else {
        return String::new();
    };
    let (low, high) = (low.min(0.0), high.max(low + 1.0));
    let step = ((high - low) / (10.0 * LINES)).ceil() * 10.0;
    let low = (low / step).floor() * step;
    let high = low + ((high - low) / step).ceil() * step;
    let y = |value: f64| 8.0 + (high - value) / (high - low) * (HEIGHT - BOTTOM - 8.0);
    let x = |index: usize| LEFT + (index as f64 + 0.5) / points.len() as f64 * (WIDTH - LEFT - 8.0);
    let mut body = String::new();
    let lines = ((high - low) / step).round() as u32;
    for line in 0..=lines {
        let value = low + step * f64::from(line);
        let _ = write!(
            body,
            "<path class=\"grid\" d=\"M{LEFT} {0:.1}H{1:.0}\"/><text class=\"small end\" x=\"{2:.0}\" y=\"{3:.1}\">{value:.0}</text>",
            y(value),
            WIDTH - 8.0,
            LEFT - 6.0,
            y(value) + 4.0
        );
    }
    let _ = write!(
        body,
        "<text class=\"small\" x=\"{LEFT}\" y=\"{:.0}\">nodes in the order in which they run; {} at the left</text>",
        HEIGHT - 8.0,
        text(unit)
    );
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|a, b| points[*a].value.total_cmp(&points[*b].value));
    order.truncate(marked);
    for (index, point) in points.iter().enumerate() {
        let worst = order.contains(&index);
        let dot = format!(
            "<circle class=\"{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{}\"><title>{}: {:.1} {}</title></circle>",
            if worst { "dot worst" } else { "dot" },
            x(index),
            y(point.value),
            if worst { 5 } else { 3 },
            text(&point.name),
            point.value,
            text(unit)
        );
        match &point.link {
            Some(link) => {
                let _ = write!(body, "<a href=\"#{link}\">{dot}</a>");
            }
            None => body.push_str(&dot),
        }
    }
    let words = format!("{} nodes, between {low:.0} and {high:.0} {unit}", points.len());
    // Dots are links, so the picture is a group of them and no image.
    picture(WIDTH, HEIGHT, &words, &body).replacen("role=\"img\"", "role=\"group\"", 1)
}

/// Counts over equal parts of a range.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) counts: Vec<u64>,
}

/// Two histograms over the same range, and the range of codes.
pub(super) fn histograms(
    before: &Histogram,
    after: &Histogram,
    clip: Option<(f64, f64)>,
    words: &str,
) -> String {
    const WIDTH: f64 = 360.0;
    const HEIGHT: f64 = 110.0;
    const BASE: f64 = 90.0;
    let largest = before
        .counts
        .iter()
        .chain(&after.counts)
        .max()
        .copied()
        .unwrap_or(0)
        .max(1) as f64;
    let step = WIDTH / before.counts.len().max(1) as f64;
    // Logarithms, so that a few weights far out can be seen beside the many in the middle.
    let height = |count: u64| (1.0 + count as f64).ln() / (1.0 + largest).ln() * (BASE - 6.0);
    let mut body = String::new();
    for (class, histogram) in [("before", before), ("after line", after)] {
        let mut path = format!("M0 {BASE}");
        for (index, count) in histogram.counts.iter().enumerate() {
            let _ = write!(
                path,
                "V{:.1}H{:.1}",
                BASE - height(*count),
                (index + 1) as f64 * step
            );
        }
        let _ = write!(path, "V{BASE}");
        let _ = write!(body, "<path class=\"{class}\" d=\"{path}\"/>");
    }
    let range = (before.high - before.low).max(f64::MIN_POSITIVE);
    if let Some((low, high)) = clip {
        for edge in [low, high] {
            let x = (edge - before.low) / range * WIDTH;
            if (0.0..=WIDTH).contains(&x) {
                let _ = write!(body, "<path class=\"clip\" d=\"M{x:.1} 0V{BASE}\"/>");
            }
        }
    }
    let _ = write!(
        body,
        "<text class=\"small\" x=\"0\" y=\"{0}\">{1:.4}</text><text class=\"small end\" x=\"{WIDTH}\" y=\"{0}\">{2:.4}</text>",
        HEIGHT - 4.0,
        before.low,
        before.high
    );
    picture(WIDTH, HEIGHT, words, &body)
}

/// A result in the plane of a cost and a figure.
pub(super) struct Trade {
    pub(super) name: String,
    pub(super) cost: f64,
    pub(super) value: f64,
    pub(super) best: bool,
}

/// Points by cost (less is better) and figure (more is better); those that no other beats in both are joined.
pub(super) fn trades(points: &[Trade], cost: &str, value: &str) -> String {
    const WIDTH: f64 = 620.0;
    const HEIGHT: f64 = 300.0;
    let (Some(left), Some(right)) = extremes(points.iter().map(|point| point.cost)) else {
        return String::new();
    };
    let (Some(low), Some(high)) = extremes(points.iter().map(|point| point.value)) else {
        return String::new();
    };
    let x = |cost: f64| 60.0 + (cost - left) / (right - left).max(f64::MIN_POSITIVE) * (WIDTH - 220.0);
    let y = |value: f64| 20.0 + (high - value) / (high - low).max(f64::MIN_POSITIVE) * (HEIGHT - 70.0);
    let mut front: Vec<&Trade> = points.iter().filter(|point| point.best).collect();
    front.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    let line: Vec<String> = front
        .iter()
        .map(|point| format!("{:.1} {:.1}", x(point.cost), y(point.value)))
        .collect();
    let mut body = String::new();
    if line.len() > 1 {
        let _ = write!(body, "<path class=\"front\" d=\"M{}\"/>", line.join("L"));
    }
    for point in points {
        let _ = write!(
            body,
            "<circle class=\"{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\"/><text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            if point.best { "dot best" } else { "dot" },
            x(point.cost),
            y(point.value),
            x(point.cost) + 8.0,
            y(point.value) + 4.0,
            text(&point.name)
        );
    }
    let _ = write!(
        body,
        "<text class=\"small\" x=\"0\" y=\"12\">{} (up is better)</text><text class=\"small\" x=\"60\" y=\"{:.0}\">{} (left is better)</text>",
        text(value),
        HEIGHT - 8.0,
        text(cost)
    );
    let words: Vec<String> = points
        .iter()
        .map(|point| {
            format!(
                "{}: {cost} {:.6}, {value} {:.6}",
                point.name, point.cost, point.value
            )
        })
        .collect();
    picture(WIDTH, HEIGHT, &words.join("; "), &body)
}

/// The least and the largest finite value.
fn extremes(values: impl Iterator<Item = f64>) -> (Option<f64>, Option<f64>) {
    values
        .filter(|value| value.is_finite())
        .fold((None, None), |(low, high), value| {
            (
                Some(low.map_or(value, |low: f64| low.min(value))),
                Some(high.map_or(value, |high: f64| high.max(value))),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_the_lengths_and_the_words_of_their_figures() {
        let drawn = pairs(&[Pair {
            name: "size <1>".to_owned(),
            before: 200.0,
            after: 50.0,
            before_text: "200 B".to_owned(),
            after_text: "50 B".to_owned(),
        }]);
        assert!(
            drawn.contains("width=\"380.0\"") && drawn.contains("width=\"95.0\""),
            "{drawn}"
        );
        assert!(
            drawn.contains("size &lt;1&gt;: 200 B before, 50 B after"),
            "{drawn}"
        );
    }

    #[test]
    fn the_lowest_points_are_marked() {
        let point = |value: f64| Point {
            name: format!("n{value}"),
            value,
            link: None,
        };
        let drawn = along(&[point(30.0), point(5.0), point(44.0)], "dB", 1);
        assert_eq!(drawn.matches("dot worst").count(), 1);
        assert!(drawn.contains("dot worst\" cx=\"400.0\""), "{drawn}");
        assert_eq!(along(&[], "dB", 1), "");
    }

    #[test]
    fn one_point_has_a_place() {
        let one = Trade {
            name: "a".to_owned(),
            cost: 3.0,
            value: 0.5,
            best: true,
        };
        let drawn = trades(&[one], "bytes", "accuracy");
        assert!(drawn.contains("cx=\"60.0\"") && !drawn.contains("NaN"), "{drawn}");
    }
}
