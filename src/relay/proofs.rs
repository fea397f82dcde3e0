//! What the router wants done for proofs of further hosts (XEP-0451 section 3.2): it has neither clock nor randomness, and
//! a session's machine has another holder beside it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{Span, info, warn};

use super::attempts::Kind;
use super::clock;
use super::hub::{Control, Hub};
use super::mailbox::lock;
use super::shared::SessionShared;
use crate::proto::admission::Side;
use crate::proto::mux::verifier::Clocks;
use crate::proto::proof::DomainProof;
use crate::proto::router::SessionId;
use crate::proto::router::proofs::Role;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

impl Hub {
    /// A host has joined a session.
    pub(super) fn proof_granted(
        &self,
        control: &Control,
        session: SessionId,
        host: &Domain,
        ours: bool,
        took: Option<Duration>,
    ) {
        self.metrics.proof(DomainProof::MuxSecret, Ok(()));
        let role = if ours { Role::Prover } else { Role::Verifier };
        if let Some(took) = took {
            self.metrics.proof_took(role.as_str(), took);
        }
        self.proof_ended(control, Some(session), Some(host), Ok(()));
        let pair = control.router.anchor(session).map(tracing::field::display);
        info!(parent: &control.span(session), %host, ours, pair, "host joined the session");
    }

    /// A proof came to nothing; what that costs is a connection.
    pub(super) fn proof_refused(
        &self,
        control: &Control,
        session: Option<SessionId>,
        host: Option<&Domain>,
        reason: Reason,
    ) {
        self.metrics.proof(DomainProof::MuxSecret, Err(reason));
        self.metrics.refused(Side::Remote, reason);
        self.proof_ended(control, session, host, Err(reason));
        let told = session.and_then(|session| control.sessions.get(&session));
        let told = told.map_or(Some(0), |(_, shared)| lock(&shared.strain.refusals).tell(clock::now()));
        let Some(unsaid) = told else { return };
        let pair = session.and_then(|session| control.router.anchor(session)).map(tracing::field::display);
        let span = session.map_or_else(Span::none, |session| control.span(session));
        let host = host.map(tracing::field::display);
        warn!(parent: &span, host, pair, %reason, unsaid, advice = reason.advice(), "host not proven for the session");
    }

    /// Remember what came of a proof: for the host itself if it is the peer's, else for the domain at the session's other end.
    fn proof_ended(
        &self,
        control: &Control,
        session: Option<SessionId>,
        host: Option<&Domain>,
        outcome: Result<(), Reason>,
    ) {
        let (Some(session), Some(host)) = (session, host) else { return };
        let hosts = &self.live().hosts;
        let ours = hosts.serves(host);
        let anchor = control.router.anchor(session);
        let far = anchor.map(|anchor| if hosts.serves(&anchor.to) { anchor.from } else { anchor.to });
        let about = far.as_ref().filter(|_| ours).unwrap_or(host);
        let detail = || format!("host {host} and session {}", session.0);
        self.attempts.note(Kind::Proof, about, ours.then_some(host), ("mux", detail), outcome);
    }

    /// The peer of `session` says that it no longer serves `host`: a grant for it is over at this end too.
    pub(super) fn host_is_gone(self: &Arc<Self>, session: &SessionShared, host: &Domain) {
        lock(&session.machine).revoke_theirs(host);
        self.control(|router, _| router.host_is_gone(session.id, host));
    }
}

impl Control {
    /// Make the secret for a proof. Without randomness there is none, and the proof runs into its time-out.
    pub(super) fn make_secret(&mut self, first: SessionId, host: &Domain, now: Instant) {
        if let Some(nonce) = super::random::nonce() {
            self.router.make_secret(first, host, nonce, Clocks { now, unix: unix_seconds() });
        }
    }

    /// What the log says of `session`.
    fn span(&self, session: SessionId) -> Span {
        self.sessions.get(&session).map_or_else(Span::none, |(_, shared)| shared.span.clone())
    }

    /// The router's own copy of the session has it already.
    pub(super) fn grant(&self, session: SessionId, host: &Domain, until: SystemTime, ours: bool) {
        let Some((_, shared)) = self.sessions.get(&session) else { return };
        let mut machine = lock(&shared.machine);
        let granted = if ours {
            machine.grant_ours(host.clone(), until)
        } else {
            machine.grant_theirs(host.clone(), until)
        };
        if let Err(reason) = granted {
            warn!(parent: &shared.span, %host, %reason, "the two copies of a session disagree about a grant");
        }
        shared.grants.tell();
    }
}

/// What refused a secret is our own clock, whatever the peer did.
pub(super) fn clock_stepped(seconds: i64) {
    let (by, direction) = (seconds.unsigned_abs(), if seconds < 0 { "back" } else { "forward" });
    warn!(seconds, "the clock of this relay was set {direction} by {by} s while a secret was out");
}

/// Seconds since 1970, by the system's clock.
pub(crate) fn unix_seconds() -> u64 {
    clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// The log, as text.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            lock(&self.0).write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// No test can set the clock of the machine. That the router says so if it was set is held by
    /// `proto::router::tests::secrets`.
    #[test]
    fn a_clock_that_was_set_is_told_in_the_log_with_by_how_much_and_which_way() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            clock_stepped(600);
            clock_stepped(-600);
        });
        let log = String::from_utf8(lock(&written.0).clone()).unwrap();
        let lines: Vec<&str> = log.lines().map(str::trim_start).collect();
        let expected = [("forward", 600), ("back", -600)].map(|(way, seconds)| {
            format!(
                "WARN fedmux::relay::proofs: the clock of this relay was set {way} by 600 s while a secret was out \
                 seconds={seconds}"
            )
        });
        assert_eq!(lines, expected);
    }
}
