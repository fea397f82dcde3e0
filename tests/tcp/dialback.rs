//! Dialback with remote servers (`[policy] dialback = "tls"`): over TLS, with the certificate of the domain's own server
//! verified, for one pair on one stream.

use std::time::{Duration, SystemTime};

use fedmux::identity::development::Request;
use fedmux::proto::admission::Side;
use fedmux::proto::proof::DomainProof;
use fedmux::reason::Reason;
use fedmux::relay::settings::{Policy, RemoteDialback, Transport};
use fedmux::xmpp::domain::DomainPattern;
use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;

use crate::support::certificates::{Authority, Certificate};
use crate::support::peer::Manners;
use crate::support::provider::{Plan, Provider};
use crate::support::tcp_peer::{Dialler, Listening, TRANSPORTS, greet};
use crate::support::until;
use crate::support::wire::{Heard, Wire, auth, header, message};

/// A relay for a1.test and a2.test that knows b1.test at `peer`, and believes in dialback.
async fn provider(authority: &Authority, transport: Transport, peer: &Listening) -> Provider {
    provider_with(authority, transport, peer, |_| ()).await
}

async fn provider_with(
    authority: &Authority,
    transport: Transport,
    peer: &Listening,
    change: impl FnOnce(&mut Policy),
) -> Provider {
    let mut plan = Plan::new(authority, &["a1.test", "a2.test"]).await;
    plan.settings.policy.dialback = RemoteDialback::Tls;
    change(&mut plan.settings.policy);
    plan.peer_by(transport, &["b1.test"], peer.address).start().await
}

fn feature() -> String {
    format!("<dialback xmlns='{}'><errors/></dialback>", ns::DIALBACK_FEATURE)
}

fn request(from: &str, to: &str) -> String {
    format!("<db:result xmlns:db='{}' from='{from}' to='{to}'>thekey</db:result>", ns::DIALBACK)
}

fn believed() -> String {
    format!("<db:result xmlns:db='{}' from='b1.test' to='a1.test' type='valid'/>", ns::DIALBACK)
}

/// What the relay answers to whether it made this key for its stream with b1.test.
async fn is_made(asking: &mut Wire, id: &str, key: &str) -> String {
    let ns = ns::DIALBACK;
    asking
        .say(format!("<db:verify xmlns:db='{ns}' from='b1.test' to='a1.test' id='{id}'>{key}</db:verify>"))
        .await;
    let answer = element(asking).await;
    assert_eq!(answer.attribute("id"), Some(id));
    answer.attribute("type").unwrap().to_owned()
}

async fn element(wire: &mut Wire) -> Element {
    match wire.hear().await {
        Heard::Element(element) => element,
        other => panic!("{other:?} instead of an element"),
    }
}

/// The condition in a `<db:result type='error'/>`.
fn condition(result: &Element) -> String {
    assert_eq!(result.attribute("type"), Some("error"), "{result:?}");
    result.child("error", ns::SERVER).unwrap().children().next().unwrap().name().to_owned()
}

/// A stream from `from` to a1.test without a certificate of its own.
async fn stranger(provider: &Provider, transport: Transport, certificate: Option<&Certificate>) -> Wire {
    let dialler = Dialler::with(certificate);
    let mut wire = dialler.dial(transport, provider.at(transport), "b1.test", "a1.test").await.unwrap();
    let features = wire.greet("b1.test", "a1.test").await;
    assert!(
        features.child("dialback", ns::DIALBACK_FEATURE).unwrap().children().any(|c| c.name() == "errors")
    );
    for absent in [("mechanisms", ns::SASL), ("mux", ns::MUX)] {
        assert!(features.child(absent.0, absent.1).is_none(), "{features:?}");
    }
    wire
}

/// As the domain's own server: hear the question, and answer it.
async fn answer(peer: &Listening, transport: Transport, stream_id: &str, kind: &str) {
    let mut wire = peer.accept(transport).await.unwrap();
    answer_on(&mut wire, stream_id, kind).await;
}

