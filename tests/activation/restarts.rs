//! A relay that was killed, or told to stop: whoever comes meanwhile waits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;
use hickory_server::proto::op::{Message, Query};
use hickory_server::proto::rr::{Name, RecordType};
use quinn::ConnectionError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::manager::{Manager, Process, SECRET, ask, at, get};
use crate::support::peer::Peer;
use crate::support::tcp_peer::Dialler;
use crate::support::wire::{Heard, Wire, answer, header, message};
use crate::support::{component, soon};

/// How often the relay is killed under those who keep coming.
const KILLS: usize = 8;
/// How many of them there are.
const CALLERS: usize = 4;

/// Each of them connects, and is served. What they have said lies before the relay when it starts.
async fn everybody(manager: &Manager) -> JoinSet<()> {
    let sockets = &manager.sockets;
    let mut waiting = JoinSet::new();

    let mut server = Wire::tcp(TcpStream::connect(at(&sockets.s2s)).await.unwrap());
    server.say(header("a.test", "b.test")).await;
    waiting.spawn(async move {
        let features = server.features().await;
        assert!(features.child("mechanisms", fedmux::xmpp::namespace::SASL).is_some(), "{features:?}");
    });

    let mut irc = component::open(at(&sockets.components)).await;
    irc.say(component::header("irc.a.test")).await;
    waiting.spawn(async move {
        let Heard::Header(answer) = irc.hear().await else { panic!("no stream header") };
        irc.say(component::handshake(&answer.id.unwrap(), SECRET)).await;
        let accepted = Element::new("handshake", fedmux::xmpp::namespace::COMPONENT_ACCEPT);
        assert_eq!(irc.hear().await, Heard::Element(accepted));
    });

    let admin = TcpStream::connect(at(&sockets.admin)).await.unwrap();
    waiting.spawn(async move {
        assert!(ask(admin, "/ready").await.starts_with("HTTP/1.1 200 "));
    });

    let dns = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    dns.connect(sockets.dns_udp.local_addr().unwrap()).await.unwrap();
    dns.send(&question(1)).await.unwrap();
    waiting.spawn(async move {
        let mut answer = [0; 512];
        let length = soon("an answer over UDP", dns.recv(&mut answer)).await.unwrap();
        assert_eq!(Message::from_vec(&answer[..length]).unwrap().answers.len(), 1);
    });

    let mut dns = TcpStream::connect(at(&sockets.dns_tcp)).await.unwrap();
    let asked = question(2);
    dns.write_u16(u16::try_from(asked.len()).unwrap()).await.unwrap();
    dns.write_all(&asked).await.unwrap();
    waiting.spawn(async move {
        let length = soon("an answer over TCP", dns.read_u16()).await.unwrap();
        let mut answer = vec![0; length.into()];
        dns.read_exact(&mut answer).await.unwrap();
        assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 1);
    });
    for peer in peers(manager).await {
        waiting.spawn(peer);
    }
    waiting
}

/// Whoever comes to the remote side.
async fn peers(manager: &Manager) -> Vec<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> {
    let sockets = &manager.sockets;
    let certificate = manager.authority.certify(&["b.test"]);
    let direct = TcpStream::connect(at(&sockets.direct_tls)).await.unwrap();
    let starttls = TcpStream::connect(at(&sockets.starttls)).await.unwrap();
    let quic = sockets.quic.local_addr().unwrap();
    let peer = Peer::start(&certificate);
    vec![
        Box::pin(async move {
            let dialler = Dialler::with(Some(&certificate));
            let mut wire = dialler.secure(direct, "a.test").await.unwrap();
            wire.authenticate("b.test", "a.test").await;
        }),
        Box::pin(async move {
            let mut wire = Wire::tcp(starttls);
            let features = wire.greet("b.test", "a.test").await;
            assert!(features.child("starttls", fedmux::xmpp::namespace::TLS).is_some(), "{features:?}");
        }),
        Box::pin(async move {
            // A datagram that is lost, or that nobody answers, is sent again.
            peer.dial(quic, "a.test").await.unwrap().lane("b.test", "a.test").await;
        }),
    ]
}

