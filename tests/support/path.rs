//! A path between two relays: it takes its time, and can be cut, or come out elsewhere. Each end sees the other at an address of
//! the path, and may pin it there.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// The path. It ends when it is dropped.
pub(crate) struct Path {
    /// Where whoever is at `near` finds the other end.
    pub(crate) far_as_seen: SocketAddr,
    /// Where whoever is at `far` finds the other end.
    pub(crate) near_as_seen: SocketAddr,
    near: SocketAddr,
    at_near: Arc<UdpSocket>,
    at_far: Exit,
    /// Reads what comes to where `far` sees the other end.
    reader: AbortHandle,
    inside: Inside,
    tasks: JoinSet<()>,
}

/// The socket from which an end gets its datagrams: it may be another one tomorrow.
type Exit = Arc<Mutex<Arc<UdpSocket>>>;

#[derive(Clone)]
struct Inside {
    delay: Duration,
    cut: Arc<AtomicBool>,
    carried: Arc<AtomicU64>,
}

async fn bind() -> Arc<UdpSocket> {
    Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap())
}

impl Path {
    /// A path between the relays at `near` and `far`, over which a datagram takes `delay`.
    pub(crate) async fn between(near: SocketAddr, far: SocketAddr, delay: Duration) -> Self {
        let (at_near, at_far) = (bind().await, bind().await);
        let (far_as_seen, near_as_seen) = (at_near.local_addr().unwrap(), at_far.local_addr().unwrap());
        let inside = Inside { delay, cut: Arc::default(), carried: Arc::default() };
        let mut tasks = JoinSet::new();
        let exit = Arc::new(Mutex::new(Arc::clone(&at_far)));
        inside.carry(&mut tasks, Arc::clone(&at_near), Arc::clone(&exit), far);
        let reader = inside.carry(&mut tasks, at_far, Arc::new(Mutex::new(Arc::clone(&at_near))), near);
        Self { far_as_seen, near_as_seen, near, at_near, at_far: exit, reader, inside, tasks }
    }

    /// Whoever is at `far` sees the other end elsewhere from now on, as behind a NAT that has forgotten it. What is sent to where
    /// it was arrives nowhere. Where it is seen now.
    pub(crate) async fn rebind(&mut self) -> SocketAddr {
        let socket = bind().await;
        let seen = socket.local_addr().unwrap();
        *self.at_far.lock().unwrap() = Arc::clone(&socket);
        self.reader.abort();
        let back = Arc::new(Mutex::new(Arc::clone(&self.at_near)));
        self.reader = self.inside.carry(&mut self.tasks, socket, back, self.near);
        seen
    }

    /// From now on nothing gets through, or everything again.
    pub(crate) fn cut(&self, cut: bool) {
        self.inside.cut.store(cut, Ordering::Relaxed);
    }

    /// Datagrams so far.
    pub(crate) fn carried(&self) -> u64 {
        self.inside.carried.load(Ordering::Relaxed)
    }
}

impl Inside {
    /// Take what comes at `from` to `target`, out of `exit`. What reads there.
    fn carry(
        &self,
        tasks: &mut JoinSet<()>,
        from: Arc<UdpSocket>,
        exit: Exit,
        target: SocketAddr,
    ) -> AbortHandle {
        let (sender, mut due) = unbounded_channel::<(Instant, Vec<u8>)>();
        let Self { delay, cut, carried } = self.clone();
        let reader = tasks.spawn(async move {
            let mut datagram = vec![0; 65_536];
            // A port that is closed for a while shows as an error here.
            loop {
                if let Ok((len, _)) = from.recv_from(&mut datagram).await
                    && !cut.load(Ordering::Relaxed)
                    && sender.send((Instant::now() + delay, datagram[..len].to_vec())).is_err()
                {
                    return;
                }
            }
        });
        tasks.spawn(async move {
            while let Some((at, datagram)) = due.recv().await {
                tokio::time::sleep_until(at).await;
                carried.fetch_add(1, Ordering::Relaxed);
                let out = Arc::clone(&*exit.lock().unwrap());
                let _closed_for_a_while = out.send_to(&datagram, target).await;
            }
        });
        reader
    }
}
