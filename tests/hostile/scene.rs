//! A relay at its work, a hostile peer, and the pairs that behave: one in the hostile peer's own session, and one of another
//! peer.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use fedmux::reason::Reason;
use tokio::sync::{Mutex, MutexGuard};

use crate::pair::Pair;
use crate::relay::Relay;
use crate::support::certificates::Authority;
use crate::support::peer::{Connection, Peer};
use crate::support::process::Held;
use crate::support::scrape::Scrape;
use crate::support::server::{Host, Server};
use crate::support::soon;
use crate::support::tcp_peer::{Dialler, Listening};
use crate::support::wire::{Wire, message};

/// Who the hostile peer is, by its certificate; [`EVIL`] and [`EVIL_TOO`] are at the test's disposal.
pub(crate) const EVIL: &str = "evil.test";
pub(crate) const EVIL_TOO: &str = "too.evil.test";
const CALM: &str = "calm.evil.test";
/// Where it listens for TLS over TCP.
pub(crate) const TCP: &str = "tcp.evil-too.test";
/// Another peer.
pub(crate) const GOOD: &str = "good.test";
/// Hosts of the relay: where attacks go, and where only good stanzas do.
pub(crate) const OURS: &str = "a1.test";
pub(crate) const OURS_TOO: &str = "a2.test";
/// And one whose server is away.
pub(crate) const AWAY: &str = "away.a.test";
const HOSTS: [&str; 5] = [OURS, OURS_TOO, "calm.a.test", "good.a.test", AWAY];
/// The pair of the relay beside, which nobody attacks.
const BYSTANDER: &str = "bystander.test";
const BESIDE: &str = "beside.test";

/// What a relay may grow by under any attack: its peak of memory, in octets.
pub(crate) const GROWTH_MAX: u64 = 16 << 20;
/// How much later the 99th of a hundred stanzas of a good pair may be than without the attack, or than those of the pair beside
/// during it.
const LATER_MAX: f64 = 1.5;
/// And so much is luck, from one run of [`TURNS_FOR_RATIO`] to the next.
const LUCK: Duration = Duration::from_micros(200);
/// After fewer the second of 150 rounds is nothing but luck, and below this nobody notices. A build for development is slow beside its
/// attacker.
const FLOOR: Duration = Duration::from_millis(if cfg!(debug_assertions) { 150 } else { 2 });
/// And below so many times what one stanza takes in calm, which is more on a slow machine.
const FLOOR_TIMES: u32 = if cfg!(debug_assertions) { 100 } else { 10 };

/// Calm and attack take turns so often, or as often as `FEDMUX_TURNS` says.
const TURNS: usize = 3;
/// After so many a release build is judged by the ratio alone, without those floors.
const TURNS_FOR_RATIO: usize = 24;
/// Each turn is so many rounds of each pair at least.
const ROUNDS: usize = 50;

/// Streams with our own server close soon after their last stanza, so that the descriptors come back while we look.
const LIMITS: &str = "lane_idle = \"1s\"\n";

/// Refusals of one session that are said at once at least.
const LINES: usize = 50;

/// Latency is that of the whole machine: one test at a time.
pub(crate) static ALONE: Mutex<()> = Mutex::const_new(());

/// What an attacker has.
pub(crate) struct Attacker {
    pub(crate) authority: Authority,
    pub(crate) peer: Peer,
    pub(crate) dialler: Dialler,
    /// Where the relay finds [`TCP`].
    pub(crate) listening: Listening,
    /// Its session with the relay, in which a pair behaves well.
    pub(crate) session: Connection,
    pub(crate) relay: Relay,
    /// Two hosts behind the relay; [`OURS_TOO`] must hear nothing.
    pub(crate) ours: Host,
    pub(crate) ours_too: Host,
    /// How often it was asked to attack.
    pub(crate) moves: usize,
}

pub(crate) struct Scene {
    pub(crate) attacker: Attacker,
    /// In the hostile peer's session, and in another one; the third at [`Beside`].
    pairs: [Pair; 3],
    pub(crate) before: Held,
    good: (Peer, Connection),
    beside: Beside,
    // The listeners of the hosts.
    _server: Server,
    _alone: MutexGuard<'static, ()>,
}

