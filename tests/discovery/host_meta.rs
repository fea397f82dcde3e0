//! What a domain says over HTTPS (XEP-0487): it leads to the domain where DNS doesn't, or before DNS if that is preferred; and
//! where it can't be had, is nonsense or never ends, what DNS says goes on.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use fedmux::reason::Reason;
use fedmux::relay::settings::{HostMeta, Transport, Trust};
use tokio::net::TcpListener;

use crate::dns_server::Zone;
use crate::scene::{document, opened, plan, way, zone};
use crate::support::certificates::Authority;
use crate::support::log::Log;
use crate::support::peer::Peer;
use crate::support::provider::{Bound, Provider};
use crate::support::tcp_peer::Listening;
use crate::support::until;
use crate::support::web::{ENDLESS_BYTES, Page, WebServer};
use crate::support::wire::Heard;

const PATH: &str = "/.well-known/host-meta.json";
const ASKED: [HostMeta; 2] = [HostMeta::Fallback, HostMeta::Prefer];
/// Longer than any test here should have to wait.
const LONG_LOOK_UP: Duration = Duration::from_secs(40);

fn failed(relay: &Provider, reason: Reason) -> u64 {
    relay.metric("fedmux_host_meta_failed_total", &[("reason", reason.as_str())])
}

fn ended(relay: &Provider, result: &str) -> u64 {
    relay.metric("fedmux_host_meta_duration_seconds_count", &[("result", result)])
}

/// What is sent to x.test arrives at `peer`.
async fn arrives(relay: &mut Provider, peer: &Listening, id: &str) {
    relay.host("a1.test").send("x.test", id).await;
    let mut wire = peer.direct().await.unwrap();
    wire.accept().await;
    assert_eq!(wire.ear.stanza().await.attribute("id"), Some(id));
}

#[tokio::test]
async fn a_domain_is_found_by_its_document_alone_and_asked_for_the_name_that_stands_there() {
    let authority = Authority::new();
    for when in ASKED {
        let log = Log::capture();
        let peer = Listening::with(&authority.certify(&["x.test"])).await;
        let web = WebServer::start(&authority.certify(&["x.test"])).await;
        let link = (Transport::DirectTls, peer.address, "front.test");
        web.put("x.test", Page::Text(document(&[link], &[])));
        let dns = Zone::new(&["x.test A 127.0.0.1"]).serve().await;
        let plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
        let mut relay = plan.asking_the_web(when, web.address.port()).start().await;
        arrives(&mut relay, &peer, "first").await;
        // The certificate is the domain's own all the same.
        assert_eq!(peer.names(), ["front.test"]);
        let line = log.line("host-meta document read").await;
        assert_eq!((line.field("links"), line.field("ech")), ("1", "not used"));
        assert_eq!(web.asked(), [format!("x.test{PATH}")]);
        assert_eq!((ended(&relay, "found"), ended(&relay, "failed")), (1, 0));
        assert_eq!(relay.metric("fedmux_dial_failures_total", &[]), 0);
        relay.is_balanced().await;
        relay.assert_unharmed();
    }
}

/// A document vouches for a session, as DNS does: the answer takes the connection that the other end opened.
#[tokio::test]
async fn two_relays_that_know_each_other_by_their_documents_alone_share_one_quic_session() {
    let authority = Authority::new();
    let a = plan(&authority, &["a1.test"]).await.bind();
    let b = plan(&authority, &["b1.test", "b2.test"]).await.bind();
    let names = ["a1.test", "b1.test", "b2.test"];
    let web = WebServer::start(&authority.certify(&names)).await;
    for (name, at) in names.into_iter().zip([a.quic, b.quic, b.quic]) {
        web.put(name, Page::Text(document(&[(Transport::Quic, at, name)], &[])));
    }
    let dns = Zone::new(&names.map(|name| format!("{name} A 127.0.0.1")).each_ref().map(|text| &**text));
    let dns = dns.serve().await;
    let port = web.address.port();
    let finding = |bound: Bound| bound.finding_by(dns.address).asking_the_web(HostMeta::Fallback, port);
    let (mut a, mut b) = (finding(a).start().await, finding(b).start().await);
    let (mut a1, mut b1, mut b2) = (a.host("a1.test"), b.host("b1.test"), b.host("b2.test"));
    for other in [&mut b1, &mut b2] {
        a1.send(&other.name, "there").await;
        assert_eq!(other.receive().await.attribute("id"), Some("there"));
        other.send("a1.test", "back").await;
        assert_eq!(a1.receive().await.attribute("id"), Some("back"));
    }
    let all = |relay, direction| opened(relay, Transport::Quic, direction);
    assert_eq!((all(&a, "outbound"), all(&a, "inbound")), (1, 0));
    assert_eq!((all(&b, "outbound"), all(&b, "inbound")), (0, 1));
    assert_eq!(web.asked().len(), 3, "{:?}", web.asked());
    for relay in [a, b] {
        relay.is_balanced().await;
        relay.assert_unharmed();
    }
}

