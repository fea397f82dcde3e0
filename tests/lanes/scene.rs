//! Two relays that pin each other, each with its server.

use std::time::Duration;

use fedmux::proto::limits::Limits;
use fedmux::relay::settings::Placement;
use fedmux::xmpp::element::Element;

use crate::support::certificates::Authority;
use crate::support::path::Path;
use crate::support::provider::{Plan, Provider};
use crate::support::server::Host;

pub(crate) const A: [&str; 3] = ["a1.test", "a2.test", "a3.test"];
pub(crate) const B: [&str; 3] = ["b1.test", "b2.test", "b3.test"];

/// Two relays.
pub(crate) struct Scene {
    /// Whoever issued what the two show each other; its file is read again at a restart.
    pub(crate) _authority: Authority,
    pub(crate) a: Provider,
    pub(crate) b: Provider,
    /// Between them, if it isn't loopback itself.
    pub(crate) path: Option<Path>,
}

impl Scene {
    pub(crate) async fn set() -> Self {
        Self::with(Placement::StreamPerPair, None, |_| {}).await
    }

    pub(crate) async fn with_limits(change: impl Fn(&mut Limits)) -> Self {
        Self::with(Placement::StreamPerPair, None, change).await
    }

    /// Two relays, a path that takes `delay` between them if it is `Some`, both under limits changed by `change`.
    pub(crate) async fn with(
        placement: Placement,
        delay: Option<Duration>,
        change: impl Fn(&mut Limits),
    ) -> Self {
        let authority = Authority::new();
        let a = Plan::new(&authority, &A).await.limits(&change).bind();
        let b = Plan::new(&authority, &B).await.limits(&change).bind();
        let path = match delay {
            Some(delay) => Some(Path::between(a.quic, b.quic, delay).await),
            None => None,
        };
        let b_at = path.as_ref().map_or(b.quic, |path| path.far_as_seen);
        let a_at = path.as_ref().map_or(a.quic, |path| path.near_as_seen);
        let a = a.peer(&B, b_at, placement).start().await;
        let b = b.peer(&A, a_at, placement).start().await;
        Self { _authority: authority, a, b, path }
    }

    pub(crate) async fn is_good(&self) {
        for provider in [&self.a, &self.b] {
            provider.is_balanced().await;
            provider.assert_unharmed();
        }
    }
}

/// Limits for peers and servers that are away: everything happens within a second.
pub(crate) fn impatient(limits: &mut Limits) {
    limits.connect = Duration::from_millis(300);
    limits.retry_min = Duration::from_millis(50);
    limits.retry_max = Duration::from_millis(200);
    limits.path_idle = Duration::from_secs(1);
}

/// The next `count` stanzas for `host`, which come from `from`: their ids.
pub(crate) async fn ids(host: &mut Host, from: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        let stanza = host.receive().await;
        assert_eq!(stanza.attribute("from"), Some(from));
        ids.push(stanza.attribute("id").unwrap().to_owned());
    }
    ids
}

/// `0`, `1`, ... as stanzas are numbered here.
pub(crate) fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// Send messages with these numbers, each by itself.
pub(crate) async fn send(host: &mut Host, to: &str, range: std::ops::Range<usize>) {
    for n in range {
        host.send(to, &n.to_string()).await;
    }
}

/// The reason in an error that came back.
pub(crate) fn reason(stanza: &Element) -> String {
    assert_eq!(stanza.attribute("type"), Some("error"), "{stanza:?}");
    let error = stanza.children().find(|child| child.name() == "error").unwrap();
    error.children().find(|child| child.name() == "text").unwrap().text()
}
