//! A relay that proves, and a script that verifies: p.test and n.test are behind the relay, each with a certificate of its
//! own, v.test is the script's.

use fedmux::proto::admission::Side;
use fedmux::reason::Reason;
use fedmux::xmpp::element::Element;
use fedmux::xmpp::header::STREAM_END;
use fedmux::xmpp::namespace as ns;

use crate::scene::proofs;
use crate::support::certificates::Authority;
use crate::support::peer::{Connection, Peer};
use crate::support::provider::{Plan, Provider};
use crate::support::server::Host;
use crate::support::until;
use crate::support::wire::{Accepted, Heard, Wire, message};

const SECRET: &str = "opaque-to_the.prover";

/// S1 is up, S2 is up, and the relay has asked for the secret of n.test on S2: a stanza of n.test waits.
struct Scene {
    relay: Provider,
    p: Host,
    n: Host,
    _verifier: Peer,
    first: Connection,
    lane: Wire,
    _second: Connection,
    second: Wire,
}

impl Scene {
    async fn set() -> Self {
        let authority = Authority::new();
        let verifier = Peer::start(&authority.certify(&["v.test", "w.test"]));
        let plan = Plan::without_certificate(&authority, &["p.test", "n.test"]).await;
        plan.add_certificate(&authority.certify(&["p.test"]), "p");
        plan.add_certificate(&authority.certify(&["n.test"]), "n");
        let mut relay = plan.peer(&["*"], verifier.address).announcing().start().await;
        let (mut p, mut n) = (relay.host("p.test"), relay.host("n.test"));

        p.send("v.test", "first").await;
        let first = verifier.accept().await;
        let mut lane = first.accept().await;
        lane.accept_with(&listing(&["v.test"])).await;
        assert_eq!(lane.ear.stanza().await.attribute("id"), Some("first"));

        n.send("v.test", "at once").await;
        let second = verifier.accept().await;
        let mut wire = second.accept().await;
        let accepted = wire.accept_with(&listing(&["v.test"])).await;
        let expected =
            Accepted { from: "n.test".to_owned(), to: "v.test".to_owned(), bidi: true, mux: false };
        assert_eq!(accepted, expected, "without mux, or it could be taken for a first session");
        let asked = carried_at_once(&mut wire).await;
        assert!(asked.is("authorize", ns::MUX_AUTHORIZE), "{asked:?}");
        assert_eq!((asked.attribute("host"), asked.attribute("stream")), (Some("p.test"), Some("s1")));
        Self { relay, p, n, _verifier: verifier, first, lane, _second: second, second: wire }
    }

    /// Hand out the secret; the id of the IQ that returns it on S1.
    async fn hand_out(&mut self) -> String {
        self.second.say(format!("<mux xmlns='{}' host='p.test'>{SECRET}</mux>", ns::MUX)).await;
        let offer = self.lane.ear.stanza().await;
        let addressed = ["type", "from", "to"].map(|name| offer.attribute(name).unwrap());
        assert_eq!((offer.name(), addressed), ("iq", ["set", "p.test", "v.test"]));
        assert_eq!(offer.child("mux", ns::MUX).unwrap().text(), SECRET);
        let id = offer.attribute("id").unwrap().to_owned();
        assert!(id.starts_with("fedmux-mux-") && id.len() >= 11 + 22, "128 random bits: {id}");
        id
    }

    async fn answer(&mut self, kind: &str, id: &str) {
        self.lane.say(answer(kind, "v.test", "p.test", id)).await;
    }

    /// What the script says next on S1 has arrived, so that what it said before was dealt with.
    async fn settle(&mut self) {
        self.lane.say(message("v.test", "p.test", "settled")).await;
        assert_eq!(self.p.receive().await.attribute("id"), Some("settled"));
    }

    /// n.test has joined S1: its next stanza comes there.
    async fn has_joined(&mut self) {
        goodbye(&mut self.second).await;
        self.n.send("v.test", "joined").await;
        let mut lane = self.first.accept().await;
        let accepted = lane.accept().await;
        assert_eq!((&*accepted.from, &*accepted.to), ("n.test", "v.test"));
        assert_eq!(lane.ear.stanza().await.attribute("id"), Some("joined"));
        assert_eq!(proofs(&self.relay, "granted"), 1);
        self.relay.assert_unharmed();
    }

    /// n.test keeps a connection of its own once the proof was refused for `reason`, and it isn't tried again.
    async fn keeps_its_own(&mut self, reason: Reason) {
        until("the refusal", || self.relay.refusals(Side::Remote, reason) == 1).await;
        for id in ["later", "last"] {
            self.n.send("v.test", id).await;
            assert_eq!(self.second.ear.stanza().await.attribute("id"), Some(id));
        }
        assert_eq!(proofs(&self.relay, "granted"), 0);
        assert_eq!(self.relay.metric("fedmux_connections_opened_total", &[("direction", "outbound")]), 2);
        self.relay.assert_unharmed();
    }
}