fn question(id: u16) -> Vec<u8> {
    let mut question = Message::query();
    question.metadata.id = id;
    let name = Name::from_ascii("_xmpp-server._tcp.b.test.").unwrap();
    question.add_query(Query::query(name, RecordType::SRV));
    question.to_vec().unwrap()
}

/// All of them were served.
async fn served(mut waiting: JoinSet<()>) {
    while let Some(one) = soon("whoever waits to be served", waiting.join_next()).await {
        one.unwrap();
    }
}

#[tokio::test]
async fn whoever_comes_while_a_killed_relay_is_away_waits_for_the_next() {
    let manager = Manager::new();
    manager.start().await.kill();
    // Nobody is there; each of these would be refused by a port that is closed.
    let waiting = everybody(&manager).await;
    let _next = manager.start().await;
    served(waiting).await;
}

#[tokio::test]
async fn whoever_comes_while_a_relay_finishes_waits_for_the_next() {
    let manager = Manager::new();
    let relay = manager.start().await;
    // Its server never closes in return, so that there is something to finish.
    let mut lane = Wire::tcp(TcpStream::connect(at(&manager.sockets.s2s)).await.unwrap());
    lane.authenticate("a.test", "b.test").await;
    relay.signal("TERM");
    manager.told("STOPPING=1").await;
    while !get(at(&manager.sockets.admin), "/ready").await.starts_with("HTTP/1.1 503 ") {}
    assert_eq!(lane.hear().await, Heard::End);

    let mut late = Wire::tcp(TcpStream::connect(at(&manager.sockets.s2s)).await.unwrap());
    late.say(header("a.test", "b.test")).await;
    let mut waiting = JoinSet::new();
    waiting.spawn(async move {
        late.features().await;
    });
    for peer in peers(&manager).await {
        waiting.spawn(peer);
    }
    // Time enough for the relay to turn them away.
    for _ in 0..20 {
        get(at(&manager.sockets.admin), "/live").await;
    }
    relay.signal("TERM");
    assert_eq!(relay.ended().await.code(), Some(1), "the second signal ends it at once: {}", manager.log());
    let _next = manager.start().await;
    served(waiting).await;
}

#[tokio::test]
async fn a_peer_learns_at_once_that_the_relay_it_dialled_was_killed() {
    let manager = Manager::new();
    let relay = manager.start().await;
    let certificate = manager.authority.certify(&["b.test"]);
    let peer = Peer::start(&certificate);
    let connection = peer.dial(manager.sockets.quic.local_addr().unwrap(), "a.test").await.unwrap();
    let mut lane = connection.lane("b.test", "a.test").await;
    relay.kill();
    let _next = manager.start().await;
    // Without an answer to this it would find out by a time-out, which is a minute. It may have heard already.
    let _heard = lane.mouth.try_say(message("b.test", "a.test", "late")).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), connection.0.closed()).await;
    assert_eq!(ended, Ok(ConnectionError::Reset));
}

#[tokio::test]
async fn nobody_is_refused_however_often_it_is_killed() {
    let manager = Arc::new(Manager::new());
    let over = Arc::new(AtomicBool::new(false));
    let (came, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (over, came, heard) = (Arc::clone(&over), Arc::clone(&came), Arc::clone(&heard));
        let relay = at(&manager.sockets.s2s);
        callers.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let mut stream = TcpStream::connect(relay).await?;
                came.fetch_add(1, Ordering::Relaxed);
                // One that was accepted may be cut; that is seen, and tried again.
                let answered = async {
                    stream.write_all(header("a.test", "b.test").as_bytes()).await?;
                    stream.read_u8().await
                };
                if soon("an answer, or the end", answered).await.is_ok() {
                    heard.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok::<_, io::Error>(())
        });
    }
    let mut relay = manager.start().await;
    for _ in 0..KILLS {
        let before = heard.load(Ordering::Relaxed);
        soon("callers to be answered", async {
            while heard.load(Ordering::Relaxed) < before + 2 * CALLERS {
                tokio::task::yield_now().await;
            }
        })
        .await;
        relay.kill();
        relay = manager.start().await;
    }
    over.store(true, Ordering::Relaxed);
    while let Some(caller) = soon("the last callers", callers.join_next()).await {
        caller.unwrap().expect("nobody is refused");
    }
    let (came, heard) = (came.load(Ordering::Relaxed), heard.load(Ordering::Relaxed));
    assert!(came - heard <= (KILLS + 1) * CALLERS, "{heard} of {came} were answered");
}

