//! What must hold in the end, and the figures.

use std::collections::BTreeMap;

use crate::servers::{Account, Ledger};

/// What became of everything that was sent.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) sent: u64,
    /// Of how many stanzas at least one copy arrived.
    pub(crate) delivered: u64,
    /// Came back from a relay.
    bounced: u64,
    /// Were answered for by the server that sent them, because its stream broke.
    returned: u64,
    /// Copies that came after the first.
    pub(crate) twice: u64,
    /// Stanzas of which the relays said that they didn't know, as far as they lived to tell.
    pub(crate) uncertain: f64,
}

impl Figures {
    /// Each pair's stanzas came in order, and twice only if the later copy says that it is late; nobody is left without
    /// news.
    pub(crate) fn of(ledger: &Ledger, uncertain: f64) -> Self {
        assert_eq!(ledger.silent(), [], "nobody has heard of these");
        let Account { sent, delivered, bounced, returned } = ledger.account();
        let (mut once, mut twice) = (0, 0);
        for ((from, to), stanzas) in &delivered {
            let mut seen = BTreeMap::<u64, u64>::new();
            let mut last = None;
            for (id, delayed) in stanzas {
                let times = seen.entry(*id).or_default();
                *times += 1;
                if *times > 1 {
                    twice += 1;
                    assert!(delayed, "{from} to {to}: {id} came twice, and nobody said so");
                } else {
                    assert!(last < Some(*id), "{from} to {to}: {id} came behind {last:?}");
                    last = Some(*id);
                }
            }
            once += seen.len() as u64;
        }
        Self {
            sent: sent.values().sum(),
            delivered: once,
            bounced: bounced.len() as u64,
            returned: returned.len() as u64,
            twice,
            uncertain,
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sent, delivered, bounced, returned, twice, uncertain } = self;
        write!(
            f,
            "sent {sent}, delivered {delivered}, bounced {bounced}, answered for by their server {returned}, \
             twice {twice}, uncertain {uncertain}, silent 0, in order"
        )
    }
}
