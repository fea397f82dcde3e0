//! What really happened, kept beside the relays, and what they may believe because of it.

use super::world::Conn;
use super::*;
use crate::proto::mux::secret::LIFETIME_SECONDS;
use crate::proto::mux::verifier::ANSWER_WAIT;

/// A secret that an honest relay handed out.
pub(super) struct Made {
    pub(super) verifier: usize,
    pub(super) life: u64,
    /// The connection that is to speak for the host.
    pub(super) first: usize,
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
    pub(super) used: bool,
}

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
    pub(super) made: BTreeMap<String, Made>,
    /// Secret, from and to of the offer that arrived last.
    pub(super) judging: (String, String, String),
    offers: BTreeSet<Sent>,
    /// Offers of honest relays by their id: the connection, and the host of theirs.
    asked: BTreeMap<String, (Option<usize>, Domain)>,
    /// Answered with `result` by the other end of that connection itself.
    accepted: BTreeSet<(usize, Domain)>,
    /// Grants that stand to reason: connection, verifier, host.
    granted: BTreeSet<(usize, usize, Domain)>,
    /// How many grants there were, the attacker's own among them.
    pub(super) grants: usize,
    pub(super) grants_to_attacker: usize,
    pub(super) refusals: usize,
}

impl Truth {
    /// Somebody sends `iq` on a connection. A relay that is not the attacker sends such only as its router says.
    pub(super) fn iq_sent(&mut self, conn: usize, by: usize, iq: &MuxIq) {
        match iq {
            MuxIq::Offer { id, from, to, secret } => {
                // Returned again on another session of the same two domains, its id is longer by a mark.
                if let Some((_, host)) = self.asked.get(id.trim_end_matches('-')).cloned() {
                    self.asked.entry(id.clone()).or_insert((None, host));
                }
                if let Some((on, _)) = self.asked.get_mut(id).filter(|_| by != ATTACKER) {
                    *on = Some(conn);
                }
                let (from, to, secret) = (from.clone(), to.clone(), secret.trim().to_owned());
                self.offers.insert(Sent { conn, by, from, to, secret });
            }
            MuxIq::Answer { id, granted: true, .. } => {
                if let Some((_, host)) = self.asked.get(id).filter(|(on, _)| *on == Some(conn)) {
                    self.accepted.insert((conn, host.clone()));
                }
            }
            MuxIq::Answer { .. } => {}
        }
    }

    /// An honest relay was handed a secret for a host of its own, and returns it under this id.
    pub(super) fn asked_for(&mut self, id: &str, host: &Domain) {
        self.asked.insert(id.to_owned(), (None, host.clone()));
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
        let ((secret, from, to), offers) = (&self.judging, &self.offers);
        let is = |text: &str, name: &Domain| Domain::parse(text).is_ok_and(|parsed| parsed == *name);
        let good = self.made.get_mut(secret).filter(|made| {
            let handed = offers.iter().any(|sent| {
                (sent.conn, sent.by, &sent.secret) == (conn, holder, secret)
                    && (&sent.from, &sent.to) == (from, to)
            });
            let handed =
                handed && is(from, &made.prover) && is(to, &made.asker) && certificate.covers(&made.prover);
            let same = (made.verifier, made.life, made.first, made.holder) == (verifier, life, conn, holder);
            same && made.host == *host && handed && !made.used
        });
        let Some(made) = good else {
            panic!("{prefix}, whose holder did not hand the secret to this session")
        };
        made.used = true;
        assert!(now < made.at + ANSWER_WAIT, "{prefix} after the answer's time");
        assert!(unix <= made.unix + LIFETIME_SECONDS, "{prefix} with an expired secret");
        assert_eq!(until, made.not_after, "{prefix}, until another certificate's end");
        self.granted.insert((conn, verifier, host.clone()));
        self.grants += 1;
        self.grants_to_attacker += usize::from(holder == ATTACKER);
    }

    /// No session believes more than its certificate and the record allow.
    pub(super) fn check(&self, party: usize, relay: &Relay, conns: &[Conn], everybody: &BTreeSet<Domain>) {
        for (id, held) in &relay.sessions {
            let conn = &conns[held.conn];
            let (shown, ours) = (&conn.certificates[1 - held.end], &conn.certificates[held.end]);
            let routers = relay.router.sessions.get(id).and_then(|entry| entry.session.as_ref());
            for session in routers.into_iter().chain([&held.machine]) {
                for name in everybody {
                    let theirs = !relay.hosts.serves(name)
                        && (shown.covers(name) || self.granted.contains(&(held.conn, party, name.clone())));
                    assert!(
                        theirs || !session.theirs_proven(name),
                        "relay {party} believes {name} on {}",
                        held.conn
                    );
                    let mine = relay.hosts.serves(name)
                        && (ours.covers(name) || self.accepted.contains(&(held.conn, name.clone())));
                    assert!(
                        mine || !session.ours_proven(name),
                        "relay {party} thinks it proved {name} on {}",
                        held.conn
                    );
                }
            }
        }
    }

    /// A relay takes a stanza from a connection: may it?
    pub(super) fn stanza_taken(&self, party: usize, held: &Held, conns: &[Conn], from: &Domain) {
        let certified = conns[held.conn].certificates[1 - held.end].covers(from);
        let granted = self.granted.contains(&(held.conn, party, from.clone()));
        assert!(certified || granted, "relay {party} took a stanza from {from} on connection {}", held.conn);
    }
}
