//! Stanza multiplexing (XEP-0451): one session for every domain that its two ends proved. A profile.
//!
//! The XEP leaves much open, and no other implementation was found that could have settled it. This page says, for each
//! ambiguity, what this relay does and why, so that another one can be written that interoperates.
//!
//! The examples are what the machines here write, and the tests hold them to it. A line that is too long goes on indented:
//! the line break and what it is indented by are no part of it, or a space between two attributes. I and R are the
//! initiating and the receiving entity.
//!
//! # 1. Domains of a certificate (XEP-0451 section 3.1)
//!
//! Behind TLS and before authentication the receiving entity offers an empty `<mux/>`; an initiating entity that wants it
//! answers with an empty `<mux/>`; SASL EXTERNAL then proves every domain of the certificate at once.
//!
//! ```xml
//! I: <?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback'
//!      xmlns:stream='http://etherx.jabber.org/streams' from='montague.example' to='capulet.example' version='1.0'>
//! R: <?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback'
//!      xmlns:stream='http://etherx.jabber.org/streams' from='capulet.example' to='montague.example' id='s0' version='1.0'>
//!    <stream:features><mux xmlns='urn:xmpp:mux:0'/>
//!      <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>
//!      <bidi xmlns='urn:xmpp:features:bidi'/><pipelining xmlns='urn:xmpp:features:pipelining'/>
//!      <sm xmlns='urn:xmpp:sm:3'/></stream:features>
//! I: <bidi xmlns='urn:xmpp:bidi'/><mux xmlns='urn:xmpp:mux:0'/>
//!    <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>bW9udGFndWUuZXhhbXBsZQ==</auth>
//! R: <success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>
//! ```
//!
//! - *Order.* `<bidi/>` and `<mux/>` are taken in any order, before `<auth/>` and not after it.
//! - *Round trips.* Where pipelining (XEP-0305) and stream management stand in these features, all that is left leaves with the
//!   answer to them: `<auth/>`, the header of section 2, `<enable/>` and stanzas.
//! - *Whose certificate?* Both. With bidi the receiving entity answers for the domains of the certificate that it showed;
//!   each side keeps what the peer proved to it, and what it proved to the peer. Without bidi the other direction needs
//!   a connection and a negotiation of its own, as the XEP says.
//! - *How long?* A grant belongs to the connection, not to the stream that made it, and ends with the certificate.
//! - *Wildcards* authorise when a name is used, for one label, and are never enumerated.
//! - *Our own names.* A domain that we serve is never proven by a peer, whatever its certificate says.
//!
//! # 2. The host list
//!
//! ```xml
//! I: <?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback'
//!      xmlns:stream='http://etherx.jabber.org/streams' from='montague.example' to='capulet.example' version='1.0'>
//! R: <?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback'
//!      xmlns:stream='http://etherx.jabber.org/streams' from='capulet.example' to='montague.example' id='s1' version='1.0'>
//!    <stream:features><mux xmlns='urn:xmpp:mux:0'><host>capulet.example</host><host>rooms.capulet.example</host></mux>
//!      <authorize xmlns='urn:fedmux:mux-authorize:0'/><sm xmlns='urn:xmpp:sm:3'/></stream:features>
//! I: <enable xmlns='urn:xmpp:sm:3' resume='true'/>
//! ```
//!
//! After authentication the feature MUST hold a list of hosts, says the XEP. It is sent on a connection's first stream
//! only: over QUIC each pair has a stream of its own, and ten thousand lists of five thousand names are gigabytes. Features
//! can't be sent again on a stream that stands: a list that changes is shown once more, on the next stream that the peer
//! opens in the session, and whoever gets one on any stream goes by the latest. It holds the hosts that we serve of the
//! certificate that the peer sees anyway, those with `announce = true`, and for a `[[peer]]` with `announce = "all"`
//! every host. At most [`HOST_LIST_ENTRIES_MAX`] entries with
//! [`HOST_LIST_BYTES_MAX`] octets of names are sent and kept. A list is a hint: it proves nothing, and never makes us
//! look a name up or connect anywhere. One that names its own sender is tolerated; an empty one is left out. The XEP has
//! lists for clients too; what is spoken here is spoken between servers.
//!
//! Which session may carry a domain follows from both, in this order:
//!
//! 1. One in which its peer proved the domain by certificate, *and* to which the domain leads: it is configured so, or
//!    the domain's own records name the session's address and port, or the same SRV target; or it has no records at all
//!    (a failed look-up is no such answer), and the list names it. A certificate alone is not enough: who holds an old
//!    or stolen one for a name would receive its mail (RFC 8336 section 4). Records are asked for again when their time
//!    is over; a session that they no longer lead to takes no new stream for the domain, and those that it has finish.
//! 2. One whose list names the domain: there it is proven by a secret, as follows.
//! 3. Otherwise one of its own.
//!
//! # 3. Connection authorization (XEP-0451 section 3.2)
//!
//! A verifier V and a prover P have a session S1, where V's host v and P's host p are proven *by certificate*, on a first
//! stream that both ends speak on (bidi), so that the answer to a secret can come back. A further host n of P is not in
//! that certificate. It is proven on a second connection S2, where n is proven by a certificate of its own; V hands a
//! secret over on S2, and P returns it on S1.
//!
//! Here v is montague.example, p capulet.example, n rooms.capulet.example, and S1's stream that of the examples above. The
//! secret is the test vector of [`secret`]. The last line is what V says instead if it doesn't grant.
//!
//! ```xml
//! S2, V: <mux xmlns='urn:xmpp:mux:0' host='capulet.example'>
//!          AQFKmIC6zGyZfwAAAABlU_E8oKGio6SlpqeoqaqrrK2uryszyAyJfnyfF1Ibxc_tBOF94WOIg8GVE2-gQJ07pkv3</mux>
//! S1, P: <iq type='set' from='capulet.example' to='montague.example' id='fedmux-mux-0123456789abcdef0123456789abcdef'>
//!        <mux xmlns='urn:xmpp:mux:0' host='rooms.capulet.example'>
//!          AQFKmIC6zGyZfwAAAABlU_E8oKGio6SlpqeoqaqrrK2uryszyAyJfnyfF1Ibxc_tBOF94WOIg8GVE2-gQJ07pkv3</mux></iq>
//! S1, V: <iq type='result' from='montague.example' to='capulet.example'
//!          id='fedmux-mux-0123456789abcdef0123456789abcdef'/>
//! S1, V: <iq type='error' from='montague.example' to='capulet.example'
//!          id='fedmux-mux-0123456789abcdef0123456789abcdef'>
//!        <error type='modify'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>
//! ```
//!
//! - *Who dials S2?* The XEP knows one case: V does, because a stanza waits to go TO n. A provider with a certificate for
//!   each customer has the other one: a stanza waits to come FROM n. Then P dials S2 with n's client certificate and asks
//!   for the secret, in a namespace of our own: [`authorize`]. Nobody dials back.
//! - *What does a refusal mean?* In the XEP's case there is none: V sends nothing, and n keeps a connection of its own. In
//!   the other `<refused/>` gives a `reason`: `busy` is a limit, and P asks again on the same S2, after a second at
//!   first and at most every few minutes; `no-session`, `not-proven`, anything else and nothing at all are rules, and
//!   P doesn't ask again for an hour. A limit is no reason to send `not-acceptable`: that answers a secret.
//! - *What makes anyone dial?* A stanza that waits, and nothing else.
//! - *Must mux be on in S1?* Yes. In the XEP's example it isn't selected there; but without it a stream is for its own pair
//!   alone, and n's stanzas would be refused on it by whoever doesn't know of the grant.
//! - *Lists.* S2's list must name p: that is n's own word that p may speak for it. S1's must name n, where P is S1's
//!   receiving entity; an initiating entity has shown no list.
//! - *S2 isn't multiplexed*: its initiating entity does not ask for mux on it, so that neither end takes it for a first
//!   session. What waits flows on it at once, beside the proof.
//! - *Where does the secret come back?* On S1 itself, written to that session directly: not through routing, not on a
//!   stream opened for it, not on a local stream. A secret that might come back elsewhere could be replayed by a third
//!   party that shares a name with P. Where P has named the session that is this one, and on an S2 that P dialled a
//!   secret counts only as the answer to what P has asked and not yet given up; where V came unasked and several
//!   sessions of v and p match, it is the one with the smallest exporter value, and after `not-acceptable` the next; V
//!   takes it on S1 and nowhere else, because the HMAC binds S1's exporter value. A `result` counts on the session where
//!   the offer went, from v's bare JID, for an id of 128 random bits. Over QUIC streams overtake each other: a stream that
//!   V opens to n on that session, while the `result` is awaited, says the same.
//! - *Which of two first sessions?* If both ends dial in the same moment two come up, and a host that was proven on one
//!   would soon be wanted on the other. New lanes go to the one with the smaller exporter value, and so do hosts: which
//!   session a secret is for is decided when S2 is up, not when it is dialled, and an attempt of one's own that is still
//!   under way then is waited for as long again as S2 has taken. What n has to say flows on S2 meanwhile. What is left:
//!   two sessions that were made for different pairs of hosts may each get a proof of n, because V, who dialled S2 as
//!   v, can't change to a session of another v. That costs one proof, and no stanza. See [`crate::proto::router`].
//! - *For which host?* The IQ holds "the same mux element", says the XEP, and its example shows one without `host`. The
//!   secret is opaque to P, and who shares the name v, with a certificate of its own, may hand one to P on an S2 of its
//!   own: a secret that V had made for another host. P says in the IQ's `host` what it takes the secret for, and V refuses
//!   any other, p included; without `host` V asks no further. Otherwise P would believe n accepted where V granted
//!   something else, and n's stanzas would be refused on S1.
//! - *What is looked at, in this order?* V's own open request (one for each S1 and n, monotonic clock, gone with S1); then
//!   the HMAC over all that was agreed ([`secret`]); then `from`, `to` and, if given, `host`. The grant stands before
//!   `result` is sent. Anything else is `not-acceptable`, and changes nothing.
//! - *How many, how fast, how long?* One open request for each S1 and n. For a peer that nobody configured 8 open ones on
//!   a session, 32 at once and then one a second ([`verifier::Allowance`]). A session takes 4,096 grants each way. An
//!   answer is waited for [`verifier::ANSWER_WAIT`], by the monotonic clock. A proof that was refused by a rule or never
//!   answered is not tried again for an hour.
//! - *What is granted?* n, to S1's peer, both ways, until S1 ends or n's certificate does. A host that was granted never
//!   serves as p.
//! - *The secret's format* is V's business. Ours is in [`secret`], with a test vector; a peer's is opaque, trimmed of the
//!   white space of pretty-printed XML, and at most [`secret::SECRET_BYTES_MAX`] octets long.
//! - *Whose stanzas are these?* The relay's. An IQ or any other stanza with a `urn:xmpp:mux:0` child is taken out of
//!   what comes from a peer, refused (`not-allowed`) from our own servers, and never forwarded: a tenant's server might
//!   have been handed a secret by somebody.
//! - *Afterwards* n's stanzas move to S1 in good order, lane by lane, and S2's dialler closes it when nothing is left
//!   there. In the XEP n's server closes it; that is taken too. If anything fails, S2, or a connection of its own, carries
//!   n: what fails is the saving, never a stanza.
//!
//! The orchestration is in [`crate::proto::router::proofs`], the open requests in [`verifier`], the IQs in [`iq`].

