//! Streams that we open to our own servers: one for each pair, because servers answer further pairs of a shared stream
//! on the wrong one. EXTERNAL where it is offered, else dialback.

use std::net::SocketAddr;
use std::sync::Arc;

use tracing::warn;

use super::server;
use crate::metrics::Opened;
use crate::proto::admission::Side;
use crate::proto::router::LaneId;
use crate::proto::stream::Outbox;
use crate::proto::stream::initiating::{Bidi, Initiating, Manage, Pipelining, Wants};
use crate::relay::guard::LaneGuard;
use crate::relay::hub::Hub;
use crate::relay::io::{Receive, Transmit};
use crate::relay::lane::{Lane, Machine};
use crate::relay::mailbox::Mailbox;
use crate::relay::place::{Dialling, Place};
use crate::xmpp::route::Route;

/// Open a stream to the server of `route.to`, and run it to its end.
pub(crate) async fn run(hub: Arc<Hub>, lane: LaneId, route: Route, mailbox: Arc<Mailbox>) {
    let guard = LaneGuard::new(&hub, lane, Side::Local);
    let (connection, server) = match server::connect(&hub, &route.to, server::NO_HURRY).await {
        Ok(connected) => connected,
        Err(reason) => {
            hub.metrics.dial_failed(Side::Local, reason);
            warn!(pair = %route, %reason, advice = reason.advice(), "the host's server was not reached");
            return guard.down(reason);
        }
    };
    let (receive, send) = connection.into_split();
    carry(hub, guard, (lane, route, mailbox), server, (receive, send)).await;
}

/// Run the stream over a connection that was made to `server`.
pub(crate) async fn carry(
    hub: Arc<Hub>,
    guard: LaneGuard,
    (lane, route, mailbox): (LaneId, Route, Arc<Mailbox>),
    server: SocketAddr,
    (receive, send): (impl Receive, impl Transmit),
) {
    hub.metrics.local_streams(Opened::Outbound).inc();
    let wants = Wants {
        mux: false,
        bidi: Bidi::Offered,
        dialback: Some(Arc::clone(&hub.live().keys)),
        pipelining: Pipelining::Never,
        manage: Manage::Enable,
        sm_offered: false,
    };
    let mut out = Outbox::default();
    let machine = Machine::Initiating(Initiating::start(route.clone(), wants, &mut out));
    mailbox.post(out.octets);
    let place =
        Place::ToServer { server: Box::new(server), dialback: Box::new(Dialling::new(route.clone())) };
    let ended = Lane::new(&hub, lane, mailbox, place, machine).run(receive, send, |ended| ended).await;
    hub.metrics.local_streams(Opened::Outbound).dec();
    if !ended.established {
        hub.metrics.dial_failed(Side::Local, ended.reason);
        warn!(pair = %route, %server, reason = %ended.reason, advice = ended.reason.advice(), "the host's server did not accept our stream");
    }
    guard.down(ended.reason);
}