/// A second relay that is left alone, with a peer and a server of its own. A pair speaks through it, by which we see what the
/// machine does to everybody while an attack has its processors: the rest is what the attacked relay does.
struct Beside {
    _relay: Relay,
    _peer: Peer,
    _session: Connection,
    _server: Server,
}

/// A refusal of the remote side.
pub(crate) fn refused(reason: Reason) -> [(&'static str, &'static str); 2] {
    [("side", "remote"), ("reason", reason.as_str())]
}

impl Beside {
    async fn start(authority: &Authority) -> (Self, Pair) {
        let peer = Peer::at(Ipv4Addr::new(127, 0, 0, 4).into(), &authority.certify(&[BYSTANDER]));
        let mut server = Server::start(&[BESIDE]).await;
        let tables = host_table(&[BESIDE], server.address) + &peer_table(&[BYSTANDER], peer.address, "quic");
        let relay = Relay::start(authority, &authority.certify(&[BESIDE]), LIMITS, &tables).await;
        let session = peer.dial(relay.quic, BESIDE).await.unwrap();
        let lane = session.lane(BYSTANDER, BESIDE).await;
        let pair = Pair::start(lane, BYSTANDER, server.host(BESIDE, relay.s2s));
        (Self { _relay: relay, _peer: peer, _session: session, _server: server }, pair)
    }
}

fn turns_wanted() -> usize {
    std::env::var("FEDMUX_TURNS").map_or(TURNS, |turns| turns.parse().unwrap())
}

fn host_table(domains: &[&str], at: SocketAddr) -> String {
    format!(
        "[[host]]\ndomains = {domains:?}\ndeliver = \"{at}\"\nlocal_auth = \"trusted\"\ntrusted_loopback = true\n"
    )
}

fn peer_table(domains: &[&str], at: SocketAddr, transport: &str) -> String {
    format!(
        "[[peer]]\ndomains = {domains:?}\naddress = \"{at}\"\ntransport = \"{transport}\"\nannounce = \"all\"\n"
    )
}

impl Scene {
    pub(crate) async fn set() -> Self {
        Self::with_limits("").await
    }

    /// With further keys of `[limits]`.
    pub(crate) async fn with_limits(limits: &str) -> Self {
        let alone = ALONE.lock().await;
        let authority = Authority::new();
        let peer = Peer::start(&authority.certify(&[EVIL, EVIL_TOO, CALM]));
        let dialler = Dialler::with(Some(&authority.certify(&[EVIL, EVIL_TOO])));
        let listening = Listening::with(&authority.certify(&[TCP])).await;
        let good = Peer::at(Ipv4Addr::new(127, 0, 0, 3).into(), &authority.certify(&[GOOD]));
        let mut server = Server::start(&HOSTS).await;
        let at = server.address;
        // Nobody ever listens there.
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let (away, there) = (HOSTS[4], &HOSTS[..4]);
        let peers = peer_table(&[EVIL, "*.evil.test"], peer.address, "quic")
            + &peer_table(&[TCP], listening.address, "direct-tls")
            + &peer_table(&[GOOD], good.address, "quic");
        let tables = host_table(there, at) + &host_table(&[away], nowhere) + &peers;
        let limits = format!("{LIMITS}{limits}");
        let relay = Relay::start(&authority, &authority.certify(&HOSTS), &limits, &tables).await;

        let mut speaks = |name: &str| server.host(name, relay.s2s);
        let session = peer.dial(relay.quic, OURS).await.unwrap();
        let inside = Pair::start(session.lane(CALM, HOSTS[2]).await, CALM, speaks(HOSTS[2]));
        let goods = good.dial(relay.quic, HOSTS[3]).await.unwrap();
        let outside = Pair::start(goods.lane(GOOD, HOSTS[3]).await, GOOD, speaks(HOSTS[3]));
        let (ours, ours_too) = (speaks(OURS), speaks(OURS_TOO));
        let (beside, aside) = Beside::start(&authority).await;
        let mut pairs = [inside, outside, aside];
        for pair in &mut pairs {
            pair.reaches(ROUNDS).await;
        }
        let before = relay.holds();
        let attacker =
            Attacker { authority, peer, dialler, listening, session, relay, ours, ours_too, moves: 0 };
        Self { attacker, pairs, before, good: (good, goods), beside, _server: server, _alone: alone }
    }

