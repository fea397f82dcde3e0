//! By the thousand: lanes, streams that are broken off, handshakes, and what is begun and never done.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use fedmux::reason::Reason;
use quinn::ConnectionError;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};

use crate::scene::{Attacker, EVIL, OURS, Scene, becomes, refused};
use crate::support::peer::Peer;
use crate::support::scrape::Scrape;
use crate::support::soon;
use crate::support::wire::{Wire, header, message};

/// Somebody whom no `[[peer]]` names.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Lanes that are opened in all; `FEDMUX_LANES` makes more of it.
const LANES: usize = 10_000;
/// And at once: the default of `lanes`, of which the pair that behaves has one.
const LANES_AT_ONCE: usize = 10_000 - 1;

fn lanes_wanted() -> usize {
    std::env::var("FEDMUX_LANES").map_or(LANES, |lanes| lanes.parse().unwrap())
}

/// Thousands in a second. As fast as the machine can would show how fast the machine is.
async fn pace(done: usize) {
    if done.is_multiple_of(20) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Open lanes until there is no credit for another one, begin a header on each, and end them all.
async fn open_all(attacker: &Attacker) -> usize {
    let mut open = Vec::new();
    // Credit comes back in pieces, when lanes before these have ended at both ends.
    while open.len() < LANES_AT_ONCE
        && let Ok(stream) =
            tokio::time::timeout(Duration::from_millis(200), attacker.session.0.open_bi()).await
    {
        let mut wire = Wire::quic(stream.unwrap());
        wire.say("<stream:stream").await;
        open.push(wire);
        pace(open.len()).await;
    }
    let lanes = attacker.relay.scrape().await.sum("fedmux_lanes", &[]);
    assert!(lanes <= (LANES_AT_ONCE + 2) as f64, "{lanes} lanes at once");
    for (n, wire) in open.iter_mut().enumerate() {
        wire.mouth.finish().await;
        pace(n).await;
    }
    open.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_by_the_ten_thousand_are_bounded_and_leave_nothing_behind() {
    let mut scene = Scene::set().await;
    let (mut opened, wanted) = (0, lanes_wanted());
    // Each lane holds its task, a few buffers and its share of QUIC's tables.
    const LANE_BYTES: u64 = 12 << 10;
    let bound = (64 << 20) + LANES_AT_ONCE as u64 * LANE_BYTES;
    let counted = scene
        .withstands_growing("lanes by the thousand", bound, async |attacker| {
            // The last turns have nothing more to do than wait until they are measured.
            let until = (opened + wanted.div_ceil(3)).min(wanted.max(opened + 1));
            while opened < until {
                opened += open_all(attacker).await;
            }
        })
        .await;
    println!("{opened} lanes were opened");
    let gone = |scrape: &Scrape| scrape.sum("fedmux_lanes", &[]) == 2.0;
    becomes(&scene.attacker.relay, "the lanes to be gone", gone).await;
    let after = scene.attacker.relay.scrape().await;
    // Each was cut in the middle of its header, and counted.
    let all = after.sum("fedmux_refusals_total", &refused(Reason::NotWellFormed));
    assert_eq!(all, opened as f64);
    assert!(counted.grown("fedmux_quic_streams_opened_total", &[]) >= opened as f64);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_streams_are_broken_off_by_the_hundred_is_closed() {
    let mut scene = Scene::set().await;
    let counted = scene
        .withstands("rapid reset", async |attacker| {
            // In a session of its own: this one is lost with all that is in it.
            let session = attacker.peer.dial(attacker.relay.quic, OURS).await.unwrap();
            let lane = session.lane(EVIL, OURS).await;
            let mut opened = 0;
            while let Ok(stream) = session.0.open_bi().await {
                let mut wire = Wire::quic(stream);
                // The connection may be closed in between.
                if wire.mouth.try_say("<").await.is_err() {
                    break;
                }
                wire.mouth.reset(0);
                opened += 1;
                assert!(opened < 20_000, "nobody minds");
                pace(opened).await;
            }
            match session.closed().await {
                ConnectionError::ApplicationClosed(close) => assert_eq!(u64::from(close.error_code), 3),
                other => panic!("{other:?}"),
            }
            drop(lane);
        })
        .await;
    let hits = counted.grown("fedmux_limit_hits_total", &[("limit", "session_resets")]);
    assert_eq!(hits, scene.attacker.moves as f64);
    scene.has_refused(&counted, &[(Reason::TooMany, 1)]);
    assert!(scene.attacker.relay.logged(&["session refused", "limit=\"session_resets\""]) > 0);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_by_the_hundred_are_refused_before_anything_is_done_for_them() {
    let limits = "address_burst = 16\naddress_every = \"5s\"\n";
    let mut scene = Scene::with_limits(limits).await;
    let certificate = scene.attacker.authority.certify(&["stranger.test"]);
    let flooder = Peer::at(IpAddr::V4(STRANGER), &certificate);
    let mut turned_away = 0;
    let counted = scene
        .withstands("handshakes by the hundred", async |attacker| {
            let (mut let_in, mut refused) = (Vec::new(), 0);
            while refused < 50 {
                match flooder.dial(attacker.relay.quic, OURS).await {
                    Ok(connection) => let_in.push(connection),
                    Err(ConnectionError::ConnectionClosed(_)) => refused += 1,
                    Err(other) => panic!("{other:?}"),
                }
            }
            turned_away += refused;
        })
        .await;
    let hits = counted.grown("fedmux_limit_hits_total", &[("limit", "address_burst")]);
    assert!(hits >= f64::from(turned_away), "{hits} hits, and {turned_away} were turned away");
    assert_eq!(counted.grown("fedmux_refusals_total", &refused(Reason::TooMany)), hits);
    assert!(scene.attacker.relay.logged(&["connections refused", "address_burst", "127.0.0.2"]) > 0);
    drop(flooder);
    scene.ends().await;
}

async fn connect(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((STRANGER, 0).into()).unwrap();
    soon("a connection", socket.connect(to)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_on_which_nothing_is_said_are_few_and_end() {
    const HANDSHAKES: usize = 16;
    let limits = format!("address_handshakes = {HANDSHAKES}\nhandshake = \"2s\"\nconnect = \"2s\"\n");
    let mut scene = Scene::with_limits(&limits).await;
    let counted = scene
        .withstands("half-open connections", async |attacker| {
            // The first hello of TLS, and not all of it.
            let mut silent = Vec::new();
            for _ in 0..2 * HANDSHAKES {
                silent.push(connect(attacker.relay.direct_tls).await);
            }
            for mut tcp in silent {
                let mut said = Vec::new();
                // It may be reset; it is gone in either case.
                let _gone = soon("the end", tcp.read_to_end(&mut said)).await;
                assert!(said.is_empty());
            }
        })
        .await;
    let each = HANDSHAKES;
    scene.has_refused_saying(&counted, &[(Reason::NegotiationTimeout, each), (Reason::TooMany, each)], 1);
    let hits = counted.grown("fedmux_limit_hits_total", &[("limit", "address_handshakes")]);
    assert_eq!(hits, (each * scene.attacker.moves) as f64);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_octet_by_octet_is_cut_off() {
    let limits = "path_idle = \"4s\"\nhandshake = \"3s\"\nconnect = \"3s\"\n";
    let mut scene = Scene::with_limits(limits).await;
    let counted = scene
        .withstands("slow loris", async |attacker| {
            let mut trickles = Vec::new();
            for which in 0..40 {
                // Half of them are let in first, and begin a stanza.
                let (wire, said) = match which % 2 {
                    0 => (attacker.established().await, message(EVIL, OURS, "slow")),
                    _ => (attacker.stream().await, header(EVIL, OURS)),
                };
                trickles.push(tokio::spawn(trickle(wire, said)));
            }
            for wire in trickles {
                let mut wire = wire.await.unwrap();
                assert_eq!(wire.expect_error("connection-timeout").await, "negotiation-timeout");
            }
        })
        .await;
    scene.has_refused(&counted, &[(Reason::NegotiationTimeout, 40)]);
    scene.ends().await;
}

/// Say an octet now and then, and white space for ever when only the last one is missing.
async fn trickle(wire: Wire, said: String) -> Wire {
    let Wire { ear, mut mouth, stream_id } = wire;
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let (all, _) = said.split_at(said.rfind('>').unwrap());
    let octets = all.bytes().chain(std::iter::repeat(b' '));
    soon("the end of its time", async {
        for octet in octets {
            if mouth.try_say([octet]).await.is_err() {
                break;
            }
            pace.tick().await;
        }
    })
    .await;
    Wire { ear, mouth, stream_id }
}
