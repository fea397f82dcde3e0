//! The path between two relays is cut.

use std::time::Duration;

use fedmux::proto::limits::Limits;

use crate::support::certificates::Authority;
use crate::support::path::Path;
use crate::support::provider::{Plan, Provider};
use crate::support::until;

const PAIRS: [(&str, &str); 3] = [("a1.test", "b1.test"), ("a1.test", "b2.test"), ("a2.test", "b1.test")];
const STANZAS: usize = 40;

struct Relays {
    a: Provider,
    b: Provider,
    path: Path,
    _authority: Authority,
}

async fn relays() -> Relays {
    let authority = Authority::new();
    let limits = |limits: &mut Limits| {
        limits.connect = Duration::from_millis(500);
        limits.retry_min = Duration::from_millis(50);
        limits.retry_max = Duration::from_millis(200);
        limits.path_idle = Duration::from_secs(1);
    };
    let (ours, theirs) = (["a1.test", "a2.test"], ["b1.test", "b2.test"]);
    let a = Plan::new(&authority, &ours).await.limits(limits).bind();
    let b = Plan::new(&authority, &theirs).await.limits(limits).bind();
    let path = Path::between(a.quic, b.quic, Duration::from_millis(20)).await;
    let a = a.peer(&theirs, path.far_as_seen, Default::default()).start().await;
    let b = b.peer(&ours, path.near_as_seen, Default::default()).start().await;
    Relays { a, b, path, _authority: authority }
}

#[tokio::test]
async fn each_stanza_arrives_once_and_in_order_though_the_path_dies_under_them() {
    let Relays { mut a, mut b, path, _authority } = relays().await;
    let mut hosts = [a.host("a1.test"), a.host("a2.test"), b.host("b1.test"), b.host("b2.test")];
    let lost = |relay: &Provider| relay.metric("fedmux_streams_resumed_total", &[("result", "resumed")]);
    for round in 0..3 {
        for n in 0..STANZAS {
            if n == STANZAS / 2 {
                path.cut(true);
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
        path.cut(false);
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
    assert!(lost(&a) + lost(&b) >= 6, "{} {}", lost(&a), lost(&b));
}
