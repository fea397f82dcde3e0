//! Streams that our own servers open.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::metrics::Opened;
use crate::proto::admission::Side;
use crate::proto::stream::receiving::Receiving;
use crate::reason::Reason;
use crate::relay::guard::LaneGuard;
use crate::relay::hub::Hub;
use crate::relay::lane::{Lane, Machine};
use crate::relay::place::Place;

/// Wait after a failed accept: the process is out of descriptors, and trying at once would spin.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Accept streams for ever.
pub(crate) async fn accept(hub: Arc<Hub>, listener: TcpListener, places: Arc<Semaphore>) {
    loop {
        let (connection, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "no connection of our own servers could be accepted; check the limit of open files");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            hub.metrics.limit_hit("local_connections");
            hub.metrics.refused(Side::Local, Reason::TooMany);
            continue;
        };
        hub.tasks.spawn(serve(Arc::clone(&hub), connection, source, place));
    }
}

async fn serve(hub: Arc<Hub>, connection: TcpStream, source: SocketAddr, place: OwnedSemaphorePermit) {
    // Stanzas are small and somebody waits for each.
    let _best_effort = connection.set_nodelay(true);
    let (id, mailbox) = hub.admit_lane();
    let guard = LaneGuard::new(&hub, id, Side::Local);
    hub.metrics.local_streams(Opened::Inbound).inc();
    let machine = Machine::Receiving(Receiving::default());
    let lane = Lane::new(&hub, id, mailbox, Place::FromServer { source }, machine);
    let (receive, send) = connection.into_split();
    let ended = lane.run(receive, send).await;
    hub.metrics.local_streams(Opened::Inbound).dec();
    guard.down(ended.reason);
    drop(place);
}
