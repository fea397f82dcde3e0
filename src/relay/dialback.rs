//! The question of dialback (XEP-0220 section 2.1.2): did the server of a domain make this key?
//!
//! It is asked on a connection of its own. Of a host of ours, at its `deliver` address and nowhere else
//! ([`super::local::verify`]); of a remote domain here, over TLS, of a server whose certificate carries that domain
//! (XEP-0344 section 2.1): whoever can forge an address could else answer for it. So a domain that no good certificate
//! proves is never proven by dialback either.
//!
//! Of XEP-0344's two short cuts the first is taken: whoever shows a good certificate for the domain is believed at once
//! (section 2.4, [`crate::proto::session`]). The second, for the same certificate at both of the domain's ends (section 2.6),
//! is for certificates that nobody vouches for, and those count for nothing here.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tracing::warn;

use super::clock;
use super::connector::{Asked, Target};
use super::frames::{Frames, Said};
use super::hub::Hub;
use super::io::{of_io, resolve};
use super::local::server::share;
use super::over_tls;
use super::settings::Transport;
use crate::identity::certificate::Role;
use crate::proto::admission::Side;
use crate::proto::dialback::{self, Dialback};
use crate::proto::discovery::TlsHints;
use crate::proto::discovery::found::{Answer, Attempt};
use crate::proto::discovery::pins::Pins;
use crate::proto::proof::DomainProof;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;
use crate::xmpp::header::{STREAM_END, StreamHeader};
use crate::xmpp::namespace as ns;
use crate::xmpp::route::Route;

/// Ask the server of `route.from`, a remote domain, whether it made `key` for `route` on our stream `stream_id`.
///
/// # Errors
/// [`Reason::DialbackInvalid`] if it did not, or why it could not be asked.
pub(crate) async fn ask(hub: &Hub, route: &Route, stream_id: &str, key: &str) -> Result<(), Reason> {
    // Half the time that the requesting server has: it hears a failure rather than nothing.
    let answer = tokio::time::timeout(hub.limits.handshake / 2, asked(hub, route, stream_id, key)).await;
    let outcome = match answer.unwrap_or(Err(Reason::DialbackTimeout)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Reason::DialbackInvalid),
        Err(reason) => Err(reason),
    };
    if let Err(reason) = outcome {
        hub.metrics.proof(DomainProof::Dialback, outcome);
        hub.metrics.refused(Side::Remote, reason);
        warn!(pair = %route, %reason, advice = reason.advice(), "dialback refused");
    }
    outcome
}

async fn asked(hub: &Hub, route: &Route, stream_id: &str, key: &str) -> Result<bool, Reason> {
    let ours = hub.live().certificates.choose(&route.to, Role::Initiating, clock::wall())?;
    let mut last = Reason::NoRoute;
    let authorities = authorities(hub, &route.from).await?;
    // The rest of the time is for the answer; one address that is dead leaves the others their share.
    let until = clock::now() + hub.limits.handshake / 3;
    for (at, (target, tls)) in authorities.servers.iter().enumerate() {
        let asked = Asked { sni: tls.sni.as_deref(), pins: &authorities.pins };
        let left = until.saturating_duration_since(clock::now());
        let (pair, patience) = (route.reversed(), share(left, authorities.servers.len() - at));
        let shaken =
            tokio::time::timeout(patience, over_tls::shake_hands(hub, *target, &pair, &ours, asked, None));
        match shaken.await {
            Ok(Ok((mut stream, _))) => return exchange(hub, &mut stream, route, stream_id, key).await,
            Ok(Err(reason)) => last = reason,
            Err(_) => last = Reason::ConnectionTimeout,
        }
    }
    Err(last)
}

/// Where a domain's key is asked about.
struct Authorities {
    servers: Vec<(Target, TlsHints)>,
    pins: Pins,
}

/// Where the server of a remote domain is asked: over TCP, at the address of its `[[peer]]`, or where the domain's own
/// records lead.
async fn authorities(hub: &Hub, domain: &Domain) -> Result<Authorities, Reason> {
    let live = hub.live();
    let Some(peer) = hub.peer_for(domain).and_then(|peer| live.peers.get(peer)) else {
        return recorded(hub, domain).await;
    };
    let transport = peer.transport;
    if transport == Transport::Quic {
        return Err(Reason::NoRoute);
    }
    let addresses = resolve(&peer.address, hub.limits.look_up).await?;
    let target = |address| (Target { transport, address }, TlsHints::default());
    Ok(Authorities { servers: addresses.into_iter().map(target).collect(), pins: Pins::none() })
}

async fn recorded(hub: &Hub, domain: &Domain) -> Result<Authorities, Reason> {
    let finder = hub.finder.as_ref().ok_or(Reason::NoRoute)?;
    let seed = super::random::seed();
    let found = finder.find(domain, seed).await;
    let ways = match &found.answer {
        Answer::Ways(ways) => ways.attempts(seed),
        Answer::Nothing => return Err(Reason::NoRecords),
        Answer::Failed(reason) => return Err(*reason),
    };
    let over_tcp = ways.into_iter().filter(|way| !way.transport.is_udp());
    let target = |way: Attempt| (Target { transport: way.transport, address: way.address }, way.tls);
    Ok(Authorities { servers: over_tcp.map(target).collect(), pins: found.pins.clone() })
}

/// Ask on `connection`, on which nothing was said yet.
///
/// # Errors
/// Why there is no answer.
pub(crate) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    hub: &Hub,
    connection: &mut S,
    route: &Route,
    stream_id: &str,
    key: &str,
) -> Result<bool, Reason> {
    let mut octets = StreamHeader::new(Some(route.to.clone()), Some(route.from.clone()), None).to_xml();
    send(connection, &octets).await?;
    let mut frames = Frames::new(hub.xml_limits());
    // Its features say that it is ready; what they offer doesn't matter to a question.
    if !element(&mut frames, connection).await?.is("features", ns::STREAM) {
        return Err(Reason::BadFormat);
    }
    octets.clear();
    dialback::write_verify(&mut octets, route, stream_id, key);
    send(connection, &octets).await?;
    loop {
        let said = element(&mut frames, connection).await?;
        if let Some(Dialback::Verified { route: about, stream_id: id, valid }) = Dialback::parse(&said)?
            && about == *route
            && id == stream_id
        {
            // The answer is there; whether the server sees our closing tag changes nothing.
            let _said = send(connection, STREAM_END).await;
            return Ok(valid);
        }
    }
}

async fn send<W: AsyncWrite + Unpin>(connection: &mut W, octets: &str) -> Result<(), Reason> {
    let sending = async {
        connection.write_all(octets.as_bytes()).await?;
        connection.flush().await
    };
    sending.await.map_err(|error| of_io(&error))
}

/// The next first-level child.
async fn element<R: AsyncRead + Unpin>(frames: &mut Frames, connection: &mut R) -> Result<Element, Reason> {
    loop {
        match frames.next(connection).await? {
            Said::Header(_) => {}
            Said::Element(element) => return Ok(element),
            Said::Stanza => return Err(Reason::NotAuthorized),
            Said::End => return Err(Reason::ConnectionLost),
        }
    }
}
