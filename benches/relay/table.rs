//! What was measured, as a table of medians with the lowest and the highest behind.

use std::collections::BTreeMap;
use std::time::Duration;

/// The name of QUIC with nothing on it.
pub(crate) const RAW: &str = "raw QUIC";
/// The name of another pair of proxies.
pub(crate) const PEER: &str = "the other proxies";

/// Behind the name of what has traffic in both directions.
pub(crate) const BOTH: &str = ", both directions";

/// One figure of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) stanzas: u64,
    pub(crate) seconds: f64,
    /// CPU of the source, the two relays (or ends of raw QUIC) and the sink.
    pub(crate) spent: [Duration; 4],
    /// Of 50, 99 and 99.9 in a hundred stanzas, in milliseconds.
    pub(crate) waits: [f64; 3],
    /// The most that each relay has held, in octets.
    pub(crate) memory: [u64; 2],
}

/// The samples of one thing.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<Sample>);

/// A median between the lowest and the highest.
pub(crate) struct Spread {
    pub(crate) median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    pub(crate) fn of(all: impl IntoIterator<Item = f64>) -> Self {
        let mut all: Vec<f64> = all.into_iter().collect();
        all.sort_by(f64::total_cmp);
        let at = |at: usize| all.get(at).copied().unwrap_or_default();
        Self { median: at(all.len() / 2), low: at(0), high: at(all.len().saturating_sub(1)) }
    }
}

impl Figures {
    pub(crate) fn add(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    fn spread(&self, of: impl Fn(&Sample) -> f64) -> Spread {
        Spread::of(self.0.iter().map(of))
    }

    /// Microseconds of CPU for each stanza.
    pub(crate) fn cost(&self, process: usize) -> Spread {
        self.spread(|sample| sample.spent[process].as_secs_f64() * 1e6 / sample.stanzas.max(1) as f64)
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { median, low, high } = self;
        let digits = if *median < 100.0 { 2 } else { 0 };
        write!(f, "{median:.digits$} ({low:.digits$}-{high:.digits$})")
    }
}

pub(crate) struct Table<'a> {
    pub(crate) title: &'a str,
    pub(crate) figures: &'a BTreeMap<String, Figures>,
}

impl Table<'_> {
    pub(crate) fn print(&self) {
        println!("\n{}\n", self.title);
        println!(
            "| | CPU us a stanza: sending | receiving | source, sink | stanzas/s | p50, p99, p999 ms | peak MB |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- |");
        for (name, figures) in self.figures {
            let rate = figures.spread(|sample| sample.stanzas as f64 / sample.seconds);
            let [p50, p99, p999] = [0, 1, 2].map(|at| figures.spread(|sample| sample.waits[at]).median);
            let memory = [0, 1].map(|at| figures.spread(|sample| (sample.memory[at] >> 20) as f64).high);
            println!(
                "| {name} | {} | {} | {:.2}, {:.2} | {rate} | {p50:.2}, {p99:.2}, {p999:.2} | {:.0}, {:.0} |",
                figures.cost(1),
                figures.cost(2),
                figures.cost(0).median,
                figures.cost(3).median,
                memory[0],
                memory[1],
            );
        }
        let is_both = |name: &str| name.ends_with(BOTH);
        for (beside, other) in self.figures.iter().filter(|(name, _)| is_beside(name)) {
            let same = |name: &str| is_both(name) == is_both(beside) && !name.starts_with(RAW);
            for (name, figures) in self.figures.iter().filter(|(name, _)| same(name) && *name != beside) {
                let ratio = |at| figures.cost(at).median / other.cost(at).median;
                println!("\n{name}: {:.2} and {:.2} times {beside}", ratio(1), ratio(2));
            }
        }
    }
}

fn is_beside(name: &str) -> bool {
    name.starts_with(RAW) || name == PEER
}
