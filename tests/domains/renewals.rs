//! A certificate that is renewed while the relay runs: nobody has to tell it.

use std::time::Duration;

use fedmux::relay::settings::Placement;
use rustls::pki_types::CertificateDer;

use crate::support::certificates::Authority;
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
