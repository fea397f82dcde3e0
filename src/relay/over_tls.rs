//! Connections with peers by TLS over TCP, direct (XEP-0368) or behind STARTTLS: those we dial, and those we accept.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::attempts::{Trace, certificate_text};
use super::clock;
use super::connector::{self, Asked, Attempt, Connected, Established, Origin, Target, exporters, session};
use super::door::{Door, Place};
use super::halves::reason;
use super::hub::Hub;
use super::io::{LAST_WORDS, of_io};
use super::listeners::Listening;
use super::settings::Transport;
use super::shared::Connection;
use super::starttls;
use crate::identity::certificate::Certificate;
use crate::identity::verdict::Verdict;
use crate::metrics::Opened;
use crate::proto::admission::Side;
use crate::proto::proof::DomainProof;
use crate::reason::Reason;
use crate::transport::quic;
use crate::transport::tls::{self, TlsStream};
use crate::xmpp::route::Route;

/// Wait after a failed accept: the process is out of descriptors, and trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connect to `target`, and verify that its certificate covers `attempt.route.to`.
///
/// # Errors
/// Why there is no connection.
pub(crate) async fn connect(
    hub: &Arc<Hub>,
    target: Target,
    attempt: Attempt<'_>,
) -> Result<Connected, Reason> {
    let Attempt { route, certificate, asked, trace, .. } = attempt;
    let (stream, verdict) = shake_hands(hub, target, route, certificate, asked, Some(trace)).await?;
    connected(hub, stream, target, verdict, Origin::Dialled(attempt)).await
}

/// Connect to `target` for `route`, showing `certificate`; its own covers `route.to`.
///
/// # Errors
/// Why there is no connection.
pub(crate) async fn shake_hands(
    hub: &Hub,
    target: Target,
    route: &Route,
    certificate: &Arc<Certificate>,
    asked: Asked<'_>,
    trace: Option<&Trace>,
) -> Result<(TlsStream, Verdict), Reason> {
    let tcp = tokio::time::timeout(hub.limits.connect, TcpStream::connect(target.address))
        .await
        .map_err(|_| Reason::ConnectionTimeout)?
        .map_err(|error| of_io(&error))?;
    let step = |what, detail: String| {
        if let Some(trace) = trace {
            trace.step(what, detail);
        }
    };
    step("connected", format!("TCP to {}", target.address));
    let shaking = async {
        tls::prepare(&tcp, hub.limits.path_idle);
        let tcp = match target.transport {
            Transport::StartTls => {
                let tcp = starttls::ask(hub, tcp, route).await?;
                step("starttls", "offered, and agreed to".to_owned());
                tcp
            }
            Transport::DirectTls | Transport::Quic => tcp,
        };
        let (config, verdict) = hub.live().tls(target.transport).client(certificate, &route.to, asked.pins);
        let name = asked.name(&route.to);
        let hands = async move { tls::connect(tcp, config, &name).await };
        let shaken = hub.handshakes.shake(&hub.metrics, hands).await?;
        let version = shaken.as_ref().ok().and_then(|stream| stream.get_ref().1.protocol_version());
        let version = version.map_or_else(|| "TLS".to_owned(), |version| format!("{version:?}"));
        step("tls", certificate_text(&verdict, &version));
        Ok((shaken.map_err(|error| reason(&verdict, &error))?, verdict))
    };
    tokio::time::timeout(hub.limits.handshake, shaking).await.map_err(|_| Reason::NegotiationTimeout)?
}

async fn connected(
    hub: &Arc<Hub>,
    stream: TlsStream,
    target: Target,
    verdict: Verdict,
    origin: Origin<'_>,
) -> Result<Connected, Reason> {
    let exporters = exporters(|label| tls::exporter(&stream, label))?;
    let connection = Connection::Tls { transport: target.transport, over: Notify::new() };
    let established = Established { connection, address: target.address, exporters, verdict };
    Ok(Connected::Tls(session(hub, established, origin).await?, Box::new(stream)))
}

/// Accept connections for as long as they are this relay's.
pub(crate) async fn accept(
    hub: Arc<Hub>,
    listener: Listening<TcpListener>,
    transport: Transport,
    door: Arc<Door>,
) {
    while let Some(next) = listener.accept(&hub).await {
        let (tcp, address) = match next {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "no connection of a peer could be accepted; check the limit of open files");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if hub.is_draining() {
            continue;
        }
        // Without a place it is closed at once, before anything is read from it.
        let Some(place) = door.enter(address) else { continue };
        let target = Target { transport, address };
        hub.tasks.spawn(accepted(Arc::clone(&hub), tcp, target, place));
    }
}

async fn accepted(hub: Arc<Hub>, tcp: TcpStream, target: Target, mut place: Place) {
    // From the first octet to the last of the handshake: whoever trickles is not waited for.
    let began = clock::now();
    let shaken = tokio::time::timeout(hub.limits.handshake, welcome(&hub, tcp, target)).await;
    let shaken = shaken.unwrap_or_else(|_| Err(Reason::NegotiationTimeout.into()));
    let failed = shaken.as_ref().err().map(|refused| refused.reason);
    connector::shaken(&hub, target.transport, Opened::Inbound, failed, began);
    match shaken {
        Ok(connected) => {
            place.shaken();
            // What its stream was refused for was said there.
            let _said = connected.run(Arc::clone(&hub), None).await;
        }
        Err(Refused { reason, tcp }) => {
            report(&hub, target, reason);
            if let Some(tcp) = tcp {
                tls::part(tcp, LAST_WORDS).await;
            }
        }
    }
    drop(place);
}

/// A connection that did not come to be. If there is something left of it, its end may still have to hear why.
struct Refused {
    reason: Reason,
    tcp: Option<TcpStream>,
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        Self { reason, tcp: None }
    }
}

fn report(hub: &Hub, target: Target, reason: Reason) {
    hub.metrics.refused(Side::Remote, reason);
    let (peer, transport) = (quic::canonical(target.address), target.transport.as_str());
    if reason == Reason::ConnectionLost {
        // Whoever only looks whether the port is open does it often.
        debug!(%peer, transport, %reason, "connection closed before its handshake");
    } else {
        warn!(%peer, transport, %reason, advice = reason.advice(), "connection refused");
    }
}

async fn welcome(hub: &Arc<Hub>, tcp: TcpStream, target: Target) -> Result<Connected, Refused> {
    tls::prepare(&tcp, hub.limits.path_idle);
    let (tcp, host) = match target.transport {
        Transport::StartTls => {
            let offered = starttls::offer(hub, tcp).await;
            offered.map_err(|(reason, tcp)| Refused { reason, tcp: Some(tcp) })?
        }
        Transport::DirectTls | Transport::Quic => (tcp, None),
    };
    let live = hub.live();
    let (config, verdict) = live.tls(target.transport).server(&live.certificates, host);
    match hub.handshakes.shake(&hub.metrics, tls::accept(tcp, config)).await? {
        Ok(stream) => Ok(connected(hub, stream, target, verdict, Origin::Accepted).await?),
        Err((error, tcp)) => {
            let reason = reason(&verdict, &error);
            hub.metrics.proof(DomainProof::Certificate, Err(reason));
            Err(Refused { reason, tcp: Some(tcp) })
        }
    }
}