#[tokio::test]
async fn where_srv_records_lead_only_who_prefers_documents_asks_and_who_never_asks_does_not_at_all() {
    let authority = Authority::new();
    for (when, asked) in [(HostMeta::Never, 0), (HostMeta::Fallback, 0), (HostMeta::Prefer, 1)] {
        let by_srv = Listening::with(&authority.certify(&["x.test"])).await;
        let by_document = Listening::with(&authority.certify(&["x.test"])).await;
        let web = WebServer::start(&authority.certify(&["x.test"])).await;
        let link = (Transport::DirectTls, by_document.address, "x.test");
        web.put("x.test", Page::Text(document(&[link], &[])));
        let own = vec!["x.test A 127.0.0.1".to_owned()];
        let dns = zone(&[way("x.test", Transport::DirectTls, by_srv.address), own]).serve().await;
        let plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
        let mut relay = plan.asking_the_web(when, web.address.port()).start().await;
        arrives(&mut relay, if asked == 0 { &by_srv } else { &by_document }, "first").await;
        assert_eq!(web.connections(), asked, "{when:?}");
    }
}

#[tokio::test]
async fn a_domain_without_records_is_not_asked_where_nobody_wants_it() {
    let authority = Authority::new();
    let web = WebServer::start(&authority.certify(&["x.test"])).await;
    for (when, records) in [
        (HostMeta::Never, vec!["x.test A 127.0.0.1"]),
        // It says itself that it has no server.
        (HostMeta::Fallback, vec!["x.test A 127.0.0.1", "_xmpp-server._tcp.x.test SRV 0 0 0 ."]),
    ] {
        let dns = Zone::new(&records).serve().await;
        let plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
        let mut relay = plan.asking_the_web(when, web.address.port()).start().await;
        relay.host("a1.test").send("x.test", "x").await;
        let looked_up = || relay.metric("fedmux_look_up_duration_seconds_count", &[]) > 0;
        until("the look-up", looked_up).await;
        assert_eq!(web.connections(), 0, "{when:?}");
    }
}

/// A relay that prefers documents, a peer to which SRV records lead, and a web server that is as bad as `page` says.
async fn srv_goes_on(page: Page, reason: Option<Reason>) -> (Provider, WebServer) {
    let authority = Authority::new();
    let peer = Listening::with(&authority.certify(&["x.test"])).await;
    let web = WebServer::start(&authority.certify(&["x.test"])).await.with("x.test", page.clone());
    let own = vec!["x.test A 127.0.0.1".to_owned()];
    let dns = zone(&[way("x.test", Transport::DirectTls, peer.address), own]).serve().await;
    let plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
    let plan = plan.limits(|limits| limits.look_up = LONG_LOOK_UP);
    let mut relay = plan.asking_the_web(HostMeta::Prefer, web.address.port()).start().await;
    let began = Instant::now();
    arrives(&mut relay, &peer, "first").await;
    assert!(began.elapsed() < LONG_LOOK_UP / 2, "{page:?}: {:?}", began.elapsed());
    if let Some(reason) = reason {
        until("the failure to be counted", || failed(&relay, reason) == 1).await;
    }
    assert_eq!((ended(&relay, "found"), relay.metric("fedmux_dial_failures_total", &[])), (0, 0), "{page:?}");
    relay.is_balanced().await;
    relay.assert_unharmed();
    (relay, web)
}

