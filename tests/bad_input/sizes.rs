//! By the gigabyte: how much the relay takes before it refuses, and what that costs it.

use bytes::Bytes;
use fedmux::proto::limits::Limits;
use fedmux::reason::Reason;

use crate::scene::{PORTS, Port, Scene, TO};
use crate::support::wire::header;

const GIGABYTE: u64 = 1 << 30;
/// What the process may have grown by when it was over, whatever other tests do beside it. A relay that collected what it
/// is sent would need a gigabyte.
const GROWTH_MAX: u64 = 128 << 20;

/// Resident memory of this process, in octets.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// What may be sent on a QUIC stream before the refusal is felt: what the relay reads, and what the transports hold.
fn sent_max() -> u64 {
    const SEND_BUFFERS: u64 = 256 << 10;
    let limits = Limits::default();
    limits.stanza_bytes as u64 + u64::from(limits.lane_window) + SEND_BUFFERS
}

/// A gigabyte of `piece` behind `beginning` is refused for its size.
async fn is_too_much(port: Port, beginning: Option<&str>, piece: &[u8]) {
    let mut scene = Scene::set().await;
    let mut wire = match beginning {
        Some(beginning) => {
            let mut wire = scene.stream(port).await;
            wire.say(beginning).await;
            wire
        }
        None => {
            let mut wire = scene.established(port).await;
            wire.say(format!("<message from='{}' to='{TO}'><body>", port.from())).await;
            wire
        }
    };
    let before = resident();
    let piece = Bytes::from(piece.repeat(65_536 / piece.len()));
    let sent = wire.mouth.flood(&piece, GIGABYTE).await;
    if port == Port::Quic {
        assert!(sent <= sent_max(), "{sent} octets were taken");
    }
    scene.is_refused(port, &mut wire, "policy-violation", Reason::StanzaTooBig).await;
    let growth = resident().saturating_sub(before);
    assert!(growth <= GROWTH_MAX, "{growth} octets for {sent}");
}

#[tokio::test]
async fn a_stanza_of_a_gigabyte_is_refused_at_its_limit() {
    for port in PORTS {
        is_too_much(port, None, b"x").await;
    }
}

#[tokio::test]
async fn a_stanza_of_a_gigabyte_of_small_elements_is_refused_at_its_limit() {
    for port in PORTS {
        is_too_much(port, None, b"<a b='c'/>").await;
    }
}

#[tokio::test]
async fn a_header_of_a_gigabyte_is_refused_at_its_limit() {
    for port in PORTS {
        let whole = header(port.from(), TO);
        is_too_much(port, Some(&(whole[..whole.len() - 1].to_owned() + " x='")), b"x").await;
    }
}