    /// Let calm and attack take turns: the pairs that behave have to be as quick under the one as in the other, and what the
    /// relay holds within its bound. How much each of these metrics grew for each move.
    pub(crate) async fn withstands(&mut self, name: &str, attack: impl AsyncFnMut(&mut Attacker)) -> Counted {
        self.withstands_growing(name, GROWTH_MAX, attack).await
    }

    /// The same with another bound of memory.
    pub(crate) async fn withstands_growing(
        &mut self,
        name: &str,
        growth_max: u64,
        mut attack: impl AsyncFnMut(&mut Attacker),
    ) -> Counted {
        let began = Instant::now();
        let counted_before = self.attacker.relay.scrape().await;
        let (mut calm, mut attacked) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
        self.attacker.moves = 0;
        let turns = turns_wanted();
        for _ in 0..turns {
            self.settles().await;
            let calm_begun = self.rounds();
            for (pair, begun) in self.pairs.iter_mut().zip(calm_begun) {
                pair.reaches(begun + ROUNDS).await;
            }
            let (between, moves_before) = (self.rounds(), self.attacker.moves);
            while self.rounds().iter().zip(between).any(|(rounds, begun)| *rounds < begun + ROUNDS) {
                self.attacker.moves += 1;
                attack(&mut self.attacker).await;
                if self.rounds() == between && self.attacker.moves > moves_before + 10_000 {
                    panic!("the well-behaved pairs stand still under {name}");
                }
            }
            let done = self.rounds();
            for which in 0..3 {
                calm[which].extend(self.pairs[which].took(calm_begun[which]..between[which]));
                attacked[which].extend(self.pairs[which].took(between[which]..done[which]));
            }
        }
        let moves = self.attacker.moves;
        let mut disturbed = Vec::new();
        let beside = Times::of(&mut attacked[2]);
        for (which, pair) in ["in the same session", "of another peer", "beside"].iter().enumerate() {
            let (usual, under) = (Times::of(&mut calm[which]), Times::of(&mut attacked[which]));
            println!("{name}, {moves} moves; the pair {pair}: {usual} in calm, {under} under attack");
            let is_exact = turns >= TURNS_FOR_RATIO && !cfg!(debug_assertions);
            let floor = if is_exact { Duration::ZERO } else { FLOOR.max(usual.median * FLOOR_TIMES) };
            let bound = usual.late.max(beside.late).mul_f64(LATER_MAX) + LUCK;
            if which < 2 && under.late > bound.max(floor) {
                disturbed.push(format!("the pair {pair} took {usual} in calm and {under} under attack"));
            }
        }
        assert!(disturbed.is_empty(), "{name}: {}, and the pair beside {beside}", disturbed.join("; "));
        let held = self.attacker.relay.holds();
        let grown = held.peak.saturating_sub(self.before.resident);
        println!("{name}: memory grew by {} kB at most, bound {} kB", grown >> 10, growth_max >> 10);
        assert!(grown <= growth_max, "{name}: memory grew by {grown}, more than {growth_max}");
        let (before, after) = (counted_before, self.attacker.relay.scrape().await);
        let counted = Counted { before, after, time: began.elapsed() };
        assert_eq!(counted.after.sum("fedmux_tasks_failed_total", &[]), 0.0);
        assert!(self.attacker.ours_too.received().is_none(), "nothing of it was carried");
        counted
    }

