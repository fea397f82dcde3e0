//! The report for people: within 80 columns, what matters last, where the eye is.

use std::fmt::Write as _;

use super::certificates::days;
use super::report::{Report, Severity, date};
use super::sections;

const COLUMNS: usize = 80;
/// Widest column of host names; a longer name has a line of its own.
const HOST_COLUMNS_MAX: usize = 32;

/// The whole report.
pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    let count = |n: usize, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
    paragraph(
        &mut out,
        "",
        &format!(
            "{}: {}, {}, {}",
            report.config.display(),
            count(report.hosts.len(), "host"),
            count(report.peers, "peer"),
            count(report.certificates.len(), "certificate"),
        ),
    );
    certificates(&mut out, report);
    hosts(&mut out, report);
    acknowledgement(&mut out, report);
    policies(&mut out, report);
    sections::reach(&mut out, report);
    sections::records(&mut out, report);
    sections::publish(&mut out, report);
    findings(&mut out, report);
    let (errors, warnings) = (report.count(Severity::Error), report.count(Severity::Warning));
    out.push('\n');
    out.push_str(&match (errors, warnings) {
        (0, 0) => "Nothing would fail.\n".to_owned(),
        (0, n) => format!("Nothing would fail; {} to look at.\n", count(n, "warning")),
        (n, _) => format!("{} would fail.\n", count(n, "thing")),
    });
    out
}

fn certificates(out: &mut String, report: &Report) {
    if report.certificates.is_empty() {
        return;
    }
    out.push_str("\nCertificates\n");
    for (index, row) in report.certificates.iter().enumerate() {
        let lead = format!("{:>4}  ", index + 1);
        paragraph(out, &lead, &row.file.display().to_string());
        let expiry = format!("until {} ({})", date(row.not_after), days(row.days_left));
        paragraph(out, "      ", &format!("{expiry}, for {}", row.purposes));
        paragraph(out, "      ", &row.names.join(", "));
    }
}

fn hosts(out: &mut String, report: &Report) {
    if report.hosts.is_empty() {
        return;
    }
    let width = report.hosts.iter().map(|row| row.domain.chars().count()).max().unwrap_or(0);
    let width = width.clamp("HOST".len(), HOST_COLUMNS_MAX);
    // Writing to a String can't fail.
    let _ = writeln!(out, "\n  {:width$}  CERTIFICATE  PROVEN BY    COVERED BY", "HOST");
    for row in &report.hosts {
        let number = report
            .certificates
            .iter()
            .position(|certificate| Some(&certificate.file) == row.certificate.as_ref());
        let number = number.map_or_else(|| "none".to_owned(), |index| (index + 1).to_string());
        let covered_by = match &row.covered_by {
            Some(name) if *name == row.domain => "its own name",
            Some(name) => name,
            None => "nothing",
        };
        let component = if row.component { " (component)" } else { "" };
        let proven_by = row.proven_by;
        let _ = match row.domain.chars().count() > width {
            true => {
                writeln!(
                    out,
                    "  {}\n  {:width$}  {number:11}  {proven_by:11}  {covered_by}{component}",
                    row.domain, ""
                )
            }
            false => {
                writeln!(out, "  {:width$}  {number:11}  {proven_by:11}  {covered_by}{component}", row.domain)
            }
        };
    }
}

/// What their servers have to keep.
fn acknowledgement(out: &mut String, report: &Report) {
    let Some(unacked_max) = report.unacked_max else { return };
    let text = format!(
        "Stanzas of a server of ours are acknowledged when their next hop has them, or {unacked_max} of a stream wait for that: \
         the server has to keep more than {unacked_max} (Prosody: smacks_max_queue_size; mod_fedmux sees to it)."
    );
    out.push('\n');
    paragraph(out, "  ", &text);
}

/// Whom the hosts may talk to, where anything is said of it.
fn policies(out: &mut String, report: &Report) {
    let all = report.policy.iter().map(|policy| ("all hosts", policy));
    let own = report.hosts.iter().filter_map(|row| Some((row.domain.as_str(), row.policy.as_ref()?)));
    let mut said = all.chain(own).peekable();
    if said.peek().is_some() {
        out.push_str("\nPolicy\n");
    }
    for (whose, policy) in said {
        paragraph(out, "  ", &format!("{whose}: {policy}"));
    }
}

fn findings(out: &mut String, report: &Report) {
    let mut findings: Vec<_> = report.findings.iter().collect();
    // What would fail comes last, next to the prompt.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in findings {
        out.push('\n');
        let lead = format!("{:<9}", finding.severity.to_string());
        paragraph(out, &lead, &format!("{}: {}", finding.subject, finding.text));
        if !finding.advice.is_empty() {
            paragraph(out, "         ", &format!("-> {}", finding.advice));
        }
    }
}

/// `text` behind `lead`, wrapped, each further line indented as far. A word that is too long stands alone.
pub(in crate::cli) fn paragraph(out: &mut String, lead: &str, text: &str) {
    let indent = lead.chars().count();
    let mut column = indent;
    out.push_str(lead);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > indent && column + 1 + length > COLUMNS {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_behind_its_lead() {
        let mut out = String::new();
        paragraph(&mut out, "note     ", &"word ".repeat(30));
        assert!(out.lines().count() == 3 && out.lines().all(|line| line.chars().count() <= COLUMNS), "{out}");
        assert!(out.lines().skip(1).all(|line| line.starts_with("         word")), "{out}");
    }
}
