//! What the peer may do on a stream that it opens in a session.

use std::sync::atomic::Ordering;

use super::Session;
use crate::proto::admission::{Direction, admit};
use crate::proto::stream::receiving::{Authority, DialbackOffer, Offers};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// The authority for one stream that the peer opened in a session.
#[derive(Debug)]
pub struct StreamAuthority<'a> {
    /// The session.
    pub session: &'a Session,
    /// Whether this is the first stream of the connection, the one with the host list; another shows it only if it has
    /// changed since.
    pub first: bool,
}

impl Authority for StreamAuthority<'_> {
    fn offers(&self, route: &Route) -> Result<Offers, Reason> {
        let (session, dialback) = (self.session, self.session.facts.dialback);
        let admitted = admit(
            &session.certificate_scope(),
            &session.facts.hosts,
            Direction::Inbound,
            &route.from,
            &route.to,
        );
        match admitted {
            Ok(()) => {
                Ok(Offers { external: true, dialback, bidi: true, mux: true, pipelining: true, sm: true })
            }
            Err(Reason::InvalidFrom) if dialback => {
                session.may_dial_back(route)?;
                let bidi = session.facts.hosts.policy(Direction::Inbound, &route.to, &route.from).is_ok();
                Ok(Offers { dialback, bidi, ..Offers::default() })
            }
            Err(Reason::PolicyDenied) if session.must_hear_back(route) => {
                Ok(Offers { dialback, ..Offers::default() })
            }
            Err(reason) => Err(reason),
        }
    }

    fn host_list(&self) -> Vec<Domain> {
        let news = self.session.list_is_news.swap(false, Ordering::Relaxed);
        if self.first || news { self.session.host_list() } else { Vec::new() }
    }

    /// The stream's own pair alone: a second one would let each of two domains speak to the other's host.
    fn dialback(&self, stream: &Route, route: &Route) -> Result<DialbackOffer, Reason> {
        if stream != route {
            return Err(Reason::InvalidFrom);
        }
        self.session.may_dial_back(route)?;
        // Whoever holds the certificate of the domain needs nobody to vouch for it (XEP-0344 section 3).
        let certified = self.session.theirs_by_certificate(&route.from);
        Ok(if certified { DialbackOffer::Believe } else { DialbackOffer::Verify })
    }

    fn made_key(&self, _route: &Route, _stream_id: &str, _key: &str) -> bool {
        false
    }
}
