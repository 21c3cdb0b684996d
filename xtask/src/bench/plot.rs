//! A plot of how much of each goal was spent.

use std::fmt::Write as _;

use super::report::Row;

const WIDTH: f64 = 720.0;
const ROW: f64 = 46.0;
/// Where a goal that is just met ends.
const GOAL: f64 = 480.0;

/// One bar a row; the line marks the goals.
pub fn svg(rows: &[Row]) -> String {
    let height = rows.iter().fold(30.0, |height, _| height + ROW);
    let mut bars = String::new();
    let mut top = 24.0;
    for row in rows {
        let length = (row.spent() * GOAL).clamp(1.0, WIDTH - 20.0);
        let colour = if row.met() { "#2a78b5" } else { "#c0392b" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            bars,
            "<text x=\"10\" y=\"{:.0}\">{} ({})</text>\
             <rect x=\"10\" y=\"{:.0}\" width=\"{length:.1}\" height=\"14\" fill=\"{colour}\"/>",
            top + 12.0,
            escaped(&row.name),
            escaped(&row.goal.to_string()),
            top + 18.0,
        );
        top += ROW;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{bars}\
         <line x1=\"{x}\" y1=\"16\" x2=\"{x}\" y2=\"{height}\" stroke=\"#333333\" stroke-dasharray=\"4\"/>\n\
         <text x=\"{x}\" y=\"12\" text-anchor=\"middle\">goal</text>\n</svg>\n",
        x = GOAL + 10.0,
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{super::report::Goal, *};

    #[test]
    fn a_missed_goal_passes_the_line_and_changes_colour() {
        let row = |ours| Row {
            name: "a < b".into(),
            baseline_name: "c".into(),
            unit: "s".into(),
            ours,
            baseline: 1.0,
            goal: Goal::AtMost(1.0),
        };
        let svg = svg(&[row(0.5), row(1.2)]);
        assert!(svg.contains("a &lt; b (≤ 1)"));
        assert!(
            svg.contains("width=\"240.0\" height=\"14\" fill=\"#2a78b5\""),
            "{svg}"
        );
        assert!(
            svg.contains("width=\"576.0\" height=\"14\" fill=\"#c0392b\""),
            "{svg}"
        );
    }
}
