//! A pair is alone: when a server stops reading the stream of one pair, or of fifty, the stanzas of all others arrive as
//! before, the relays read on, and what waits stays within its bounds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

mod support;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fedmux::proto::admission::Side;
use fedmux::proto::limits::Limits;
use fedmux::relay::settings::{Endpoint, Placement};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;

use support::certificates::Authority;
use support::provider::{Plan, Provider};
use support::server::Host;
use support::wire::{Heard, Wire, message};
use support::{soon, until};

/// What one pair may have waiting.
const PAIR_QUEUE: usize = 128 * 1024;
/// How long reading may pause for want of room.
const READ_PAUSE: Duration = Duration::from_secs(1);
/// Pairs that are watched while others are stalled.
const WATCHED: usize = 5;
/// Stanzas that are sent to each stalled pair: far more than any queue, window or socket buffer on its way holds.
const FLOOD_STANZAS: usize = 1_100;
const BODY_BYTES: usize = 1_000;

/// A server that reads the streams for some of its hosts only while it is told to.
struct MoodyServer {
    arrived: mpsc::UnboundedReceiver<(String, Instant)>,
    stalled: watch::Sender<HashSet<String>>,
    _tasks: JoinSet<()>,
}

impl MoodyServer {
    fn start(listener: TcpListener) -> Self {
        let (sender, arrived) = mpsc::unbounded_channel();
        let (stalled, moods) = watch::channel(HashSet::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut streams = JoinSet::new();
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                streams.spawn(read(Wire::tcp(connection), sender.clone(), moods.clone()));
            }
        });
        Self { arrived, stalled, _tasks: tasks }
    }
}

async fn read(
    mut wire: Wire,
    arrived: mpsc::UnboundedSender<(String, Instant)>,
    mut moods: watch::Receiver<HashSet<String>>,
) {
    let host = wire.accept().await.to;
    loop {
        // The relay's other streams don't depend on it, and neither does the test's end.
        if moods.wait_for(|stalled| !stalled.contains(&host)).await.is_err() {
            return;
        }
        match wire.ear.hear_at_last().await {
            Heard::Stanza(stanza) => {
                let id = stanza.attribute("id").unwrap().to_owned();
                if arrived.send((id, Instant::now())).is_err() {
                    return;
                }
            }
            Heard::Header(_) | Heard::Element(_) => {}
            _ => return,
        }
    }
}

/// Two relays: a1.test behind the one speaks to many hosts behind the other, whose server is moody.
struct Scene {
    a: Provider,
    b: Provider,
    server: MoodyServer,
    _authority: Authority,
}

fn stalled(n: usize) -> String {
    format!("s{n}.test")
}

fn watched(n: usize) -> String {
    format!("w{n}.test")
}

