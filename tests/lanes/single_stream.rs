//! Peers that take one stream for each connection: a connection for each pair.

use std::time::Duration;

use fedmux::xmpp::header::STREAM_END;

use crate::support::certificates::Authority;
use crate::support::peer::Peer;
use crate::support::provider::{Plan, Provider};
use crate::support::server::Host;
use crate::support::wire::{Heard, Wire};

/// How a peer shows that it takes no second stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    /// It gives no credit for one.
    NoCredit,
    /// It resets and stops it before its header.
    Reset,
    /// It never says anything on it.
    Silence,
    /// It finishes it without a word.
    Finishes,
}

async fn provider(peer: &Peer, authority: &Authority) -> (Provider, [Host; 3]) {
    let names = ["a1.test", "a2.test", "a3.test"];
    let mut provider = Plan::new(authority, &names)
        .await
        .peer(&["b1.test"], peer.address)
        .limits(|limits| {
            limits.credit_wait = Duration::from_millis(100);
            limits.header_wait = Duration::from_millis(300);
        })
        .start()
        .await;
    let hosts = names.map(|name| provider.host(name));
    (provider, hosts)
}

async fn shows(shows: Shows) {
    let authority = Authority::new();
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    if shows == Shows::NoCredit {
        peer.takes_streams(1);
    }
    let (provider, [mut a1, mut a2, mut a3]) = provider(&peer, &authority).await;
    a1.send("b1.test", "1").await;
    let connection = peer.accept().await;
    let mut first = connection.accept().await;
    first.accept().await;
    assert_eq!(first.ear.stanza().await.attribute("id"), Some("1"));
    // A second pair finds out, and nothing of it is lost.
    a2.send("b1.test", "2").await;
    let mut ignored: Option<Wire> = None;
    if shows != Shows::NoCredit {
        let mut second = connection.accept().await;
        match shows {
            Shows::Reset => {
                second.mouth.reset(1);
                second.ear.stop(1);
            }
            Shows::Finishes => second.mouth.finish().await,
            Shows::Silence | Shows::NoCredit => {}
        }
        ignored = Some(second);
    }
    let other = peer.accept().await;
    let mut second = other.accept().await;
    assert_eq!(second.accept().await.from, "a2.test");
    assert_eq!(second.ear.stanza().await.attribute("id"), Some("2"));
    // A third one knows.
    a3.send("b1.test", "3").await;
    let third = peer.accept().await;
    let mut third = third.accept().await;
    assert_eq!(third.accept().await.from, "a3.test");
    assert_eq!(third.ear.stanza().await.attribute("id"), Some("3"));
    // And the first pair stays where it is.
    a1.send("b1.test", "4").await;
    assert_eq!(first.ear.stanza().await.attribute("id"), Some("4"));
    drop(ignored);
    provider.is_balanced().await;
    provider.assert_unharmed();
}

#[tokio::test]
async fn a_peer_that_gives_no_credit_gets_a_connection_for_each_pair() {
    shows(Shows::NoCredit).await;
}

#[tokio::test]
async fn a_peer_that_resets_a_second_stream_gets_a_connection_for_each_pair() {
    shows(Shows::Reset).await;
}

#[tokio::test]
async fn a_peer_that_is_silent_on_a_second_stream_gets_a_connection_for_each_pair() {
    shows(Shows::Silence).await;
}

#[tokio::test]
async fn a_peer_that_finishes_a_second_stream_without_a_word_gets_a_connection_for_each_pair() {
    shows(Shows::Finishes).await;
}

#[tokio::test]
async fn a_connection_for_one_stream_is_not_used_again_when_that_has_ended() {
    let authority = Authority::new();
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    peer.takes_streams(1);
    let (provider, [mut a1, mut a2, _]) = provider(&peer, &authority).await;
    a1.send("b1.test", "1").await;
    let first = peer.accept().await;
    let mut lane = first.accept().await;
    lane.accept().await;
    lane.ear.stanza().await;
    a2.send("b1.test", "2").await;
    let second = peer.accept().await;
    let mut other = second.accept().await;
    other.accept().await;
    other.ear.stanza().await;
    lane.close().await;
    a1.send("b1.test", "3").await;
    let third = peer.accept().await;
    let mut lane = third.accept().await;
    lane.accept().await;
    assert!(matches!(lane.hear().await, Heard::Stanza(_)));
    provider.assert_unharmed();
}

#[tokio::test]
async fn a_peer_that_closes_a_second_stream_before_its_header_takes_another_one() {
    let authority = Authority::new();
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    let (provider, [mut a1, mut a2, _]) = provider(&peer, &authority).await;
    a1.send("b1.test", "1").await;
    let connection = peer.accept().await;
    let mut first = connection.accept().await;
    first.accept().await;
    a2.send("b1.test", "2").await;
    let mut second = connection.accept().await;
    // As a relay does that stops.
    second.say(STREAM_END).await;
    second.mouth.finish().await;
    let mut second = connection.accept().await;
    assert_eq!(second.accept().await.from, "a2.test");
    assert_eq!(second.ear.stanza().await.attribute("id"), Some("2"));
    provider.is_balanced().await;
    provider.assert_unharmed();
}
