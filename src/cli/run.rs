//! `fedmux run`: the relay.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use tokio::task::JoinSet;

use super::failure::Failure;
use super::lifecycle::{self, Ended, Service};
use super::signals::Signals;
use super::{ConfigArgument, logging};
use crate::relay::settings::Settings;
use crate::{admin, config};

/// Run the relay.
///
/// SIGTERM (or SIGINT) lets it finish what is under way, for at most limits.drain; a second one ends it at once. A
/// mistake in the configuration is told before any port is bound.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    logging: logging::LogArguments,
}

/// Run until told to stop.
pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    logging::start(&arguments.logging)?;
    let settings = config::load(&arguments.config.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Failure::failed(error, "the runtime", "the system gives no threads; look at its limits")
    })?;
    let ended = runtime.block_on(serve(settings));
    // Whatever still runs had its time, or was told to end at once.
    runtime.shutdown_background();
    ended
}

async fn serve(settings: Settings) -> Result<ExitCode, Failure> {
    let mut signals = Signals::watch()?;
    let admin_listeners = bind_admin(&settings.admin_listen)?;
    let relay = start(settings).await?;
    let mut admin_tasks = JoinSet::new();
    for listener in admin_listeners {
        admin_tasks.spawn(admin::serve(listener, relay.view()));
    }
    // The admin tasks only end by being dropped here, so that a draining relay can still be watched.
    match lifecycle::run(relay, async || signals.stop().await).await {
        Ended::Drained(report) => {
            tracing::info!("stopped: {report}");
            Ok(ExitCode::SUCCESS)
        }
        Ended::AtOnce => {
            let advice =
                "what was in custody is lost to this relay; senders that acknowledge will send it again";
            Err(Failure::failed("ended before it was drained", "a second signal", advice))
        }
        Ended::Failed(failure) => Err(Failure::failed_as(failure)),
    }
}

fn bind_admin(addresses: &[SocketAddr]) -> Result<Vec<tokio::net::TcpListener>, Failure> {
    let bind = |address: &SocketAddr| {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tracing::info!(address = %listener.local_addr()?, "admin listener");
        Ok(listener)
    };
    addresses
        .iter()
        .map(|address| {
            bind(address).map_err(|error: std::io::Error| {
                Failure::failed(
                    error,
                    format!("admin.listen {address}"),
                    "free the address, or choose another",
                )
            })
        })
        .collect()
}

/// Start the relay: everything is read and bound before the first peer can reach us.
#[expect(clippy::unused_async, reason = "the relay joins here when its branch is merged")]
async fn start(settings: Settings) -> Result<NoRelay, Failure> {
    let hosts = format!("{} hosts", settings.hosts.len());
    Err(Failure::failed("this build has no relay", hosts, "merge the relay's branch"))
}

/// Stands where the relay will.
enum NoRelay {}

impl Service for NoRelay {
    fn view(&self) -> std::sync::Arc<dyn admin::AdminView> {
        match *self {}
    }

    async fn failed(&self) -> String {
        match *self {}
    }

    async fn drain(self) -> String {
        match self {}
    }
}
