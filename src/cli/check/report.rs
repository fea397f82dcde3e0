//! What was found, for people (`table`) and for machines (here).

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::published::RecordRow;
use super::reach::ReachRow;
use super::zone::PublishRow;
use crate::proto::policy::DomainPolicy;
use crate::relay::settings::Settings;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// It would fail.
    Error,
    /// It works, and somebody should look at it.
    Warning,
    /// Good to know.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// One thing to know.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// What it is about: a host, a file, a key of the configuration.
    pub(super) subject: String,
    /// What is so.
    pub(super) text: String,
    /// What to do; may be empty.
    pub(super) advice: String,
}

/// A certificate of ours.
#[derive(Debug, Serialize)]
pub(super) struct CertificateRow {
    pub(super) file: PathBuf,
    /// Its names; a wildcard as `*.x`.
    pub(super) names: Vec<String>,
    #[serde(serialize_with = "rfc3339")]
    pub(super) not_after: SystemTime,
    /// Full days until then; negative if it has passed.
    pub(super) days_left: i64,
    /// Extended key usage.
    pub(super) purposes: String,
    pub(super) issuer: String,
}

/// How a host of ours is proven to peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ProvenBy {
    /// By the certificate that a session shows, together with all others that it covers.
    Certificate,
    /// By a certificate of its own, and then by a mux secret if it is to join a session (XEP-0451).
    MuxSecret,
    /// By nothing that we have.
    Nothing,
}

impl fmt::Display for ProvenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Certificate => "certificate",
            Self::MuxSecret => "mux secret",
            Self::Nothing => "nothing",
        })
    }
}

/// A host of ours.
#[derive(Debug, Serialize)]
pub(super) struct HostRow {
    pub(super) domain: String,
    /// It is a component.
    pub(super) component: bool,
    /// File of the certificate that speaks for it; `None`: nobody can prove it.
    pub(super) certificate: Option<PathBuf>,
    /// The name in the certificate that covers it: its own, or a wildcard.
    pub(super) covered_by: Option<String>,
    /// How it joins the session that carries most hosts.
    pub(super) proven_by: ProvenBy,
    /// What it says of remote domains beside `[policy]`, as the configuration has it; `None`: nothing.
    pub(super) policy: Option<String>,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) config: PathBuf,
    pub(super) certificates: Vec<CertificateRow>,
    pub(super) hosts: Vec<HostRow>,
    /// What `[policy]` says of remote domains, for all hosts; `None`: nothing.
    pub(super) policy: Option<String>,
    /// `--offline`: nobody was asked for what stands in the three lists below.
    pub(super) offline: bool,
    /// What peers find that look for our hosts.
    pub(super) records: Vec<RecordRow>,
    /// Whether our servers, and the peers that are named, answer.
    pub(super) reach: Vec<ReachRow>,
    /// The records by which peers find our hosts.
    pub(super) publish: Vec<PublishRow>,
    pub(super) findings: Vec<Finding>,
    /// How many peers the configuration names.
    pub(super) peers: usize,
    /// `[limits] unacked_max`, if a server of ours speaks of acknowledgements.
    pub(super) unacked_max: Option<u32>,
}

impl Report {
    pub(super) fn empty(config: &Path) -> Self {
        Self {
            config: config.to_owned(),
            certificates: vec![],
            hosts: vec![],
            policy: None,
            offline: true,
            records: vec![],
            reach: vec![],
            publish: vec![],
            findings: vec![],
            peers: 0,
            unacked_max: None,
        }
    }

    pub(super) fn new(config: &Path, settings: &Settings) -> Self {
        let policy = said(&settings.policy.domains);
        Self { peers: settings.peers.len(), policy, ..Self::empty(config) }
    }

    /// Add a finding.
    pub(super) fn add(
        &mut self,
        severity: Severity,
        subject: impl Into<String>,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let (subject, text, advice) = (subject.into(), text.into(), advice.into());
        self.findings.push(Finding { severity, subject, text, advice });
    }

    /// How many findings matter that much.
    pub(super) fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Whether anything would fail.
    pub(super) fn would_fail(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// One JSON object, indented, with `ok` for those who want one answer.
    pub(super) fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct WithAnswer<'a> {
            ok: bool,
            #[serde(flatten)]
            report: &'a Report,
        }
        let answer = WithAnswer { ok: !self.would_fail(), report: self };
        // Plain fields alone: nothing here can fail, and an error would be text too.
        serde_json::to_string_pretty(&answer).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"))
            + "\n"
    }
}

/// What `policy` says, if it says anything.
pub(super) fn said(policy: &DomainPolicy) -> Option<String> {
    (!policy.is_open()).then(|| policy.to_string())
}

/// Full days from `now` to `then`; negative if it has passed.
pub(super) fn days_between(now: SystemTime, then: SystemTime) -> i64 {
    const DAY: Duration = Duration::from_secs(86_400);
    let days = |d: Duration| i64::try_from(d.as_secs() / DAY.as_secs()).unwrap_or(i64::MAX);
    match then.duration_since(now) {
        Ok(left) => days(left),
        Err(passed) => -days(passed.duration()) - 1,
    }
}

/// `2027-02-18`
pub(super) fn date(time: SystemTime) -> String {
    OffsetDateTime::from(time).date().to_string()
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let text = OffsetDateTime::from(*time).format(&Rfc3339).map_err(serde::ser::Error::custom)?;
    serializer.serialize_str(&text)
}
