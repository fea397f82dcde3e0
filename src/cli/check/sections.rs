//! The parts of the report for people that were asked of the network.

use std::fmt::Write as _;

use super::published::{Leads, RecordRow};
use super::report::Report;
use super::table::paragraph;
use super::zone::PLACEHOLDER;

/// Who answers.
pub(super) fn reach(out: &mut String, report: &Report) {
    if report.reach.is_empty() {
        return;
    }
    out.push_str("\nServers and peers\n");
    for row in &report.reach {
        paragraph(out, "  ", &format!("{} {} ({}): {}", row.key, row.endpoint, row.over, row.said()));
    }
}

/// Where the records of each host lead, by transport.
pub(super) fn records(out: &mut String, report: &Report) {
    if report.records.is_empty() {
        return;
    }
    out.push_str("\nDNS records\n");
    for rows in report.records.chunk_by(|a, b| a.host == b.host) {
        let ways = rows.chunk_by(|a, b| a.transport == b.transport);
        let ways: Vec<String> = ways.map(|rows| format!("{} {}", rows[0].transport, said(rows))).collect();
        paragraph(out, "  ", &format!("{}: {}", rows[0].host, ways.join(", ")));
    }
}

/// The best that records for one transport do.
fn said(rows: &[RecordRow]) -> &'static str {
    let words = [
        (Leads::Here, "leads here"),
        (Leads::Forwarded, "leads here if forwarded"),
        (Leads::Elsewhere, "leads elsewhere"),
        (Leads::Unheard, "leads to no listener"),
        (Leads::NotPublic, "leads to what isn't public"),
        (Leads::NoAddress, "leads to no address"),
        (Leads::Unknown, "not known"),
        (Leads::NotOffered, "denied"),
    ];
    let found = words.iter().find(|(leads, _)| rows.iter().any(|row| row.leads == *leads));
    found.map_or("missing", |(_, word)| word)
}

/// What isn't published so far. These lines are to be pasted, and so neither wrapped nor indented.
pub(super) fn publish(out: &mut String, report: &Report) {
    let rows: Vec<_> = report.publish.iter().filter(|row| !row.published).collect();
    if rows.is_empty() {
        return;
    }
    let asked = if report.offline { ", if they aren't there: nobody was asked" } else { "" };
    // Writing to a String can't fail.
    let _ = writeln!(out, "\nRecords to publish{asked}");
    if rows.iter().any(|row| row.record.contains(PLACEHOLDER)) {
        let text = format!("with the name that this machine has in DNS instead of {PLACEHOLDER}:");
        paragraph(out, "", &text);
    }
    out.push('\n');
    for row in rows {
        let _ = writeln!(out, "{}", row.record);
    }
}
