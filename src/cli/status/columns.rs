//! Columns of text that fit a terminal, and figures as people read them.

use std::fmt::Write as _;

/// Columns of a terminal.
pub(super) const COLUMNS: usize = 80;
/// Columns between two columns.
const GAP: usize = 2;

/// Write `rows` below `heads`, each column as wide as it needs, and the widest cut until all fit.
pub(super) fn write(out: &mut String, heads: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let room = COLUMNS - GAP * heads.len();
    while widths.iter().sum::<usize>() > room {
        let Some(widest) = widths.iter_mut().max() else { break };
        *widest -= 1;
    }
    line(out, heads.iter().copied(), &widths);
    for row in rows {
        line(out, row.iter().map(String::as_str), &widths);
    }
}

fn line<'a>(out: &mut String, cells: impl Iterator<Item = &'a str>, widths: &[usize]) {
    let mut text = String::new();
    for (cell, width) in cells.zip(widths) {
        let _infallible = write!(text, "{:GAP$}{:width$}", "", cut(cell, *width));
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

/// `text` in at most `width` columns: its middle goes, because domains differ at both ends.
pub(super) fn cut(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(2);
    let (first, last) = (kept.div_ceil(2), kept / 2);
    let start: String = text.chars().take(first).collect();
    let end: String = text.chars().skip(length - last).collect();
    format!("{start}..{end}")
}

/// `12,345`
pub(super) fn number(n: impl Into<i128>) -> String {
    let n: i128 = n.into();
    let digits = n.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if n < 0 { format!("-{text}") } else { text }
}

/// `1.4 MiB`
pub(super) fn octets(n: usize) -> String {
    const UNITS: [&str; 3] = ["KiB", "MiB", "GiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    // In tenths of the unit.
    let (mut tenths, mut unit) = (n * 10 / 1024, UNITS[0]);
    for next in &UNITS[1..] {
        if tenths < 10 * 1024 {
            break;
        }
        (tenths, unit) = (tenths / 1024, next);
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// `3 d 4 h`, `5 min`, `12 s`
pub(super) fn time(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days} d {} h", hours % 24),
        () if hours > 0 => format!("{hours} h {} min", minutes % 60),
        () if minutes > 0 => format!("{minutes} min"),
        () => format!("{seconds} s"),
    }
}

/// `0.4 s`, and for longer times as [`time`].
pub(super) fn short_time(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let whole = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    time(whole.as_secs())
}

/// `a.test, b.test and 3 more`, in at most `width` columns.
pub(super) fn some(names: &[&str], width: usize) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        let separator = if index > 0 { ", " } else { "" };
        let more = names.len() - index;
        let left = width.saturating_sub(text.chars().count() + " and 1,000,000 more".len());
        if index > 0 && separator.len() + name.chars().count() > left {
            let _infallible = write!(text, " and {} more", number(i128::try_from(more).unwrap_or_default()));
            return text;
        }
        let _infallible = write!(text, "{separator}{}", cut(name, left.max(20)));
    }
    text
}
