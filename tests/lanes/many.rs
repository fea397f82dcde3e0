//! Many pairs that want a lane at the same moment.

use std::time::Duration;

use crate::support::certificates::Authority;
use crate::support::peer::Peer;
use crate::support::provider::Plan;
use crate::support::server::Host;
use crate::support::wire::Wire;

/// Hosts on either side.
const HOSTS: usize = 10;
/// Lanes that are opened before there is an answer.
const AT_ONCE: usize = 64;
/// No lane comes for so long: no more will.
const QUIET: Duration = Duration::from_millis(500);

#[tokio::test]
async fn of_many_lanes_some_are_opened_at_once_and_the_others_as_answers_come() {
    let authority = Authority::new();
    let names = |side: char| (0..HOSTS).map(|at| format!("{side}{at}.test")).collect::<Vec<_>>();
    let (ours, theirs) = (names('a'), names('b'));
    let our_names: Vec<&str> = ours.iter().map(String::as_str).collect();
    let their_names: Vec<&str> = theirs.iter().map(String::as_str).collect();
    let peer = Peer::start(&authority.certify(&their_names));
    let plan = Plan::new(&authority, &our_names).await;
    let mut provider = plan.peer(&their_names, peer.address).start().await;
    let mut hosts: Vec<Host> = our_names.iter().map(|name| provider.host(name)).collect();
    hosts[0].send("b0.test", "first").await;
    let connection = peer.accept().await;
    let mut first = connection.accept().await;
    first.accept().await;
    assert_eq!(first.ear.stanza().await.attribute("id"), Some("first"));

    for host in &mut hosts {
        for to in &theirs {
            host.send(to, "1").await;
        }
    }
    assert_eq!(first.ear.stanza().await.attribute("id"), Some("1"));
    let mut lanes = Vec::new();
    while let Ok(lane) = tokio::time::timeout(QUIET, connection.0.accept_bi()).await {
        lanes.push(Wire::quic(lane.unwrap()));
    }
    assert_eq!(lanes.len(), AT_ONCE, "without an answer");
    for at in 0..HOSTS * HOSTS - 1 {
        if at >= lanes.len() {
            lanes.push(connection.accept().await);
        }
        lanes[at].accept().await;
        assert_eq!(lanes[at].ear.stanza().await.attribute("id"), Some("1"));
    }
    provider.is_balanced().await;
    provider.assert_unharmed();
}
