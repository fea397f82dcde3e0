//! What is wrong with the records of our hosts, and how much that matters: a host that no record leads to would fail; a record that
//! is wrong beside a right one is to be looked at.

use super::hosts::names;
use super::published::{Leads, RecordRow, listeners, offered};
use super::report::{Report, Severity};
use crate::proto::discovery::Transport;
use crate::reason::Reason;
use crate::relay::settings::Settings;
use crate::xmpp::domain::Domain;

/// Hosts of a network of its own have no public records.
pub(super) fn note_private(private: &[Domain], report: &mut Report) {
    if private.is_empty() {
        return;
    }
    let all: Vec<&Domain> = private.iter().collect();
    let text = "no public DNS knows such a name: its records were not looked up";
    let advice = "set allow_private = true in [dns], if a DNS server of yours knows it";
    report.add(Severity::Note, names(&all), text, advice);
}

/// What holds for several subjects is said once.
#[derive(Default)]
struct Faults(Vec<(Severity, String, String, Vec<String>)>);

impl Faults {
    fn add(&mut self, severity: Severity, subject: &str, text: String, advice: impl Into<String>) {
        let advice = advice.into();
        let known =
            self.0.iter_mut().find(|known| (known.0, &known.1, &known.2) == (severity, &text, &advice));
        match known {
            Some((.., subjects)) if subjects.iter().any(|known| known == subject) => {}
            Some((.., subjects)) => subjects.push(subject.to_owned()),
            None => self.0.push((severity, text, advice, vec![subject.to_owned()])),
        }
    }
}

/// Judge the records of the report, host by host.
pub(super) fn examine(settings: &Settings, report: &mut Report) {
    let offered = offered(settings);
    let mut faults = Faults::default();
    for rows in report.records.chunk_by(|a, b| a.host == b.host) {
        let is_any = |wanted: &[Leads]| rows.iter().any(|row| wanted.contains(&row.leads));
        let may_be_reached = [Leads::Here, Leads::Forwarded, Leads::Elsewhere, Leads::Unknown];
        let severity = if is_any(&may_be_reached) { Severity::Warning } else { Severity::Error };
        for row in rows {
            judge(settings, row, severity, &mut faults);
        }
        missing(&offered, rows, &mut faults);
    }
    for (severity, text, advice, subjects) in faults.0 {
        report.add(severity, names(&subjects.iter().collect::<Vec<_>>()), text, advice);
    }
}

fn judge(settings: &Settings, row: &RecordRow, severity: Severity, faults: &mut Faults) {
    let to = match (row.address, &row.target) {
        (Some(address), Some(target)) => format!("leads to {address} ({target})"),
        (_, target) => format!("leads to {}", target.as_deref().unwrap_or("nothing")),
    };
    let key = key(row.by);
    let listens = !listeners(settings, row.by).is_empty();
    let (severity, text, advice) = match row.leads {
        Leads::Here | Leads::Missing => return,
        Leads::NotOffered if !listens => return,
        Leads::NotOffered => {
            let text =
                format!("has the target \".\": peers are told that there is nothing, but {key} listens");
            (severity, text, "publish where the relay is instead")
        }
        Leads::Unheard if !listens => {
            let text = format!("{to}, which is this machine, but {key} is not set");
            (
                severity,
                text,
                "nothing, if another server listens there; else take the record away, or set the key",
            )
        }
        Leads::Unheard => {
            let text = format!("{to}, which is this machine, but {key} doesn't listen there");
            (severity, text, "publish the port of a listener, or listen there")
        }
        Leads::NotPublic => {
            let text = format!("{to}, which isn't public: peers don't dial it");
            (
                severity,
                text,
                "publish the address by which others see the relay; dns.allow_private is for closed networks",
            )
        }
        Leads::NoAddress => {
            (severity, format!("{to}, which has no address"), "publish an A or AAAA record for the target")
        }
        Leads::Elsewhere => {
            let text = format!("{to}: neither an address of this machine nor a port of {key}");
            (
                Severity::Warning,
                text,
                "nothing, if another relay or server of yours is there, or forwards it to a listener",
            )
        }
        Leads::Forwarded => {
            let text = format!("{to}, which is no address of this machine");
            (Severity::Note, text, "nothing, if it is forwarded here")
        }
        Leads::Unknown => {
            let reason = row.reason.as_deref().unwrap_or(Reason::DnsFailed.as_str());
            let text = format!("could not be looked up ({reason}): nothing is known of it");
            (Severity::Warning, text, "see that the DNS servers answer, and ask again")
        }
    };
    faults.add(severity, &row.name, text, advice);
}

/// A transport for which there is a listener, and that no record names. Peers that a `[[peer]]` of theirs leads here don't need it.
fn missing(offered: &[Transport], rows: &[RecordRow], faults: &mut Faults) {
    let Some(RecordRow { host, .. }) = rows.first() else { return };
    let is_missing =
        |by: Transport| rows.iter().filter(|row| row.by == by).all(|row| row.leads == Leads::Missing);
    let unnamed: Vec<Transport> = offered.iter().copied().filter(|by| is_missing(*by)).collect();
    if unnamed.is_empty() {
        return;
    }
    let advice = "publish the records that are spelled out, unless all peers name the relay in a [[peer]]";
    if rows.iter().all(|row| row.leads == Leads::Missing) {
        let text = "no record leads to it: only peers that name the relay in a [[peer]] find it";
        faults.add(Severity::Warning, host, text.to_owned(), advice);
        return;
    }
    let keys: Vec<&str> = unnamed.into_iter().map(key).collect();
    let text = format!("no record leads to the listeners of {}", keys.join(" and "));
    faults.add(Severity::Warning, host, text, advice);
}

/// The key of the listeners.
fn key(by: Transport) -> &'static str {
    match by {
        Transport::Quic => "remote.quic",
        Transport::DirectTls => "remote.direct_tls",
        Transport::StartTls => "remote.starttls",
    }
}
