//! A component's connection (XEP-0114), where it meets the relay: who the components are, what may pass on their streams,
//! and in which namespace.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tracing::{debug, info};

use crate::proto::admission::{Proven, Scope, Side};
use crate::proto::component::{Registry, Secret};
use crate::proto::proof::DomainProof;
use crate::proto::router::LaneId;
use crate::reason::Reason;
use crate::relay::hub::Hub;
use crate::relay::io::Transmit;
use crate::relay::live::Live;
use crate::transport::quic::Code;
use crate::xmpp::content::Rescoping;
use crate::xmpp::domain::Domain;

/// A component whose machine is gone without a word, or that takes nothing of what is for it, is given up after this. Until
/// then a second connection is refused.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A silent connection is asked for a sign of life after this, and then as often.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How often it is asked without an answer; all of it is [`SILENCE_MAX`].
const KEEPALIVES_MAX: u32 = 3;

/// The components, as one stream meets them.
pub(crate) struct Components<'a> {
    pub(crate) hub: &'a Arc<Hub>,
    pub(crate) live: &'a Live,
    pub(crate) lane: LaneId,
}

impl Registry for Components<'_> {
    fn secret(&self, domain: &Domain) -> Option<&Secret> {
        self.live.hosts.component(domain)
    }

    fn connect(&self, domain: &Domain) -> Result<(), Reason> {
        let connected = self.hub.control(|router, now| router.component_up(self.lane, domain, now));
        if connected.is_ok() {
            self.hub.metrics.proof(DomainProof::ComponentSecret, Ok(()));
            info!(lane = self.lane.0, component = %domain, "component connected");
        }
        connected
    }
}

/// What may pass on the stream of the component `domain`.
pub(crate) fn scope(domain: Domain) -> Scope {
    Scope { side: Side::Local, theirs: Proven::only(domain), ours: Proven::Any, pair: None }
}

/// Let the system find out whether the component's machine is still there, and hold little for it.
pub(crate) fn watch(connection: &TcpStream) {
    let socket = SockRef::from(connection);
    // As towards a server: what the kernel holds when the component dies is lost.
    let _best_effort = socket.set_send_buffer_size(super::server::SEND_BUFFER_BYTES as usize);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(KEEPALIVES_MAX);
    let watched = socket.set_tcp_keepalive(&keepalive);
    // Keep-alives are only sent while nothing is unacknowledged.
    #[cfg(target_os = "linux")]
    let watched = watched.and_then(|()| socket.set_tcp_user_timeout(Some(SILENCE_MAX)));
    if let Err(error) = watched {
        debug!(%error, "the system won't watch a component's connection");
    }
}

/// The sending half towards a component: what comes from the streams of servers is translated on its way.
pub(crate) struct ToComponent<T> {
    transmit: T,
    rescoping: Rescoping,
}

impl<T> ToComponent<T> {
    pub(crate) fn new(transmit: T) -> Self {
        Self { transmit, rescoping: Rescoping::server_to_component() }
    }
}

impl<T: Transmit> Transmit for ToComponent<T> {
    async fn write(&mut self, octets: Bytes) -> Result<(), Reason> {
        let octets = match self.rescoping.of(&octets) {
            std::borrow::Cow::Borrowed(_) => octets,
            std::borrow::Cow::Owned(translated) => translated.into(),
        };
        self.transmit.write(octets).await
    }

    async fn finish(&mut self, patience: Duration) {
        self.transmit.finish(patience).await;
    }

    fn reset(&mut self, code: Code) {
        self.transmit.reset(code);
    }
}
