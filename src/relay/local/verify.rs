//! The question of dialback (XEP-0220 section 2.1.2): did the server of a host make this key?
//!
//! It is asked on a connection of its own, at the host's `deliver` address and nowhere else, so that the answer comes
//! from the server that the operator named.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tracing::debug;

use crate::proto::dialback::{self, Dialback};
use crate::proto::proof::DomainProof;
use crate::reason::Reason;
use crate::relay::frames::{Frames, Said};
use crate::relay::hub::Hub;
use crate::relay::io::of_io;
use crate::xmpp::element::Element;
use crate::xmpp::header::{STREAM_END, StreamHeader};
use crate::xmpp::namespace as ns;
use crate::xmpp::route::Route;

/// Ask the server of `route.from`, a host of ours, whether it made `key` for `route` on our stream `stream_id`.
///
/// # Errors
/// [`Reason::DialbackInvalid`] if it did not, [`Reason::DialbackTimeout`] if it could not be asked.
pub(crate) async fn ask(hub: &Hub, route: &Route, stream_id: &str, key: &str) -> Result<(), Reason> {
    // Half the time that the requesting server has: it hears a failure rather than nothing.
    let answer = tokio::time::timeout(hub.limits.handshake / 2, exchange(hub, route, stream_id, key)).await;
    let outcome = match answer {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(Reason::DialbackInvalid),
        Ok(Err(reason)) => {
            debug!(pair = %route, %reason, "the host's own server could not be asked about a dialback key");
            Err(Reason::DialbackTimeout)
        }
        Err(_) => Err(Reason::DialbackTimeout),
    };
    if outcome.is_err() {
        hub.metrics.proof(DomainProof::Dialback, outcome);
    }
    outcome
}

async fn exchange(hub: &Hub, route: &Route, stream_id: &str, key: &str) -> Result<bool, Reason> {
    let (mut connection, _) = super::server::connect(hub, &route.from).await?;
    let mut octets = StreamHeader::new(Some(route.to.clone()), Some(route.from.clone()), None).to_xml();
    send(&mut connection, &octets).await?;
    let mut frames = Frames::new(hub.xml_limits());
    // Its features say that it is ready; what they offer doesn't matter to a question.
    if !element(&mut frames, &mut connection).await?.is("features", ns::STREAM) {
        return Err(Reason::BadFormat);
    }
    octets.clear();
    dialback::write_verify(&mut octets, route, stream_id, key);
    send(&mut connection, &octets).await?;
    loop {
        let said = element(&mut frames, &mut connection).await?;
        if let Some(Dialback::Verified { route: about, stream_id: id, valid }) = Dialback::parse(&said)?
            && about == *route
            && id == stream_id
        {
            // The answer is there; whether the server sees our closing tag changes nothing.
            let _said = send(&mut connection, STREAM_END).await;
            return Ok(valid);
        }
    }
}

async fn send(connection: &mut TcpStream, octets: &str) -> Result<(), Reason> {
    connection.write_all(octets.as_bytes()).await.map_err(|error| of_io(&error))
}

/// The next first-level child.
async fn element(frames: &mut Frames, connection: &mut TcpStream) -> Result<Element, Reason> {
    loop {
        match frames.next(connection).await? {
            Said::Header(_) => {}
            Said::Element(element) => return Ok(element),
            Said::Stanza => return Err(Reason::NotAuthorized),
            Said::End => return Err(Reason::ConnectionLost),
        }
    }
}
