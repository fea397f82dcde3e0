//! Who there is: names, certificates and what each relay allows.

use super::*;

/// What the wall clocks show when the world begins.
pub(super) const UNIX: u64 = 1_700_000_000;

/// Who has which certificates. Nobody ever shows another one.
pub(super) struct Cast {
    certificates: Vec<Vec<Arc<CertifiedNames>>>,
    /// The second further host of each honest relay stands in no list.
    pub(super) shy: bool,
    /// What the honest relays allow.
    pub(super) limits: Limits,
}

/// Limits that are hit all the time.
fn tight(dice: &mut Dice) -> Limits {
    Limits {
        proofs_open: 1 + dice.below(3),
        proofs_burst: 1 + u32::try_from(dice.below(4)).unwrap(),
        proofs_every: seconds(1 + dice.next() % 4),
        proofs_under_way: 1 + dice.below(2),
        secrets_returned: 1 + dice.below(2),
        grants: 1 + dice.below(2),
        ..Limits::default()
    }
}

impl Cast {
    /// `owner`: the honest relay one of whose names the attacker's certificate carries too,
    /// and `apart`: in a certificate of its own at the honest relay.
    pub(super) fn new(dice: &mut Dice, hostile: bool) -> Self {
        let (owner, apart) = (dice.below(2), dice.percent(50));
        let mut lists: Vec<Vec<Vec<&str>>> = vec![
            vec![vec!["v.test", "w.test"], vec!["v1.test"], vec!["v2.test"]],
            vec![vec!["p.test"], vec!["n1.test"], vec!["n2.test"], vec![TENANT]],
            vec![
                vec!["mallory.test", "mal.test", SHARED],
                vec!["m2.test", "m3.test"],
                vec!["m4.test"],
                vec![SHARED],
            ],
        ];
        if apart {
            lists[owner].push(vec![SHARED]);
        } else {
            lists[owner][0].push(SHARED);
        }
        let brief = hostile && dice.percent(30);
        let mut distinct = 0;
        let mut certificate = |list: Vec<&str>| {
            // Each ends at a time of its own, so that a grant shows whose end it took.
            distinct += 1;
            let end = if brief { UNIX + 20 + 10 * (dice.next() % 10) } else { 4_000_000_000 };
            let not_after = SystemTime::UNIX_EPOCH + seconds(end) + Duration::from_millis(distinct);
            Arc::new(CertifiedNames { not_after, ..(*names(&list)).clone() })
        };
        let certificates =
            lists.into_iter().map(|of| of.into_iter().map(&mut certificate).collect()).collect();
        let peer = Allowance::PEER;
        let wide = Limits {
            proofs_open: peer.open,
            proofs_burst: peer.burst,
            proofs_every: peer.every,
            ..Limits::default()
        };
        let limits = if hostile && dice.percent(50) { tight(dice) } else { wide };
        Self { certificates, shy: hostile, limits }
    }

    pub(super) fn certificates(&self, party: usize) -> &[Arc<CertifiedNames>] {
        &self.certificates[party]
    }

    /// The certificate that `party` shows where it is to be `name`.
    pub(super) fn certificate(&self, party: usize, name: &Domain) -> Option<Arc<CertifiedNames>> {
        self.certificates[party].iter().find(|certificate| certificate.covers(name)).cloned()
    }

    pub(super) fn names(&self, party: usize) -> BTreeSet<Domain> {
        self.certificates[party].iter().flat_map(|certificate| certificate.exact.iter().cloned()).collect()
    }

    pub(super) fn everybody(&self) -> BTreeSet<Domain> {
        (0..self.certificates.len()).flat_map(|party| self.names(party)).collect()
    }
}
