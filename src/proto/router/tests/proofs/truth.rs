//! What really happened, kept beside the relays, and what they may believe because of it.

use super::world::Conn;
use super::*;
use crate::proto::mux::secret::LIFETIME_SECONDS;
use crate::proto::mux::verifier::{ANSWER_WAIT, Clocks};
use crate::xmpp::element::Element;

/// A secret that an honest relay handed out.
pub(super) struct Made {
    pub(super) verifier: usize,
    pub(super) life: u64,
    /// The connection that is to speak for the host.
    pub(super) first: usize,
    /// The connection on which it was handed over.
    pub(super) second: usize,
    /// Who showed the host's certificate on the second one.
    pub(super) holder: usize,
    pub(super) host: Domain,
    pub(super) prover: Domain,
    /// The verifier's domain on the first connection.
    pub(super) asker: Domain,
    pub(super) at: Instant,
    /// The verifier's wall clock, seconds since 1970.
    pub(super) unix: u64,
    pub(super) not_after: SystemTime,
    /// It came back to where it was to come back in time: never again.
    pub(super) used: bool,
}

/// A secret that an honest relay was handed, and returns.
struct Asked {
    host: Domain,
    secret: String,
    /// Where it was handed over, and whether the host's own certificate was shown there.
    second: usize,
    certified: bool,
    not_after: SystemTime,
    at: Instant,
    /// Where it was returned, with its `from` and `to`.
    returned: Option<(usize, String, String)>,
    used: bool,
}

/// How much longer than the life of a secret its expiry may lie ahead.
const TOLERANCE: u64 = 5;

/// An offer as somebody sent it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Sent {
    conn: usize,
    by: usize,
    from: String,
    to: String,
    secret: String,
}

/// The record.
#[derive(Default)]
pub(super) struct Truth {
    made: BTreeMap<String, Made>,
    /// The IQ that arrived last, and on which connection.
    pub(super) judging: Option<(usize, MuxIq)>,
    /// The request that arrived last: the connection, the prover and the stream that it names.
    pub(super) asking: Option<(usize, Domain, String)>,
    /// The session for which an honest relay asked on a connection that one of its hosts join it. Several, where somebody
    /// gave a stream an id that is not its own.
    pub(super) named: BTreeMap<(usize, Domain), Vec<usize>>,
    offers: BTreeSet<Sent>,
    /// Offers of honest relays by their id.
    asked: BTreeMap<String, Asked>,
    /// Answered with `result` by the other end of that connection itself: the connection, the id.
    answered: BTreeSet<(usize, String)>,
    /// The stream that arrives: its connection and the host that it is for.
    pub(super) calling: Option<(usize, Domain)>,
    /// Hosts of honest relays that joined a connection because of that, and until when.
    pub(super) accepted: BTreeMap<(usize, Domain), SystemTime>,
    /// Grants that stand to reason: connection, verifier, host; and until when.
    pub(super) granted: BTreeMap<(usize, usize, Domain), SystemTime>,
    /// The connection of a grant whose `result` hasn't been sent yet.
    owed: Option<usize>,
    /// What arrived last was taken.
    pub(super) taken: bool,
    /// When secrets were made: by whom, in which life, for which connection.
    asked_at: BTreeMap<(usize, u64, usize), Vec<Instant>>,
    /// The limits that were ever hit.
    pub(super) limits: BTreeSet<&'static str>,
    /// How many grants there were, the attacker's own among them.
    pub(super) grants: usize,
    pub(super) grants_to_attacker: usize,
    pub(super) refusals: usize,
    /// Stanzas of the tenant's that were refused as the relay's own.
    pub(super) not_allowed: usize,
}

fn is(text: &str, name: &Domain) -> bool {
    Domain::parse(text).is_ok_and(|parsed| parsed == *name)
}

/// A stanza is forwarded, either way: nothing of the relays' own may be.
pub(super) fn forwarded(octets: &str) {
    let stanza = Element::parse(octets.as_bytes()).unwrap();
    let own = stanza.children().any(|child| child.ns() == "urn:xmpp:mux:0");
    let id = stanza.attribute("id").unwrap_or_default();
    let answer =
        stanza.name() == "iq" && id.starts_with("fedmux-mux-") && stanza.attribute("type") != Some("get");
    assert!(!own && !answer, "{octets} was forwarded");
}

