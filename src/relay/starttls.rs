//! STARTTLS on a TCP connection: [`crate::proto::starttls`] with octets. What comes of it is a connection on which
//! nothing was said yet.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::frames::Frames;
use super::hub::Hub;
use super::io::of_io;
use crate::proto::starttls::{Initiating, Receiving, Step};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::header::STREAM_END;
use crate::xmpp::route::Route;

/// Ask the server of `route.to` for TLS.
///
/// # Errors
/// Why there is none.
pub(crate) async fn ask(hub: &Hub, mut tcp: TcpStream, route: &Route) -> Result<TcpStream, Reason> {
    let mut out = String::new();
    let mut machine = Initiating::start(route.clone(), &mut out);
    let mut frames = Frames::new(hub.xml_limits());
    loop {
        say(&mut tcp, &mut out).await?;
        let step = match frames.next(&mut tcp).await {
            Ok(said) => machine.handle(&said.event(""), &mut out),
            Err(reason) => Err(reason),
        };
        match beginning(step, &frames) {
            Ok(Step::Listen) => {}
            Ok(Step::Handshake) => return Ok(tcp),
            Err(reason) => {
                // A goodbye that nobody has to hear.
                let _said = tcp.write_all(STREAM_END.as_bytes()).await;
                return Err(reason);
            }
        }
    }
}

/// Offer TLS to whoever opened `tcp`, and nothing else. The host of ours that was asked for.
///
/// # Errors
/// Why the peer was refused, which it was told, and the connection.
pub(crate) async fn offer(
    hub: &Hub,
    mut tcp: TcpStream,
) -> Result<(TcpStream, Option<Domain>), (Reason, TcpStream)> {
    match agree(hub, &mut tcp).await {
        Ok(host) => Ok((tcp, host)),
        Err(reason) => Err((reason, tcp)),
    }
}

async fn agree(hub: &Hub, tcp: &mut TcpStream) -> Result<Option<Domain>, Reason> {
    let mut machine = Receiving::default();
    let mut frames = Frames::new(hub.xml_limits());
    let mut out = String::new();
    loop {
        let fresh_id = super::random::identifier().ok_or(Reason::InternalServerError)?;
        let step = match frames.next(tcp).await {
            Ok(said) => machine.handle(&said.event(&fresh_id), &hub.live().hosts, &mut out),
            Err(reason) => Err(reason),
        };
        match beginning(step, &frames) {
            Ok(step) => {
                say(tcp, &mut out).await?;
                if step == Step::Handshake {
                    return Ok(machine.host().cloned());
                }
            }
            Err(reason) => {
                out.clear();
                machine.refuse(reason, &fresh_id, &mut out);
                // Whoever is refused need not hear why.
                let _heard = say(tcp, &mut out).await;
                return Err(reason);
            }
        }
    }
}

/// Behind the last word before TLS nothing may stand: it would be read as if it had come over TLS.
fn beginning(step: Result<Step, Reason>, frames: &Frames) -> Result<Step, Reason> {
    match step {
        Ok(Step::Handshake) if !frames.is_drained() => Err(Reason::StarttlsInjection),
        step => step,
    }
}

async fn say(tcp: &mut TcpStream, out: &mut String) -> Result<(), Reason> {
    let said = tcp.write_all(out.as_bytes()).await.map_err(|error| of_io(&error));
    out.clear();
    said
}
