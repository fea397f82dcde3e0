//! `[limits]`: every bound of [`Limits`], under the same name, each within a range in which the relay works.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::Reader;
use super::values::{parse_duration, show_duration};
use crate::proto::budget::{Rate, Rates};
use crate::proto::limits::{Congestion, Limits};
use crate::proto::mux::verifier::Allowance;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
const fn hours(n: u64) -> Duration {
    Duration::from_secs(3_600 * n)
}

/// Reads each key into the field of its own name: the compiler sees to it that none is left out.
macro_rules! read {
    ($reader:ident, $($name:ident: $kind:ident $(($low:expr, $high:expr))?,)*) => {{
        let default = Limits::default();
        Limits { $($name: $kind($reader, stringify!($name), default.$name $(, $low..=$high)?),)* }
    }};
}

/// Read the table; what is left out keeps its default.
#[expect(clippy::too_many_lines, reason = "a line for each key")]
pub(super) fn read(mut reader: Reader<'_>) -> Limits {
    let r = &mut reader;
    let limits = read! { r,
        // RFC 6120 section 13.12: a server must not refuse stanzas below 10000 octets for their size.
        stanza_bytes: count(10_000, 64 * MIB),
        // Features and a certificate's worth of SASL fit into the lower bound.
        negotiation_bytes: count(4 * KIB, MIB),
        stanza_depth: count(8, 1_024),
        element_attributes: count(16, 1_024),
        threads: count(0, 1_024),
        pair_queue_bytes: count(10_000, GIB),
        queue_bytes: count(10_000, 1_024 * GIB),
        pairs: count(1, 10_000_000),
        read_pause: wait(ms(10), seconds(60)),
        hold_iq: wait(ms(100), hours(1)),
        hold: wait(ms(100), hours(1)),
        hold_groupchat: wait(ms(100), hours(1)),
        ack_hold: wait(ms(10), hours(1)),
        unacked_max: count(1, 1_000_000),
        ack_every: count(1, 100_000),
        ack_within: wait(ms(10), seconds(60)),
        ack_request_every: count(1, 100_000),
        ack_request_within: wait(ms(1), seconds(60)),
        linger: wait(ms(0), ms(100)),
        ack_wait: wait(ms(10), seconds(600)),
        // What is handled a little at a time still moves.
        lane_stall: wait(seconds(1), hours(24)),
        enable_wait: wait(ms(0), seconds(60)),
        resume: wait(seconds(0), hours(1)),
        resume_wait: wait(seconds(0), hours(1)),
        resumable: count(0, 10_000_000),
        // Prosody gives up at 90 s: a longer wait holds resources for nobody.
        handshake: wait(seconds(1), seconds(90)),
        connect: wait(ms(100), seconds(90)),
        look_up: wait(ms(100), seconds(60)),
        // Web servers put other things into it, too; a link of ours has some hundred octets.
        host_meta_bytes: count(4 * KIB, MIB),
        retry_min: wait(ms(10), hours(1)),
        retry_max: wait(ms(10), hours(24)),
        peer_dials: count(1, 10_000),
        remote_connections: count(1, 1_000_000),
        address_connections: count(1, 1_000_000),
        address_handshakes: count(1, 1_000_000),
        address_burst: count(1, 1_000_000),
        address_every: wait(ms(1), hours(1)),
        local_connections: count(1, 1_000_000),
        lanes: count(1, 1_000_000),
        lanes_unauthenticated: count(1, 1_000),
        session_resets: count(1, 1_000_000),
        session_resets_every: wait(ms(1), hours(1)),
        rates: rates,
        lane_window: count(16 * KIB, 64 * MIB),
        session_window: count(64 * KIB, 4 * GIB - 1),
        lane_idle: wait(seconds(1), hours(24)),
        session_idle: wait(seconds(1), hours(24)),
        session_age: wait(seconds(1), hours(24 * 7)),
        // Below 3 s a single lost keep-alive would end the connection.
        path_idle: wait(seconds(3), seconds(600)),
        credit_wait: wait(ms(100), seconds(60)),
        header_wait: wait(ms(100), seconds(90)),
        single_stream_memory: wait(seconds(1), hours(24 * 7)),
        proofs_open: count(1, 10_000),
        proofs_burst: count(1, 1_000_000),
        proofs_every: wait(ms(1), hours(1)),
        proofs_under_way: count(1, 10_000),
        secrets_returned: count(1, 1_000_000),
        grants: count(1, 1_000_000),
        peers_poll: wait(seconds(1), hours(24)),
        certificates_poll: wait(seconds(1), hours(24)),
        domains_remembered: count(1, 1_000_000),
        // Each has a dozen series.
        sessions_shown: count(0, 1_000),
        drain: wait(seconds(0), seconds(600)),
        congestion: congestion,
        congestion_window_min: count(0, 64 * MIB),
    };
    check_together(&reader, &limits);
    reader.finish();
    limits
}