/// The same on this connection.
async fn answer_on(wire: &mut Wire, stream_id: &str, kind: &str) {
    greet(wire, &feature()).await;
    let asked = element(wire).await;
    assert!(asked.is("verify", ns::DIALBACK), "{asked:?}");
    let of = |name| asked.attribute(name);
    assert_eq!((of("from"), of("to"), of("id")), (Some("a1.test"), Some("b1.test"), Some(stream_id)));
    assert_eq!(asked.text(), "thekey");
    // What answers nothing that was asked changes nothing.
    for (from, id) in [("c.test", stream_id), ("b1.test", "another")] {
        wire.say(format!(
            "<db:verify xmlns:db='{}' from='{from}' to='a1.test' id='{id}' type='valid'/>",
            ns::DIALBACK
        ))
        .await;
    }
    wire.say(format!(
        "<db:verify xmlns:db='{}' from='b1.test' to='a1.test' id='{stream_id}' type='{kind}'/>",
        ns::DIALBACK
    ))
    .await;
    assert_eq!(wire.hear().await, Heard::End);
}

#[tokio::test]
async fn a_server_that_knows_dialback_only_believes_a_key_of_ours_that_it_can_ask_about() {
    for transport in TRANSPORTS {
        for manners in [Manners::Trusting, Manners::Incurious] {
            let authority = Authority::new();
            let peer = Listening::with_manners(&authority.certify(&["b1.test"]), manners).await;
            let mut provider = provider(&authority, transport, &peer).await;
            let mut a1 = provider.host("a1.test");
            a1.send("b1.test", "x").await;
            let mut wire = peer.accept(transport).await.unwrap();
            greet(&mut wire, &feature()).await;
            let request = element(&mut wire).await;
            let of = |name| request.attribute(name);
            assert_eq!((of("from"), of("to"), of("type")), (Some("a1.test"), Some("b1.test"), None));
            let key = request.text();
            // The server asks on a connection of its own, with no certificate or with one.
            let certificate = authority.certify(&["b1.test"]);
            for shown in [None, Some(&certificate)] {
                let at = provider.at(transport);
                let mut asking =
                    Dialler::with(shown).dial(transport, at, "b1.test", "a1.test").await.unwrap();
                asking.greet("b1.test", "a1.test").await;
                for (id, key, kind) in
                    [("clear", "0000", "invalid"), ("other", &*key, "invalid"), ("clear", &*key, "valid")]
                {
                    assert_eq!(is_made(&mut asking, id, key).await, kind);
                }
                asking.close().await;
            }
            wire.say(believed()).await;
            assert_eq!(wire.ear.stanza().await.attribute("id"), Some("x"));
            assert_eq!(provider.metric("fedmux_refusals_total", &[]), 0);
            // With its stream the key is over.
            wire.close().await;
            until("the lane to be gone", || provider.metric("fedmux_lanes", &[]) == 0).await;
            let at = provider.at(transport);
            let mut asking = Dialler::with(None).dial(transport, at, "b1.test", "a1.test").await.unwrap();
            asking.greet("b1.test", "a1.test").await;
            assert_eq!(is_made(&mut asking, "clear", &key).await, "invalid");
            provider.assert_unharmed();
        }
    }
}

