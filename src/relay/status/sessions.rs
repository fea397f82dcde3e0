//! What the tasks of sessions say of themselves.

use std::time::SystemTime;

use tokio::sync::oneshot;

use super::{PathStatus, ProvenDomain, SessionFacts, wall_text};
use crate::proto::proof::{CertifiedNames, DomainProof, Grants};
use crate::proto::session::Session;
use crate::relay::clock;
use crate::relay::mailbox::lock;
use crate::relay::shared::{Connection, SessionShared};
use crate::xmpp::domain::Domain;

/// Where a session's task answers.
pub(crate) type SessionTold = oneshot::Sender<SessionFacts>;

impl SessionShared {
    /// Answer whoever asks how the session is.
    pub(crate) fn tell(&self, asked: SessionTold) {
        // Who has asked may have gone on without.
        let _late = asked.send(self.facts());
    }

    fn facts(&self) -> SessionFacts {
        let machine = lock(&self.machine).clone();
        let up = clock::now().saturating_duration_since(self.began);
        SessionFacts {
            opened_by_us: machine.facts().dialled,
            up_seconds: up.as_secs(),
            authenticated: self.is_up(),
            multiplexed: machine.is_multiplexed(),
            theirs: theirs(&machine),
            ours: ours(&machine),
            path: self.path(),
        }
    }

    fn path(&self) -> Option<PathStatus> {
        let Connection::Quic(connection) = &self.connection else { return None };
        let path = connection.stats().path;
        Some(PathStatus {
            rtt_seconds: path.rtt.as_secs_f64(),
            congestion_window: path.cwnd,
            packets_sent: path.sent_packets,
            packets_lost: path.lost_packets,
            congestion_events: path.congestion_events,
        })
    }
}

/// What the peer has proven: its certificate's names, as far as they count, and hosts that joined.
fn theirs(machine: &Session) -> Vec<ProvenDomain> {
    let names = &machine.facts().theirs;
    let exact = names.listed().filter(|domain| machine.theirs_proven(domain)).map(ToString::to_string);
    let wildcards = names.wildcard.iter().map(|parent| format!("*.{parent}"));
    certified(exact.chain(wildcards), names).chain(granted(machine.granted().0)).collect()
}

/// What we have proven: hosts of ours that our certificate names, and those that joined.
fn ours(machine: &Session) -> Vec<ProvenDomain> {
    let facts = machine.facts();
    let mut hosts: Vec<&Domain> = facts.hosts.iter().map(|(domain, _)| domain).collect();
    hosts.retain(|domain| machine.ours_by_certificate(domain));
    hosts.sort_unstable();
    let hosts = hosts.into_iter().map(ToString::to_string);
    certified(hosts, &facts.ours).chain(granted(machine.granted().1)).collect()
}

fn certified(
    domains: impl Iterator<Item = String>,
    names: &CertifiedNames,
) -> impl Iterator<Item = ProvenDomain> {
    let until = wall_text(names.not_after);
    domains.map(move |domain| proven(domain, DomainProof::Certificate, until.clone()))
}

fn granted(grants: &Grants) -> impl Iterator<Item = ProvenDomain> {
    let proven = |(domain, until): (&Domain, SystemTime)| {
        proven(domain.to_string(), DomainProof::MuxSecret, wall_text(until))
    };
    grants.iter().map(proven)
}

fn proven(domain: String, by: DomainProof, until: String) -> ProvenDomain {
    ProvenDomain { domain, by: by.as_str().to_owned(), until }
}
