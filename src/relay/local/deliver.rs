//! Streams that we open to our own servers: one for each pair, because servers answer further pairs of a shared stream
//! on the wrong one. EXTERNAL where it is offered, else dialback.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tracing::warn;

use crate::metrics::Opened;
use crate::proto::admission::Side;
use crate::proto::router::LaneId;
use crate::proto::stream::Outbox;
use crate::proto::stream::initiating::{Initiating, Wants};
use crate::reason::Reason;
use crate::relay::guard::LaneGuard;
use crate::relay::hub::Hub;
use crate::relay::io::{of_io, resolve};
use crate::relay::lane::Machine;
use crate::relay::mailbox::Mailbox;
use crate::relay::place::Place;
use crate::relay::session::new_lane;
use crate::relay::settings::Endpoint;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// Carry out the router's wish for a stream to the server of `route.to`.
pub(crate) fn open(hub: &Arc<Hub>, lane: LaneId, route: Route, mailbox: Arc<Mailbox>) {
    let guard = LaneGuard::new(hub, lane, Side::Local);
    hub.tasks.spawn(deliver(Arc::clone(hub), guard, lane, route, mailbox));
}

async fn deliver(hub: Arc<Hub>, guard: LaneGuard, lane: LaneId, route: Route, mailbox: Arc<Mailbox>) {
    let (connection, server) = match connect(&hub, &route.to).await {
        Ok(connected) => connected,
        Err(reason) => {
            hub.metrics.dial_failed(Side::Local, reason);
            warn!(pair = %route, %reason, advice = reason.advice(), "the host's server was not reached");
            return guard.down(reason);
        }
    };
    hub.metrics.local_streams(Opened::Outbound).inc();
    let wants = Wants { mux: false, bidi: true, dialback: Some(Arc::clone(&hub.keys)), pipelined: false };
    let mut out = Outbox::default();
    let machine = Machine::Initiating(Initiating::start(route.clone(), wants, &mut out));
    mailbox.post(&out.octets);
    let place = Place::ToServer { route: route.clone(), server, key: None };
    let (receive, send) = connection.into_split();
    let ended = new_lane(&hub, lane, mailbox, place, machine, false).run(receive, send).await;
    hub.metrics.local_streams(Opened::Outbound).dec();
    if !ended.established {
        hub.metrics.dial_failed(Side::Local, ended.reason);
        warn!(pair = %route, %server, reason = %ended.reason, advice = ended.reason.advice(), "the host's server did not accept our stream");
    }
    guard.down(ended.reason);
}

/// Connect to the server of `host`, the first of its addresses that answers.
pub(crate) async fn connect(hub: &Hub, host: &Domain) -> Result<(TcpStream, SocketAddr), Reason> {
    let entry = hub
        .hosts
        .facts(host)
        .and_then(|facts| hub.settings.hosts.get(facts.entry))
        .ok_or(Reason::HostUnknown)?;
    let mut last = Reason::ConnectionRefused;
    for endpoint in &entry.deliver {
        match connect_to(hub, endpoint).await {
            Ok(connected) => return Ok(connected),
            Err(reason) => last = reason,
        }
    }
    Err(last)
}

async fn connect_to(hub: &Hub, endpoint: &Endpoint) -> Result<(TcpStream, SocketAddr), Reason> {
    let mut last = Reason::NameNotResolved;
    for address in resolve(endpoint).await? {
        match tokio::time::timeout(hub.limits.connect, TcpStream::connect(address)).await {
            Ok(Ok(connection)) => {
                // Stanzas are small and somebody waits for each.
                let _best_effort = connection.set_nodelay(true);
                return Ok((connection, address));
            }
            Ok(Err(error)) => last = of_io(&error),
            Err(_) => last = Reason::ConnectionTimeout,
        }
    }
    Err(last)
}
