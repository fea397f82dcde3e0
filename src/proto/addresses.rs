//! How much one address may take of what all peers share (XEP-0205 section 3: connections at once, and how often one
//! connects).
//!
//! An IPv4 address counts alone, and of IPv6 a /64, which is what one network has. The limits are generous: a provider with
//! thousands of domains has one address, and a connection for each pair if its server knows nothing better.
//!
//! What comes by UDP may carry anybody's address. Before it has been shown that somebody receives there, an address may
//! use half of its allowance ([`Addresses::is_crowded`]); so nobody is shut out by what others send in its name.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

/// How often it is said that an address is refused.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What one address may have: `limits.address_connections`, `address_handshakes`, `address_burst` and `address_every`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressLimits {
    /// Connections at once, handshakes included.
    pub connections: usize,
    /// Handshakes at once.
    pub handshakes: usize,
    /// New connections at once after a quiet time.
    pub burst: u32,
    /// And then one in this time.
    pub every: Duration,
}

/// Why a connection isn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The limit that was hit, by its key in `[limits]`.
    pub limit: &'static str,
    /// Whether to say so: it wasn't said of this address in the last minute.
    pub tell: bool,
}

/// An address as it is counted: IPv4 as mapped into IPv6, of IPv6 the first 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(u128);

impl Network {
    /// That of `address`.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().to_bits()),
            IpAddr::V6(v6) => Self(v6.to_bits() & !u128::from(u64::MAX)),
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    connections: usize,
    handshakes: usize,
    /// When the allowance of new connections will be whole again; each one moves it by `every`.
    whole: Option<Instant>,
    told: Option<Instant>,
}

impl Entry {
    /// How much of the allowance of new connections is used up.
    fn used(&self, now: Instant) -> Duration {
        self.whole.map(|whole| whole.saturating_duration_since(now)).unwrap_or_default()
    }

    /// Whether it can be forgotten without a difference.
    fn is_blank(&self, now: Instant) -> bool {
        self.connections == 0
            && self.used(now).is_zero()
            && self.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY)
    }
}

/// Who is connected from where, and how often they connect.
#[derive(Debug)]
pub struct Addresses {
    limits: AddressLimits,
    /// Networks that are remembered at once.
    entries_max: usize,
    entries: FxHashMap<Network, Entry>,
    /// Connections at once, from all of them.
    connections: usize,
}

impl Addresses {
    /// Nobody yet. At most `connections_max` connections stand at once, from all addresses; a few times as many addresses
    /// are remembered.
    #[must_use]
    pub fn new(limits: AddressLimits, connections_max: usize) -> Self {
        let entries_max = connections_max.saturating_mul(4).max(1024);
        Self { limits, entries_max, entries: FxHashMap::default(), connections: 0 }
    }

    /// Whether half of anything that `address` may have is in use.
    #[must_use]
    pub fn is_crowded(&self, address: IpAddr, now: Instant) -> bool {
        let Some(entry) = self.entries.get(&Network::of(address)) else { return false };
        let AddressLimits { connections, handshakes, burst, every } = self.limits;
        2 * entry.connections >= connections
            || 2 * entry.handshakes >= handshakes
            || 2 * entry.used(now) >= every * burst
    }

    /// Somebody connects from `address`: its handshake begins.
    ///
    /// # Errors
    /// [`Refusal`] if it has all that it may have. Then nothing has begun.
    pub fn connect(&mut self, address: IpAddr, now: Instant) -> Result<(), Refusal> {
        let network = Network::of(address);
        if !self.entries.contains_key(&network) && self.entries.len() >= self.entries_max {
            self.make_room(now);
        }
        let AddressLimits { connections, handshakes, burst, every } = self.limits;
        let entry = self.entries.entry(network).or_default();
        let limit = if entry.connections >= connections {
            "address_connections"
        } else if entry.handshakes >= handshakes {
            "address_handshakes"
        } else if entry.used(now) + every > every * burst {
            "address_burst"
        } else {
            entry.connections += 1;
            entry.handshakes += 1;
            entry.whole = Some(now + entry.used(now) + every);
            self.connections += 1;
            return Ok(());
        };
        let tell = entry.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY);
        if tell {
            entry.told = Some(now);
        }
        Err(Refusal { limit, tell })
    }

    /// A handshake from `address` has ended, well or badly.
    pub fn shaken(&mut self, address: IpAddr) {
        if let Some(entry) = self.entries.get_mut(&Network::of(address)) {
            entry.handshakes = entry.handshakes.saturating_sub(1);
        }
    }

    /// A connection from `address` has ended.
    pub fn closed(&mut self, address: IpAddr) {
        if let Some(entry) = self.entries.get_mut(&Network::of(address)) {
            entry.connections = entry.connections.saturating_sub(1);
            self.connections = self.connections.saturating_sub(1);
        }
    }

    /// How many connections stand, handshakes included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// How many networks are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forget whom it makes no difference to forget; and if that is too little, everybody without a connection, so that
    /// this is done once for very many addresses.
    fn make_room(&mut self, now: Instant) {
        self.entries.retain(|_, entry| !entry.is_blank(now));
        if self.entries.len() > self.entries_max / 2 {
            self.entries.retain(|_, entry| entry.connections > 0);
        }
    }
}

