//! What the records of a domain say, word for word: for whoever looks after them, rather than for dialling.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use tokio::time::Instant;

use super::{Finder, VALID_MAX, addresses};
use crate::proto::discovery::{AddressAnswer, SrvAnswer, SrvAnswers};
use crate::xmpp::domain::Domain;

/// Hosts whose addresses are asked for, the domain itself included. Nobody dials more.
const HOSTS_MAX: usize = 16;

/// The answers about one domain. Nothing was left out because it must not be dialled, and nothing was put in for want of it.
#[derive(Debug, Clone)]
pub struct Records {
    /// The answers of the four SRV names.
    pub srv: SrvAnswers,
    /// The addresses of the SRV targets and of the domain itself, by name as it stands in the SRV record, in lower case. A target
    /// that is an address is not asked for.
    pub addresses: BTreeMap<String, AddressAnswer>,
}

impl Records {
    /// The addresses of `host`: an SRV target, the domain itself, or an IP literal.
    #[must_use]
    pub fn of(&self, host: &str) -> AddressAnswer {
        match host.parse::<IpAddr>() {
            Ok(ip) => AddressAnswer { addresses: vec![ip], failed: None },
            Err(_) => self.addresses.get(&host.to_ascii_lowercase()).cloned().unwrap_or_default(),
        }
    }
}

impl Finder {
    /// Ask for all records of `domain` that say where it is, within the bound of a look-up. Whether the domain may be looked up
    /// ([`refuse_domain`](crate::proto::discovery::refusal::refuse_domain)) is for the caller to judge.
    pub async fn records(&self, domain: &Domain) -> Records {
        let (now, mut ttl) = (Instant::now(), VALID_MAX);
        // The addresses need time, too.
        let srv = self.srv(domain, now + self.settings.bound.mul_f32(0.6), &mut ttl).await;
        let mut hosts = vec![domain.to_ascii()];
        for (_, answer) in srv.iter() {
            let SrvAnswer::Records(records) = answer else { continue };
            for target in records.iter().map(|record| record.target.to_ascii_lowercase()) {
                let asked = hosts.contains(&target) || target.is_empty() || target.parse::<IpAddr>().is_ok();
                if !asked && hosts.len() < HOSTS_MAX {
                    hosts.push(target);
                }
            }
        }
        let found: HashMap<_, _> =
            addresses(&self.questions, hosts, now + self.settings.bound, &mut ttl).await;
        Records { srv, addresses: found.into_iter().collect() }
    }
}