/// A relay that has just connected to the server of a.test, to bring it what a component says.
async fn with_a_stream_to_the_server(manager: &Manager) -> (Process, Wire) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    manager.deliver_to(server.local_addr().unwrap());
    let relay = manager.start().await;
    let mut irc = component::connect(at(&manager.sockets.components), "irc.a.test", SECRET).await;
    irc.say(message("irc.a.test", "a.test", "1")).await;
    let (connection, _) = soon("the relay at the host's server", server.accept()).await.unwrap();
    (relay, Wire::tcp(connection))
}

/// The key that the relay sends on it.
async fn key_of(stream: &mut Wire) -> String {
    let Heard::Header(_) = stream.hear().await else { panic!("no stream header") };
    let features = format!("<stream:features><dialback xmlns='{}'/></stream:features>", ns::DIALBACK_FEATURE);
    stream.say(answer("a.test", "irc.a.test", "s0") + &features).await;
    let Heard::Element(result) = stream.hear().await else { panic!("no dialback key") };
    result.text()
}

/// Our server asks about the key on a stream that the relay opened before it was told to stop: nobody else can answer that.
#[tokio::test]
async fn a_server_that_asks_about_a_key_of_a_relay_that_finishes_is_answered() {
    let manager = Manager::new();
    let (relay, mut stream) = with_a_stream_to_the_server(&manager).await;
    relay.signal("TERM");
    manager.told("STOPPING=1").await;

    let key = key_of(&mut stream).await;
    let mut question = Wire::tcp(TcpStream::connect(at(&manager.sockets.s2s)).await.unwrap());
    question.greet("a.test", "irc.a.test").await;
    let db = format!("xmlns:db='{}'", ns::DIALBACK);
    question.say(format!("<db:verify {db} from='a.test' to='irc.a.test' id='s0'>{key}</db:verify>")).await;
    let Heard::Element(said) = question.hear().await else { panic!("no answer") };
    assert_eq!(said.attribute("type"), Some("valid"));
    stream.say(format!("<db:result {db} from='a.test' to='irc.a.test' type='valid'/>")).await;
    assert_eq!(stream.ear.stanza().await.attribute("id"), Some("1"));
}

/// A stream that is established asks nobody about its key, however long its server takes to close it.
#[tokio::test]
async fn a_server_that_closes_late_lets_nobody_in_meanwhile() {
    let manager = Manager::new();
    let (relay, mut stream) = with_a_stream_to_the_server(&manager).await;
    key_of(&mut stream).await;
    let db = format!("xmlns:db='{}'", ns::DIALBACK);
    stream.say(format!("<db:result {db} from='a.test' to='irc.a.test' type='valid'/>")).await;
    assert_eq!(stream.ear.stanza().await.attribute("id"), Some("1"));
    relay.signal("TERM");
    manager.told("STOPPING=1").await;
    assert_eq!(stream.hear().await, Heard::End);

    let mut late = Wire::tcp(TcpStream::connect(at(&manager.sockets.s2s)).await.unwrap());
    late.say(header("a.test", "b.test")).await;
    let answered = tokio::spawn(async move { late.features().await });
    // Time enough for the relay to answer.
    for _ in 0..50 {
        get(at(&manager.sockets.admin), "/live").await;
    }
    assert!(!answered.is_finished());
    relay.kill();
    let _next = manager.start().await;
    soon("the next relay's answer", answered).await.unwrap();
}
