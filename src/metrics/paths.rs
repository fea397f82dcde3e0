//! The paths of QUIC connections: of all of them together, and of the sessions that carry most.

use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGaugeVec};

use super::Maker;

/// What the transport says of one connection since its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PathFigures {
    /// Packets sent.
    pub sent: u64,
    /// Of those, how many were taken for lost.
    pub lost: u64,
    /// How often the congestion controller slowed down.
    pub congestion: u64,
    /// Octets in UDP datagrams that were sent.
    pub bytes_sent: u64,
    /// Octets in UDP datagrams that were received.
    pub bytes_received: u64,
}

/// What one session shows of itself.
#[derive(Debug, Clone)]
pub struct SessionShown {
    /// Its number.
    pub session: String,
    /// Over what it runs.
    pub transport: &'static str,
    /// Who opened it.
    pub direction: &'static str,
    /// Seconds since its handshake.
    pub age: f64,
    /// Its lanes, the routes on them, and hosts that joined: the peer's and ours.
    pub counts: [usize; 4],
    /// Round-trip time in seconds, congestion window in octets, and the counters; over QUIC.
    pub path: Option<(f64, u64, PathFigures)>,
}

/// All connections.
#[derive(Debug)]
pub struct Paths {
    rtt: GaugeVec,
    window: IntGaugeVec,
    sent: IntCounter,
    lost: IntCounter,
    congestion: IntCounter,
    bytes: IntCounterVec,
    /// `fedmux_quic_migrations_total`
    pub migrations: IntCounter,
    sessions: Sessions,
}

#[derive(Debug)]
struct Sessions {
    info: IntGaugeVec,
    age: GaugeVec,
    lanes: IntGaugeVec,
    routes: IntGaugeVec,
    joined: IntGaugeVec,
    rtt: GaugeVec,
    window: IntGaugeVec,
    sent: IntCounterVec,
    lost: IntCounterVec,
    congestion: IntCounterVec,
    bytes: IntCounterVec,
}

impl Paths {
    pub(super) fn new(make: &Maker) -> Option<Self> {
        Some(Self {
            rtt: make.measures("fedmux_quic_rtt_seconds")?,
            window: make.gauges("fedmux_quic_congestion_window_bytes")?,
            sent: make.counter("fedmux_quic_packets_sent_total")?,
            lost: make.counter("fedmux_quic_packets_lost_total")?,
            congestion: make.counter("fedmux_quic_congestion_events_total")?,
            bytes: make.counters("fedmux_quic_bytes_total")?,
            migrations: make.counter("fedmux_quic_migrations_total")?,
            sessions: Sessions::new(make)?,
        })
    }

    /// A connection has got from `before` to `now`.
    pub fn moved(&self, before: PathFigures, now: PathFigures) {
        self.sent.inc_by(now.sent.saturating_sub(before.sent));
        self.lost.inc_by(now.lost.saturating_sub(before.lost));
        self.congestion.inc_by(now.congestion.saturating_sub(before.congestion));
        let [sent, received] = directions(&self.bytes, &[]);
        sent.inc_by(now.bytes_sent.saturating_sub(before.bytes_sent));
        received.inc_by(now.bytes_received.saturating_sub(before.bytes_received));
    }

    /// The round-trip times and the congestion windows of all connections.
    pub fn spread(&self, mut rtts: Vec<f64>, mut windows: Vec<u64>) {
        rtts.sort_by(f64::total_cmp);
        windows.sort_unstable();
        self.rtt.reset();
        self.window.reset();
        for (statistic, at) in
            [("least", 0), ("middle", rtts.len() / 2), ("greatest", rtts.len().saturating_sub(1))]
        {
            let (Some(rtt), Some(window)) = (rtts.get(at), windows.get(at)) else { continue };
            self.rtt.with_label_values(&[statistic]).set(*rtt);
            self.window.with_label_values(&[statistic]).set(whole(*window));
        }
    }

    /// The sessions that carry most, instead of those that were shown before.
    pub fn show(&self, sessions: &[SessionShown]) {
        self.sessions.reset();
        sessions.iter().for_each(|session| self.sessions.show(session));
    }
}

impl Sessions {
    fn new(make: &Maker) -> Option<Self> {
        Some(Self {
            info: make.gauges("fedmux_session_info")?,
            age: make.measures("fedmux_session_age_seconds")?,
            lanes: make.gauges("fedmux_session_lanes")?,
            routes: make.gauges("fedmux_session_routes")?,
            joined: make.gauges("fedmux_session_hosts_proven")?,
            rtt: make.measures("fedmux_session_rtt_seconds")?,
            window: make.gauges("fedmux_session_congestion_window_bytes")?,
            sent: make.counters("fedmux_session_packets_sent_total")?,
            lost: make.counters("fedmux_session_packets_lost_total")?,
            congestion: make.counters("fedmux_session_congestion_events_total")?,
            bytes: make.counters("fedmux_session_bytes_total")?,
        })
    }

    fn reset(&self) {
        for gauges in [&self.info, &self.lanes, &self.routes, &self.joined, &self.window] {
            gauges.reset();
        }
        for gauges in [&self.age, &self.rtt] {
            gauges.reset();
        }
        for counters in [&self.sent, &self.lost, &self.congestion, &self.bytes] {
            counters.reset();
        }
    }

    fn show(&self, shown: &SessionShown) {
        let id = shown.session.as_str();
        let [lanes, routes, theirs, ours] = shown.counts.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        self.info.with_label_values(&[id, shown.transport, shown.direction]).set(1);
        measure(&self.age, id).set(shown.age);
        self.lanes.with_label_values(&[id]).set(lanes);
        self.routes.with_label_values(&[id]).set(routes);
        self.joined.with_label_values(&[id, "peer"]).set(theirs);
        self.joined.with_label_values(&[id, "us"]).set(ours);
        let Some((rtt, window, figures)) = shown.path else { return };
        measure(&self.rtt, id).set(rtt);
        self.window.with_label_values(&[id]).set(whole(window));
        self.sent.with_label_values(&[id]).inc_by(figures.sent);
        self.lost.with_label_values(&[id]).inc_by(figures.lost);
        self.congestion.with_label_values(&[id]).inc_by(figures.congestion);
        let [sent, received] = directions(&self.bytes, &[id]);
        sent.inc_by(figures.bytes_sent);
        received.inc_by(figures.bytes_received);
    }
}

fn measure(gauges: &GaugeVec, session: &str) -> Gauge {
    gauges.with_label_values(&[session])
}

/// What was sent, and what was received.
fn directions(bytes: &IntCounterVec, labels: &[&str]) -> [IntCounter; 2] {
    ["sent", "received"].map(|direction| bytes.with_label_values(&[labels, &[direction]].concat()))
}

fn whole(octets: u64) -> i64 {
    i64::try_from(octets).unwrap_or(i64::MAX)
}