pub mod authorize;
#[cfg(test)]
pub(crate) mod example_tests;
pub mod iq;
pub mod secret;
pub mod verifier;

use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;
use crate::xmpp::namespace as ns;

/// The element that turns mux on, before authentication.
pub const REQUEST: &str = "<mux xmlns='urn:xmpp:mux:0'/>";
/// Entries of a host list that are sent, and of a received one that are kept.
pub const HOST_LIST_ENTRIES_MAX: usize = 4096;
/// Octets of names of a host list that are sent, and of a received one that are kept. With their tags that many are far
/// below `limits.stanza_bytes`, and Prosody's own limit for a stanza.
pub const HOST_LIST_BYTES_MAX: usize = 262_144;

/// Whether `element` is the initiating entity's request.
#[must_use]
pub fn is_request(element: &Element) -> bool {
    element.is("mux", ns::MUX) && element.attribute("host").is_none() && element.children().next().is_none()
}

/// The hosts of a `<mux/>` feature. What is no domain is passed over; what is over the bounds is left out.
///
/// The list is a hint: it never proves anything and never makes us connect anywhere.
#[must_use]
pub fn read_host_list(feature: &Element) -> Vec<Domain> {
    let hosts = feature.children().filter(|child| child.is("host", ns::MUX));
    within_bounds(hosts.filter_map(|child| Domain::parse(child.text().trim()).ok()))
}

