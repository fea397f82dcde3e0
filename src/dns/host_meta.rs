//! A domain's host-meta document (`proto::discovery::host_meta`), asked for beside DNS: one question at a time for a domain,
//! within the bound of its look-ups, and no more often than [`Standing`] says.
//!
//! Who answers HTTPS is no neighbour of this floor: the floor above hands in a [`Web`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hyper::Uri;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::finder::{FinderSettings, addresses};
use super::question::Questions;
use crate::proto::discovery::HostMeta;
use crate::proto::discovery::host_meta::{self, Document};
use crate::proto::discovery::refusal::{refuse_address, refuse_domain};
use crate::proto::discovery::standing::{Backoff, Standing};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

/// Questions under way at once, of all domains. The others wait, within their own bound.
pub const QUESTIONS_AT_ONCE: usize = 32;
/// Redirects that are followed. RFC 6415 section 2 demands that they are; a loop ends here.
pub const REDIRECTS_MAX: usize = 3;
/// The port of HTTPS, where a redirect names none.
const HTTPS_PORT: u16 = 443;

/// A page to be fetched.
#[derive(Debug, Clone)]
pub struct Page {
    /// The host, as ASCII. Its certificate has to carry it.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, with its query.
    pub path: String,
    /// Where the host is: what the domain's DNS says, as far as it may be dialled.
    pub addresses: Vec<SocketAddr>,
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Where else to ask.
    pub location: Option<String>,
    /// The body, if the status is 200.
    pub body: Bytes,
}

/// What came of a question: `None` if the domain has no document.
pub type Outcome = Result<Option<Document>, Reason>;

/// Fetches pages by HTTPS.
#[async_trait]
pub trait Web: fmt::Debug + Send + Sync {
    /// Fetch one page, and follow nothing. Dropping the future ends it.
    ///
    /// # Errors
    /// Why there is no answer.
    async fn get(&self, page: &Page) -> Result<Reply, Reason>;

    /// A domain was asked for its document, and this came of it.
    fn asked(&self, domain: &Domain, outcome: &Outcome, took: Duration);
}

/// Where documents come from.
#[derive(Debug, Clone)]
pub struct HostMetaSource {
    /// When they are asked for.
    pub when: HostMeta,
    /// By what.
    pub web: Arc<dyn Web>,
    /// The port of HTTPS: 443, but for who serves a closed network, or a test, elsewhere.
    pub port: u16,
    /// Between failures.
    pub backoff: Backoff,
}

/// What a question needs; the task that asks has its own.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) source: HostMetaSource,
    pub(super) questions: Questions,
    pub(super) settings: Arc<FinderSettings>,
    pub(super) places: Arc<Semaphore>,
}

/// One domain's document, and the question for it if it is being asked.
#[derive(Debug, Default)]
pub(super) struct Asking {
    pub(super) standing: Standing,
    under_way: JoinSet<(Outcome, Instant)>,
}

impl Asking {
    /// Ask, if it is time to and nobody does.
    pub(super) fn begin(&mut self, asker: &Asker, domain: &Domain, seed: u64, bound: Instant) {
        if self.is_under_way() || !self.standing.is_due(Instant::now().into_std()) {
            return;
        }
        let (asker, domain) = (asker.clone(), domain.clone());
        self.under_way.spawn(async move {
            let began = Instant::now();
            let outcome = timeout_at(bound, asker.ask(&domain, seed, bound)).await;
            let outcome = outcome.unwrap_or(Err(Reason::HostMetaTimeout));
            asker.source.web.asked(&domain, &outcome, began.elapsed());
            (outcome, Instant::now())
        });
    }

