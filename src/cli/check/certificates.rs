//! The certificates folder: what it holds, what is wrong in it, and what expires soon.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::report::{CertificateRow, Report, Severity, date, days_between};
use crate::identity::certificate::Certificate;
use crate::identity::store::CertificateStore;
use crate::relay::settings::Settings;

/// A renewal that is to be seen working has at least this long; certificates that live shorter have a third.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 86_400);

/// Read the folder and list what it holds; `None` if it can't be read at all.
pub(super) fn examine(settings: &Settings, now: SystemTime, report: &mut Report) -> Option<CertificateStore> {
    let store = match CertificateStore::load(&settings.identity.certificates) {
        Ok(store) => store,
        Err(error) => {
            report.add(Severity::Error, "identity.certificates", error.to_string(), "");
            return None;
        }
    };
    // A bad file fails nothing by itself: a host that therefore has no certificate does, and is told as such.
    for problem in store.problems() {
        let (subject, text) = (problem.file.display().to_string(), problem.kind.to_string());
        report.add(Severity::Warning, subject, text, problem.kind.advice());
    }
    for certificate in store.certificates() {
        let row = row(certificate, now);
        let lifetime = certificate.names.not_after.duration_since(certificate.not_before).unwrap_or_default();
        let soon = EXPIRES_SOON.min(lifetime / 3);
        if certificate.is_valid_at(now) && !certificate.is_valid_at(now + soon) {
            report.add(
                Severity::Warning,
                row.file.display().to_string(),
                format!("expires on {}, {}", date(row.not_after), days(row.days_left)),
                "see why it wasn't renewed yet",
            );
        }
        report.certificates.push(row);
    }
    Some(store)
}

/// "in 3 days", "today", "2 days ago".
pub(super) fn days(left: i64) -> String {
    match left {
        0 => "today".to_owned(),
        1 => "in 1 day".to_owned(),
        2.. => format!("in {left} days"),
        -1 => "1 day ago".to_owned(),
        _ => format!("{} days ago", -left),
    }
}

/// The file that a certificate is known by: the first of those that it was read from.
pub(super) fn file(certificate: &Certificate) -> PathBuf {
    certificate.files.first().cloned().unwrap_or_default()
}

fn row(certificate: &Certificate, now: SystemTime) -> CertificateRow {
    let names = &certificate.names;
    let wildcards = names.wildcard.iter().map(|name| format!("*.{name}"));
    CertificateRow {
        file: file(certificate),
        names: names.exact.iter().map(ToString::to_string).chain(wildcards).collect(),
        not_after: names.not_after,
        days_left: days_between(now, names.not_after),
        purposes: certificate.purposes.to_string(),
        issuer: certificate.issuer.clone(),
    }
}
