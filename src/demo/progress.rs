//! What is shown while the demo runs: a bar on a terminal, else a line for each phase. Always on standard error:
//! standard output holds the result alone.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const REDRAW_EVERY: Duration = Duration::from_millis(100);
const BAR_CELLS: u8 = 28;

/// Where a run stands.
#[derive(Debug)]
pub(super) struct Progress {
    style: Style,
    label: String,
    total: u64,
    began: Instant,
    drawn: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Bar,
    Lines,
    Silent,
}

impl Progress {
    /// On standard error, as it suits it.
    pub(super) fn on_stderr() -> Self {
        Self::new(if std::io::stderr().is_terminal() { Style::Bar } else { Style::Lines })
    }

    /// Nowhere, but for what is said.
    pub(super) fn silent() -> Self {
        Self::new(Style::Silent)
    }

    fn new(style: Style) -> Self {
        Self { style, label: String::new(), total: 0, began: Instant::now(), drawn: None }
    }

    /// A phase begins, in which so many stanzas are to arrive.
    pub(super) fn begin(&mut self, label: &str, total: u64) {
        (self.label, self.total) = (label.to_owned(), total);
        (self.began, self.drawn) = (Instant::now(), None);
        match self.style {
            Style::Bar => self.at(0),
            Style::Lines => print(&format!("{label}: {total} stanzas\n")),
            Style::Silent => {}
        }
    }

    /// So many have arrived.
    pub(super) fn at(&mut self, done: u64) {
        let now = Instant::now();
        let due =
            self.drawn.is_none_or(|drawn| now.duration_since(drawn) >= REDRAW_EVERY) || done >= self.total;
        if self.style == Style::Bar && due {
            self.drawn = Some(now);
            print(&format!("\r\x1b[K{}", bar(&self.label, done, self.total, now.duration_since(self.began))));
        }
    }

    /// Say something that stays, in any case.
    pub(super) fn say(&mut self, text: &str) {
        self.clear();
        print(&format!("{text}\n"));
    }

    /// Make room for the result.
    pub(super) fn clear(&mut self) {
        if self.style == Style::Bar {
            print("\r\x1b[K");
        }
    }
}

fn print(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // Without a reader there is nobody to tell.
    drop(stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()));
}

/// One line of at most 79 columns.
fn bar(label: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let share = if total == 0 { 1.0 } else { done.min(total) as f64 / total as f64 };
    let full = (1..=BAR_CELLS).filter(|cell| f64::from(*cell) <= share * f64::from(BAR_CELLS)).count();
    let empty = usize::from(BAR_CELLS) - full;
    let line =
        format!("{label:<24} [{:=<full$}{:empty$}] {done:>9} {:>5.1} s", "", "", elapsed.as_secs_f64());
    line.chars().take(79).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fits_a_terminal_from_nothing_to_all_and_beyond() {
        for (done, total, full) in [(0, 10, 0), (5, 10, 14), (10, 10, 28), (20, 10, 28), (0, 0, 28)] {
            let line = bar("a stream for each pair", done, total, Duration::from_secs(1234));
            assert!(line.chars().count() <= 79, "{line}");
            assert_eq!(line.matches('=').count(), full, "{line}");
        }
        assert!(bar(&"x".repeat(200), 1, 2, Duration::ZERO).chars().count() <= 79);
    }
}