#[tokio::test]
async fn a_web_server_that_is_silent_or_answers_nonsense_does_not_keep_srv_from_leading() {
    srv_goes_on(Page::Silent, None).await;
    for (page, reason) in [
        (Page::Status(500), Reason::HostMetaFailed),
        (Page::Status(403), Reason::HostMetaFailed),
        (Page::NoHttp, Reason::HostMetaFailed),
        (Page::CutOff, Reason::HostMetaFailed),
        (Page::Text("<XRD/>".to_owned()), Reason::HostMetaInvalid),
        (Page::Text("{\"xmpp\":{}}".to_owned()), Reason::HostMetaInvalid),
        (Page::Redirect(302, PATH.to_owned()), Reason::HostMetaFailed),
        (Page::Redirect(302, "http://x.test/".to_owned()), Reason::HostMetaFailed),
        (Page::Redirect(304, PATH.to_owned()), Reason::HostMetaFailed),
    ] {
        let (_, web) = srv_goes_on(page.clone(), Some(reason)).await;
        let asked = if matches!(page, Page::Redirect(302, to) if to == PATH) { 4 } else { 1 };
        assert_eq!(web.asked().len(), asked, "a circle of redirects ends: {:?}", web.asked());
    }
    let (relay, _web) = srv_goes_on(Page::Text("{\"links\":[]}".to_owned()), None).await;
    until("the answer", || ended(&relay, "nothing") == 1).await;
}

#[tokio::test]
async fn five_hundred_megabytes_are_not_taken() {
    let (relay, web) = srv_goes_on(Page::Endless, Some(Reason::HostMetaInvalid)).await;
    assert_eq!(relay.metric("fedmux_limit_hits_total", &[("limit", "host_meta_bytes")]), 1);
    // What the kernel holds between the two is not ours.
    assert!(web.sent() < ENDLESS_BYTES / 10, "{}", web.sent());
}