impl Truth {
    /// A relay hands out a secret.
    pub(super) fn secret_made(&mut self, secret: String, made: Made, allowed: Allowance) {
        let Made { verifier, life, first, at, .. } = made;
        let open = self.made.values().filter(|other| !other.used && at < other.at + ANSWER_WAIT);
        let open: Vec<_> =
            open.filter(|o| (o.verifier, o.life, o.first) == (verifier, life, first)).collect();
        assert!(
            open.iter().all(|other| other.host != made.host),
            "two open requests for {} on {first}",
            made.host
        );
        assert!(open.len() < allowed.open, "more open requests than allowed on {first}");
        let times = self.asked_at.entry((verifier, life, first)).or_default();
        times.push(at);
        let burst = usize::try_from(allowed.burst).unwrap();
        for (before, since) in times.iter().rev().enumerate().skip(burst) {
            let over = u32::try_from(before + 1 - burst).unwrap();
            assert!(at - *since >= allowed.every * over, "requests faster than allowed on {first}");
        }
        self.made.insert(secret, made);
    }

    /// Somebody sends `iq` on a connection.
    pub(super) fn iq_sent(&mut self, conn: usize, by: usize, iq: &MuxIq) {
        match iq {
            MuxIq::Offer { from, to, secret, .. } => {
                let (from, to, secret) = (from.clone(), to.clone(), secret.trim().to_owned());
                self.offers.insert(Sent { conn, by, from, to, secret });
            }
            MuxIq::Answer { id, granted: true, .. } => {
                self.answered.insert((conn, id.clone()));
            }
            MuxIq::Answer { .. } => {}
        }
    }

    /// A relay that is honest sends `iq` on a connection, as its router says.
    pub(super) fn relay_sends(
        &mut self,
        conn: usize,
        relay: usize,
        iq: &MuxIq,
        conns: &[Conn],
        now: Instant,
    ) {
        let MuxIq::Offer { id, from, to, secret, .. } = iq else { return };
        // Returned again on another session of the same two domains, its id is longer by a mark.
        let before = id.strip_suffix('-').unwrap_or(id);
        let Some(mut asked) = self.asked.remove(before) else {
            panic!("an offer of nothing that was handed over")
        };
        let (on, end) = (&conns[conn], usize::from(conns[conn].parties[0] != relay));
        assert!(asked.second != conn && asked.certified, "{} isn't proven by certificate", asked.host);
        let named = self.named.get(&(asked.second, asked.host.clone()));
        assert!(
            named.is_none_or(|named| named.contains(&conn)),
            "{} was to join {named:?}, not {conn}",
            asked.host
        );
        let names =
            |end: usize, name: &str| Domain::parse(name).is_ok_and(|name| on.certificates[end].covers(&name));
        assert!(names(end, from) && names(1 - end, to), "a secret for {to} to somebody else");
        assert!(*secret == asked.secret && now <= asked.at + ANSWER_WAIT);
        assert!(secret.len() <= 4096, "a secret of {} octets is returned", secret.len());
        asked.returned = Some((conn, from.clone(), to.clone()));
        self.asked.insert(id.clone(), asked);
    }

    /// A relay says `result` to an offer on a connection.
    pub(super) fn result_sent(&mut self, conn: usize, relay: usize) {
        assert_eq!(self.owed.take(), Some(conn), "relay {relay} says result before it grants");
    }

    /// An honest relay was handed a secret for a host of its own, on the connection `second` where it showed
    /// `certificate`, and returns it under this id.
    pub(super) fn asked_for(
        &mut self,
        id: &str,
        host: &Domain,
        second: usize,
        certificate: &CertifiedNames,
        secret: &str,
        at: Instant,
    ) {
        let (certified, not_after) = (certificate.covers(host), certificate.not_after);
        let (host, secret) = (host.clone(), secret.to_owned());
        let asked = Asked { host, secret, second, certified, not_after, at, returned: None, used: false };
        self.asked.insert(id.to_owned(), asked);
    }

