//! Sockets that were handed over and don't fit the configuration, or that weren't handed over.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use tokio::net::TcpStream as Stream;

use crate::manager::{Handed, Manager, at, tcp};
use crate::support::wire::Wire;

/// The relay doesn't start, and says why in one line.
async fn refused(manager: &Manager, handed: Vec<Handed>) -> String {
    let process = manager.start_with(handed);
    assert_eq!(process.ended().await.code(), Some(1), "{}", manager.log());
    let log = manager.log();
    let line = log.lines().last().unwrap();
    assert!(line.starts_with("fedmux: "), "{log}");
    line.to_owned()
}

#[tokio::test]
async fn a_socket_that_no_listener_is_for_stops_the_start() {
    let manager = Manager::new();
    let other = tcp();
    let address = at(&other);
    let mut handed = manager.sockets.all();
    handed.push(("other.socket", OwnedFd::from(other)));
    let line = refused(&manager, handed).await;
    let expected = format!(
        "TCP {address}, handed over by the service manager as other.socket, is no listener of the configuration; add it to \
         [remote], [local] or [admin], or remove it from the socket unit"
    );
    assert!(line.ends_with(&expected), "{line}");
}

#[tokio::test]
async fn a_local_socket_that_the_world_reaches_stops_the_start() {
    let manager = Manager::new();
    let world = TcpListener::bind("0.0.0.0:0").unwrap();
    let wanted = std::net::SocketAddr::from(([127, 0, 0, 1], at(&world).port()));
    manager.configure(wanted);
    // Without it the relay would find the port taken.
    let line = refused(&manager, vec![("fedmux.socket", OwnedFd::from(world.try_clone().unwrap()))]).await;
    assert!(line.contains("local.s2s") && line.contains(&wanted.to_string()), "{line}");
    // The configuration can't name it either.
    manager.configure(at(&world));
    let process = manager.start_with(vec![("fedmux.socket", OwnedFd::from(world))]);
    assert_eq!(process.ended().await.code(), Some(2), "{}", manager.log());
    assert!(manager.log().contains("can be reached from outside"), "{}", manager.log());
}

#[tokio::test]
async fn what_is_no_listening_socket_stops_the_start() {
    let manager = Manager::new();
    let listener = tcp();
    let connection = TcpStream::connect(at(&listener)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let unix = UnixListener::bind(folder.path().join("socket")).unwrap();
    let file = std::fs::File::open(manager.configuration()).unwrap();
    for (handed, expected) in [
        (OwnedFd::from(connection), "is one connection and no listening socket; write Accept=no in its unit"),
        (OwnedFd::from(unix), "it is neither a TCP nor a UDP socket; remove it from the unit"),
        (OwnedFd::from(file), "it is neither a TCP nor a UDP socket; remove it from the unit"),
    ] {
        let line = refused(&manager, vec![("odd.socket", handed)]).await;
        assert!(
            line.contains("handed over descriptor 3 (odd.socket): ") && line.ends_with(expected),
            "{line}"
        );
    }
}

#[tokio::test]
async fn what_is_not_handed_over_is_bound() {
    let manager = Manager::new();
    // Nobody else binds at this address: its port stays free.
    let s2s = at(&TcpListener::bind("127.77.0.1:0").unwrap());
    manager.configure(s2s);
    let handed = manager.sockets.all().into_iter().filter(|(name, _)| *name != "s2s.socket").collect();
    let _relay = manager.start_with(handed);
    manager.told("READY=1").await;
    let mut wire = Wire::tcp(Stream::connect(s2s).await.unwrap());
    wire.authenticate("a.test", "b.test").await;
}

#[tokio::test]
async fn what_was_handed_over_to_another_process_is_left_alone() {
    let manager = Manager::new();
    let process = manager.spawn("LISTEN_PID=1 exec \"$0\" \"$@\"", manager.sockets.all());
    assert_eq!(process.ended().await.code(), Some(1));
    assert!(manager.log().contains("can't be bound"), "it went on to bind by itself: {}", manager.log());
}
