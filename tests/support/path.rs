//! A path between two relays: it takes its time, and can be cut. Each end sees the other at an address of the path, and
//! may pin it there.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The path. It ends when it is dropped.
pub(crate) struct Path {
    /// Where whoever is at `near` finds the other end.
    pub(crate) far_as_seen: SocketAddr,
    /// Where whoever is at `far` finds the other end.
    pub(crate) near_as_seen: SocketAddr,
    cut: Arc<AtomicBool>,
    carried: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Path {
    /// A path between the relays at `near` and `far`, over which a datagram takes `delay`.
    pub(crate) async fn between(near: SocketAddr, far: SocketAddr, delay: Duration) -> Self {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let (to_near, to_far) = (Arc::new(bind().await.unwrap()), Arc::new(bind().await.unwrap()));
        let (cut, carried) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for (from, out, target) in [(&to_near, &to_far, far), (&to_far, &to_near, near)] {
            let (sender, mut due) = unbounded_channel::<(Instant, Vec<u8>)>();
            let (from, out) = (Arc::clone(from), Arc::clone(out));
            let (cut, carried) = (Arc::clone(&cut), Arc::clone(&carried));
            tasks.spawn(async move {
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
                    let _closed_for_a_while = out.send_to(&datagram, target).await;
                }
            });
        }
        let (far_as_seen, near_as_seen) = (to_near.local_addr().unwrap(), to_far.local_addr().unwrap());
        Self { far_as_seen, near_as_seen, cut, carried, _tasks: tasks }
    }

    /// From now on nothing gets through, or everything again.
    pub(crate) fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    /// Datagrams so far.
    pub(crate) fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}
