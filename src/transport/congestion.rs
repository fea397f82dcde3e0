//! Congestion control for a relay that is idle most of the time.
//!
//! Cubic doesn't grow its window while the application sends little, but shrinks it by 0.7 at every loss (RFC 9438
//! section 4.6). A chatty relay on a lossy path so ends with a window of two packets, and every domain pair waits for
//! every other one, however many streams there are. [`FlooredCubic`] is Cubic that never goes below a floor.
//!
//! What it costs: on a path that is truly congested below the floor (64 kB in flight at 100 ms are 5 Mbit/s) the relay
//! keeps sending at the floor's rate where Cubic would give way further.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, Cubic, CubicConfig};
use quinn_proto::RttEstimator;

/// Makes [`FlooredCubic`] controllers.
#[derive(Debug, Clone)]
pub struct FlooredCubicConfig {
    cubic: Arc<CubicConfig>,
    floor: u64,
}

impl FlooredCubicConfig {
    /// With `floor` octets that may always be in flight.
    #[must_use]
    pub fn new(floor: u64) -> Self {
        Self { cubic: Arc::new(CubicConfig::default()), floor }
    }
}

impl ControllerFactory for FlooredCubicConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Cubic::new(Arc::clone(&self.cubic), now, current_mtu);
        Box::new(FlooredCubic { cubic, floor: self.floor })
    }
}

/// Cubic with a floor under its window.
#[derive(Debug, Clone)]
pub struct FlooredCubic {
    cubic: Cubic,
    floor: u64,
}

impl Controller for FlooredCubic {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().max(self.floor)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window().max(self.floor)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_never_take_the_window_below_the_floor() {
        let now = Instant::now();
        let mut controller = Arc::new(FlooredCubicConfig::new(65_536)).build(now, 1200);
        for _ in 0..50 {
            controller.on_congestion_event(now, now, true, 1200);
        }
        assert_eq!(controller.window(), 65_536);
        let mut plain = Arc::new(CubicConfig::default()).build(now, 1200);
        plain.on_congestion_event(now, now, true, 1200);
        assert!(plain.window() < 65_536, "Cubic alone does go below");
    }
}
