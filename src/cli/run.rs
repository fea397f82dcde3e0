//! `fedmux run`: the relay.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::failure::Failure;
use super::lifecycle::{self, Ended, Service};
use super::operator::Operator;
use super::signals::Signals;
use super::{ConfigArgument, logging, service_manager, threads};
use crate::admin::socket::Place;
use crate::relay::settings::Settings;
use crate::relay::{Inherited, Listeners, Relay};
use crate::{admin, config};

/// Run the relay.
///
/// SIGTERM (or SIGINT) lets it finish what is under way, for at most limits.drain; a second one ends it at once. A
/// mistake in the configuration is told before any port is bound.
///
/// SIGHUP reads the configuration again, and the certificates, authorities and keys that it names. Hosts, peers, policy,
/// identity and rates change at once; listeners, other limits and components need a restart, and the log names each key of them that
/// has changed. With a mistake in it nothing changes. The folder of certificates is watched: a renewed one counts for new connections within
/// limits.certificates_poll. Other keys and authorities count after a SIGHUP.
///
/// Sockets that a service manager hands over (socket activation) are used where the configuration names their address; they
/// outlive the relay, so that a restart refuses nobody. It is told when the relay takes stanzas (Type=notify).
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    logging: logging::LogArguments,
}

/// Run until told to stop.
pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let level = logging::start(&arguments.logging)?;
    let settings = config::load(&arguments.config.config)?;
    // While this is the only thread.
    let inherited = Inherited::take().map_err(Failure::failed_as)?;
    let runtime = threads::start(settings.limits.threads)?;
    let ended = runtime.block_on(serve(settings, inherited, &arguments.config.config, level));
    // Whatever still runs had its time, or was told to end at once.
    runtime.shutdown_background();
    ended
}

async fn serve(
    settings: Settings,
    inherited: Inherited,
    path: &Path,
    level: logging::Level,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::watch()?;
    let mut listeners = Listeners::open(&settings, inherited).map_err(Failure::failed_as)?;
    let admin_listeners = listeners.take_admin();
    let drain = settings.limits.drain;
    let socket = settings.admin_socket.as_deref().map(Place::take).transpose().map_err(Failure::failed_as)?;
    let relay = Relay::start(settings, listeners).await.map_err(Failure::failed_as)?;
    let mut admin_tasks = JoinSet::new();
    for listener in admin_listeners {
        let listener = asynchronous(listener)?;
        admin_tasks.spawn(admin::serve(listener, Arc::new(relay.view())));
    }
    let socket = socket.map(Arc::new);
    if let Some(place) = &socket {
        tracing::info!(path = %place.path().display(), "admin socket");
        let operated = Arc::new(Operator::new(relay.view(), level));
        admin_tasks.spawn(admin::socket::serve(Arc::clone(place), operated));
    }
    let running = Running { relay, path, drain };
    service_manager::ready(running.hosts());
    // The admin tasks only end by being dropped here, so that a draining relay can still be watched.
    let ended = lifecycle::run(running, async || signals.next().await).await;
    // Whoever still answers there doesn't see its own end.
    if let Some(place) = socket {
        place.leave();
    }
    match ended {
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

fn asynchronous(listener: std::net::TcpListener) -> Result<tokio::net::TcpListener, Failure> {
    let failed = |error: std::io::Error| {
        Failure::failed(error, "admin.listen", "the system can't watch the socket; look at its limits")
    };
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    tracing::info!(address = %listener.local_addr().map_err(failed)?, "admin listener");
    Ok(listener)
}

/// A relay, and where its configuration is.
struct Running<'a> {
    relay: Relay,
    path: &'a Path,
    /// What a drain may take.
    drain: Duration,
}

impl Running<'_> {
    fn hosts(&self) -> i64 {
        self.relay.metrics().hosts.get()
    }
}

impl Service for Running<'_> {
    async fn reload(&self) {
        service_manager::reloading();
        // It reads a few files; other threads go on with the stanzas.
        let errors: Vec<String> = match config::load(self.path) {
            Ok(settings) => self.relay.reload(settings).err().iter().map(ToString::to_string).collect(),
            Err(errors) => {
                self.relay.reload_refused(&errors.to_string().replace('\n', "; "));
                errors.to_string().lines().map(str::to_owned).collect()
            }
        };
        for error in &errors {
            tracing::error!("reload: {error}");
        }
        if !errors.is_empty() {
            tracing::error!("not reloaded: the relay goes on with the configuration that it had");
        }
        service_manager::reloaded(self.hosts(), errors.first().map(String::as_str));
    }

    async fn failed(&self) -> String {
        self.relay.failed().await.to_string()
    }

    async fn drain(self) -> String {
        service_manager::stopping(self.drain);
        self.relay.drain().await.to_string()
    }
}