/// `address` as it is counted, for the log.
#[must_use]
pub fn counted_as(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(_) => format!("{}/64", IpAddr::from(Network::of(address).0.to_be_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: AddressLimits = AddressLimits { connections: 6, handshakes: 4, burst: 8, every: SECOND };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn limit(outcome: Result<(), Refusal>) -> Option<&'static str> {
        outcome.err().map(|refusal| refusal.limit)
    }

    #[test]
    fn an_address_has_so_many_connections_handshakes_and_attempts_and_others_have_their_own() {
        let (mut addresses, now) = (Addresses::new(LIMITS, 100), Instant::now());
        let (one, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        for _ in 0..4 {
            assert_eq!(addresses.connect(one, now), Ok(()));
        }
        assert_eq!(limit(addresses.connect(one, now)), Some("address_handshakes"));
        addresses.shaken(one);
        addresses.shaken(one);
        for _ in 0..2 {
            assert_eq!(addresses.connect(one, now), Ok(()));
            addresses.shaken(one);
        }
        assert_eq!(limit(addresses.connect(one, now)), Some("address_connections"));
        for _ in 0..6 {
            addresses.closed(one);
        }
        for _ in 0..2 {
            assert_eq!(addresses.connect(one, now), Ok(()));
            addresses.shaken(one);
            addresses.closed(one);
        }
        assert_eq!(limit(addresses.connect(one, now)), Some("address_burst"));
        assert_eq!(addresses.connect(other, now), Ok(()));
        assert_eq!(
            limit(addresses.connect(one, now + SECOND - Duration::from_millis(1))),
            Some("address_burst")
        );
        assert_eq!(addresses.connect(one, now + SECOND), Ok(()));
    }

    #[test]
    fn the_allowance_comes_back_one_by_one_and_not_beyond_the_burst() {
        let limits = AddressLimits { connections: 100, handshakes: 100, ..LIMITS };
        let (mut addresses, mut now) = (Addresses::new(limits, 100), Instant::now());
        let taken = |addresses: &mut Addresses, now| {
            (0..100).take_while(|_| addresses.connect(ip("192.0.2.1"), now).is_ok()).count()
        };
        assert_eq!(taken(&mut addresses, now), 8);
        for (seconds, expected) in [(1, 1), (3, 3), (3600, 8)] {
            now += seconds * SECOND;
            assert_eq!(taken(&mut addresses, now), expected);
        }
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address_and_mapped_ipv4_as_ipv4() {
        let limits = AddressLimits { connections: 2, ..LIMITS };
        let (mut addresses, now) = (Addresses::new(limits, 100), Instant::now());
        for text in ["2001:db8::1", "2001:db8::ffff:0:0:1"] {
            assert_eq!(addresses.connect(ip(text), now), Ok(()));
        }
        assert_eq!(limit(addresses.connect(ip("2001:db8::2"), now)), Some("address_connections"));
        assert_eq!(addresses.connect(ip("2001:db8:0:1::1"), now), Ok(()));
        for text in ["192.0.2.1", "::ffff:192.0.2.1"] {
            assert_eq!(addresses.connect(ip(text), now), Ok(()));
        }
        assert_eq!(limit(addresses.connect(ip("192.0.2.1"), now)), Some("address_connections"));
        assert_eq!(counted_as(ip("2001:db8::ffff:0:0:1")), "2001:db8::/64");
        assert_eq!(counted_as(ip("::ffff:192.0.2.1")), "192.0.2.1");
    }

    #[test]
    fn who_may_not_receive_there_can_use_half_of_an_address() {
        let (mut addresses, now) = (Addresses::new(LIMITS, 100), Instant::now());
        let one = ip("192.0.2.1");
        let mut begun = 0;
        while !addresses.is_crowded(one, now) {
            addresses.connect(one, now).unwrap();
            begun += 1;
        }
        assert_eq!(begun, 2, "of four handshakes");
        assert_eq!(addresses.connect(one, now), Ok(()));
        assert!(!addresses.is_crowded(ip("192.0.2.2"), now));
    }

    #[test]
    fn a_refusal_is_told_once_a_minute_for_each_address() {
        let limits = AddressLimits { connections: 0, ..LIMITS };
        let (mut addresses, now) = (Addresses::new(limits, 100), Instant::now());
        let told = |addresses: &mut Addresses, text, after: u32| {
            addresses.connect(ip(text), now + after * SECOND).unwrap_err().tell
        };
        assert!(told(&mut addresses, "192.0.2.1", 0) && told(&mut addresses, "192.0.2.2", 0));
        assert!(!told(&mut addresses, "192.0.2.1", 59));
        assert!(told(&mut addresses, "192.0.2.1", 60) && !told(&mut addresses, "192.0.2.1", 61));
    }

    #[test]
    fn however_many_addresses_come_the_table_stays_small_and_forgets_nobody_who_is_connected() {
        let (mut addresses, now) = (Addresses::new(LIMITS, 100), Instant::now());
        let stays = ip("192.0.2.1");
        for _ in 0..4 {
            addresses.connect(stays, now).unwrap();
        }
        for n in 0..100_000_u32 {
            let address = IpAddr::from((u128::from(n) << 64).to_be_bytes());
            addresses.connect(address, now).unwrap();
            addresses.shaken(address);
            addresses.closed(address);
            assert!(addresses.len() <= 1024);
        }
        assert_eq!(limit(addresses.connect(stays, now)), Some("address_handshakes"));
    }
}