/// The rates, each a key of its own.
fn rates(r: &mut Reader<'_>, _: &'static str, default: Rates) -> Rates {
    let mut of = |stanzas, bytes, default: Rate| Rate {
        stanzas: rate(r, stanzas, default.stanzas, 100..=100_000_000),
        // So that one read, which comes as a whole, is done within a second.
        bytes: rate(r, bytes, default.bytes, 64 * KIB..=1_024 * GIB),
    };
    Rates {
        pair: of("pair_stanzas_rate", "pair_bytes_rate", default.pair),
        host: of("host_stanzas_rate", "host_bytes_rate", default.host),
        peer: of("peer_stanzas_rate", "peer_bytes_rate", default.peer),
        pair_bounces: rate(r, "pair_bounces_rate", default.pair_bounces, 10..=1_000_000),
        burst: wait(r, "rate_burst", default.burst, ms(100)..=hours(1)),
    }
}

/// So much in a second; 0: any amount.
fn rate<T>(reader: &mut Reader<'_>, key: &'static str, default: T, range: RangeInclusive<u64>) -> T
where
    T: TryFrom<u64>,
{
    let Some(entry) = reader.take(key) else { return default };
    let expected = format!("a whole number from {} to {}, or 0 for no limit", range.start(), range.end());
    let Some(value) = entry.integer(&expected) else { return default };
    if let (true, Ok(count)) = (value == 0 || range.contains(&value), T::try_from(value)) {
        return count;
    }
    entry.refuse(format!("is {value}"), format!("write {expected}")).unwrap_or(default)
}

/// The limits of a `[[peer]]`, in its own table: those that hold for one session and depend on who is at its other end.
pub(super) fn read_of_peer(r: &mut Reader<'_>) -> Allowance {
    let Allowance { open, burst, every } = Allowance::PEER;
    Allowance {
        open: count(r, "proofs_open", open, 1..=10_000),
        burst: count(r, "proofs_burst", burst, 1..=1_000_000),
        every: wait(r, "proofs_every", every, ms(1)..=hours(1)),
    }
}

/// What one limit asks of another.
fn check_together(reader: &Reader<'_>, limits: &Limits) {
    let rules = [
        (
            limits.pair_queue_bytes < limits.stanza_bytes,
            "pair_queue_bytes",
            "stanza_bytes",
            "a queue must hold one stanza",
        ),
        (
            limits.queue_bytes < limits.pair_queue_bytes,
            "queue_bytes",
            "pair_queue_bytes",
            "the relay's queue holds those of the pairs",
        ),
        (
            limits.retry_max < limits.retry_min,
            "retry_max",
            "retry_min",
            "the wait grows from one to the other",
        ),
        (limits.handshake < limits.connect, "handshake", "connect", "a handshake begins with connecting"),
        (
            limits.lanes < limits.lanes_unauthenticated,
            "lanes",
            "lanes_unauthenticated",
            "authentication must not take lanes away",
        ),
    ];
    for (wrong, low, high, reason) in rules {
        if wrong {
            refuse_together(
                reader,
                low,
                &format!("is less than {high}"),
                &format!("raise {low} or lower {high}: {reason}"),
            );
        }
    }
    if u64::from(limits.session_window) < 4 * u64::from(limits.lane_window) {
        refuse_together(
            reader,
            "session_window",
            "is less than four times lane_window",
            "raise session_window or lower lane_window: a few unread lanes would hold up all others",
        );
    }
}

fn refuse_together(reader: &Reader<'_>, key: &str, problem: &str, advice: &str) {
    reader.errors.add(&reader.place_of(key), reader.name_of(key), problem, advice);
}

fn count<T>(reader: &mut Reader<'_>, key: &'static str, default: T, range: RangeInclusive<u64>) -> T
where
    T: TryFrom<u64>,
{
    let Some(entry) = reader.take(key) else { return default };
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    let Some(value) = entry.integer(&expected) else { return default };
    if let (true, Ok(count)) = (range.contains(&value), T::try_from(value)) {
        return count;
    }
    entry.refuse(format!("is {value}"), format!("write {expected}")).unwrap_or(default)
}

fn wait(
    reader: &mut Reader<'_>,
    key: &'static str,
    default: Duration,
    range: RangeInclusive<Duration>,
) -> Duration {
    let Some(entry) = reader.take(key) else { return default };
    let (low, high) = (show_duration(*range.start()), show_duration(*range.end()));
    let expected = format!("a time from \"{low}\" to \"{high}\" (units ms, s, m, h, d), or whole seconds");
    let (shown, value) = match entry.as_string() {
        Some(text) => (format!("{text:?}"), parse_duration(text)),
        None => match entry.integer(&expected) {
            Some(number) => (number.to_string(), Some(Duration::from_secs(number))),
            None => return default,
        },
    };
    match value {
        Some(value) if range.contains(&value) => value,
        _ => entry.refuse(format!("is {shown}"), format!("write {expected}")).unwrap_or(default),
    }
}

fn congestion(reader: &mut Reader<'_>, key: &'static str, default: Congestion) -> Congestion {
    let words = [("cubic", Congestion::Cubic), ("bbr", Congestion::Bbr)];
    reader.take(key).and_then(|entry| entry.choice(&words)).unwrap_or(default)
}
