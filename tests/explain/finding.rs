//! Names that lead nowhere.

use fedmux::relay::settings::Policy;
use fedmux::xmpp::domain::DomainPattern;
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::RecordType;

use crate::dns_server::{Misbehaviour, Zone};
use crate::scene::{explain, fails, plan, seen};
use crate::support::certificates::Authority;

const NAMES: [&str; 4] =
    ["_xmpp-server._quic", "_xmppq-server._udp", "_xmpps-server._tcp", "_xmpp-server._tcp"];

/// Every question about b.test is dealt with so.
fn everything(how: &Misbehaviour) -> Zone {
    let zone = NAMES.iter().fold(Zone::new(&[]), |zone, labels| {
        zone.misbehave(&format!("{labels}.b.test"), RecordType::SRV, how.clone())
    });
    zone.misbehave("b.test", RecordType::A, how.clone()).misbehave("b.test", RecordType::AAAA, how.clone())
}

#[tokio::test]
async fn dns_that_says_nothing_or_nonsense_is_named() {
    let nowhere = "_xmpp-server._tcp.b.test SRV 0 0 5269 nowhere.b.test";
    for (zone, reason, answer) in [
        (Zone::new(&[]), "no-records", "no SRV record"),
        (everything(&Misbehaviour::Silent), "dns-timeout", "dns-timeout"),
        (everything(&Misbehaviour::Code(ResponseCode::ServFail)), "dns-failed", "dns-failed"),
        (Zone::new(&["_xmpp-server._tcp.b.test SRV 0 0 0 ."]), "service-not-offered", "not offered"),
        (Zone::new(&[nowhere]), "name-not-resolved", "dns: nowhere.b.test: no address"),
    ] {
        let (authority, dns) = (Authority::new(), zone.serve().await);
        let mut a = plan(&authority).await.finding_by(dns.address).start().await;
        let explanation = fails(&mut a, "b.test", "found", reason).await;
        let seen = seen(&explanation);
        assert!(
            seen.contains("dns: _xmpp-server._tcp.b.test: ") && seen.contains(answer),
            "{reason}: {seen}"
        );
    }
}

#[tokio::test]
async fn addresses_that_must_not_be_dialled_are_named() {
    let zone = Zone::new(&[
        "_xmpp-server._tcp.xmpp-here.net SRV 0 0 5269 in.xmpp-here.net",
        "in.xmpp-here.net A 10.0.0.7",
    ]);
    let (authority, dns) = (Authority::new(), zone.serve().await);
    let mut plan = plan(&authority).await.finding_by(dns.address);
    plan.settings.dns.as_mut().unwrap().allow_private = false;
    let mut a = plan.start().await;
    let explanation = fails(&mut a, "xmpp-here.net", "address", "address-not-public").await;
    assert!(explanation.failed.unwrap().detail.contains("10.0.0.7"));
}

#[tokio::test]
async fn a_name_that_is_not_public_is_not_asked_for() {
    let (authority, dns) = (Authority::new(), Zone::new(&[]).serve().await);
    let mut plan = plan(&authority).await.finding_by(dns.address);
    plan.settings.dns.as_mut().unwrap().allow_private = false;
    let mut a = plan.start().await;
    fails(&mut a, "b.test", "found", "domain-not-public").await;
    assert!(dns.asked().is_empty());
}

#[tokio::test]
async fn a_domain_that_nothing_leads_to_has_no_route() {
    let authority = Authority::new();
    let mut a = plan(&authority).await.start().await;
    fails(&mut a, "b.test", "given-up", "no-route").await;
}

#[tokio::test]
async fn what_policy_forbids_is_not_even_looked_for() {
    let (authority, dns) = (Authority::new(), Zone::new(&[]).serve().await);
    let mut plan = plan(&authority).await.finding_by(dns.address);
    let mut policy = Policy::default();
    policy.domains.both.deny = vec![DomainPattern::parse("b.test").unwrap()];
    plan.settings.policy = policy;
    let mut a = plan.start().await;
    let explanation = fails(&mut a, "c.test", "found", "no-records").await;
    assert_eq!(explanation.allowed, (1, 1));
    // It is known before anything is tried.
    let before = explain(&a, "b.test");
    let failed = before.failed.unwrap();
    assert_eq!((failed.step.as_str(), failed.reason.as_str()), ("policy", "policy-denied"));
    assert_eq!((before.allowed, before.denied), ((0, 1), vec!["a.test".to_owned()]));
    assert!(!dns.asked().iter().any(|asked| asked.contains("b.test")));
}