/// `deny_in`: no stanza comes from there, but what may go out does. Some servers ask only when they are believed themselves.
#[tokio::test]
async fn where_nothing_may_come_in_a_server_that_knows_dialback_only_still_takes_what_goes_out() {
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let certificate = authority.certify(&["b1.test"]);
        let peer = Listening::with(&certificate).await;
        let mut provider = provider_with(&authority, transport, &peer, |policy| {
            policy.domains.inbound.deny = vec![DomainPattern::parse("b1.test").unwrap()];
        })
        .await;
        let mut a1 = provider.host("a1.test");
        a1.send("b1.test", "x").await;
        let mut wire = peer.accept(transport).await.unwrap();
        greet(&mut wire, &feature()).await;
        let key = element(&mut wire).await.text();
        let ask = async |shown: Option<&Certificate>| {
            let at = provider.at(transport);
            let mut asking = Dialler::with(shown).dial(transport, at, "b1.test", "a1.test").await.unwrap();
            let features = asking.greet("b1.test", "a1.test").await;
            let offered: Vec<_> = features.children().map(Element::name).collect();
            assert_eq!(offered, ["dialback"]);
            asking
        };
        let mut asking = Vec::new();
        for shown in [None, Some(&certificate)] {
            let mut believed = ask(shown).await;
            believed.say(request("b1.test", "a1.test")).await;
            if shown.is_none() {
                let stream_id = believed.stream_id.clone();
                answer(&peer, transport, &stream_id, "valid").await;
            }
            assert_eq!(element(&mut believed).await.attribute("type"), Some("valid"));
            assert_eq!(is_made(&mut believed, "clear", &key).await, "valid");
            asking.push(believed);
            assert_eq!(is_made(&mut ask(shown).await, "clear", &key).await, "valid", "believed or not");
        }
        wire.say(believed()).await;
        assert_eq!(wire.ear.stanza().await.attribute("id"), Some("x"));
        // No stanza passes, and its sender is told.
        for (n, asking) in asking.iter_mut().enumerate() {
            asking.say(message("b1.test", "a1.test", &n.to_string())).await;
            let error = wire.ear.stanza().await;
            assert_eq!(error.attribute("id"), Some(&*n.to_string()));
            assert_eq!(error.attribute("type"), Some("error"));
        }
        let denied = [("reason", Reason::PolicyDenied.as_str())];
        assert_eq!(provider.metric("fedmux_stanzas_bounced_total", &denied), 2);
        let mut asking = ask(Some(&certificate)).await;
        asking.say(auth("b1.test")).await;
        assert!(matches!(asking.hear().await, Heard::Element(failure) if failure.is("failure", ns::SASL)));
        assert!(peer.another().is_none() && a1.received().is_none());
        provider.is_balanced().await;
        provider.assert_unharmed();
    }
}

#[tokio::test]
async fn a_stranger_is_believed_when_the_server_of_its_domain_says_so_for_its_pair_alone() {
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let peer = Listening::with(&authority.certify(&["b1.test"])).await;
        let mut provider = provider(&authority, transport, &peer).await;
        let mut a1 = provider.host("a1.test");
        let other = authority.certify(&["c.test"]);
        for shown in [None, Some(&other)] {
            let mut wire = stranger(&provider, transport, shown).await;
            wire.say(request("b1.test", "a1.test")).await;
            let stream_id = wire.stream_id.clone();
            answer(&peer, transport, &stream_id, "valid").await;
            assert_eq!(element(&mut wire).await.attribute("type"), Some("valid"));
            wire.say(message("b1.test", "a1.test", "x")).await;
            assert_eq!(a1.receive().await.attribute("from"), Some("b1.test"));
            // A further pair needs a stream of its own.
            wire.say(request("b1.test", "a2.test")).await;
            assert_eq!(condition(&element(&mut wire).await), "not-authorized");
            // Neither does the certificate count, which proves another domain.
            wire.say(message("c.test", "a1.test", "y")).await;
            wire.expect_error("invalid-from").await;
        }
        assert!(a1.received().is_none());
        assert_eq!(provider.relay.metrics().proven(DomainProof::Dialback), 2);
        // Two further pairs, and two stanzas.
        assert_eq!(provider.refusals(Side::Remote, Reason::InvalidFrom), 4);
        provider.assert_unharmed();
    }
}

/// `deny_out`, the mirror: the question about a key carries no stanza out.
#[tokio::test]
async fn where_nothing_may_go_out_a_stranger_is_believed_as_everywhere() {
    let transport = Transport::DirectTls;
    let authority = Authority::new();
    let peer = Listening::with(&authority.certify(&["b1.test"])).await;
    let mut provider = provider_with(&authority, transport, &peer, |policy| {
        policy.domains.outbound.deny = vec![DomainPattern::parse("b1.test").unwrap()];
    })
    .await;
    let mut a1 = provider.host("a1.test");
    let mut wire = stranger(&provider, transport, None).await;
    wire.say(request("b1.test", "a1.test")).await;
    let stream_id = wire.stream_id.clone();
    answer(&peer, transport, &stream_id, "valid").await;
    assert_eq!(element(&mut wire).await.attribute("type"), Some("valid"));
    wire.say(message("b1.test", "a1.test", "in")).await;
    assert_eq!(a1.receive().await.attribute("id"), Some("in"));
    a1.send("b1.test", "out").await;
    let error = a1.receive().await;
    assert_eq!((error.attribute("id"), error.attribute("type")), (Some("out"), Some("error")));
    assert!(peer.another().is_none());
    provider.is_balanced().await;
}

