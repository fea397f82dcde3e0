//! Certificates that are no good. Whoever shows one is refused on either side, and the reason is the same word in the
//! log, the metric and the bounce.

use std::time::{Duration, SystemTime};

use fedmux::identity::development::{Purpose, Request};
use fedmux::proto::admission::Side;
use fedmux::reason::Reason;
use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;

use crate::support::certificates::{Authority, Certificate};
use crate::support::log::Log;
use crate::support::peer::{Manners, Peer, Refusal};
use crate::support::provider::Plan;

const DAY: Duration = Duration::from_secs(86_400);

/// A certificate for b1.test that `authority` made, and why it is no good.
fn no_good(authority: &Authority) -> Vec<(Certificate, Reason)> {
    let (now, names) = (SystemTime::now(), &["b1.test"]);
    let request = Request { dns: names, ..Request::default() };
    let expired = Request { not_before: now - 2 * DAY, not_after: now - DAY, ..request.clone() };
    let early = Request { not_before: now + DAY, not_after: now + 2 * DAY, ..request.clone() };
    let code_signing = Request { purposes: &[Purpose::CodeSigning], ..request.clone() };
    vec![
        (authority.issue(&expired), Reason::CertificateExpired),
        (authority.issue(&early), Reason::CertificateNotYetValid),
        (Authority::new().issue(&request), Reason::CertificateUnknownIssuer),
        (Certificate::self_signed(request.dns), Reason::CertificateUnknownIssuer),
        (authority.issue(&code_signing), Reason::CertificateWrongPurpose),
    ]
}

/// Whether `text` is about the present time, in UTC.
fn shows_our_clock(text: &str) -> bool {
    let time = time::OffsetDateTime::now_utc();
    let begins =
        |time: time::OffsetDateTime| text.starts_with(&format!("{}T{:02}:", time.date(), time.hour()));
    text.ends_with('Z') && (begins(time) || begins(time - time::Duration::MINUTE))
}

/// A peer that dials with `certificate` is refused for `reason`.
async fn is_refused(authority: &Authority, certificate: Option<&Certificate>, reason: Reason) {
    let log = Log::capture();
    let provider = Plan::new(authority, &["a1.test"]).await.start().await;
    let peer = certificate.map_or_else(Peer::nobody, Peer::start);
    // Over TLS 1.3 the client may believe in the connection until the server has judged its certificate.
    if let Ok(connection) = peer.dial(provider.quic, "a1.test").await {
        connection.closed().await;
    }
    let line = log.line("connection refused").await;
    assert_eq!((line.field("reason"), line.field("peer")), (reason.as_str(), &*peer.address.to_string()));
    assert_eq!(line.field("advice"), reason.advice());
    let of_time = matches!(reason, Reason::CertificateExpired | Reason::CertificateNotYetValid);
    assert_eq!(shows_our_clock(line.field("clock")), of_time, "whose clock is off is seen at once");
    assert_eq!(provider.refusals(Side::Remote, reason), 1);
    assert_eq!(provider.metric("fedmux_refusals_total", &[]), 1, "{reason} and nothing else");
    let refused = [("proof", "certificate"), ("result", "refused")];
    assert_eq!(provider.metric("fedmux_proofs_total", &refused), 1);
    assert_eq!(provider.metric("fedmux_connections_opened_total", &[]), 0);
    provider.assert_unharmed();
}

#[tokio::test]
async fn a_peer_that_dials_with_a_bad_certificate_is_refused_for_what_is_wrong_with_it() {
    let authority = Authority::new();
    for (certificate, reason) in no_good(&authority) {
        is_refused(&authority, Some(&certificate), reason).await;
    }
}

#[tokio::test]
async fn a_peer_that_dials_without_a_certificate_is_refused() {
    is_refused(&Authority::new(), None, Reason::CertificateMissing).await;
}

#[tokio::test]
async fn a_peer_that_asks_for_a_host_without_certificate_is_refused() {
    let (authority, log) = (Authority::new(), Log::capture());
    let provider = Plan::new(&authority, &["a1.test"]).await.start().await;
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    assert!(peer.dial(provider.quic, "other.test").await.is_err());
    assert_eq!(log.line("connection refused").await.field("reason"), "certificate-none");
    assert_eq!(provider.refusals(Side::Remote, Reason::CertificateNone), 1);
}

