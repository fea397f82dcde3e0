//! Two relays that pin each other; the first has components behind it.

use std::net::SocketAddr;

use fedmux::proto::limits::Limits;
use fedmux::relay::settings::Placement;

use crate::support::certificates::Authority;
use crate::support::component;
use crate::support::provider::{Plan, Provider};
use crate::support::wire::Wire;

/// The component of most tests, and another one.
pub(crate) const IRC: &str = "irc.a1.test";
pub(crate) const BOT: &str = "bot.a1.test";
/// What the first of them knows; the other one's is another.
pub(crate) const SECRET: &str = "opensesame";
pub(crate) const BOT_SECRET: &str = "shibboleth";

pub(crate) struct Scene {
    _authority: Authority,
    /// With a1.test and the components.
    pub(crate) a: Provider,
    /// With b1.test.
    pub(crate) b: Provider,
}

impl Scene {
    pub(crate) async fn set() -> Self {
        Self::with_limits(|_| {}).await
    }

    pub(crate) async fn with_limits(change: impl Fn(&mut Limits)) -> Self {
        let authority = Authority::new();
        let a = Plan::without_certificate(&authority, &["a1.test"]).await;
        a.add_certificate(&authority.certify(&["a1.test", IRC, BOT]), "all");
        let a = a.component(IRC, SECRET).component(BOT, BOT_SECRET).limits(&change).bind();
        let b = Plan::new(&authority, &["b1.test"]).await.limits(&change).bind();
        let (a_at, b_at) = (a.quic, b.quic);
        let a = a.peer(&["b1.test"], b_at, Placement::StreamPerPair).start().await;
        let b = b.peer(&["a1.test", "*.a1.test"], a_at, Placement::StreamPerPair).start().await;
        Self { _authority: authority, a, b }
    }

    /// Where components connect to.
    pub(crate) fn port(&self) -> SocketAddr {
        self.a.components.unwrap()
    }

    /// The component of most tests, connected.
    pub(crate) async fn irc(&self) -> Wire {
        component::connect(self.port(), IRC, SECRET).await
    }

    pub(crate) async fn is_good(&self) {
        for provider in [&self.a, &self.b] {
            provider.is_balanced().await;
            provider.assert_unharmed();
        }
    }
}