/// While that server is being asked, and afterwards.
#[tokio::test]
async fn a_stranger_leaves_when_others_vouch_for_the_server_of_its_domain() {
    for asked_before in [true, false] {
        let transport = Transport::DirectTls;
        let authority = Authority::new();
        let peer = Listening::with(&authority.certify(&["b1.test"])).await;
        let mut provider = provider(&authority, transport, &peer).await;
        let other = Authority::new();
        let mut wire = stranger(&provider, transport, None).await;
        wire.say(request("b1.test", "a1.test")).await;
        let stream_id = wire.stream_id.clone();
        let mut reload = || provider.reload(|settings| settings.peers[0].trust = Some(other.file()));
        let mut question = peer.accept(transport).await.unwrap();
        if !asked_before {
            reload();
        }
        answer_on(&mut question, &stream_id, "valid").await;
        assert_eq!(element(&mut wire).await.attribute("type"), Some("valid"));
        if asked_before {
            reload();
        }
        assert_eq!(wire.hear().await, Heard::End, "asked before: {asked_before}");
        provider.assert_unharmed();
    }
}

#[tokio::test]
async fn a_stranger_leaves_when_dialback_proves_nothing_any_more() {
    let transport = Transport::DirectTls;
    let authority = Authority::new();
    let peer = Listening::with(&authority.certify(&["b1.test"])).await;
    let mut provider = provider(&authority, transport, &peer).await;
    let mut wire = stranger(&provider, transport, None).await;
    wire.say(request("b1.test", "a1.test")).await;
    let stream_id = wire.stream_id.clone();
    answer(&peer, transport, &stream_id, "valid").await;
    assert_eq!(element(&mut wire).await.attribute("type"), Some("valid"));
    provider.reload(|settings| settings.policy.dialback = RemoteDialback::Never);
    assert_eq!(wire.hear().await, Heard::End);
    provider.assert_unharmed();
}

#[tokio::test]
async fn a_key_that_its_server_does_not_know_proves_nothing() {
    let authority = Authority::new();
    let peer = Listening::with(&authority.certify(&["b1.test"])).await;
    let provider = provider(&authority, Transport::StartTls, &peer).await;
    let mut wire = stranger(&provider, Transport::StartTls, None).await;
    wire.say(request("b1.test", "a1.test")).await;
    let stream_id = wire.stream_id.clone();
    answer(&peer, Transport::StartTls, &stream_id, "invalid").await;
    assert_eq!(element(&mut wire).await.attribute("type"), Some("invalid"));
    wire.say(message("b1.test", "a1.test", "x")).await;
    wire.expect_error("not-authorized").await;
    assert_eq!(provider.refusals(Side::Remote, Reason::DialbackInvalid), 1);
    assert_eq!(provider.relay.metrics().proven(DomainProof::Dialback), 0);
}

#[tokio::test]
async fn a_domain_whose_servers_certificate_is_no_good_is_not_proven_by_dialback_either() {
    let authority = Authority::new();
    let dns: &[&str] = &["b1.test"];
    let over = SystemTime::now() - Duration::from_secs(60);
    let not_before = over - Duration::from_secs(3600);
    let expired = Request { dns, not_before, not_after: over, ..Request::default() };
    for (certificate, reason) in [
        (authority.issue(&expired), Reason::CertificateExpired),
        (Authority::new().certify(dns), Reason::CertificateUnknownIssuer),
        (Certificate::self_signed(dns), Reason::CertificateUnknownIssuer),
        (authority.certify(&["b2.test"]), Reason::CertificateWrongName),
    ] {
        let peer = Listening::with(&certificate).await;
        let provider = provider(&authority, Transport::DirectTls, &peer).await;
        let mut wire = stranger(&provider, Transport::DirectTls, None).await;
        wire.say(request("b1.test", "a1.test")).await;
        peer.direct().await.err().unwrap();
        assert_eq!(condition(&element(&mut wire).await), "policy-violation");
        assert_eq!(provider.refusals(Side::Remote, reason), 1, "{reason}");
        // Nor if it is shown by the stranger itself: a certificate that is no good is worse than none.
        if reason != Reason::CertificateWrongName {
            let dialler = Dialler::with(Some(&certificate));
            if let Ok(mut wire) = dialler.direct(provider.at(Transport::DirectTls), "a1.test").await {
                assert!(matches!(wire.hear().await, Heard::Lost(_)));
            }
            until("the refusal", || provider.refusals(Side::Remote, reason) == 2).await;
        }
    }
}

