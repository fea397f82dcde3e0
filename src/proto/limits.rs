//! Every size, count and wait that is bounded, with its default. The same names stand in `[limits]`.

use std::time::Duration;

use super::addresses::AddressLimits;
use super::budget::Rates;
use super::mux::verifier::Allowance;
use super::queue::Hold;
use super::stream_management::receipts::Patience;

/// Which congestion controller QUIC connections use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Congestion {
    /// Cubic (RFC 9438) with `congestion_window_min` as a floor under its window.
    Cubic,
    /// BBR, experimental in the QUIC library.
    Bbr,
}

/// The bounds. Sizes in octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest stanza. 512 KiB, which is Prosody's own limit between servers.
    pub stanza_bytes: usize,
    /// Largest stream header, and largest element before authentication.
    pub negotiation_bytes: usize,
    /// Deepest nesting of elements in a stanza, the stanza itself being 1.
    pub stanza_depth: usize,
    /// Most attributes on one element, namespace declarations included.
    pub element_attributes: usize,
    /// Threads that carry stanzas; 0: as many as half of the processors, one at least.
    pub threads: usize,
    /// Stanzas waiting for one direction of a domain pair, or sent and not acknowledged.
    pub pair_queue_bytes: usize,
    /// Stanzas waiting in the whole relay. No pair takes more than eight times of what is left of it.
    pub queue_bytes: usize,
    /// Directions of domain pairs that the relay remembers at once. No peer begins more pairs than it leaves places.
    pub pairs: usize,
    /// How long reading from a stream may pause because the next hop's queue is full; then we read on, and bounce.
    pub read_pause: Duration,
    /// How long an IQ request waits for a way to its destination.
    pub hold_iq: Duration,
    /// How long a message or presence waits for a way to its destination.
    pub hold: Duration,
    /// How long a message of a room waits: rooms drop the occupants for whom it comes back.
    pub hold_groupchat: Duration,
    /// How long a stanza may lack the acknowledgement of its next hop before we acknowledge it ourselves.
    pub ack_hold: Duration,
    /// How many stanzas of one stream may; then the oldest are acknowledged. Less than the sender keeps: Prosody drops the
    /// oldest of more than `smacks_max_queue_size` (500) and says nothing. Not of a lane of a peer that speaks mux: a relay keeps
    /// them all.
    pub unacked_max: u32,
    /// Handled stanzas after which we acknowledge unasked.
    pub ack_every: u32,
    /// And after this at the latest.
    pub ack_within: Duration,
    /// Stanzas sent after which we ask for an acknowledgement; a quarter of `pair_queue_bytes` is enough, too.
    pub ack_request_every: u32,
    /// With fewer, how often we ask our own servers at the most. A peer is asked once in `ack_within`, if that is longer. We ask along
    /// with the first stanza that follows then, or alone if none does in half that time again; at once where nothing but an
    /// acknowledgement makes room.
    pub ack_request_within: Duration,
    /// The shortest time between two turns of writing on a stream that carries many stanzas: what comes meanwhile goes together. What
    /// comes alone leaves at once. 0: no time.
    pub linger: Duration,
    /// How long a stream that ends waits for acknowledgements.
    pub ack_wait: Duration,
    /// How long a stream may acknowledge nothing of what was sent on it, or take nothing of what is to be sent; then we end it.
    pub lane_stall: Duration,
    /// How long we send nothing on a stream whose other end may still turn stream management on.
    pub enable_wait: Duration,
    /// How long a stream that broke can be resumed.
    pub resume: Duration,
    /// How long stanzas of ours wait for the peer to resume the stream on which they were sent.
    pub resume_wait: Duration,
    /// Broken streams of peers that are kept.
    pub resumable: usize,
    /// From connecting to an authenticated stream. ejabberd gives up at 30 s, Prosody at 90 s.
    pub handshake: Duration,
    /// One attempt to connect.
    pub connect: Duration,
    /// All look-ups for one domain together, by DNS and HTTPS; and that of a host name of the configuration.
    pub look_up: Duration,
    /// Largest host-meta document (XEP-0487).
    pub host_meta_bytes: usize,
    /// First wait after a failed attempt; doubled, with jitter, up to `retry_max`.
    pub retry_min: Duration,
    /// Longest wait between attempts.
    pub retry_max: Duration,
    /// Connections that are being made to one peer at once, once it is known to be up and to take one for each pair of
    /// domains. Until then it is one.
    pub peer_dials: usize,
    /// Connections that peers hold to us, and handshakes under way, together. An eighth is kept for the addresses of `[[peer]]`s.
    pub remote_connections: usize,
    /// Of those, how many one address may hold (an IPv4 address, or an IPv6 /64; here and below). Those of a `[[peer]]` aren't
    /// counted.
    pub address_connections: usize,
    /// Handshakes under way with one address.
    pub address_handshakes: usize,
    /// New connections that one address may open at once after a quiet time.
    pub address_burst: u32,
    /// And then one in this time.
    pub address_every: Duration,
    /// Streams that our own servers hold to us.
    pub local_connections: usize,
    /// Lanes that a peer may have open in one session.
    pub lanes: u32,
    /// Lanes that a peer may have open before one of them is authenticated.
    pub lanes_unauthenticated: u32,
    /// Lanes of one session that its peer may break off at once after a quiet time (QUIC's rapid reset).
    pub session_resets: u32,
    /// And then one in this time.
    pub session_resets_every: Duration,
    /// How much may come in a time: `pair_stanzas_rate` and its likes.
    pub rates: Rates,
    /// What a peer may send on one lane before we read it (QUIC's stream window).
    pub lane_window: u32,
    /// What a peer may send in a session before we read it (QUIC's connection window), and what QUIC may hold of what we send.
    pub session_window: u32,
    /// A lane with nothing to carry closes after this.
    pub lane_idle: Duration,
    /// A session without a lane closes after this; one that the peer opened after ten times as long.
    pub session_idle: Duration,
    /// A session takes no new lane after this, whoever dialled it, and a fresh one is made. The lanes that it has get `ack_wait` and `drain`
    /// to move there, are closed then, and are cut off after the same time again.
    pub session_age: Duration,
    /// A silent connection with a peer is lost after this; keep-alives are sent at a third of it. A stanza may take as
    /// long from its first octet to its last.
    pub path_idle: Duration,
    /// A peer that gives no credit for a lane in this time takes one stream for each connection.
    pub credit_wait: Duration,
    /// A lane without the peer's stream header after this counts as refused.
    pub header_wait: Duration,
    /// How long it is remembered that a peer takes one stream for each connection.
    pub single_stream_memory: Duration,
    /// Mux secrets (XEP-0451) that we have handed out for one session and that are not back yet.
    pub proofs_open: usize,
    /// Mux secrets that we hand out for one session at once after a quiet time.
    pub proofs_burst: u32,
    /// And then one in this time.
    pub proofs_every: Duration,
    /// Proofs of further hosts that go on at once for one session, ours and the peer's.
    pub proofs_under_way: usize,
    /// Mux secrets that we have returned and whose answers are awaited, in the whole relay.
    pub secrets_returned: usize,
    /// Hosts that may join one session by mux secrets, each way.
    pub grants: usize,
    /// How often the host name of a `[[peer]]` is looked up, beside when it is dialled: its addresses aren't counted, and who
    /// connects from there is known.
    pub peers_poll: Duration,
    /// How often the folder of certificates is looked at for renewed ones.
    pub certificates_poll: Duration,
    /// Domains whose last attempts are remembered for `fedmux explain`; the one longest not tried is forgotten first.
    pub domains_remembered: usize,
    /// Sessions that metrics show one by one: those that carry most.
    pub sessions_shown: usize,
    /// How long lanes may take to finish when the relay stops; what is left is answered for after that.
    pub drain: Duration,
    /// Congestion controller of QUIC.
    pub congestion: Congestion,
    /// Floor under Cubic's window: without it a relay that is idle most of the time starves under loss.
    pub congestion_window_min: u64,
}

