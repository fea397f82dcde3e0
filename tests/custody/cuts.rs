//! The path between two relays is cut.

use std::time::Duration;

use fedmux::proto::limits::Limits;
use fedmux::relay::settings::{Placement, Transport};

use crate::support::certificates::Authority;
use crate::support::path::Path;
use crate::support::provider::{Plan, Provider};
use crate::support::tcp_path::TcpPath;
use crate::support::until;

const PAIRS: [(&str, &str); 3] = [("a1.test", "b1.test"), ("a1.test", "b2.test"), ("a2.test", "b1.test")];
const STANZAS: usize = 40;

const OURS: [&str; 2] = ["a1.test", "a2.test"];
const THEIRS: [&str; 2] = ["b1.test", "b2.test"];

fn impatient(limits: &mut Limits) {
    limits.connect = Duration::from_millis(500);
    limits.retry_min = Duration::from_millis(50);
    limits.retry_max = Duration::from_millis(200);
    limits.path_idle = Duration::from_secs(1);
}

/// The path between two relays over QUIC, which place pairs like this, dies again and again under what is sent. So many streams are
/// resumed at least.
async fn over_quic(placement: Placement, resumed_min: u64) {
    let authority = Authority::new();
    let a = Plan::new(&authority, &OURS).await.limits(impatient).bind();
    let b = Plan::new(&authority, &THEIRS).await.limits(impatient).bind();
    let path = Path::between(a.quic, b.quic, Duration::from_millis(20)).await;
    let a = a.peer(&THEIRS, path.far_as_seen, placement).start().await;
    let b = b.peer(&OURS, path.near_as_seen, placement).start().await;
    play(a, b, |cut| path.cut(cut), resumed_min).await;
}

#[tokio::test]
async fn each_stanza_arrives_once_and_in_order_though_the_path_dies_under_them() {
    over_quic(Placement::StreamPerPair, 6).await;
}

#[tokio::test]
async fn a_stream_that_all_pairs_share_is_resumed_for_all_of_them() {
    over_quic(Placement::OneStream, 3).await;
}

#[tokio::test]
async fn a_stream_over_tcp_is_resumed_for_all_pairs() {
    let authority = Authority::new();
    let a = Plan::new(&authority, &OURS).await.limits(impatient).bind();
    let b = Plan::new(&authority, &THEIRS).await.limits(impatient).bind();
    let (to_a, to_b) =
        (TcpPath::to(a.at(Transport::DirectTls)).await, TcpPath::to(b.at(Transport::DirectTls)).await);
    let a = a.peer_by(Transport::DirectTls, &THEIRS, to_b.far_as_seen).start().await;
    let b = b.peer_by(Transport::DirectTls, &OURS, to_a.far_as_seen).start().await;
    let cut = |cut| [&to_a, &to_b].iter().for_each(|path| path.cut(cut));
    play(a, b, cut, 3).await;
}

async fn play(mut a: Provider, mut b: Provider, cut: impl Fn(bool), resumed_min: u64) {
    let mut hosts = [a.host("a1.test"), a.host("a2.test"), b.host("b1.test"), b.host("b2.test")];
    let resumed = |relay: &Provider| relay.metric("fedmux_streams_resumed_total", &[("result", "resumed")]);
    for round in 0..3 {
        for n in 0..STANZAS {
            if n == STANZAS / 2 {
                if round == 0 {
                    // A stream of which the other end hasn't said yet that it may be resumed can't be.
                    let delivered = |relay: &Provider| {
                        relay.metric("fedmux_stanzas_delivered_total", &[("side", "remote")])
                    };
                    let half = (PAIRS.len() * n) as u64;
                    until("streams that can be resumed", || delivered(&a) == half && delivered(&b) == half)
                        .await;
                }
                cut(true);
            }
            let id = format!("{round}-{n}");
            for (one, other) in PAIRS {
                let at = |name: &str| {
                    ["a1.test", "a2.test", "b1.test", "b2.test"].iter().position(|h| *h == name).unwrap()
                };
                hosts[at(one)].send(other, &id).await;
                hosts[at(other)].send(one, &id).await;
            }
        }
        until("the connection to be lost at both ends", || {
            [&a, &b].iter().all(|relay| relay.metric("fedmux_sessions", &[]) == 0)
        })
        .await;
        cut(false);
        for host in &mut hosts {
            let pairs = PAIRS.iter().filter(|(one, other)| *one == host.name || *other == host.name).count();
            let mut next = std::collections::BTreeMap::new();
            for _ in 0..pairs * STANZAS {
                let stanza = host.receive().await;
                assert!(stanza.child("delay", "urn:xmpp:delay").is_none(), "{stanza:?}");
                let n = next.entry(stanza.attribute("from").unwrap().to_owned()).or_insert(0);
                assert_eq!(stanza.attribute("id"), Some(&*format!("{round}-{n}")), "{stanza:?}");
                *n += 1;
            }
        }
    }
    for relay in [&a, &b] {
        relay.is_balanced().await;
        relay.assert_unharmed();
        assert_eq!(relay.metric("fedmux_stanzas_uncertain_total", &[]), 0);
    }
    assert!(resumed(&a) + resumed(&b) >= resumed_min, "{} {}", resumed(&a), resumed(&b));
}