    /// Wait for what is being asked, until `until` at most. It goes on then, and is looked at the next time.
    pub(super) async fn settle(&mut self, asker: &Asker, seed: u64, until: Instant) {
        while let Ok(Some(ended)) = timeout_at(until, self.under_way.join_next()).await {
            let (outcome, at) = ended.unwrap_or_else(|_| (Err(Reason::InternalServerError), Instant::now()));
            self.standing.answered(outcome, at.into_std(), asker.source.backoff, seed);
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether something would be lost by forgetting it.
    pub(super) fn is_needed(&self, now: Instant) -> bool {
        self.is_under_way() || self.standing.is_needed(now.into_std())
    }
}

impl Asker {
    async fn ask(&self, domain: &Domain, seed: u64, bound: Instant) -> Outcome {
        let _place = self.places.acquire().await.map_err(|_| Reason::HostMetaTimeout)?;
        let mut at = Place { host: domain.clone(), port: self.source.port, path: host_meta::PATH.to_owned() };
        for _ in 0..=REDIRECTS_MAX {
            let addresses = self.resolve(&at, bound).await?;
            let page = Page { host: at.host.to_ascii(), port: at.port, path: at.path.clone(), addresses };
            let reply = self.source.web.get(&page).await?;
            match reply.status {
                200 => return host_meta::read(&reply.body, seed).map_err(|_| Reason::HostMetaInvalid),
                404 | 410 => return Ok(None),
                // 308 is the younger form of 301.
                301 | 302 | 307 | 308 => {
                    at = reply.location.and_then(|to| at.redirected(&to)).ok_or(Reason::HostMetaFailed)?;
                }
                _ => return Err(Reason::HostMetaFailed),
            }
        }
        Err(Reason::HostMetaFailed)
    }

    /// Where the host may be dialled, by the rules for any address that a stranger's DNS tells.
    async fn resolve(&self, at: &Place, bound: Instant) -> Result<Vec<SocketAddr>, Reason> {
        refuse_domain(&at.host, self.settings.allow_private)?;
        let host = at.host.to_ascii();
        let mut ttl = Duration::MAX;
        let mut answers = addresses(&self.questions, vec![host.clone()], bound, &mut ttl).await;
        let answer = answers.remove(&host).unwrap_or_default();
        let mut reason = answer.failed.unwrap_or(Reason::NoRecords);
        let mut allowed = Vec::new();
        for ip in answer.addresses {
            let address = SocketAddr::new(ip.to_canonical(), at.port);
            match refuse_address(address, self.settings.allow_private, &self.settings.own) {
                Ok(()) => allowed.push(address),
                Err(refused) => reason = refused,
            }
        }
        if allowed.is_empty() { Err(reason) } else { Ok(allowed) }
    }
}

/// Where a document is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    host: Domain,
    port: u16,
    path: String,
}

impl Place {
    /// Where a redirect from here leads. `None` if that isn't HTTPS, or nothing that a web server would say.
    fn redirected(&self, location: &str) -> Option<Self> {
        if location.starts_with('/') && !location.starts_with("//") {
            let uri: Uri = location.parse().ok()?;
            return Some(Self { path: uri.path_and_query()?.to_string(), ..self.clone() });
        }
        let uri: Uri = location.parse().ok()?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        if uri.scheme_str() != Some("https") {
            return None;
        }
        let path = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        let host = Domain::parse(authority.host()).ok()?;
        Some(Self { host, port: authority.port_u16().unwrap_or(HTTPS_PORT), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_https_and_nowhere_else() {
        let at =
            Place { host: Domain::parse("x.test").unwrap(), port: 8443, path: host_meta::PATH.to_owned() };
        let leads =
            |location| at.redirected(location).map(|to| format!("{}:{}{}", to.host, to.port, to.path));
        for (location, expected) in [
            ("/hm.json?x=1", "x.test:8443/hm.json?x=1"),
            ("https://y.test/hm.json", "y.test:443/hm.json"),
            ("HTTPS://Y.test:444", "y.test:444/"),
            ("https://b%C3%BCcher.test/", ""),
            ("http://y.test/hm.json", ""),
            ("https://user@y.test/", ""),
            ("https://127.0.0.1/", ""),
            ("https://[::1]/", ""),
            ("//y.test/hm.json", ""),
            ("hm.json", ""),
            ("file:///etc/passwd", ""),
            ("https://", ""),
            ("", ""),
        ] {
            assert_eq!(leads(location).unwrap_or_default(), expected, "{location}");
        }
    }
}