#[tokio::test]
async fn a_server_whose_starttls_was_taken_out_is_not_asked() {
    let authority = Authority::new();
    let peer = Listening::with(&authority.certify(&["b1.test"])).await;
    let provider = provider(&authority, Transport::StartTls, &peer).await;
    let mut wire = stranger(&provider, Transport::StartTls, None).await;
    wire.say(request("b1.test", "a1.test")).await;
    let mut asked = Wire::tcp(peer.tcp().await);
    greet(&mut asked, &feature()).await;
    assert_eq!(asked.hear().await, Heard::End);
    assert_eq!(condition(&element(&mut wire).await), "policy-violation");
    assert_eq!(provider.refusals(Side::Remote, Reason::StarttlsNotOffered), 1);
}

#[tokio::test]
async fn what_cannot_be_asked_about_or_may_not_be_claimed_is_refused() {
    let authority = Authority::new();
    let peer = Listening::with(&authority.certify(&["b1.test"])).await;
    let provider = provider(&authority, Transport::DirectTls, &peer).await;
    let at = provider.at(Transport::DirectTls);
    // Nobody knows where its server is.
    let mut wire = Dialler::with(None).direct(at, "a1.test").await.unwrap();
    wire.greet("c.test", "a1.test").await;
    wire.say(request("c.test", "a1.test")).await;
    assert_eq!(condition(&element(&mut wire).await), "item-not-found");
    assert_eq!(provider.refusals(Side::Remote, Reason::NoRoute), 1);
    // A host of ours, and one that the certificate shown doesn't prove.
    for (from, to, error) in [("a2.test", "a1.test", "invalid-from"), ("b1.test", "c.test", "host-unknown")] {
        let mut wire = Dialler::with(None).direct(at, "a1.test").await.unwrap();
        wire.say(header(from, to)).await;
        wire.expect_error(error).await;
    }
    assert!(peer.another().is_none(), "nobody was asked");
}

#[tokio::test]
async fn who_holds_the_certificate_of_its_domain_is_believed_without_asking_for_its_pair() {
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let certificate = authority.certify(&["b1.test", "b2.test"]);
        let peer = Listening::with(&certificate).await;
        let mut provider = provider(&authority, transport, &peer).await;
        let mut a1 = provider.host("a1.test");
        let dialler = Dialler::with(Some(&certificate));
        let mut wire = dialler.dial(transport, provider.at(transport), "b1.test", "a1.test").await.unwrap();
        let features = wire.greet("b1.test", "a1.test").await;
        assert!(features.child("mux", ns::MUX).is_some() && features.child("mechanisms", ns::SASL).is_some());
        // Mux comes with EXTERNAL alone; and once more changes nothing.
        wire.say(format!("<mux xmlns='{}'/>", ns::MUX)).await;
        for id in ["1", "2"] {
            wire.say(request("b1.test", "a1.test")).await;
            assert_eq!(element(&mut wire).await.attribute("type"), Some("valid"));
            wire.say(message("b1.test", "a1.test", id)).await;
            assert_eq!(a1.receive().await.attribute("id"), Some(id));
        }
        wire.say(message("b2.test", "a1.test", "x")).await;
        wire.expect_error("invalid-from").await;
        assert!(peer.another().is_none(), "nobody was asked");
        assert_eq!(provider.relay.metrics().proven(DomainProof::Dialback), 0, "the certificate proves it");
        assert!(a1.received().is_none());
        provider.assert_unharmed();
    }
}
