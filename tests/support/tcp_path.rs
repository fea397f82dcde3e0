//! A path between two relays over TCP that can be cut: connections break on both sides, and no new one gets through.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The path towards one relay. It ends when it is dropped.
pub(crate) struct TcpPath {
    /// Where whoever is at the near end finds the other one.
    pub(crate) far_as_seen: SocketAddr,
    cut: watch::Sender<bool>,
    _accepting: JoinSet<()>,
}

impl TcpPath {
    /// A path to the relay at `far`.
    pub(crate) async fn to(far: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let far_as_seen = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let mut is_cut = is_cut.clone();
                // Whoever connects to a path that is cut is let go at once.
                connections.spawn(async move {
                    tokio::select! {
                        biased;
                        _ = is_cut.wait_for(|cut| *cut) => {}
                        () = carry(near, far) => {}
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { far_as_seen, cut, _accepting: accepting }
    }

    /// From now on nothing gets through, or new connections again.
    pub(crate) fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

/// Carry what either end says until one has no more to say.
async fn carry(mut near: TcpStream, far: SocketAddr) {
    if let Ok(mut far) = TcpStream::connect(far).await {
        let _one_is_gone = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    }
}
