//! Where pairs and peers stand, and what is queued: gauges that are brought up to date when somebody asks.

use prometheus::{Gauge, IntGauge, IntGaugeVec};

use super::Maker;

/// See the module.
#[derive(Debug)]
pub struct Standing {
    /// `fedmux_draining`
    pub draining: IntGauge,
    /// `fedmux_connections_saved`
    pub saved: IntGauge,
    /// `fedmux_servers_down`
    pub servers_down: IntGauge,
    /// `fedmux_components_connected`
    pub components: IntGauge,
    /// `fedmux_stanzas_in_custody`
    pub custody: IntGauge,
    /// `fedmux_domains_remembered`
    pub remembered: IntGauge,
    routes_waiting: IntGaugeVec,
    peers: IntGaugeVec,
    /// Of the queues.
    pub queues: Queues,
}

/// What waits in queues for a lane to take it.
#[derive(Debug)]
pub struct Queues {
    /// `fedmux_queues_waiting`
    pub waiting: IntGauge,
    /// `fedmux_queue_waiting_stanzas`
    pub stanzas: IntGauge,
    /// `fedmux_queue_waiting_bytes`
    pub bytes: IntGauge,
    /// `fedmux_queue_longest_bytes`
    pub longest: IntGauge,
    /// `fedmux_queue_oldest_seconds`
    pub oldest: Gauge,
}

impl Standing {
    pub(super) fn new(make: &Maker) -> Option<Self> {
        Some(Self {
            draining: make.gauge("fedmux_draining")?,
            saved: make.gauge("fedmux_connections_saved")?,
            servers_down: make.gauge("fedmux_servers_down")?,
            components: make.gauge("fedmux_components_connected")?,
            custody: make.gauge("fedmux_stanzas_in_custody")?,
            remembered: make.gauge("fedmux_domains_remembered")?,
            routes_waiting: make.gauges("fedmux_routes_waiting")?,
            peers: make.gauges("fedmux_peers")?,
            queues: Queues {
                waiting: make.gauge("fedmux_queues_waiting")?,
                stanzas: make.gauge("fedmux_queue_waiting_stanzas")?,
                bytes: make.gauge("fedmux_queue_waiting_bytes")?,
                longest: make.gauge("fedmux_queue_longest_bytes")?,
                oldest: make.measure("fedmux_queue_oldest_seconds")?,
            },
        })
    }

    /// So many routes wait for this.
    pub fn waiting_for(&self, what: &str, routes: usize) {
        self.routes_waiting.with_label_values(&[what]).set(i64::try_from(routes).unwrap_or(i64::MAX));
    }

    /// So many peers are in this state.
    pub fn peers(&self, state: &str, peers: usize) {
        self.peers.with_label_values(&[state]).set(i64::try_from(peers).unwrap_or(i64::MAX));
    }
}