#[tokio::test]
async fn a_client_that_speaks_another_protocol_is_refused() {
    let (authority, log) = (Authority::new(), Log::capture());
    let provider = Plan::new(&authority, &["a1.test"]).await.start().await;
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    assert!(peer.dial_speaking(b"h3", provider.quic, "a1.test").await.is_err());
    assert_eq!(log.line("connection refused").await.field("reason"), "alpn-refused");
    assert_eq!(provider.refusals(Side::Remote, Reason::AlpnRefused), 1);
}

/// Our word for the reason in a bounce.
fn bounced_for(stanza: &Element) -> String {
    assert_eq!(stanza.attribute("type"), Some("error"), "{stanza:?}");
    let error = stanza.children().find(|child| child.name() == "error").unwrap();
    error.child("text", ns::STANZA_ERRORS).unwrap().text()
}

/// The relay dials `peer` for b1.test and fails for `reason`.
async fn is_not_reached(plan: Plan, peer: &Peer, reason: Reason) {
    let log = Log::capture();
    let mut provider = plan.peer(&["b1.test"], peer.address).start().await;
    let mut a1 = provider.host("a1.test");
    a1.send("b1.test", "x").await;
    let bounced = tokio::select! {
        bounced = a1.receive() => bounced,
        () = async { loop {
            if let Ok(connection) = peer.try_accept().await {
                connection.closed().await;
            }
        } } => unreachable!(),
    };
    assert_eq!(bounced_for(&bounced), reason.as_str());
    let line = log.line("peer not reached").await;
    assert_eq!((line.field("reason"), line.field("pair")), (reason.as_str(), "a1.test->b1.test"));
    assert_eq!((line.field("address"), line.field("advice")), (&*peer.address.to_string(), reason.advice()));
    assert_eq!(provider.dial_failures("remote", reason), 1);
    assert_eq!(provider.metric("fedmux_dial_failures_total", &[]), 1, "{reason} and nothing else");
    provider.assert_unharmed();
}

#[tokio::test]
async fn a_peer_that_is_dialled_and_shows_a_bad_certificate_is_refused_for_what_is_wrong_with_it() {
    let authority = Authority::new();
    let mut cases = no_good(&authority);
    let client_only = Request { dns: &["b1.test"], purposes: &[Purpose::Client], ..Request::default() };
    cases.push((authority.issue(&client_only), Reason::CertificateWrongPurpose));
    cases.push((authority.certify(&["b2.test"]), Reason::CertificateWrongName));
    for (certificate, reason) in cases {
        let plan = Plan::new(&authority, &["a1.test"]).await;
        is_not_reached(plan, &Peer::start(&certificate), reason).await;
    }
}

#[tokio::test]
async fn a_host_without_a_certificate_dials_nobody() {
    let authority = Authority::new();
    let plan = Plan::without_certificate(&authority, &["a1.test"]).await;
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    is_not_reached(plan, &peer, Reason::CertificateNone).await;
}

#[tokio::test]
async fn what_a_peer_finds_wrong_with_our_certificate_is_told_to_the_operator() {
    let authority = Authority::new();
    let certificate = authority.certify(&["b1.test"]);
    for (refusal, reason) in [
        (Refusal::Expired, Reason::CertificateExpired),
        (Refusal::UnknownIssuer, Reason::CertificateUnknownIssuer),
    ] {
        let peer = Peer::with_manners(Some(&certificate), Manners::Refusing(refusal));
        is_not_reached(Plan::new(&authority, &["a1.test"]).await, &peer, reason).await;
    }
}

#[tokio::test]
async fn a_peer_that_does_not_ask_who_we_are_is_not_spoken_to() {
    let authority = Authority::new();
    let peer = Peer::with_manners(Some(&authority.certify(&["b1.test"])), Manners::Incurious);
    is_not_reached(Plan::new(&authority, &["a1.test"]).await, &peer, Reason::UnsupportedFeature).await;
}
