//! Who of our own servers may speak for which host (`[[host]] local_auth`), and which dialback keys are ours.

use std::net::IpAddr;

use crate::proto::admission::Direction;
use crate::proto::stream::receiving::{Authority, DialbackOffer, Offers};
use crate::reason::Reason;
use crate::relay::hub::Hub;
use crate::relay::live::Live;
use crate::relay::settings::{Endpoint, Host, LocalAuth};
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// The authority for one stream from `source`.
#[derive(Debug)]
pub(crate) struct LocalAuthority<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) live: &'a Live,
    pub(crate) source: IpAddr,
}

impl LocalAuthority<'_> {
    fn host(&self, domain: &Domain) -> Result<&Host, Reason> {
        self.live.host(domain).ok_or(Reason::InvalidFrom)
    }

    /// How the server at our source may prove that it speaks for `domain`.
    fn may_speak(&self, domain: &Domain) -> Result<DialbackOffer, Reason> {
        match &self.host(domain)?.local_auth {
            LocalAuth::Dialback => Ok(DialbackOffer::Verify),
            LocalAuth::Trusted { sources, loopback } => {
                let source = self.source.to_canonical();
                let trusted = sources.iter().any(|network| network.contains(&source))
                    || (*loopback && source.is_loopback());
                if trusted { Ok(DialbackOffer::Believe) } else { Err(Reason::SourceNotTrusted) }
            }
        }
    }

    /// Whether the server of `domain` may have this source address. Connections within one machine come from
    /// 127.0.0.1 wherever in 127.0.0.0/8 the server listens, so loopback is one place.
    fn is_server_of(&self, domain: &Domain) -> bool {
        let source = self.source.to_canonical();
        self.host(domain).is_ok_and(|host| {
            host.deliver.iter().any(|endpoint| match endpoint {
                Endpoint::Address(address) => {
                    let ip = address.ip().to_canonical();
                    ip == source || (ip.is_loopback() && source.is_loopback())
                }
                // The name led our own stream there, and only whom we connected to knows that stream's id.
                Endpoint::Name { .. } => true,
            })
        })
    }
}

impl Authority for LocalAuthority<'_> {
    fn offers(&self, route: &Route) -> Result<Offers, Reason> {
        let offer = self.may_speak(&route.from)?;
        Ok(Offers {
            external: offer == DialbackOffer::Believe,
            dialback: true,
            bidi: true,
            mux: false,
            pipelining: false,
            sm: true,
        })
    }

    fn host_list(&self) -> Vec<Domain> {
        Vec::new()
    }

    fn dialback(&self, _: &Route, route: &Route) -> Result<DialbackOffer, Reason> {
        let offer = self.may_speak(&route.from)?;
        if !self.live.hosts.serves(&route.to) {
            self.live.hosts.policy(Direction::Outbound, &route.from, &route.to)?;
        }
        Ok(offer)
    }

    fn made_key(&self, route: &Route, stream_id: &str, key: &str) -> bool {
        // For whoever it is: of a host of ours, too, what comes to another one comes on our stream, with our key, and is no stanza of
        // anybody who hasn't proven that host. Its own server knows nothing of that key.
        self.is_server_of(&route.to)
            && self.hub.has_open_key(route, stream_id)
            && self.live.made_key(route, stream_id, key)
    }
}
