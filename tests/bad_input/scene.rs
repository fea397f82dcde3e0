//! A relay at its work: whatever comes in at one of its ports, a pair that behaves goes on beside it.

use fedmux::proto::admission::Side;
use fedmux::proto::limits::Limits;
use fedmux::reason::Reason;
use fedmux::relay::settings::Transport;

use crate::support::certificates::Authority;
use crate::support::companion::Companion;
use crate::support::peer::{Connection, Peer};
use crate::support::provider::{Plan, Provider};
use crate::support::server::Host;
use crate::support::tcp_peer::Dialler;
use crate::support::wire::{Wire, message};

/// Where bad input comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// A QUIC stream of a peer: in the same session as the pair that behaves.
    Quic,
    /// A TLS connection over TCP of the same peer.
    Tls,
    /// A TCP connection of our own server.
    Tcp,
}

pub(crate) const PORTS: [Port; 3] = [Port::Quic, Port::Tls, Port::Tcp];

/// To whom streams of either port lead.
pub(crate) const TO: &str = "a2.test";

pub(crate) struct Scene {
    pub(crate) peer: Peer,
    dialler: Dialler,
    pub(crate) provider: Provider,
    pub(crate) connection: Connection,
    /// a2.test, which hears what gets through.
    pub(crate) a2: Host,
    pair: Companion,
    /// Every refusal so far: there must be no other.
    refused: Vec<(Side, Reason)>,
}

impl Port {
    pub(crate) fn side(self) -> Side {
        match self {
            Self::Quic | Self::Tls => Side::Remote,
            Self::Tcp => Side::Local,
        }
    }

    /// Who speaks on streams of this port.
    pub(crate) fn from(self) -> &'static str {
        match self {
            Self::Quic | Self::Tls => "b1.test",
            Self::Tcp => "a1.test",
        }
    }

    /// A message on a stream of this port.
    pub(crate) fn message(self, id: &str) -> String {
        message(self.from(), TO, id)
    }
}

impl Scene {
    pub(crate) async fn set() -> Self {
        Self::with_limits(|_| {}).await
    }

    pub(crate) async fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        let authority = Authority::new();
        let certificate = authority.certify(&["calm.b.test", "b1.test"]);
        let (peer, dialler) = (Peer::start(&certificate), Dialler::with(Some(&certificate)));
        let plan = Plan::new(&authority, &["a1.test", TO, "calm.a.test"]).await;
        let mut provider = plan.peer(&["*"], peer.address).limits(change).start().await;
        let connection = peer.dial(provider.quic, TO).await.unwrap();
        let lane = connection.lane("calm.b.test", "calm.a.test").await;
        let pair = Companion::start(lane, "calm.b.test", provider.host("calm.a.test"));
        let a2 = provider.host(TO);
        Self { peer, dialler, provider, connection, a2, pair, refused: Vec::new() }
    }

    /// A stream on which nothing was said.
    pub(crate) async fn stream(&self, port: Port) -> Wire {
        match port {
            Port::Quic => self.connection.open().await,
            Port::Tls => self.dialler.direct(self.provider.at(Transport::DirectTls), TO).await.unwrap(),
            Port::Tcp => self.provider.local().await,
        }
    }

    /// A stream that is established, and has carried a stanza.
    pub(crate) async fn established(&mut self, port: Port) -> Wire {
        let mut wire = self.stream(port).await;
        wire.authenticate(port.from(), TO).await;
        wire.say(port.message("good")).await;
        assert_eq!(self.a2.receive().await.attribute("id"), Some("good"));
        wire
    }

    /// Refusals that were expected, so that every other one shows.
    pub(crate) fn note_refusals(&mut self, count: usize, port: Port, reason: Reason) {
        self.refused.extend(vec![(port.side(), reason); count]);
    }

    /// One more refusal was counted, and nothing else is disturbed.
    pub(crate) async fn has_refused(&mut self, port: Port, reason: Reason) {
        self.note_refusals(1, port, reason);
        let times = self.refused.iter().filter(|refused| **refused == (port.side(), reason)).count();
        assert_eq!(self.provider.refusals(port.side(), reason), times as u64, "{reason}");
        self.is_undisturbed().await;
    }

    /// The pair that behaves goes on in its session, nothing else got through, and no task has panicked.
    pub(crate) async fn is_undisturbed(&mut self) {
        self.pair.goes_on().await;
        assert!(self.a2.received().is_none(), "nothing behind a violation is carried");
        assert!(self.connection.0.close_reason().is_none());
        assert_eq!(self.provider.metric("fedmux_refusals_total", &[]), self.refused.len() as u64);
        self.provider.assert_unharmed();
    }

    /// `wire` ends with this stream error and nothing else does.
    pub(crate) async fn is_refused(&mut self, port: Port, wire: &mut Wire, condition: &str, reason: Reason) {
        assert_eq!(wire.expect_error(condition).await, reason.as_str());
        self.has_refused(port, reason).await;
    }
}
