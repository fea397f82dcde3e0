//! What the sessions of a relay may believe, and which stanzas it may take, by the record.

use super::truth::Truth;
use super::world::Conn;
use super::*;

impl Truth {
    /// No session believes more than its certificate and the record allow, and none more hosts than the limit.
    pub(super) fn check(
        &self,
        party: usize,
        relay: &mut Relay,
        conns: &[Conn],
        everybody: &BTreeSet<Domain>,
        wall: SystemTime,
    ) {
        for (id, held) in &mut relay.sessions {
            let conn = &conns[held.conn];
            let (shown, ours) = (&conn.certificates[1 - held.end], &conn.certificates[held.end]);
            let routers = relay.router.sessions.get(id).and_then(|entry| entry.session.as_ref());
            // Nothing but its grants changes what a session believes, and what it may.
            let grants = [routers.map(Session::grants), Some(held.machine.grants())];
            let stand = self.standing(party, held.conn, wall);
            if std::mem::replace(&mut held.checked, (grants, stand)) == (grants, stand) {
                continue;
            }
            for (theirs, mine) in grants.into_iter().flatten() {
                assert!(
                    theirs.max(mine) <= relay.limits.grants,
                    "{theirs} and {mine} grants on {}",
                    held.conn
                );
            }
            for session in routers.into_iter().chain([&held.machine]) {
                for name in everybody {
                    let theirs = !relay.hosts.serves(name)
                        && (shown.covers(name) || self.is_granted(held.conn, party, name, wall));
                    assert!(
                        theirs || !session.theirs_proven(name),
                        "relay {party} believes {name} on {}",
                        held.conn
                    );
                    let accepted = self.accepted.get(&(held.conn, name.clone()));
                    let mine = relay.hosts.serves(name)
                        && (ours.covers(name) || accepted.is_some_and(|until| *until > wall));
                    assert!(
                        mine || !session.ours_proven(name),
                        "relay {party} thinks it proved {name} on {}",
                        held.conn
                    );
                }
            }
        }
        assert!(
            relay.router.returned.len() <= relay.limits.secrets_returned,
            "too many secrets are returned"
        );
        for first in relay.sessions.keys() {
            let wishes = relay.router.proofs.iter().filter(|(key, proof)| {
                let second = relay.router.sessions.get(&proof.second);
                key.0 == *first && proof.other.is_none() && second.is_some_and(|entry| entry.dialled)
            });
            assert!(wishes.count() <= relay.limits.proofs_under_way, "too many proofs are under way");
        }
    }

    fn is_granted(&self, conn: usize, party: usize, name: &Domain, wall: SystemTime) -> bool {
        self.granted.get(&(conn, party, name.clone())).is_some_and(|until| *until > wall)
    }

    /// How many grants of a connection stand at this time, both ways.
    fn standing(&self, party: usize, conn: usize, wall: SystemTime) -> usize {
        let theirs = self.granted.iter().filter(|(key, _)| (key.0, key.1) == (conn, party));
        let ours = self.accepted.iter().filter(|(key, _)| key.0 == conn);
        theirs
            .map(|(_, until)| until)
            .chain(ours.map(|(_, until)| until))
            .filter(|until| **until > wall)
            .count()
    }

    /// A relay takes a stanza from a connection: may it?
    pub(super) fn stanza_taken(
        &self,
        party: usize,
        held: &Held,
        conns: &[Conn],
        from: &Domain,
        (now, wall): (Instant, SystemTime),
    ) {
        assert!(now < held.ends, "relay {party} took a stanza when a certificate of {} had ended", held.conn);
        let certified = conns[held.conn].certificates[1 - held.end].covers(from);
        let granted = self.is_granted(held.conn, party, from, wall);
        assert!(certified || granted, "relay {party} took a stanza from {from} on connection {}", held.conn);
    }
}
