//! The demo's result as a table of at most 80 columns.

use std::fmt::Write;

use super::report::{Comparison, Report};

impl Report {
    /// As a table of at most 80 columns.
    #[must_use]
    pub fn to_table(&self) -> String {
        let mut table =
            format!("\nTwo relays with {} domains behind each; everything on this machine.\n\n", self.hosts);
        let mut row = |name: &str, value: String, note: String| {
            // Writing to a String can't fail.
            let _infallible = writeln!(table, "{}", format!("  {name:<22}{value:>12}  {note}").trim_end());
        };
        let pairs = self.pairs as u64;
        row("domain pairs", grouped(pairs), String::new());
        row(
            "QUIC connections",
            grouped(self.connections),
            format!("(one for each pair and direction: {})", grouped(2 * pairs)),
        );
        row(
            "QUIC streams",
            grouped(self.quic_streams),
            "(a stalled one stalls its own pair alone)".to_owned(),
        );
        row("stanzas sent", grouped(self.stanzas_sent), "(both directions)".to_owned());
        row("delivered", grouped(self.stanzas_delivered), String::new());
        row("lost", grouped(self.lost), String::new());
        row("duplicated", grouped(self.duplicated), String::new());
        row("out of order", grouped(self.reordered), String::new());
        if self.altered + self.bounced > 0 {
            row("altered", grouped(self.altered), String::new());
            row("bounced", grouped(self.bounced), String::new());
        }
        row("seconds", format!("{:.1}", self.seconds), String::new());
        match &self.comparison {
            None => self.add_latencies(&mut row),
            Some(comparison) => comparison.add_to(&mut table, self.paced_per_second),
        }
        table
    }

    fn add_latencies(&self, row: &mut impl FnMut(&str, String, String)) {
        let pace = format!("({} stanzas/s a pair, each way)", number(self.paced_per_second));
        row("latency p50", milliseconds(self.p50_ms), pace);
        row("latency p95", milliseconds(self.p95_ms), String::new());
        row("latency p99", milliseconds(self.p99_ms), String::new());
        if let Some(speed) = &self.full_speed {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate, rounded for people"
            )]
            let rate = grouped(speed.stanzas_per_second as u64);
            let cost = format!("(p50 {}, p99 {})", milliseconds(speed.p50_ms), milliseconds(speed.p99_ms));
            row("stanzas/s, full speed", rate, cost);
        }
    }
}

impl Comparison {
    fn add_to(&self, table: &mut String, per_second: f64) {
        let (one, each) = (&self.one_stream, &self.stream_per_pair);
        let mut line = |text: &str| {
            table.push_str(text.trim_end());
            table.push('\n');
        };
        line("");
        line(&format!(
            "{}% of datagrams lost, round trip {} ms, {} stanzas/s a pair, each way:",
            number(self.loss_percent),
            self.rtt_ms,
            number(per_second)
        ));
        line("");
        let columns = |name: &str, one: String, each: String| format!("  {name:<22}{one:>22}{each:>28}");
        let percent = |share: f64| format!("{share:.1} %");
        line(&columns("", "one stream for all".to_owned(), "a stream for each pair".to_owned()));
        line(&columns("QUIC streams", grouped(one.quic_streams), grouped(each.quic_streams)));
        line(&columns("stanzas timed", grouped(one.stanzas_timed), grouped(each.stanzas_timed)));
        line(&columns("datagrams lost", grouped(one.datagrams_lost), grouped(each.datagrams_lost)));
        line(&columns("without losses", milliseconds(one.loss_free_ms), milliseconds(each.loss_free_ms)));
        line(&columns("latency p50", milliseconds(one.p50_ms), milliseconds(each.p50_ms)));
        line(&columns("latency p95", milliseconds(one.p95_ms), milliseconds(each.p95_ms)));
        line(&columns("latency p99", milliseconds(one.p99_ms), milliseconds(each.p99_ms)));
        line(&columns("late", percent(one.late_percent), percent(each.late_percent)));
        line(&columns("  unavoidably", percent(one.floor_percent), percent(each.floor_percent)));
        line("");
        line("  late: more than 1.5 times what it takes without losses.");
        line("  unavoidably: a packet of the stanza's own domain pair was lost (a model).");
        if each.late_percent > 0.0 && one.late_percent > each.late_percent {
            let times = one.late_percent / each.late_percent;
            line(&format!("  A stream for each pair made {times:.1} times fewer stanzas late."));
        }
    }
}

/// Milliseconds, as precise as they deserve.
fn milliseconds(value: f64) -> String {
    match value {
        small if small < 10.0 => format!("{small:.2} ms"),
        large => format!("{large:.1} ms"),
    }
}

/// Without a fraction if there is none.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// 1234567 as 1,234,567.
pub(super) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::demo::report::tests::report;

    #[test]
    fn tables_stay_within_eighty_columns() {
        for impaired in [false, true] {
            let table = report(impaired).to_table();
            assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
            assert!(table.contains("12,345,678"), "{table}");
        }
        assert!(report(true).to_table().contains("15.0 times fewer"));
    }
}
