//! What the look-up of a peer asks over HTTPS (XEP-0487): by whom web servers are believed, what is counted, and what the log
//! says. When it is asked, and what is made of the answer, is said in [`crate::dns::host_meta`].

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rustls::ClientConfig;
use tracing::debug;

use super::mailbox::lock;
use crate::dns::{Outcome, Page, Reply, Web};
use crate::https::{self, Failure, Question};
use crate::metrics::Metrics;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

/// The media types of a document (RFC 6415 appendix A).
const ACCEPT: &str = "application/jrd+json, application/json";

/// Asks web servers, in nobody's name.
#[derive(Debug)]
pub(crate) struct Browser {
    /// What a reload replaces.
    tls: Mutex<Arc<ClientConfig>>,
    metrics: Arc<Metrics>,
    /// `limits.host_meta_bytes`
    bytes_max: usize,
}

impl Browser {
    pub(crate) fn new(tls: Arc<ClientConfig>, metrics: Arc<Metrics>, bytes_max: usize) -> Self {
        Self { tls: Mutex::new(tls), metrics, bytes_max }
    }

    /// Believe other authorities from now on.
    pub(crate) fn believe(&self, tls: Arc<ClientConfig>) {
        *lock(&self.tls) = tls;
    }
}

#[async_trait]
impl Web for Browser {
    async fn get(&self, page: &Page) -> Result<Reply, Reason> {
        let tls = Arc::clone(&lock(&self.tls));
        let question = Question {
            host: &page.host,
            port: page.port,
            path: &page.path,
            accept: ACCEPT,
            addresses: &page.addresses,
            body_bytes_max: self.bytes_max,
        };
        match https::get(tls, &question).await {
            Ok(https::Answer { status, location, body }) => Ok(Reply { status, location, body }),
            Err(Failure::Unreached(reason)) => Err(reason),
            Err(Failure::NotHttp) => Err(Reason::HostMetaFailed),
            Err(Failure::TooBig) => {
                self.metrics.limit_hit("host_meta_bytes");
                Err(Reason::HostMetaInvalid)
            }
        }
    }

    fn asked(&self, domain: &Domain, outcome: &Outcome, took: Duration) {
        let look_ups = &self.metrics.look_ups;
        match outcome {
            Ok(Some(document)) => {
                look_ups.host_meta_ended("found", took);
                let (ttl, links, pins) =
                    (document.ttl.as_secs(), document.links.len(), !document.pins.is_none());
                let ech = document.links.iter().any(|link| link.candidate.tls.ech.is_some());
                let ech = ech.then_some("not used");
                debug!(%domain, ttl, links, pins, ech, "host-meta document read");
            }
            Ok(None) => {
                look_ups.host_meta_ended("nothing", took);
                debug!(%domain, "no host-meta document");
            }
            Err(reason) => {
                look_ups.host_meta_failed(*reason, took);
                debug!(%domain, %reason, advice = reason.advice(), "host-meta document not read");
            }
        }
    }
}
