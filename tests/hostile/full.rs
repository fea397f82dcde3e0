//! Both directions of a pair are full at once: the servers behind both relays have stopped reading. Then they go on, and
//! everything arrives, in order: neither direction waits for the other.

use std::time::Duration;

use fedmux::proto::limits::Limits;
use fedmux::relay::settings::{Endpoint, Placement};
use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::scene::ALONE;
use crate::support::certificates::Authority;
use crate::support::provider::{Plan, Provider};
use crate::support::wire::{Ear, Heard, Mouth, Wire};
use crate::support::{soon, until};

/// Far more than the queues, windows and socket buffers of one direction hold.
const STANZAS: usize = 600;
const BODY_BYTES: usize = 16_000;
const PAIR_QUEUE: usize = 128 * 1024;

/// What arrived at a server, which reads only while it is told to; and what came back to it.
struct Server {
    arrived: mpsc::UnboundedReceiver<String>,
    came_back: mpsc::UnboundedReceiver<String>,
    listener: Option<TcpListener>,
    senders: (mpsc::UnboundedSender<String>, mpsc::UnboundedSender<String>),
}

impl Server {
    fn new() -> Self {
        let ((sender, arrived), (back, came_back)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        // Its sockets hold little, so that what isn't read stays in the relays.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = Some(socket.listen(64).unwrap());
        Self { arrived, came_back, listener, senders: (sender, back) }
    }

    /// Take what comes, while `reads` says so.
    async fn take(
        mut ear: Ear,
        (sender, back): (mpsc::UnboundedSender<String>, mpsc::UnboundedSender<String>),
        mut reads: watch::Receiver<bool>,
    ) {
        loop {
            if reads.wait_for(|reads| *reads).await.is_err() {
                return;
            }
            let Heard::Stanza(stanza) = (match ear.hear_at_last().await {
                Heard::Header(_) | Heard::Element(_) => continue,
                heard => heard,
            }) else {
                return;
            };
            let id = stanza.attribute("id").unwrap().to_owned();
            let _test_over = if is_error(&stanza) { back.send(id) } else { sender.send(id) };
        }
    }
}

fn is_error(stanza: &Element) -> bool {
    stanza.attribute("type") == Some("error") && stanza.child("error", ns::SERVER).is_some()
}

/// Say everything.
async fn say_all(mut mouth: Mouth, from: &'static str, to: &'static str) -> Mouth {
    let body = "x".repeat(BODY_BYTES);
    for n in 0..STANZAS {
        mouth.say(format!("<message from='{from}' to='{to}' id='{n}'><body>{body}</body></message>")).await;
    }
    mouth
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_full_directions_do_not_wait_for_each_other() {
    let _alone = ALONE.lock().await;
    let authority = Authority::new();
    let limits = |limits: &mut Limits| {
        limits.pair_queue_bytes = PAIR_QUEUE;
        // Longer than the servers stand still: what finds no room waits at its sender.
        limits.read_pause = Duration::from_secs(30);
    };
    let mut servers = [Server::new(), Server::new()];
    let mut plans = Vec::new();
    for (host, server) in ["a.test", "b.test"].iter().zip(&servers) {
        let mut plan = Plan::new(&authority, &[host]).await.limits(limits);
        let at = server.listener.as_ref().unwrap().local_addr().unwrap();
        plan.settings.hosts[0].deliver = vec![Endpoint::Address(at)];
        plans.push(plan.bind());
    }
    let (b, a) = (plans.pop().unwrap(), plans.pop().unwrap());
    let (a_at, b_at) = (a.quic, b.quic);
    let a = a.peer(&["b.test"], b_at, Placement::StreamPerPair).start().await;
    let b = b.peer(&["a.test"], a_at, Placement::StreamPerPair).start().await;

    let (reading, reads) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut saying = Vec::new();
    let pairs = [(&a, ("a.test", "b.test")), (&b, ("b.test", "a.test"))];
    for ((relay, (from, to)), server) in pairs.into_iter().zip(&mut servers) {
        let (listener, senders) = (server.listener.take().unwrap(), server.senders.clone());
        let (moods, errors) = (reads.clone(), senders.clone());
        tasks.spawn(async move {
            let (connection, _) = listener.accept().await.unwrap();
            let mut wire = Wire::tcp(connection);
            wire.accept().await;
            Server::take(wire.ear, senders, moods).await;
        });
        // Both directions may go on this one, which the server opened: it doesn't read that either.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(16 * 1024).unwrap();
        let mut wire = Wire::tcp(socket.connect(relay.s2s).await.unwrap());
        wire.authenticate(from, to).await;
        let Wire { ear, mouth, .. } = wire;
        tasks.spawn(Server::take(ear, errors, reads.clone()));
        saying.push(tokio::spawn(say_all(mouth, from, to)));
    }
    // Both are full: the relays have as much as they take, and both senders wait.
    let full = |relay: &Provider| relay.metric("fedmux_queued_bytes", &[]) > PAIR_QUEUE as u64 / 2;
    until("both directions to be full", || full(&a) && full(&b)).await;
    assert!(saying.iter().all(|saying| !saying.is_finished()), "everything found room somewhere");
    reading.send_replace(true);
    for (server, saying) in servers.iter_mut().zip(saying) {
        for n in 0..STANZAS {
            let id = soon("everything to arrive", server.arrived.recv()).await.unwrap();
            assert_eq!(id, n.to_string(), "in order");
        }
        soon("everything to be said", saying).await.unwrap();
        assert!(server.came_back.try_recv().is_err(), "nothing came back");
    }
    for relay in [&a, &b] {
        relay.is_balanced().await;
        relay.assert_unharmed();
    }
}
