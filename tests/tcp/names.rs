//! The host name of one `[[peer]]` that nobody can look up: it holds up nobody else.

use std::sync::mpsc;
use std::time::Duration;

use fedmux::reason::Reason;
use fedmux::relay::settings::{Endpoint, Transport};
use tokio::runtime::Builder;

use crate::support::certificates::Authority;
use crate::support::nobody;
use crate::support::provider::{Bound, Plan};
use crate::support::until;

/// A machine whose resolver doesn't answer: names are looked up on threads of the runtime, and the only one is taken.
fn without_resolver(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let (over, waiting) = mpsc::channel::<()>();
        let taken = tokio::task::spawn_blocking(move || waiting.recv());
        test.await;
        drop(over);
        assert!(taken.await.unwrap().is_err());
    });
}

/// A relay that knows a peer by its name, too.
async fn knowing_a_name(authority: &Authority, host: &str, transport: Transport) -> Bound {
    let (_, address) = nobody();
    let mut plan = Plan::new(authority, &[host]).await.peer_by(transport, &["named.test"], address);
    plan.settings.peers[0].address =
        Endpoint::Name { host: "named.invalid".to_owned(), port: address.port() };
    let limits = |limits: &mut fedmux::proto::limits::Limits| {
        limits.connect = Duration::from_secs(2);
        limits.look_up = Duration::from_millis(200);
    };
    plan.limits(limits).bind()
}

#[test]
fn a_peer_at_an_address_is_reached_while_the_name_of_another_cannot_be_looked_up() {
    without_resolver(async {
        for transport in [Transport::Quic, Transport::DirectTls, Transport::StartTls] {
            let authority = Authority::new();
            let a = knowing_a_name(&authority, "a1.test", transport).await;
            let b = knowing_a_name(&authority, "b1.test", transport).await;
            let (a_at, b_at) = (a.at(transport), b.at(transport));
            let mut a = a.peer_by(transport, &["b1.test"], b_at).start().await;
            let mut b = b.peer_by(transport, &["a1.test"], a_at).start().await;
            let (mut a1, mut b1) = (a.host("a1.test"), b.host("b1.test"));
            a1.send("b1.test", "there").await;
            assert_eq!(b1.receive().await.attribute("id"), Some("there"));
            b1.send("a1.test", "back").await;
            assert_eq!(a1.receive().await.attribute("id"), Some("back"));
            assert_eq!(a.metric("fedmux_dial_failures_total", &[]), 0);
            // Whose name it is isn't waited for without an end, either.
            a1.send("named.test", "lost").await;
            until("the look-up to be given up", || a.dial_failures("remote", Reason::NameNotResolved) > 0)
                .await;
        }
    });
}
