//! Asks one question until something is said, and remembers answers for their TTL.

use std::time::Duration;

use hickory_resolver::config::ResolverOpts;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{ResponseCache, TtlConfig};
use tokio::time::Instant;

use super::trail::{Heard, Said, Trail, checked};
use super::upstream::Upstream;
use crate::proto::discovery::found::{VALID_MAX, VALID_MIN};

/// Answers kept: those of the hosts that many domains share are asked for once.
const CACHED_MAX: u64 = 4096;

/// How long at most: by the time at which whoever goes by an answer asks again, it is asked for again.
const KEPT_MAX: Duration = VALID_MAX.saturating_sub(VALID_MIN);

/// Asks, and remembers answers for their TTL.
#[derive(Clone)]
pub(super) struct Questions {
    upstream: Upstream,
    cache: ResponseCache,
}

impl Questions {
    pub(super) fn new(upstream: Upstream) -> Self {
        let mut options = ResolverOpts::default();
        (options.positive_max_ttl, options.negative_max_ttl) = (Some(KEPT_MAX), Some(KEPT_MAX));
        Self { upstream, cache: ResponseCache::new(CACHED_MAX, TtlConfig::from_opts(&options)) }
    }

    /// Records of `kind` that `name` has or leads to.
    pub(super) async fn ask(&self, name: Name, kind: RecordType) -> Said {
        let mut heard = Trail::begin(name, kind);
        loop {
            heard = match heard {
                Heard::Further(trail) => {
                    let answer = self.answer(trail.question()).await;
                    trail.hear(answer)
                }
                Heard::Said(said) => return said,
            };
        }
    }

    async fn answer(&self, query: Query) -> Result<Message, NetError> {
        if let Some(known) = self.cache.get(&query, Instant::now().into_std()) {
            return known;
        }
        let response = self.upstream.ask(query.clone(), false).await;
        let answer = response.and_then(|response| checked(&query, response));
        self.cache.insert(query, answer.clone(), Instant::now().into_std());
        answer
    }
}
