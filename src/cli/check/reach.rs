//! Whether the servers that we deliver to, and the peers that are named, answer. Nothing is said to them: a TCP connection that
//! stands is closed again, and over QUIC an unknown version is spoken ([`super::quic_probe`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::online::all;
use super::quic_probe;
use super::report::{Report, Severity};
use crate::proto::discovery::refusal::refuse_address;
use crate::reason::Reason;
use crate::relay::io::{of_io, resolve};
use crate::relay::settings::{Endpoint, Settings, Transport};

/// One endpoint, its look-up included.
const ENDPOINT_MAX: Duration = Duration::from_secs(3);
/// Endpoints that are tried side by side.
const AT_ONCE: usize = 64;
/// Addresses of one name that are tried, side by side.
const ADDRESSES_MAX: usize = 8;

/// An endpoint, and what came of it.
#[derive(Debug, Serialize)]
pub(super) struct ReachRow {
    /// `host.deliver` or `peer.address`.
    pub(super) key: &'static str,
    pub(super) endpoint: String,
    /// `udp` or `tcp`.
    pub(super) over: &'static str,
    /// Where somebody answered.
    pub(super) address: Option<SocketAddr>,
    /// Why nobody did; `None`: somebody did, or it wasn't tried in time.
    pub(super) reason: Option<String>,
    #[serde(skip)]
    outcome: Outcome,
}

/// `None`: not tried in time.
type Outcome = Option<Result<SocketAddr, Reason>>;

/// An endpoint that is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tried {
    key: &'static str,
    endpoint: Endpoint,
    udp: bool,
}

/// Each endpoint once, whoever names it.
fn endpoints(settings: &Settings) -> Vec<Tried> {
    let deliver = settings.hosts.iter().flat_map(|host| &host.deliver);
    let deliver = deliver.map(|endpoint| ("host.deliver", endpoint, false));
    let udp = |transport: Transport| transport.is_udp();
    let peers = settings.peers.iter().map(|peer| ("peer.address", &peer.address, udp(peer.transport)));
    let mut tried: Vec<Tried> = Vec::new();
    for (key, endpoint, udp) in deliver.chain(peers) {
        let new = Tried { key, endpoint: endpoint.clone(), udp };
        if !tried.contains(&new) {
            tried.push(new);
        }
    }
    tried
}

/// Try each of them.
pub(super) async fn try_all(settings: &Settings, deadline: Instant) -> Vec<(Tried, Outcome)> {
    let tried = endpoints(settings);
    let (over_udp, over_tcp) = (Arc::from(settings.remote_quic.as_slice()), over_tcp(settings));
    let jobs = tried.iter().cloned().map(|tried| {
        let own = Arc::clone(if tried.udp { &over_udp } else { &over_tcp });
        async move {
            let reached = timeout(ENDPOINT_MAX, reach(&tried, &own)).await;
            reached.unwrap_or(Err(Reason::ConnectionTimeout))
        }
    });
    let outcomes = all(jobs.collect(), AT_ONCE, deadline).await;
    tried.into_iter().zip(outcomes).collect()
}

/// Where the relay itself listens over TCP. On all addresses, as with `[::]`, nobody else of this machine has the port.
fn over_tcp(settings: &Settings) -> Arc<[SocketAddr]> {
    let Settings { remote_direct_tls, remote_starttls, local_s2s, local_components, .. } = settings;
    [remote_direct_tls, remote_starttls, local_s2s, local_components].into_iter().flatten().copied().collect()
}

/// The address that answered first, or why the last one didn't. At the addresses `own` it would be the relay itself.
async fn reach(tried: &Tried, own: &[SocketAddr]) -> Result<SocketAddr, Reason> {
    let mut tasks = tokio::task::JoinSet::new();
    for address in resolve(&tried.endpoint, ENDPOINT_MAX).await?.into_iter().take(ADDRESSES_MAX) {
        if refuse_address(address, true, own) == Err(Reason::AddressOwn) {
            return Err(Reason::AddressOwn);
        }
        let udp = tried.udp;
        tasks.spawn(async move {
            let answered = match udp {
                true => quic_probe::answers(address).await,
                false => TcpStream::connect(address).await.map(drop),
            };
            answered.map(|()| address).map_err(|error| of_io(&error))
        });
    }
    let mut failed = Reason::NameNotResolved;
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(address)) => return Ok(address),
            Ok(Err(reason)) => failed = reason,
            Err(_) => {}
        }
    }
    Err(failed)
}

/// Add what came of it.
pub(super) fn examine(settings: &Settings, tried: Vec<(Tried, Outcome)>, report: &mut Report) {
    let unreached: Vec<&Endpoint> = tried
        .iter()
        .filter(|(tried, outcome)| tried.key == "host.deliver" && !matches!(outcome, Some(Ok(_)) | None))
        .map(|(tried, _)| &tried.endpoint)
        .collect();
    // A host whose servers are all away gets nothing.
    let lost = |endpoint: &Endpoint| {
        settings.hosts.iter().any(|host| {
            host.deliver.contains(endpoint) && host.deliver.iter().all(|it| unreached.contains(&it))
        })
    };
    for (tried, outcome) in &tried {
        let Some(Err(reason)) = outcome else { continue };
        let is_ours = tried.key == "host.deliver";
        let severity = if is_ours && lost(&tried.endpoint) { Severity::Error } else { Severity::Warning };
        let is_own = *reason == Reason::AddressOwn;
        let text = match (is_ours, tried.udp) {
            _ if is_own => "the relay itself listens there",
            (true, _) => "the server can't be reached",
            (false, true) => "the peer doesn't answer by QUIC",
            (false, false) => "the peer can't be reached",
        };
        let subject = format!("{} {}", tried.key, tried.endpoint);
        let advice = match is_own {
            true if is_ours => "give the server another port, like 5267, and write it here",
            true => "write where the peer listens",
            false => reason.advice(),
        };
        report.add(severity, subject, format!("{text} ({reason})"), advice);
    }
    let late = tried.iter().filter(|(_, outcome)| outcome.is_none()).count();
    if late > 0 {
        let text = format!("{late} of {} addresses were not tried in time", tried.len());
        report.add(Severity::Warning, "host.deliver, peer.address", text, "see the others first");
    }
    report.reach = tried.into_iter().map(|(tried, outcome)| row(&tried, outcome)).collect();
}

fn row(tried: &Tried, outcome: Outcome) -> ReachRow {
    ReachRow {
        key: tried.key,
        endpoint: tried.endpoint.to_string(),
        over: if tried.udp { "udp" } else { "tcp" },
        address: outcome.and_then(Result::ok),
        reason: outcome.and_then(Result::err).map(|reason| reason.to_string()),
        outcome,
    }
}

impl ReachRow {
    /// What came of it, in a few words.
    pub(super) fn said(&self) -> String {
        match self.outcome {
            None => "not tried in time".to_owned(),
            Some(Ok(_)) => "answers".to_owned(),
            Some(Err(reason)) => format!("doesn't answer ({reason})"),
        }
    }
}
