//! A certificate that is renewed while the relay runs: nobody has to tell it.

use std::time::Duration;

use fedmux::relay::settings::Placement;
use fedmux::relay::status::Reloaded;
use rustls::pki_types::CertificateDer;

use crate::support::certificates::{Authority, Certificate};
use crate::support::peer::{Connection, Peer};
use crate::support::provider::{Plan, Provider};
use crate::support::until;
use crate::support::wire::message;

/// What the relay shows.
fn shown(connection: &Connection) -> Vec<u8> {
    let chain = connection.0.peer_identity().unwrap().downcast::<Vec<CertificateDer<'static>>>().unwrap();
    chain[0].to_vec()
}

/// Dial until the relay shows another certificate than `former`.
async fn another(peer: &Peer, relay: &Provider, former: &[u8]) -> Vec<u8> {
    crate::support::soon("another certificate", async {
        loop {
            let now = shown(&peer.dial(relay.quic, "a1.test").await.unwrap());
            if now != former {
                return now;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_signal_and_a_broken_one_is_not() {
    let authority = Authority::new();
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    let plan = Plan::new(&authority, &["a1.test"]).await;
    let plan = plan.placed_peer(&["*"], peer.address, Placement::StreamPerPair);
    let mut relay = plan.limits(|limits| limits.certificates_poll = Duration::from_millis(20)).start().await;
    let mut a1 = relay.host("a1.test");
    let standing = peer.dial(relay.quic, "a1.test").await.unwrap();
    let mut lane = standing.lane("b1.test", "a1.test").await;

    relay.add_certificate(&authority.certify(&["a1.test"]), "hosts");
    let renewed = another(&peer, &relay, &shown(&standing)).await;
    lane.say(message("b1.test", "a1.test", "stands")).await;
    assert_eq!(a1.receive().await.attribute("id"), Some("stands"));

    // A renewal that is half done, or went wrong.
    let refused = || relay.metric("fedmux_reloads_total", &[("result", "refused")]);
    let folder = &relay.settings().identity.certificates;
    for file in std::fs::read_dir(folder).unwrap() {
        std::fs::write(file.unwrap().path(), "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    }
    until("the broken files to be seen", || refused() >= 1).await;
    assert_eq!(shown(&peer.dial(relay.quic, "a1.test").await.unwrap()), renewed);

    relay.add_certificate(&authority.certify(&["a1.test"]), "hosts");
    another(&peer, &relay, &renewed).await;
    lane.say(message("b1.test", "a1.test", "stands on")).await;
    assert_eq!(a1.receive().await.attribute("id"), Some("stands on"));
    relay.assert_unharmed();
}

/// A relay for these hosts that often looks at its certificates.
async fn looking(authority: &Authority, hosts: &[&str]) -> Provider {
    let plan = Plan::new(authority, hosts).await;
    plan.limits(|limits| limits.certificates_poll = Duration::from_millis(20)).start().await
}

/// Renew its certificate, in one step: nobody sees half of it.
fn renew(relay: &Provider, certificate: &Certificate) {
    let aside = tempfile::tempdir().unwrap();
    certificate.write_into(aside.path(), "hosts");
    let folder = &relay.settings().identity.certificates;
    std::fs::rename(aside.path().join("hosts.pem"), folder.join("hosts.pem")).unwrap();
}

/// What `fedmux status` says of the last reload; with it the metric must agree.
async fn told(relay: &Provider) -> Option<Reloaded> {
    let reload = relay.relay.view().status().await.reload;
    let refused = reload.as_ref().is_some_and(|reload| reload.refused.is_some());
    assert_eq!(relay.metric("fedmux_reload_refused", &[]), u64::from(refused), "{reload:?}");
    reload
}

#[tokio::test]
async fn certificates_that_are_back_are_no_longer_refused() {
    let relay = looking(&Authority::new(), &["a1.test"]).await;
    let folder = relay.settings().identity.certificates.clone();
    let is_refused = || relay.metric("fedmux_reload_refused", &[]) == 1;
    let pem = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    for (path, why) in [
        (&folder, "the folder of certificates can't be read (".to_owned()),
        (&pem, "changed certificates leave a1.test without any".to_owned()),
    ] {
        let elsewhere = folder.with_extension("elsewhere");
        std::fs::rename(path, &elsewhere).unwrap();
        until("it to be missed", is_refused).await;
        let refused = told(&relay).await.unwrap().refused.unwrap();
        assert!(refused.starts_with(&why), "{refused}");
        std::fs::rename(&elsewhere, path).unwrap();
        until("it to be found again", || !is_refused()).await;
        // Nothing was read again.
        assert!(told(&relay).await.is_none());
    }
    assert_eq!(relay.metric("fedmux_reloads_total", &[("result", "refused")]), 2);
    relay.assert_unharmed();
}

#[tokio::test]
async fn renewed_certificates_mend_no_configuration() {
    let authority = Authority::new();
    let relay = looking(&authority, &["a1.test", "a2.test", "a3.test"]).await;
    let mut settings = relay.settings().clone();
    settings.limits.lane_idle *= 2;
    relay.relay.reload(settings.clone()).unwrap();
    let broken = || relay.relay.reload_refused("f.toml:1: it is broken");
    let done = || relay.metric("fedmux_reloads_total", &[("result", "done")]);
    broken();
    renew(&relay, &authority.certify(&["a1.test", "a2.test", "a3.test"]));
    until("the renewal", || done() == 2).await;
    let reload = told(&relay).await.unwrap();
    assert_eq!(reload.refused.as_deref(), Some("f.toml:1: it is broken"));
    assert_eq!(reload.needs_restart, ["[limits] lane_idle"]);

    renew(&relay, &authority.certify(&["a1.test"]));
    until("what is missing", || relay.metric("fedmux_reloads_total", &[("result", "refused")]) == 2).await;
    let refused = told(&relay).await.unwrap().refused.unwrap();
    let both = [2, 3].map(|n| {
        format!("f.toml:1: it is broken; changed certificates leave a{n}.test and another host without any")
    });
    assert!(both.contains(&refused), "{refused}");

    // A configuration that is taken brings its certificates.
    relay.relay.reload(settings.clone()).unwrap();
    assert_eq!(told(&relay).await.unwrap().refused, None);
    // What waits for a restart waits whatever is renewed.
    renew(&relay, &authority.certify(&["a1.test"]));
    until("the last renewal", || done() == 4).await;
    let reload = told(&relay).await.unwrap();
    assert_eq!(reload.changed, ["certificates: 1 new, 1 gone"]);
    assert_eq!(reload.needs_restart, ["[limits] lane_idle"]);
    relay.assert_unharmed();
}
