//! Two kinds of pictures, as text: lines over a logarithmic axis, and groups of bars.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Its points.
pub(crate) type Line = Vec<(f64, f64)>;
/// Groups of bars, each with its name.
pub(crate) type Bars = Vec<(String, [f64; 3])>;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// Around what is drawn: on the left and above, on the right, below.
const BEFORE: f64 = 60.0;
const BEHIND: f64 = 220.0;
const BELOW: f64 = 50.0;
/// Told apart by people who see colours in another way, too (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
/// Lines across.
const STEPS: u32 = 5;

/// What is being drawn. Writing to a String can't fail.
struct Picture {
    text: String,
    /// The value at the upper edge.
    top: f64,
}

impl Picture {
    fn new(title: &str, highest: f64) -> Self {
        let text = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' font-family='sans-serif' font-size='12'>\n\
             <rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>\n"
        );
        let mut picture = Self { text, top: round_up(highest) };
        picture.words(BEFORE, BEFORE / 2.0, "start", title);
        for step in 0..=STEPS {
            let value = picture.top * f64::from(step) / f64::from(STEPS);
            let y = picture.y(value);
            let end = WIDTH - BEHIND;
            picture.put(&format!("<path d='M{BEFORE} {y:.1}H{end}' stroke='#ccc'/>"));
            let digits = if picture.top < 10.0 { 1 } else { 0 };
            picture.words(BEFORE - 6.0, y + 4.0, "end", &format!("{value:.digits$}"));
        }
        picture
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BELOW - value / self.top * (HEIGHT - BELOW - BEFORE)
    }

    fn put(&mut self, element: &str) {
        let _infallible = writeln!(self.text, "{element}");
    }

    fn words(&mut self, x: f64, y: f64, anchor: &str, words: &str) {
        let words = words.replace('&', "&amp;").replace('<', "&lt;");
        self.put(&format!("<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}'>{words}</text>"));
    }

    /// What a colour stands for.
    fn key(&mut self, at: usize, words: &str) {
        let (x, y) = (WIDTH - BEHIND + 20.0, BEFORE + 20.0 * at as f64);
        let colour = COLOURS[at % COLOURS.len()];
        self.put(&format!("<rect x='{x}' y='{}' width='12' height='12' fill='{colour}'/>", y - 10.0));
        self.words(x + 18.0, y, "start", words);
    }

    fn end(mut self) -> String {
        self.put("</svg>");
        self.text
    }
}

/// The next of 1, 2, 5, 10, 20 ...
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-9).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.iter().map(|step| step * power).find(|rounded| *rounded >= value).unwrap_or(value)
}

/// Lines over a logarithmic axis.
pub(crate) fn lines(title: &str, lines: &BTreeMap<String, Line>) -> String {
    let points = || lines.values().flatten();
    let mut picture = Picture::new(title, points().map(|point| point.1).fold(0.0, f64::max));
    let low = points().map(|point| point.0).fold(f64::INFINITY, f64::min).max(1.0);
    let high = points().map(|point| point.0).fold(2.0 * low, f64::max);
    let x = |value: f64| BEFORE + (value / low).ln() / (high / low).ln() * (WIDTH - BEHIND - BEFORE);
    for (at, (name, line)) in lines.iter().enumerate() {
        picture.key(at, name.rsplit('/').next().unwrap_or(name));
        let colour = COLOURS[at % COLOURS.len()];
        let corners: Vec<String> = line
            .iter()
            .map(|(across, value)| format!("{:.1},{:.1}", x(*across), picture.y(*value)))
            .collect();
        picture.put(&format!(
            "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='2'/>",
            corners.join(" ")
        ));
        for (across, value) in line {
            let y = picture.y(*value);
            picture.put(&format!("<circle cx='{:.1}' cy='{y:.1}' r='3' fill='{colour}'/>", x(*across)));
        }
    }
    if let Some(line) = lines.values().next() {
        for (across, _) in line {
            picture.words(x(*across), HEIGHT - BELOW + 20.0, "middle", &across.to_string());
        }
    }
    picture.end()
}

/// Groups of bars, each value above its own.
pub(crate) fn bars(title: &str, keys: [&str; 3], groups: &Bars) -> String {
    let highest = groups.iter().flat_map(|(_, values)| values).copied().fold(0.0, f64::max);
    let mut picture = Picture::new(title, highest);
    keys.iter().enumerate().for_each(|(at, key)| picture.key(at, key));
    let step = (WIDTH - BEHIND - BEFORE) / groups.len().max(1) as f64;
    let width = step / 4.0;
    for (group, (name, values)) in groups.iter().enumerate() {
        let left = BEFORE + step * group as f64 + width / 2.0;
        for (at, value) in values.iter().enumerate() {
            let (x, y) = (left + width * at as f64, picture.y(*value));
            let (height, colour) = (picture.y(0.0) - y, COLOURS[at]);
            picture.put(&format!(
                "<rect x='{x:.1}' y='{y:.1}' width='{:.1}' height='{height:.1}' fill='{colour}'/>",
                width * 0.9
            ));
            picture.words(x + width * 0.45, y - 4.0, "middle", &format!("{value:.1}"));
        }
        picture.words(left + 1.5 * width, HEIGHT - BELOW + 20.0, "middle", name);
    }
    picture.end()
}
