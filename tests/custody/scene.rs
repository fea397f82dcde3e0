//! A relay for a1.test between a server and a peer that both follow the test's script and know stream management.

use std::time::Duration;

use fedmux::proto::limits::Limits;
use fedmux::relay::settings::{Endpoint, Policy, Uncertain};
use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;
use tokio::net::TcpListener;

use crate::support::certificates::Authority;
use crate::support::peer::{Connection, Peer};
use crate::support::provider::{Plan, Provider};
use crate::support::soon;
use crate::support::wire::{Heard, Wire, message};

pub(crate) const OURS: &str = "a1.test";
pub(crate) const THEIRS: &str = "b1.test";
pub(crate) const FEATURE: &str = "<sm xmlns='urn:xmpp:sm:3'/>";
pub(crate) const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";
pub(crate) const ASK: &str = "<r xmlns='urn:xmpp:sm:3'/>";

pub(crate) struct Scene {
    pub(crate) provider: Provider,
    pub(crate) peer: Peer,
    /// Where the relay finds the server of a1.test.
    pub(crate) server: TcpListener,
    pub(crate) _authority: Authority,
}

impl Scene {
    pub(crate) async fn set() -> Self {
        Self::with(Uncertain::Resend, |_| {}).await
    }

    pub(crate) async fn with(uncertain: Uncertain, change: impl FnOnce(&mut Limits)) -> Self {
        let authority = Authority::new();
        let peer = Peer::start(&authority.certify(&[THEIRS, "b2.test"]));
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let limits = |limits: &mut Limits| {
            limits.retry_min = Duration::from_millis(50);
            limits.retry_max = Duration::from_millis(200);
            change(limits);
        };
        let mut plan = Plan::new(&authority, &[OURS]).await.limits(limits);
        plan.settings.hosts[0].deliver = vec![Endpoint::Address(server.local_addr().unwrap())];
        plan.settings.policy = Policy { uncertain, ..Policy::default() };
        let provider = plan.peer(&[THEIRS, "b2.test"], peer.address).start().await;
        Self { provider, peer, server, _authority: authority }
    }

    /// A connection of the peer to the relay.
    pub(crate) async fn dial(&self) -> Connection {
        self.peer.dial(self.provider.quic, OURS).await.unwrap()
    }

    /// A stream of the server to the relay, towards the peer, with stream management on.
    pub(crate) async fn servers_stream(&self) -> Wire {
        let mut wire = self.provider.local().await;
        wire.authenticate(OURS, THEIRS).await;
        enable(&mut wire).await;
        wire
    }

    /// The stream that the relay opens to the server, with stream management on.
    pub(crate) async fn stream_to_server(&self) -> Wire {
        let (connection, _) = soon("a stream to the server", self.server.accept()).await.unwrap();
        managed(Wire::tcp(connection), None).await
    }

    pub(crate) fn uncertain(&self, outcome: &str) -> u64 {
        self.provider.metric("fedmux_stanzas_uncertain_total", &[("outcome", outcome)])
    }

    pub(crate) async fn is_good(&self) {
        self.provider.is_balanced().await;
        self.provider.assert_unharmed();
    }
}

/// Turn stream management on, on a stream of the script. The id under which it may be resumed.
pub(crate) async fn enable(wire: &mut Wire) -> Option<String> {
    wire.say(ENABLE).await;
    let enabled = element(wire, "enabled").await;
    enabled.attribute("id").map(str::to_owned)
}

/// Accept a stream of the relay and turn stream management on when asked; `id`: it may be resumed, which the relay knows
/// by now.
pub(crate) async fn managed(mut wire: Wire, id: Option<&str>) -> Wire {
    wire.accept_with(FEATURE).await;
    element(&mut wire, "enable").await;
    let resume = id.map(|id| format!(" id='{id}' resume='true'")).unwrap_or_default();
    wire.say(format!("<enabled xmlns='urn:xmpp:sm:3'{resume}/>")).await;
    wire
}

/// Break a connection off on which the relay has heard everything that was said on `lane`.
pub(crate) async fn cut(connection: &Connection, lane: &mut Wire, handled_by_relay: u32) {
    handled(lane, handled_by_relay).await;
    connection.0.close(0_u32.into(), b"");
}

/// The next element of stream management of this name; requests are passed over.
pub(crate) async fn element(wire: &mut Wire, name: &str) -> Element {
    loop {
        match wire.hear().await {
            Heard::Element(element) if element.is(name, ns::STREAM_MANAGEMENT) => return element,
            Heard::Element(element) if element.is("r", ns::STREAM_MANAGEMENT) => {}
            Heard::Element(element) if element.is("a", ns::STREAM_MANAGEMENT) => {}
            other => panic!("{other:?} instead of <{name}/>"),
        }
    }
}

/// The next stanza; acknowledgements and requests are passed over.
pub(crate) async fn stanza(wire: &mut Wire) -> Element {
    loop {
        match wire.hear().await {
            Heard::Stanza(stanza) => return stanza,
            Heard::Element(element) if element.ns() == ns::STREAM_MANAGEMENT => {}
            other => panic!("{other:?} instead of a stanza"),
        }
    }
}

/// The stream ends in good order; acknowledgements and requests are passed over.
pub(crate) async fn end(wire: &mut Wire) {
    loop {
        match wire.hear().await {
            Heard::End => return,
            Heard::Element(element) if element.ns() == ns::STREAM_MANAGEMENT => {}
            other => panic!("{other:?} instead of </stream:stream>"),
        }
    }
}

/// The ids of the next stanzas.
pub(crate) async fn ids(wire: &mut Wire, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(stanza(wire).await.attribute("id").unwrap().to_owned());
    }
    ids
}

/// Say that `h` stanzas are handled.
pub(crate) async fn acknowledge(wire: &mut Wire, h: u32) {
    wire.say(format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>")).await;
}

/// Ask until the relay says that `h` stanzas are handled; it never says more.
pub(crate) async fn handled(wire: &mut Wire, h: u32) {
    loop {
        wire.say(ASK).await;
        let said: u32 = element(wire, "a").await.attribute("h").unwrap().parse().unwrap();
        assert!(said <= h, "{said} is more than {h}");
        if said == h {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Send messages with these ids.
pub(crate) async fn send(wire: &mut Wire, from: &str, to: &str, ids: impl IntoIterator<Item = u32>) {
    for id in ids {
        wire.say(message(from, to, &id.to_string())).await;
    }
}

/// Whether a stanza says that it is late.
pub(crate) fn is_delayed(stanza: &Element) -> bool {
    stanza.child("delay", "urn:xmpp:delay").is_some()
}

/// Our word for why an error came back.
pub(crate) fn reason(error: &Element) -> String {
    assert_eq!(error.attribute("type"), Some("error"), "{error:?}");
    error.child("error", ns::SERVER).unwrap().child("text", ns::STANZA_ERRORS).unwrap().text()
}
