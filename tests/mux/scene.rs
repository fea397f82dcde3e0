//! A relay that verifies, with v.test and w.test behind it, and a script that proves: p.test and q.test by the certificate
//! of its session, further hosts each by a certificate of its own.

use fedmux::proto::admission::Side;
use fedmux::reason::Reason;
use fedmux::relay::settings::Settings;
use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;

use crate::support::certificates::{Authority, Certificate};
use crate::support::peer::{Connection, Peer};
use crate::support::provider::{Plan, Provider};
use crate::support::server::Host;
use crate::support::wire::{Heard, Wire, header, message};

pub(crate) const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

pub(crate) struct Scene {
    pub(crate) authority: Authority,
    pub(crate) prover: Peer,
    pub(crate) relay: Provider,
    /// S1.
    pub(crate) first: Connection,
    /// Its first stream, from p.test to v.test.
    pub(crate) lane: Wire,
    pub(crate) v: Host,
}

/// The second connection of a proof, which the prover has dialled.
pub(crate) struct Second {
    /// Kept open.
    _connection: Connection,
    pub(crate) lane: Wire,
}

impl Scene {
    pub(crate) async fn set() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings of the relay; its `[[peer]]` is the prover.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let authority = Authority::new();
        let prover = Peer::start(&authority.certify(&["p.test", "q.test"]));
        let plan = Plan::new(&authority, &["v.test", "w.test"]).await;
        let mut plan = plan.peer(&["*"], prover.address).announcing();
        change(&mut plan.settings);
        let mut relay = plan.start().await;
        let first = prover.dial(relay.quic, "v.test").await.unwrap();
        let lane = first.lane("p.test", "v.test").await;
        let v = relay.host("v.test");
        Self { authority, prover, relay, first, lane, v }
    }

    /// Dial with the certificate of `host`, and authenticate as it.
    pub(crate) async fn second(&self, host: &str) -> Second {
        second(&self.authority, &self.relay, host).await
    }

    /// Ask for the secret with which p.test's session is to speak for `host`.
    pub(crate) async fn secret(&self, host: &str) -> String {
        let mut second = self.second(host).await;
        second.ask("p.test", &self.lane.stream_id).await.unwrap()
    }

    /// Return a secret on S1 as it should be. Whether the host was granted.
    pub(crate) async fn offer(&mut self, secret: &str) -> bool {
        offer(&mut self.lane, "p.test", "v.test", secret).await
    }

    /// How many proofs by secret were granted and refused, and how many refusals had this reason.
    pub(crate) fn counts(&self, reason: Reason) -> [u64; 3] {
        [
            proofs(&self.relay, "granted"),
            proofs(&self.relay, "refused"),
            self.relay.refusals(Side::Remote, reason),
        ]
    }

    /// S1 doesn't speak for `host`: neither on a stream of its own nor on p.test's.
    pub(crate) async fn speaks_not_for(&mut self, host: &str) {
        let mut stream = self.first.open().await;
        stream.say(header(host, "v.test")).await;
        assert_eq!(stream.expect_error("invalid-from").await, "invalid-from");
        assert!(self.v.received().is_none());
        // And what it does speak for is undisturbed.
        self.lane.say(message("p.test", "v.test", "goes-on")).await;
        assert_eq!(self.v.receive().await.attribute("id"), Some("goes-on"));
        self.relay.assert_unharmed();
    }

    /// S1 speaks for `host`.
    pub(crate) async fn speaks_for(&mut self, host: &str) {
        let mut stream = self.first.lane(host, "v.test").await;
        stream.say(message(host, "v.test", host)).await;
        assert_eq!(self.v.receive().await.attribute("id"), Some(host));
        self.relay.assert_unharmed();
    }
}

impl Second {
    /// Ask for a secret. `None`: refused.
    pub(crate) async fn ask(&mut self, prover: &str, stream_id: &str) -> Option<String> {
        self.asked(prover, stream_id).await.ok()
    }

    /// The same, or the reason of the refusal.
    pub(crate) async fn asked(&mut self, prover: &str, stream_id: &str) -> Result<String, String> {
        let namespace = ns::MUX_AUTHORIZE;
        self.lane.say(format!("<authorize xmlns='{namespace}' host='{prover}' stream='{stream_id}'/>")).await;
        match self.lane.hear().await {
            Heard::Element(said) if said.is("mux", ns::MUX) => {
                assert_eq!(said.attribute("host"), Some(prover));
                Ok(said.text())
            }
            Heard::Element(said) if said.is("refused", ns::MUX_AUTHORIZE) => {
                Err(said.attribute("reason").unwrap_or_default().to_owned())
            }
            other => panic!("{other:?} instead of a secret or a refusal"),
        }
    }
}

/// Dial `relay` with the certificate of `host`, and authenticate as it, without mux.
pub(crate) async fn second(authority: &Authority, relay: &Provider, host: &str) -> Second {
    second_with(&authority.certify(&[host]), relay, host).await
}

/// The same with this certificate.
pub(crate) async fn second_with(certificate: &Certificate, relay: &Provider, host: &str) -> Second {
    let peer = Peer::start(certificate);
    let connection = peer.dial(relay.quic, "v.test").await.unwrap();
    let mut lane = connection.open().await;
    let features = lane.authenticate_as(host, "v.test", false).await;
    assert!(features.child("authorize", ns::MUX_AUTHORIZE).is_some(), "{features:?}");
    Second { _connection: connection, lane }
}

/// The IQ that returns a secret.
pub(crate) fn offering(id: &str, from: &str, to: &str, secret: &str) -> String {
    format!("<iq type='set' from='{from}' to='{to}' id='{id}'><mux xmlns='{}'>{secret}</mux></iq>", ns::MUX)
}

/// Return a secret. Whether the host was granted; if not, it was `not-acceptable`.
pub(crate) async fn offer(lane: &mut Wire, from: &str, to: &str, secret: &str) -> bool {
    lane.say(offering("offer", from, to, secret)).await;
    let answer = lane.ear.stanza().await;
    assert_eq!(
        (answer.attribute("id"), answer.attribute("from"), answer.attribute("to")),
        (Some("offer"), Some(to), Some(from))
    );
    if answer.attribute("type") == Some("result") {
        return true;
    }
    assert_eq!(condition(&answer), "not-acceptable");
    false
}

/// The condition of a stanza error.
pub(crate) fn condition(stanza: &Element) -> String {
    assert_eq!(stanza.attribute("type"), Some("error"), "{stanza:?}");
    let error = stanza.children().find(|child| child.name() == "error").expect("an error");
    error.children().find(|child| child.ns() == STANZA_ERRORS).expect("a condition").name().to_owned()
}

/// How many proofs by secret ended like this.
pub(crate) fn proofs(relay: &Provider, result: &str) -> u64 {
    relay.metric("fedmux_proofs_total", &[("proof", "mux-secret"), ("result", result)])
}
