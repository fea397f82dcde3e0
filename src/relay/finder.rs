//! The look-up of a peer's records as a task (`proto::discovery`): its answer is always told to the router.

use std::net::SocketAddr;
use std::sync::Arc;

use tracing::{debug, error, warn};

use super::attempts::{Kind, Trace};
use super::clock;
use super::hub::Hub;
use super::settings::{Dns, Settings};
use super::start::StartError;
use crate::dns::{
    DnsError, Finder, FinderSettings, HostMetaSource, Responder, ResponderSettings, Sockets, Web,
};
use crate::proto::admission::Side;
use crate::proto::discovery::Origin;
use crate::proto::discovery::found::{Answer, Found};
use crate::proto::discovery::standing::Backoff;
use crate::proto::limits::Limits;
use crate::proto::router::PeerId;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

/// What finds peers by DNS, and never leads to ourselves: to `own`, where this relay listens. `None` if no server is named
/// and the system knows none, as on a machine of a closed network: its peers are those of `[[peer]]`.
///
/// # Errors
/// [`StartError`] if the servers that are named can't be used.
pub(crate) fn start(
    dns: &Dns,
    own: Vec<SocketAddr>,
    limits: &Limits,
    web: Arc<dyn Web>,
) -> Result<Option<Finder>, StartError> {
    let backoff = Backoff { min: limits.retry_min, max: limits.retry_max };
    let finder = Finder::new(FinderSettings {
        servers: dns.servers.clone(),
        allow_private: dns.allow_private,
        quic_443: dns.quic_443,
        own,
        bound: limits.look_up,
        host_meta: Some(HostMetaSource { when: dns.host_meta, web, port: dns.https_port, backoff }),
    });
    match finder {
        Ok(finder) => Ok(Some(finder)),
        Err(error @ DnsError::System(_)) => {
            warn!(%error, "peers are not looked for: only those of [[peer]] are reached");
            Ok(None)
        }
        Err(error) => Err(StartError::new(format_args!("dns.servers: {error}"))),
    }
}

/// Answer the look-ups of our own servers (`[local] dns`) that come to `sockets`; they are to find the relay at `s2s`.
/// `None`: not asked for.
///
/// # Errors
/// [`StartError`] if a socket can't be used, or no server is known to forward to.
pub(crate) fn respond(
    settings: &Settings,
    sockets: Vec<Sockets>,
    s2s: &[SocketAddr],
) -> Result<Option<Responder>, StartError> {
    let (false, Some(relay)) = (sockets.is_empty(), s2s.first()) else { return Ok(None) };
    let servers = settings.dns.as_ref().map(|dns| dns.servers.clone()).unwrap_or_default();
    let clients = settings.local_dns.clients.clone();
    let responder = Responder::start(&ResponderSettings { relay: *relay, servers, clients }, sockets);
    responder.map(Some).map_err(|error| StartError::new(format_args!("local.dns: {error}")))
}

/// Keep `responder` for as long as the relay lives.
pub(crate) async fn watch(mut responder: Responder) {
    let failure = responder.failed().await;
    error!(?failure, "the DNS responder has ended: our own servers no longer find the relay by it");
}

/// Tells the router that nothing was found, if the task ends without an answer.
struct FindGuard {
    hub: Arc<Hub>,
    peer: PeerId,
    answer: Option<Arc<Found>>,
}

impl Drop for FindGuard {
    fn drop(&mut self) {
        let failed = || Arc::new(Found::failed(Reason::InternalServerError));
        let answer = self.answer.take().unwrap_or_else(failed);
        self.hub.control(|router, now| router.found(self.peer, answer, now));
    }
}

/// Ask where the records of `domain` lead, for `peer`.
pub(crate) async fn find(hub: Arc<Hub>, peer: PeerId, domain: Domain) {
    let Some(finder) = hub.finder.as_ref() else { return };
    let mut guard = FindGuard { hub: Arc::clone(&hub), peer, answer: None };
    let trace = hub.attempts.begin(Kind::LookUp, &domain, None);
    let began = clock::now();
    let mut heard = Vec::new();
    let found = finder.find_telling(&domain, super::random::seed(), &mut heard).await;
    let (took, look_ups) = (clock::now().saturating_duration_since(began), &hub.metrics.look_ups);
    told(&trace, &heard, &found);
    drop(heard);
    for (reason, count) in found.refused.counts() {
        look_ups.addresses_refused(*reason, *count);
    }
    // One line for all of them: a stranger chooses how many there are.
    if let Some(first) = found.refused.iter().next() {
        let (host, reason, count) = (&first.host, first.reason, found.refused.len());
        let addresses: Vec<_> = found.refused.iter().map(|refused| refused.address.to_string()).collect();
        let addresses = addresses.join(", ");
        warn!(%domain, %host, addresses, count, %reason, advice = reason.advice(), "addresses not dialled");
    }
    match &found.answer {
        Answer::Ways(_) => {
            look_ups.ended("found", took);
            let (ways, incomplete) = (found.ways().len(), found.incomplete.map(Reason::as_str));
            let host_meta = found.ways().iter().any(|way| way.candidate.origin == Origin::HostMeta);
            debug!(%domain, ways, host_meta, pins = !found.pins.is_none(), incomplete, "peer found");
        }
        Answer::Nothing => {
            look_ups.ended("nothing", took);
            let reason = Reason::NoRecords;
            warn!(%domain, %reason, advice = reason.advice(), "peer not found");
        }
        Answer::Failed(reason) => {
            look_ups.failed(*reason, took);
            hub.metrics.dial_failed(Side::Remote, *reason);
            warn!(%domain, %reason, advice = reason.advice(), "peer not found");
        }
    }
    guard.answer = Some(found);
}

/// Write down what was answered, and what follows from it.
fn told(trace: &Trace, heard: &[(String, String)], found: &Found) {
    for (name, answer) in heard {
        trace.step("dns", format!("{name}: {answer}"));
    }
    for refused in found.refused.iter() {
        trace.failed("address", format!("{} of {}", refused.address, refused.host), refused.reason);
    }
    let others = found.refused.len() - found.refused.iter().len();
    if others > 0 {
        trace.step("address", format!("{others} more that must not be dialled"));
    }
    match &found.answer {
        Answer::Ways(_) => {
            let ways = found.ways().iter().map(|way| {
                let (at, by) = (&way.candidate, way.candidate.transport);
                format!("{}:{} by {by}", at.host, at.port)
            });
            trace.step("found", ways.collect::<Vec<_>>().join(", "));
            trace.end(Ok(()));
        }
        Answer::Nothing => {
            trace.failed("found", "no SRV record and no address", Reason::NoRecords);
            trace.end(Err(Reason::NoRecords));
        }
        Answer::Failed(reason) => {
            trace.failed("found", "no way to it", *reason);
            trace.end(Err(*reason));
        }
    }
}
