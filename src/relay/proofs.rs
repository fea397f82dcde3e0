//! What the router wants done for proofs of further hosts (XEP-0451 section 3.2): it has neither clock nor randomness, and
//! a session's machine has another holder beside it.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tracing::{info, warn};

use super::hub::{Control, Hub};
use super::mailbox::lock;
use super::shared::SessionShared;
use crate::proto::admission::Side;
use crate::proto::mux::verifier::Clocks;
use crate::proto::proof::DomainProof;
use crate::proto::router::{Action, SessionId};
use crate::xmpp::domain::Domain;

impl Hub {
    pub(super) fn carry_out_proof(self: &Arc<Self>, control: &mut Control, action: Action, now: Instant) {
        match action {
            Action::MakeSecret { first, host } => {
                let unix = unix_seconds();
                // Without randomness there is no secret, and the proof runs into its time-out.
                if let Some(nonce) = super::random::nonce() {
                    control.router.make_secret(first, &host, nonce, Clocks { now, unix });
                }
            }
            Action::Post { lane, octets } => {
                if let Some(mailbox) = control.lanes.get(&lane) {
                    mailbox.post(&octets);
                }
            }
            Action::Granted { session, host, until, ours } => {
                control.grant(session, &host, until, ours);
                self.metrics.proof(DomainProof::MuxSecret, Ok(()));
                info!(session = session.0, %host, ours, "host joined the session");
            }
            Action::ProofRefused { host, reason } => {
                self.metrics.proof(DomainProof::MuxSecret, Err(reason));
                self.metrics.refused(Side::Remote, reason);
                let host = host.map(|host| host.to_string());
                warn!(host, %reason, advice = reason.advice(), "host not proven for the session");
            }
            _ => {}
        }
    }

    /// The peer of `session` says that it no longer serves `host`: a grant for it is over at this end too.
    pub(super) fn host_is_gone(self: &Arc<Self>, session: &SessionShared, host: &Domain) {
        lock(&session.machine).revoke_theirs(host);
        self.control(|router, _| router.host_is_gone(session.id, host));
    }
}

impl Control {
    /// The router's own copy of the session has it already.
    fn grant(&self, session: SessionId, host: &Domain, until: SystemTime, ours: bool) {
        let Some((_, shared)) = self.sessions.get(&session) else { return };
        let mut machine = lock(&shared.machine);
        let granted = if ours {
            machine.grant_ours(host.clone(), until)
        } else {
            machine.grant_theirs(host.clone(), until)
        };
        if let Err(reason) = granted {
            warn!(session = session.0, %host, %reason, "the two copies of a session disagree about a grant");
        }
        shared.granted.notify_one();
    }
}

/// Seconds since 1970, by the system's clock.
pub(crate) fn unix_seconds() -> u64 {
    UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()
}