    /// Hosts whose secret was returned, and not answered yet.
    pub(super) fn awaited(&self, now: Instant) -> impl Iterator<Item = Domain> {
        let open =
            move |asked: &&Asked| !asked.used && asked.returned.is_some() && now < asked.at + ANSWER_WAIT;
        self.asked.values().filter(open).map(|asked| asked.host.clone())
    }

    /// An honest relay lets a host of its own join a connection: did the other end say so?
    pub(super) fn joined(
        &mut self,
        (conn, verifier): (usize, usize),
        host: &Domain,
        until: SystemTime,
        now: Instant,
    ) {
        let prefix = format!("{host} joined {conn}");
        let asked = if let Some(called) = &self.calling {
            // A stream to the host is an answer too.
            assert!(*called == (conn, host.clone()), "{prefix} because {called:?} was called");
            let returned = |asked: &&mut Asked| {
                let there = asked.returned.as_ref().is_some_and(|returned| returned.0 == conn);
                // An earlier one may have had no answer in time.
                !asked.used && asked.host == *host && there && now <= asked.at + ANSWER_WAIT
            };
            let Some(asked) = self.asked.values_mut().find(returned) else { panic!("{prefix} unasked") };
            asked
        } else {
            let Some((on, MuxIq::Answer { id, from, to, granted })) = &self.judging else {
                panic!("{prefix} without a result")
            };
            assert!(*granted && *on == conn, "{prefix} without a result on it");
            let Some(asked) = self.asked.get_mut(id) else {
                panic!("{prefix} by a result for nothing that was asked")
            };
            let Some((returned, prover, asker)) = &asked.returned else { panic!("{prefix} unasked") };
            assert_eq!(*returned, conn, "{prefix}: the secret was returned on another session");
            assert!(self.answered.contains(&(conn, id.clone())), "{prefix}: nobody answered there");
            assert!(from == asker && to == prover, "{prefix}: {from} answered {to}");
            asked
        };
        assert!(!asked.used, "{prefix} by a result that was used before");
        assert!(now <= asked.at + ANSWER_WAIT, "{prefix} by a late result");
        assert!(asked.host == *host && asked.not_after == until, "{prefix} for too long");
        let truly = verifier == ATTACKER || self.granted.contains_key(&(conn, verifier, host.clone()));
        assert!(truly, "{prefix}, and relay {verifier} has granted something else");
        // Of several that were returned for it the stream answers one: `called` says which.
        asked.used |= self.calling.is_none();
        self.taken = true;
        self.accepted.insert((conn, host.clone()), until);
    }

    /// The router took the stream that arrived for the answer to this offer.
    pub(super) fn called(&mut self, id: &str) {
        if let Some(asked) = self.asked.get_mut(id) {
            asked.used = true;
        }
    }

    /// A relay has granted a host to the other end of a connection: was it right to?
    pub(super) fn judge(
        &mut self,
        (conn, holder): (usize, usize),
        (verifier, life): (usize, u64),
        host: &Domain,
        until: SystemTime,
        certificate: &CertifiedNames,
        (now, unix): (Instant, u64),
    ) {
        let prefix = format!("relay {verifier} let party {holder} speak for {host}");
        let Some((on, MuxIq::Offer { secret, from, to, host: said, .. })) = &self.judging else {
            panic!("{prefix} without an offer")
        };
        let secret = secret.trim();
        let Some(made) = self.made.get(secret) else { panic!("{prefix} by a secret that nobody made") };
        assert!(is(from, &made.prover), "{prefix} by an offer from {from}");
        assert!(is(to, &made.asker), "{prefix} by an offer to {to}");
        assert!(*on == conn && made.first == conn, "{prefix} by another session's secret");
        assert!((made.verifier, made.life) == (verifier, life), "{prefix} by a secret of another life");
        assert_eq!(made.host, *host, "{prefix} by another host's secret");
        let same = |other: &&Made| {
            let Made { verifier, life, first, ref host, .. } = **other;
            (verifier, life, first, host) == (made.verifier, made.life, made.first, &made.host)
        };
        let last = self.made.values().filter(same).max_by_key(|other| other.at);
        assert!(
            last.is_some_and(|last| last.second == made.second),
            "{prefix} by the secret of another second connection"
        );
        assert_eq!(made.holder, holder, "{prefix}, whose holder did not hand the secret to this session");
        let handed = |sent: &Sent| {
            (sent.conn, sent.by, sent.secret.as_str(), &sent.from, &sent.to)
                == (conn, holder, secret, from, to)
        };
        assert!(self.offers.iter().any(handed), "{prefix}, which did not return the secret itself");
        assert!(said.as_ref().is_none_or(|said| is(said, host)), "{prefix}, that was taken for {said:?}");
        assert!(
            certificate.covers(&made.prover),
            "{prefix}, proven by {from} that is itself proven by secret"
        );
        assert!(!made.used, "{prefix} by a secret that came before");
        assert!(now < made.at + ANSWER_WAIT, "{prefix} after the answer's time");
        assert!(unix <= made.unix + LIFETIME_SECONDS, "{prefix} with an expired secret");
        assert!(made.unix <= unix + TOLERANCE, "{prefix} with a secret of the future");
        assert_eq!(until, made.not_after, "{prefix}, until another certificate's end");
        let over = SystemTime::UNIX_EPOCH + seconds(unix);
        assert!(until > over, "{prefix}, whose certificate has ended");
        self.taken = true;
        self.granted.insert((conn, verifier, host.clone()), until);
        self.owed = Some(conn);
        self.grants += 1;
        self.grants_to_attacker += usize::from(holder == ATTACKER);
    }