    /// What an attack has left behind is done with: no lane ends or begins any more.
    async fn settles(&self) {
        let lanes = async || self.attacker.relay.scrape().await.sum("fedmux_lanes", &[]);
        soon("the relay to settle", async {
            let mut last = f64::NAN;
            loop {
                let now = lanes().await;
                if now == last {
                    return;
                }
                last = now;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    fn rounds(&self) -> [usize; 3] {
        self.pairs.each_ref().map(Pair::rounds)
    }

    /// Streams of the remote side were refused for these reasons, so many for each move, and for no other; each time the log
    /// says so.
    pub(crate) fn has_refused(&self, counted: &Counted, reasons: &[(Reason, usize)]) {
        self.has_refused_saying(counted, reasons, LINES);
    }

    /// The same, if not more than so many lines of the log say so.
    pub(crate) fn has_refused_saying(&self, counted: &Counted, reasons: &[(Reason, usize)], lines: usize) {
        let mut all = 0;
        for (reason, each) in reasons {
            let expected = self.attacker.moves * each;
            all += expected;
            assert_eq!(
                counted.grown("fedmux_refusals_total", &refused(*reason)),
                expected as f64,
                "{reason}"
            );
            let logged = self.attacker.relay.logged(&["refused", &format!("reason={reason} ")]);
            assert!(
                logged >= expected.min(lines),
                "{reason}: {logged} lines in the log for {expected} refusals"
            );
        }
        assert_eq!(counted.grown("fedmux_refusals_total", &[]), all as f64, "no other refusal");
    }

    /// The attacker goes, with the hosts that spoke to it, and the relay holds what it held without it; then everybody goes, and there is nothing left.
    pub(crate) async fn ends(self) {
        let Self { attacker, pairs, before, good, beside, .. } = self;
        let Attacker { peer, dialler, session, relay, .. } = attacker;
        let [inside, outside, aside] = pairs;
        aside.ends().await;
        drop(beside);
        inside.ends().await;
        session.0.close(0_u32.into(), b"");
        drop((session, dialler, peer));
        // The other peer's session and pair, and the two streams of that host.
        let rest = |scrape: &Scrape| [scrape.sum("fedmux_sessions", &[]), scrape.sum("fedmux_lanes", &[])];
        becomes(&relay, "the attacker's sessions and lanes to be gone", |scrape| rest(scrape) == [1.0, 1.0])
            .await;
        soon("the descriptors to be given back", async {
            while relay.holds().descriptors > before.descriptors {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        outside.ends().await;
        good.1.0.close(0_u32.into(), b"");
        drop(good);
        becomes(&relay, "everything to be gone", |scrape| rest(scrape) == [0.0, 0.0]).await;
        let ledger = |scrape: &Scrape| {
            let sum = |name| scrape.sum(name, &[]);
            sum("fedmux_stanzas_accepted_total")
                == sum("fedmux_stanzas_delivered_total")
                    + sum("fedmux_stanzas_bounced_total")
                    + sum("fedmux_stanzas_discarded_total")
                    + sum("fedmux_queued_stanzas")
        };
        becomes(&relay, "the ledger to balance", ledger).await;
    }
}

/// Wait until the metrics of `relay` say so.
pub(crate) async fn becomes(relay: &Relay, what: &str, is: impl Fn(&Scrape) -> bool) {
    soon(what, async {
        while !is(&relay.scrape().await) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// The metrics before an attack and after it.
pub(crate) struct Counted {
    before: Scrape,
    after: Scrape,
    /// What it took.
    time: Duration,
}

impl Counted {
    pub(crate) fn grown(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.after.sum(name, labels) - self.before.sum(name, labels)
    }

    /// What it took, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.time.as_secs_f64()
    }
}

/// What round trips took.
struct Times {
    median: Duration,
    late: Duration,
}

impl Times {
    fn of(rounds: &mut [Duration]) -> Self {
        rounds.sort();
        let at = |percent: usize| rounds[(rounds.len() - 1) * percent / 100];
        Self { median: at(50), late: at(99) }
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(f, "p50 {:.2} p99 {:.2} ms", milliseconds(self.median), milliseconds(self.late))
    }
}

impl Attacker {
    /// A stream on which nothing was said: a lane of its session, or a TLS connection over TCP, by turns.
    pub(crate) async fn stream(&self) -> Wire {
        match self.moves % 2 {
            0 => self.session.open().await,
            _ => self.dialler.direct(self.relay.direct_tls, OURS).await.unwrap(),
        }
    }

    /// The same, established for [`EVIL`] and [`OURS`], over which a good stanza came.
    pub(crate) async fn established(&mut self) -> Wire {
        let mut wire = self.stream().await;
        wire.authenticate(EVIL, OURS).await;
        wire.say(message(EVIL, OURS, "good")).await;
        assert_eq!(self.ours.receive().await.attribute("id"), Some("good"));
        wire
    }

    /// `wire` ends with this stream error.
    pub(crate) async fn is_refused(&self, mut wire: Wire, condition: &str, reason: Reason) {
        assert_eq!(wire.expect_error(condition).await, reason.as_str());
    }
}
