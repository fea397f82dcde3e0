//! A way on which a connection comes to be, and no stream: whoever answers there has no server behind it. Others are tried.

use std::time::Duration;

use fedmux::relay::settings::Transport;
use fedmux::xmpp::namespace as ns;

use crate::scene::{opened, plan, way, zone};
use crate::support::certificates::Authority;
use crate::support::peer::{Connection, Peer};
use crate::support::tcp_peer::Listening;
use crate::support::wire::answer;

/// What the peer does with the stream of a connection.
#[derive(Debug, Clone, Copy)]
enum Vain {
    Closes,
    Fails,
    SpeaksOtherwise,
}

/// Do it.
async fn disappoint(connection: Connection, how: Vain) {
    if matches!(how, Vain::SpeaksOtherwise) {
        let mut wire = connection.accept().await;
        wire.say([0, 0, 0, 9]).await;
        connection.closed().await;
    } else if matches!(how, Vain::Fails) {
        let mut wire = connection.accept().await;
        let conditions = ns::STREAM_ERRORS;
        let error = format!("<internal-server-error xmlns='{conditions}'/>");
        let header = answer("x.test", "a1.test", "s0");
        wire.say(format!("{header}<stream:error>{error}</stream:error></stream:stream>")).await;
        wire.mouth.finish().await;
        connection.closed().await;
    }
}

#[tokio::test]
async fn the_next_attempt_takes_a_way_where_it_was_not_in_vain() {
    for how in [Vain::Closes, Vain::Fails, Vain::SpeaksOtherwise] {
        let authority = Authority::new();
        let certificate = authority.certify(&["x.test"]);
        let (vain, server) = (Peer::start(&certificate), Listening::with(&certificate).await);
        let ways = [
            way("x.test", Transport::Quic, vain.address),
            way("x.test", Transport::DirectTls, server.address),
        ];
        let dns = zone(&ways).serve().await;
        let plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
        let mut relay = plan.limits(|limits| limits.retry_min = Duration::from_millis(50)).start().await;
        let mut a1 = relay.host("a1.test");
        a1.send("x.test", "first").await;
        let reached = async {
            // The first one of all is sent ahead, and what is refused then is tried once more.
            loop {
                disappoint(vain.accept().await, how).await;
            }
        };
        let mut wire = tokio::select! {
            wire = server.accept(Transport::DirectTls) => wire.unwrap(),
            () = reached => unreachable!(),
        };
        wire.accept().await;
        assert_eq!(wire.ear.stanza().await.attribute("id"), Some("first"), "{how:?}");
        let before = opened(&relay, Transport::Quic, "outbound");
        assert!((1..=2).contains(&before), "{how:?}: {before} connections to who closes them");
        // Nor does a later one go there.
        wire.close().await;
        a1.send("x.test", "second").await;
        let mut wire = server.accept(Transport::DirectTls).await.unwrap();
        wire.accept().await;
        assert_eq!(wire.ear.stanza().await.attribute("id"), Some("second"), "{how:?}");
        assert_eq!(opened(&relay, Transport::Quic, "outbound"), before, "{how:?}");
        relay.assert_unharmed();
    }
}
