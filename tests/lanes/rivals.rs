//! Both relays dial at once: two sessions may carry the same pairs, and one of them goes again.

use std::time::Duration;

use fedmux::proto::limits::Limits;
use fedmux::relay::settings::Placement;

use crate::scene::{A, B, Scene, ids, numbers, send};
use crate::support::{soon, until};

/// How long a datagram takes: long enough that neither relay hears of the other's attempt before it dials.
const DELAY: Duration = Duration::from_millis(60);

/// For a while that is long beside a round trip on a busy machine, too: what is in use isn't idle in between.
fn short_lived(limits: &mut Limits) {
    limits.lane_idle = Duration::from_millis(1_500);
    limits.session_idle = Duration::from_millis(1_500);
}

/// Connections that were opened by either relay, and sessions that are left at both.
fn connections(scene: &Scene) -> (u64, [u64; 2]) {
    let opened = [("direction", "outbound")];
    let sum =
        [&scene.a, &scene.b].map(|provider| provider.metric("fedmux_connections_opened_total", &opened));
    let sessions = [&scene.a, &scene.b].map(|provider| provider.metric("fedmux_sessions", &[]));
    (sum.iter().sum(), sessions)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_relays_dial_at_once_and_nothing_is_lost_doubled_or_reordered() {
    const STANZAS: usize = 400;
    let mut scene = Scene::with(Placement::StreamPerPair, Some(DELAY), short_lived).await;
    let mut hosts = A.map(|name| scene.a.host(name));
    let mut remote = B.map(|name| scene.b.host(name));
    // From a1 to b1 and back, and so on: every pair in both directions, from the first moment on.
    let theirs = async {
        for n in 0..STANZAS {
            for (a, to) in hosts.iter_mut().zip(B) {
                send(a, to, n..n + 1).await;
            }
        }
    };
    let ours = async {
        for n in 0..STANZAS {
            for (b, to) in remote.iter_mut().zip(A) {
                send(b, to, n..n + 1).await;
            }
        }
    };
    tokio::join!(theirs, ours);
    for (a, b) in hosts.iter_mut().zip(&mut remote) {
        let (from_a, from_b) = (a.name.clone(), b.name.clone());
        assert_eq!(ids(b, &from_a, STANZAS).await, numbers(0..STANZAS));
        assert_eq!(ids(a, &from_b, STANZAS).await, numbers(0..STANZAS));
        assert!(a.received().is_none() && b.received().is_none());
    }
    assert_eq!(connections(&scene).0, 2, "both dialled");
    until("the sessions that nothing needs any more to end", || connections(&scene).1 == [0, 0]).await;
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loser_of_two_sessions_ends_when_it_is_idle_and_the_winner_stays_at_work() {
    let mut scene = Scene::with(Placement::StreamPerPair, Some(DELAY), short_lived).await;
    let (mut a1, mut b1) = (scene.a.host("a1.test"), scene.b.host("b1.test"));
    tokio::join!(a1.send("b1.test", "0"), b1.send("a1.test", "0"));
    ids(&mut b1, "a1.test", 1).await;
    ids(&mut a1, "b1.test", 1).await;
    until("both sessions", || connections(&scene).1 == [2, 2]).await;
    // Silence ends the lanes, and what speaks then meets on one session.
    until("the idle lanes to close", || scene.a.metric("fedmux_lanes", &[]) == 0).await;
    let speaking = async {
        let mut n = 1;
        while connections(&scene).1 != [1, 1] {
            send(&mut a1, "b1.test", n..n + 1).await;
            assert_eq!(ids(&mut b1, "a1.test", 1).await, numbers(n..n + 1));
            send(&mut b1, "a1.test", n..n + 1).await;
            assert_eq!(ids(&mut a1, "b1.test", 1).await, numbers(n..n + 1));
            // A former one may still be finishing. Two that are in use would stay.
            until("one lane for both directions", || scene.a.metric("fedmux_lanes", &[]) == 1).await;
            n += 1;
        }
    };
    soon("the loser to end", speaking).await;
    assert_eq!(connections(&scene).0, 2, "and nobody dialled again");
    scene.is_good().await;
}