impl Scene {
    async fn set(count: usize, change: impl Fn(&mut Limits)) -> Self {
        let authority = Authority::new();
        // Its sockets hold little, so that what isn't read stays in the relay.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1024).unwrap();
        let deliver = vec![Endpoint::Address(listener.local_addr().unwrap())];
        let names: Vec<String> = (0..count).map(stalled).chain((0..WATCHED).map(watched)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let limits = |limits: &mut Limits| {
            limits.pair_queue_bytes = PAIR_QUEUE;
            limits.read_pause = READ_PAUSE;
            change(limits);
        };
        let a = Plan::new(&authority, &["a1.test"]).await.limits(limits).bind();
        let mut b = Plan::new(&authority, &names).await.limits(limits);
        b.settings.hosts[0].deliver = deliver;
        let b = b.bind();
        let (a_at, b_at) = (a.quic, b.quic);
        let a = a.peer(&names, b_at, Placement::StreamPerPair).start().await;
        let b = b.peer(&["a1.test"], a_at, Placement::StreamPerPair).start().await;
        Self { a, b, server: MoodyServer::start(listener), _authority: authority }
    }

    /// One stanza for each watched pair, again and again: how long each took.
    async fn latencies(&mut self, a1: &mut Host, rounds: usize) -> Vec<Duration> {
        let mut all = Vec::with_capacity(rounds * WATCHED);
        for round in 0..rounds {
            for n in 0..WATCHED {
                let id = format!("watched-{round}-{n}");
                let sent = Instant::now();
                a1.say(&watched(n), message("a1.test", &watched(n), &id)).await;
                loop {
                    let (heard, at) =
                        soon("a stanza of a watched pair", self.server.arrived.recv()).await.unwrap();
                    if heard == id {
                        all.push(at - sent);
                        break;
                    }
                    assert!(!heard.starts_with("watched"), "{heard} instead of {id}");
                }
            }
        }
        all.sort();
        all
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

/// Octets of this process that are in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    4096 * status.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
}

/// Memory and latency are those of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Let `count` pairs stall under a flood, and hold the others to what they were before.
async fn stall(count: usize, rounds: usize, change: impl Fn(&mut Limits)) {
    let _alone = ALONE.lock().await;
    let mut scene = Scene::set(count, change).await;
    let mut a1 = scene.a.host("a1.test");
    for n in 0..count {
        a1.say(&stalled(n), message("a1.test", &stalled(n), "first")).await;
        soon("the first stanza", scene.server.arrived.recv()).await.unwrap();
    }
    let before = scene.latencies(&mut a1, rounds).await;
    scene.server.stalled.send_replace((0..count).map(stalled).collect());

    // Each flood comes on a stream of its own, as from any server.
    let (memory, s2s) = (resident(), scene.a.s2s);
    let body = "x".repeat(BODY_BYTES);
    let piece = Arc::new(format!("<message from='a1.test' to='TO' id='flood'><body>{body}</body></message>"));
    let mut floods = JoinSet::new();
    for n in 0..count {
        let piece = Arc::clone(&piece);
        floods.spawn(async move {
            let mut wire = Wire::tcp(tokio::net::TcpStream::connect(s2s).await.unwrap());
            wire.authenticate("a1.test", &stalled(n)).await;
            let piece = piece.replace("TO", &stalled(n));
            let mut errors = wire.ear;
            let hear =
                tokio::spawn(async move { while let Heard::Stanza(_) = errors.hear_at_last().await {} });
            for _ in 0..FLOOD_STANZAS {
                wire.mouth.say(&piece).await;
            }
            (wire.mouth, hear)
        });
    }
    // While they rage, the others go on as before.
    let during = scene.latencies(&mut a1, rounds).await;
    let flooded = soon("the floods to be said", floods.join_all()).await;
    let accepted = || scene.a.relay.metrics().stanzas(Side::Local).0;
    until("the floods to be accepted", || accepted() >= (count * FLOOD_STANZAS) as u64).await;
    // What the second relay hasn't acknowledged waits in the first one too.
    let hits = |relay: &Provider| relay.metric("fedmux_limit_hits_total", &[("limit", "pair_queue_bytes")]);
    until("queues to be full", || hits(&scene.a) + hits(&scene.b) > 0).await;
    let after = scene.latencies(&mut a1, rounds).await;
    for (phase, latencies) in [("during", during), ("after", after)] {
        let (median, late) = (percentile(&latencies, 50), percentile(&latencies, 99));
        let usual = percentile(&before, 50);
        println!("{count} stalled, {phase}: median {median:?} (before: {usual:?}), 99th percentile {late:?}");
        assert!(
            median < (20 * usual).max(Duration::from_millis(100)),
            "{phase}: {median:?}, before {usual:?}"
        );
        // Whoever waited for a stalled pair would wait for its pause again and again; two processors that answer fifty floods
        // in a debug build are late by themselves.
        assert!(late < 2 * READ_PAUSE, "{phase}: {late:?}");
    }

    // What waits is bounded by what the stalled pairs may hold, at either relay.
    for provider in [&scene.a, &scene.b] {
        let queued = usize::try_from(provider.metric("fedmux_queued_bytes", &[])).unwrap();
        assert!(queued <= count * (PAIR_QUEUE + 64 * 1024), "{queued} octets wait");
    }
    let grown = resident().saturating_sub(memory);
    // Queues grow by doubling; beside them there are windows, readers' buffers, and the script's own.
    let bound = count * (2 * PAIR_QUEUE + 2 * 131_072 + 128 * 1024) + 64 * 1024 * 1024;
    println!("{count} stalled: memory grew by {} kB, bound {} kB", grown / 1024, bound / 1024);
    assert!(grown < bound, "memory grew by {grown}, more than {bound}");

    // They come to life again, and nothing has vanished.
    scene.server.stalled.send_replace(HashSet::new());
    let waiting =
        || scene.b.metric("fedmux_queued_stanzas", &[]) + scene.a.metric("fedmux_queued_stanzas", &[]);
    until("what waits to leave", || waiting() == 0).await;
    drop(flooded);
    for provider in [&scene.a, &scene.b] {
        provider.is_balanced().await;
        provider.assert_unharmed();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stalled_reader_leaves_the_other_pairs_as_they_were() {
    stall(1, 40, |_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_stalled_readers_leave_the_other_pairs_as_they_were() {
    stall(50, 40, |_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_readers_that_fill_the_relays_whole_memory_leave_the_other_pairs_as_they_were() {
    stall(50, 40, |limits| limits.queue_bytes = 4 * 1024 * 1024).await;
}