/// As many of `hosts`, from the first on, as a host list may hold.
pub fn within_bounds(hosts: impl IntoIterator<Item = Domain>) -> Vec<Domain> {
    let mut bytes = 0;
    let fits = |host: &Domain| {
        bytes += host.as_str().len();
        bytes <= HOST_LIST_BYTES_MAX
    };
    hosts.into_iter().take(HOST_LIST_ENTRIES_MAX).take_while(fits).collect()
}

/// Write the feature: empty before authentication, with the host list after it.
pub fn write_feature(out: &mut String, hosts: &[Domain]) {
    if hosts.is_empty() {
        out.push_str(REQUEST);
        return;
    }
    out.push_str("<mux xmlns='urn:xmpp:mux:0'>");
    for host in hosts {
        out.push_str("<host>");
        // A normalised domain holds no character that XML would have escaped.
        out.push_str(host.as_str());
        out.push_str("</host>");
    }
    out.push_str("</mux>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_list_is_bounded_and_forgives_what_is_no_domain() {
        let mut text =
            String::from("<mux xmlns='urn:xmpp:mux:0'><host> B1.test </host><host/><host>a@b</host>");
        for n in 0..HOST_LIST_ENTRIES_MAX + 10 {
            text.push_str(&format!("<host>h{n}.test</host>"));
        }
        text.push_str("</mux>");
        let list = read_host_list(&Element::parse(text.as_bytes()).unwrap());
        assert_eq!(list.len(), HOST_LIST_ENTRIES_MAX);
        assert_eq!(list[0].as_str(), "b1.test");
    }

    #[test]
    fn the_names_of_a_host_list_are_bounded_in_octets_too() {
        let label = "a".repeat(63);
        let long = |n: usize| Domain::parse(&format!("{n:04}.{label}.{label}.{label}.test")).unwrap();
        let fit = HOST_LIST_BYTES_MAX / long(0).as_str().len();
        assert!(fit + 1 < HOST_LIST_ENTRIES_MAX);
        for count in [fit, fit + 1, HOST_LIST_ENTRIES_MAX] {
            let mut text = String::new();
            write_feature(&mut text, &(0..count).map(long).collect::<Vec<_>>());
            let list = read_host_list(&Element::parse(text.as_bytes()).unwrap());
            assert_eq!(list, (0..fit).map(long).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_secret_is_not_a_request() {
        assert!(is_request(&Element::parse(REQUEST.as_bytes()).unwrap()));
        assert!(!is_request(&Element::parse(b"<mux xmlns='urn:xmpp:mux:0' host='b'>s</mux>").unwrap()));
    }
}