/// Features after authentication, with this host list and our extension.
pub(crate) fn listing(hosts: &[&str]) -> String {
    let list: String = hosts.iter().map(|host| format!("<host>{host}</host>")).collect();
    format!("<mux xmlns='{}'>{list}</mux><authorize xmlns='{}'/>", ns::MUX, ns::MUX_AUTHORIZE)
}

fn answer(kind: &str, from: &str, to: &str, id: &str) -> String {
    format!("<iq type='{kind}' from='{from}' to='{to}' id='{id}'/>")
}

/// S2 carries its pair from the start: the stanza "at once" comes on it, before or behind the element that is returned.
pub(crate) async fn carried_at_once(second: &mut Wire) -> Element {
    let (mut carried, mut said) = (false, None);
    while !carried || said.is_none() {
        match second.hear().await {
            Heard::Element(element) => said = Some(element),
            Heard::Stanza(stanza) if stanza.attribute("id") == Some("at once") => carried = true,
            other => panic!("{other:?} instead of a stanza and an element"),
        }
    }
    said.unwrap()
}

/// The relay closes S2 in good order.
pub(crate) async fn goodbye(second: &mut Wire) {
    assert_eq!(second.hear().await, Heard::End);
    second.say(STREAM_END).await;
    second.mouth.finish().await;
}

#[tokio::test]
async fn a_host_whose_secret_was_taken_moves_to_the_session() {
    let mut scene = Scene::set().await;
    let id = scene.hand_out().await;
    scene.answer("result", &id).await;
    scene.has_joined().await;
    scene.answer("result", &id).await;
    scene.settle().await;
    assert_eq!(proofs(&scene.relay, "granted"), 1, "a second result says nothing new");
}

#[tokio::test]
async fn a_result_counts_only_from_v_on_the_session_with_the_id_of_the_offer() {
    let mut scene = Scene::set().await;
    let id = scene.hand_out().await;
    let mut from_w = scene.first.lane("w.test", "p.test").await;
    from_w.say(answer("result", "w.test", "p.test", &id)).await;
    scene.second.say(answer("result", "v.test", "n.test", &id)).await;
    for forged in [
        answer("result", "v.test/r", "p.test", &id),
        answer("result", "u@v.test", "p.test", &id),
        answer("result", "v.test", "u@p.test", &id),
        answer("result", "v.test", "p.test", "fedmux-mux-0"),
        answer("result", "v.test", "p.test", &id[..id.len() - 1]),
    ] {
        scene.lane.say(forged).await;
    }
    scene.settle().await;
    assert_eq!(proofs(&scene.relay, "granted"), 0);
    scene.answer("result", &id).await;
    scene.has_joined().await;
}

#[tokio::test]
async fn a_host_whose_secret_was_refused_keeps_a_connection_of_its_own() {
    let mut scene = Scene::set().await;
    let id = scene.hand_out().await;
    scene.answer("error", &id).await;
    scene.keeps_its_own(Reason::MuxRefused).await;
    scene.answer("result", &id).await;
    scene.settle().await;
    assert_eq!(proofs(&scene.relay, "granted"), 0, "it was answered already");
}

#[tokio::test]
async fn a_host_for_which_no_secret_is_made_keeps_a_connection_of_its_own() {
    let mut scene = Scene::set().await;
    scene.second.say(format!("<refused xmlns='{}'/>", ns::MUX_AUTHORIZE)).await;
    scene.keeps_its_own(Reason::MuxRefused).await;
}

#[tokio::test]
async fn a_host_whose_secret_is_never_answered_keeps_a_connection_of_its_own() {
    let mut scene = Scene::set().await;
    scene.hand_out().await;
    // The patience of the test is longer than that of the relay.
    scene.keeps_its_own(Reason::MuxTimeout).await;
}

#[tokio::test]
async fn a_secret_is_returned_only_where_p_is_proven_to_v() {
    let mut scene = Scene::set().await;
    for (host, times) in [("n.test", 1), ("other.test", 2), ("v.test", 3)] {
        scene.second.say(format!("<mux xmlns='{}' host='{host}'>{SECRET}</mux>", ns::MUX)).await;
        until("the refusal", || scene.relay.refusals(Side::Remote, Reason::MuxAddress) == times).await;
    }
    let id = scene.hand_out().await;
    scene.answer("result", &id).await;
    scene.has_joined().await;
}