#[tokio::test]
async fn whoever_has_no_good_certificate_for_the_domain_says_nothing_about_it() {
    let (authority, unknown) = (Authority::new(), Authority::new());
    let by_srv = Listening::with(&authority.certify(&["x.test"])).await;
    let thief = Listening::with(&authority.certify(&["x.test"])).await;
    let said = || Page::Text(document(&[(Transport::DirectTls, thief.address, "x.test")], &[]));
    for (certificate, reason) in [
        (authority.certify(&["y.test"]), Reason::CertificateWrongName),
        (unknown.certify(&["x.test"]), Reason::CertificateUnknownIssuer),
    ] {
        let web = WebServer::start(&certificate).await.with("x.test", said());
        let own = vec!["x.test A 127.0.0.1".to_owned()];
        let dns = zone(&[way("x.test", Transport::DirectTls, by_srv.address), own]).serve().await;
        let plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
        let mut relay = plan.asking_the_web(HostMeta::Prefer, web.address.port()).start().await;
        arrives(&mut relay, &by_srv, "first").await;
        assert_eq!(failed(&relay, reason), 1);
        assert!(web.asked().is_empty(), "nothing was asked of it");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_to_a_host_with_a_certificate_of_its_own_and_to_no_other() {
    let authority = Authority::new();
    for (name, good) in [("cdn.test", true), ("other.test", false)] {
        let peer = Listening::with(&authority.certify(&["x.test"])).await;
        let web = WebServer::start(&authority.certify(&["x.test"])).await;
        let elsewhere = WebServer::start(&authority.certify(&[name])).await;
        let place = format!("https://cdn.test:{}/hm.json?of=x", elsewhere.address.port());
        web.put("x.test", Page::Redirect(301, place));
        let link = (Transport::DirectTls, peer.address, "x.test");
        elsewhere.put("cdn.test/hm.json?of=x", Page::Text(document(&[link], &[])));
        let dns = Zone::new(&["x.test A 127.0.0.1", "cdn.test A 127.0.0.1"]).serve().await;
        let plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
        let mut relay = plan.asking_the_web(HostMeta::Fallback, web.address.port()).start().await;
        if good {
            arrives(&mut relay, &peer, "first").await;
            assert_eq!(elsewhere.asked(), ["cdn.test/hm.json?of=x"]);
        } else {
            relay.host("a1.test").send("x.test", "x").await;
            until("the refusal", || failed(&relay, Reason::CertificateWrongName) == 1).await;
            assert!(elsewhere.asked().is_empty() && peer.another().is_none());
        }
    }
}

#[tokio::test]
async fn an_address_of_the_web_server_that_is_dead_or_says_nothing_leaves_the_other() {
    let authority = Authority::new();
    for listens in [false, true] {
        let peer = Listening::with(&authority.certify(&["x.test"])).await;
        let web = WebServer::start(&authority.certify(&["x.test"])).await;
        let port = web.address.port();
        // A machine without IPv6 refuses at once, which is no harder.
        let _silent = if listens { TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await.ok() } else { None };
        web.put("x.test", Page::Text(document(&[(Transport::DirectTls, peer.address, "x.test")], &[])));
        let dns = Zone::new(&["x.test AAAA ::1", "x.test A 127.0.0.1"]).serve().await;
        let plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
        let mut relay = plan.asking_the_web(HostMeta::Fallback, port).start().await;
        arrives(&mut relay, &peer, "first").await;
    }
}

#[tokio::test]
async fn addresses_inside_are_not_asked_and_those_of_the_relay_neither_asked_nor_dialled() {
    let authority = Authority::new();
    let certificate = authority.certify(&["evil.com", "x.test"]);
    let web = WebServer::start(&certificate).await;
    let dns = Zone::new(&["evil.com A 127.0.0.1", "x.test A 127.0.0.1"]).serve().await;
    let mut plan_inside = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
    plan_inside.settings.dns.as_mut().unwrap().allow_private = false;
    let mut relay = plan_inside.asking_the_web(HostMeta::Prefer, web.address.port()).start().await;
    relay.host("a1.test").send("evil.com", "x").await;
    until("the refusal", || failed(&relay, Reason::AddressNotPublic) == 1).await;
    assert_eq!(web.connections(), 0);

    // The web server's port is the relay's own.
    let bound = plan(&authority, &["a1.test"]).await.bind();
    let port = bound.at(Transport::DirectTls).port();
    let bound = bound.finding_by(dns.address).asking_the_web(HostMeta::Fallback, port);
    let mut relay = bound.start().await;
    relay.host("a1.test").send("x.test", "x").await;
    until("the refusal", || failed(&relay, Reason::AddressOwn) == 1).await;
    assert_eq!(relay.metric("fedmux_connections_opened_total", &[]), 0);

    // The document leads to the relay itself; SRV records lead on.
    let log = Log::capture();
    let peer = Listening::with(&certificate).await;
    let bound = plan(&authority, &["a1.test"]).await.bind();
    let own = bound.at(Transport::DirectTls);
    web.put("x.test", Page::Text(document(&[(Transport::DirectTls, own, "x.test")], &[])));
    let address = vec!["x.test A 127.0.0.1".to_owned()];
    let dns = zone(&[way("x.test", Transport::DirectTls, peer.address), address]).serve().await;
    let bound = bound.finding_by(dns.address).asking_the_web(HostMeta::Prefer, web.address.port());
    let mut relay = bound.start().await;
    arrives(&mut relay, &peer, "first").await;
    let line = log.line("addresses not dialled").await;
    assert_eq!(
        (line.field("addresses"), line.field("reason")),
        (&*own.to_string(), Reason::AddressOwn.as_str())
    );
    let refused = [("reason", Reason::AddressOwn.as_str())];
    assert_eq!(relay.metric("fedmux_addresses_refused_total", &refused), 1);
}

#[tokio::test]
async fn a_crowd_of_stanzas_asks_once() {
    let authority = Authority::new();
    let peer = Peer::start(&authority.certify(&["x.test"]));
    let web = WebServer::start(&authority.certify(&["x.test"])).await;
    let said = document(&[(Transport::Quic, peer.address, "x.test")], &[]);
    web.put("x.test", Page::Late(Duration::from_millis(200), said));
    let dns = Zone::new(&["x.test A 127.0.0.1"]).serve().await;
    let plan = plan(&authority, &["a1.test", "a2.test"]).await.finding_by(dns.address);
    let mut relay = plan.asking_the_web(HostMeta::Fallback, web.address.port()).start().await;
    let mut hosts = ["a1.test", "a2.test"].map(|name| relay.host(name));
    for n in 0..40 {
        hosts[n % 2].send("x.test", &n.to_string()).await;
    }
    let connection = peer.accept().await;
    let mut lane = connection.accept().await;
    lane.accept().await;
    assert!(lane.ear.stanza().await.attribute("id").is_some());
    assert_eq!(web.asked().len(), 1, "{:?}", web.asked());
}

/// The first stanza takes the way of the SRV records, and what comes after the document that of its links.
#[tokio::test]
async fn a_document_that_comes_late_counts_as_soon_as_it_is_there() {
    let authority = Authority::new();
    let by_srv = Listening::with(&authority.certify(&["x.test"])).await;
    let by_document = Listening::with(&authority.certify(&["x.test"])).await;
    let web = WebServer::start(&authority.certify(&["x.test"])).await;
    let said = document(&[(Transport::DirectTls, by_document.address, "x.test")], &[]);
    web.put("x.test", Page::Late(Duration::from_millis(1_200), said));
    let own = vec!["x.test A 127.0.0.1".to_owned()];
    let dns = zone(&[way("x.test", Transport::DirectTls, by_srv.address), own]).serve().await;
    let plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
    let plan = plan.limits(|limits| limits.look_up = LONG_LOOK_UP);
    let mut relay = plan.asking_the_web(HostMeta::Prefer, web.address.port()).start().await;
    let mut a1 = relay.host("a1.test");
    a1.send("x.test", "first").await;
    let mut wire = by_srv.direct().await.unwrap();
    wire.accept().await;
    assert_eq!(wire.ear.stanza().await.attribute("id"), Some("first"));
    // The session that nothing leads to any more ends its stream.
    while let Heard::Element(_) | Heard::Header(_) = wire.hear().await {}
    a1.send("x.test", "second").await;
    let mut wire = by_document.direct().await.unwrap();
    wire.accept().await;
    assert_eq!(wire.ear.stanza().await.attribute("id"), Some("second"));
    assert_eq!(web.asked().len(), 1);
    relay.assert_unharmed();
}

#[tokio::test]
async fn a_reload_of_trust_holds_for_web_servers_too() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let peer = Listening::with(&ours.certify(&["x.test"])).await;
    let web = WebServer::start(&theirs.certify(&["x.test", "y.test"])).await;
    web.put("x.test", Page::Text(document(&[(Transport::DirectTls, peer.address, "x.test")], &[])));
    let dns = Zone::new(&["x.test A 127.0.0.1", "y.test A 127.0.0.1"]).serve().await;
    let plan = plan(&ours, &["a1.test"]).await.finding_by(dns.address);
    let mut relay = plan.asking_the_web(HostMeta::Fallback, web.address.port()).start().await;
    let mut a1 = relay.host("a1.test");
    a1.send("y.test", "x").await;
    until("the refusal", || failed(&relay, Reason::CertificateUnknownIssuer) == 1).await;
    let both = tempfile::NamedTempFile::new().unwrap();
    let text = [&ours, &theirs].map(|authority| std::fs::read_to_string(authority.file()).unwrap()).concat();
    std::fs::write(both.path(), text).unwrap();
    relay.reload(|settings| settings.identity.trust = Trust::File(both.path().to_owned()));
    a1.send("x.test", "first").await;
    let mut wire = peer.direct().await.unwrap();
    wire.accept().await;
    assert_eq!(wire.ear.stanza().await.attribute("id"), Some("first"));
}