impl Limits {
    /// How many secrets are made for a session of a peer that nobody named.
    #[must_use]
    pub const fn proofs(&self) -> Allowance {
        Allowance { open: self.proofs_open, burst: self.proofs_burst, every: self.proofs_every }
    }

    /// How long stanzas wait for a way to their destination.
    #[must_use]
    pub const fn holds(&self) -> Hold {
        Hold { iq: self.hold_iq, groupchat: self.hold_groupchat, other: self.hold }
    }

    /// When we acknowledge what the next hop hasn't.
    #[must_use]
    pub const fn patience(&self) -> Patience {
        Patience { hold: self.ack_hold, unhandled_max: self.unacked_max }
    }

    /// How many lanes of one session may be read no further for what they have brought, so that the octets which nobody reads
    /// leave half of the session's window to the others.
    #[must_use]
    pub const fn held_lanes_max(&self) -> u32 {
        self.session_window / 2 / self.lane_window
    }

    /// What one address may have of the remote side's connections.
    #[must_use]
    pub const fn of_address(&self) -> AddressLimits {
        AddressLimits {
            connections: self.address_connections,
            handshakes: self.address_handshakes,
            burst: self.address_burst,
            every: self.address_every,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        const fn seconds(n: u64) -> Duration {
            Duration::from_secs(n)
        }
        Self {
            stanza_bytes: 524_288,
            negotiation_bytes: 65_536,
            stanza_depth: 128,
            element_attributes: 128,
            threads: 0,
            pair_queue_bytes: 1_048_576,
            queue_bytes: 268_435_456,
            pairs: 200_000,
            read_pause: seconds(2),
            hold_iq: seconds(20),
            hold: seconds(60),
            hold_groupchat: seconds(120),
            ack_hold: seconds(10),
            unacked_max: 400,
            ack_every: 50,
            ack_within: seconds(1),
            ack_request_every: 64,
            ack_request_within: Duration::from_millis(50),
            linger: Duration::from_millis(1),
            ack_wait: seconds(5),
            lane_stall: seconds(300),
            enable_wait: seconds(1),
            resume: seconds(300),
            resume_wait: seconds(20),
            resumable: 100_000,
            handshake: seconds(20),
            connect: seconds(10),
            look_up: seconds(5),
            host_meta_bytes: 65_536,
            retry_min: seconds(1),
            retry_max: seconds(300),
            peer_dials: 16,
            remote_connections: 4096,
            address_connections: 1024,
            address_handshakes: 256,
            address_burst: 1024,
            address_every: Duration::from_millis(10),
            local_connections: 65_536,
            lanes: 10_000,
            lanes_unauthenticated: 8,
            session_resets: 200,
            session_resets_every: Duration::from_millis(100),
            rates: Rates::default(),
            lane_window: 131_072,
            session_window: 67_108_864,
            lane_idle: seconds(600),
            session_idle: seconds(60),
            session_age: seconds(86_400),
            path_idle: seconds(60),
            credit_wait: seconds(2),
            header_wait: seconds(10),
            single_stream_memory: seconds(86_400),
            proofs_open: Allowance::STRANGER.open,
            proofs_burst: Allowance::STRANGER.burst,
            proofs_every: Allowance::STRANGER.every,
            proofs_under_way: 32,
            secrets_returned: 1024,
            grants: 4096,
            peers_poll: seconds(60),
            certificates_poll: seconds(60),
            domains_remembered: 1024,
            sessions_shown: 20,
            drain: seconds(10),
            congestion: Congestion::Cubic,
            congestion_window_min: 65_536,
        }
    }
}