    /// A relay has other hosts: what was granted for one that it had, or now has itself, is over.
    pub(super) fn reloaded(&mut self, relay: usize, former: &Hosts, hosts: &Hosts) {
        self.accepted.retain(|(_, host), _| !former.serves(host) || hosts.serves(host));
        self.granted.retain(|(_, verifier, host), _| *verifier != relay || !hosts.serves(host));
    }

    /// A relay has judged what arrived last. What is right is taken; what is not this session's changes nothing. The first
    /// offer of a secret, where it belongs and in time by the monotonic clock, uses it up, whatever else is wrong with it.
    pub(super) fn judged(
        &mut self,
        verifier: usize,
        relay: &Relay,
        session: SessionId,
        clocks: Clocks,
        before: &str,
    ) {
        assert_eq!(self.owed, None, "relay {verifier} grants and doesn't say so");
        let taken = std::mem::take(&mut self.taken);
        let Some((conn, said)) = self.judging.take() else { return };
        let Some(held) = relay.sessions.get(&session) else { return };
        let (theirs, ours) = held.machine.grants();
        match said {
            MuxIq::Offer { secret, from, to, host, .. } => {
                let made = self.made.get_mut(secret.trim()).filter(|made| {
                    let there = (made.verifier, made.life, made.first) == (verifier, relay.life, conn);
                    there && !made.used && clocks.now < made.at + ANSWER_WAIT
                });
                let Some(made) = made else {
                    let after = relay.record(clocks.now);
                    assert!(taken || before == after, "what is not its own changes {before} to {after}");
                    return;
                };
                made.used = true;
                let fresh =
                    clocks.unix <= made.unix + LIFETIME_SECONDS && made.unix <= clocks.unix + TOLERANCE;
                let addressed = is(&from, &made.prover) && is(&to, &made.asker);
                let meant = host.is_none_or(|host| is(&host, &made.host));
                let lasts = made.not_after > SystemTime::UNIX_EPOCH + seconds(clocks.unix);
                let room = theirs < relay.limits.grants && !relay.hosts.serves(&made.host);
                assert!(
                    taken || !(fresh && addressed && meant && lasts && room),
                    "relay {verifier} refuses the secret of {} on {conn}",
                    made.host
                );
            }
            MuxIq::Answer { id, from, to, granted } => {
                let Some(asked) = self.asked.get_mut(&id).filter(|asked| !asked.used) else { return };
                let returned = Some((conn, to, from)) == asked.returned;
                // A refusal is an answer, and the last word.
                asked.used |= returned;
                let good = granted && returned && clocks.now < asked.at + ANSWER_WAIT;
                assert!(
                    taken || !good || ours >= relay.limits.grants || !relay.hosts.serves(&asked.host),
                    "relay {verifier} passes over the result for {} on {conn}",
                    asked.host
                );
            }
        }
    }
}
