//! Streams that our own servers and components open.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};

use crate::metrics::Opened;
use crate::proto::admission::Side;
use crate::proto::component::Component;
use crate::proto::stream::receiving::Receiving;
use crate::reason::Reason;
use crate::relay::guard::LaneGuard;
use crate::relay::hub::Hub;
use crate::relay::io::{Receive, Transmit};
use crate::relay::lane::{Lane, Machine};
use crate::relay::listeners::Listening;
use crate::relay::local::component::{self, ToComponent};
use crate::relay::place::Place;

/// Wait after a failed accept: the process is out of descriptors, and trying at once would spin.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Who opens streams at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Our own servers.
    Servers,
    /// Components.
    Components,
}

/// Accept streams for as long as they are this relay's.
pub(crate) async fn accept(
    hub: Arc<Hub>,
    listener: Listening<TcpListener>,
    who: Who,
    places: Arc<Semaphore>,
) {
    loop {
        let next = match who {
            Who::Servers => listener.accept_server(&hub).await,
            Who::Components => match listener.accept(&hub).await {
                Some(next) => next,
                None => return,
            },
        };
        let (connection, source) = match next {
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
        hub.tasks.spawn(serve(Arc::clone(&hub), connection, source, who, place));
    }
}

async fn serve(
    hub: Arc<Hub>,
    connection: TcpStream,
    source: SocketAddr,
    who: Who,
    place: OwnedSemaphorePermit,
) {
    // Stanzas are small and somebody waits for each.
    let _best_effort = connection.set_nodelay(true);
    if who == Who::Components {
        component::watch(&connection);
    }
    let (receive, send) = connection.into_split();
    carry(hub, source, who, (receive, send)).await;
    drop(place);
}

/// Run the stream over a connection that was made by `source`.
pub(crate) async fn carry(
    hub: Arc<Hub>,
    source: SocketAddr,
    who: Who,
    (receive, send): (impl Receive, impl Transmit),
) {
    let (id, mailbox) = hub.admit_lane();
    let guard = LaneGuard::new(&hub, id, Side::Local);
    hub.metrics.local_streams(Opened::Inbound).inc();
    let lane =
        |machine| Lane::new(&hub, id, mailbox, Place::FromServer { source: Box::new(source) }, machine);
    let ended = match who {
        Who::Servers => {
            lane(Machine::Receiving(Receiving::default())).run(receive, send, |ended| ended).await
        }
        Who::Components => {
            let lane = lane(Machine::Component(Component::default()));
            let ended = lane.run(receive, ToComponent::new(send), |ended| ended).await;
            if ended.established {
                info!(lane = id.0, %source, reason = %ended.reason, "component gone");
            }
            ended
        }
    };
    hub.metrics.local_streams(Opened::Inbound).dec();
    guard.down(ended.reason);
}
