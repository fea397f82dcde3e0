//! What the service manager is told (sd_notify(3)): that stanzas are taken, that the configuration is read again, that the
//! relay stops; and a line for whoever asks it how the relay is. Without one nobody is told, and nothing is different.

use std::time::Duration;

use sd_notify::NotifyState;

/// Time for what comes after the drain: errors about what is left go out (`relay/drain.rs`), connections are closed, and the process
/// ends.
const AFTER_DRAIN: Duration = Duration::from_secs(15);

/// Stanzas are taken.
pub(super) fn ready(hosts: i64) {
    let status = format!("taking stanzas for {hosts} {}", if hosts == 1 { "host" } else { "hosts" });
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// The configuration is being read again; [`reloaded`] ends it.
pub(super) fn reloading() {
    // A manager that waits for the end of a reload tells by this time which one it was (systemd 253).
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager can't be told of the reload"),
    }
}

/// It was read; `refused`: the relay goes on with the one that it had, because of this.
pub(super) fn reloaded(hosts: i64, refused: Option<&str>) {
    match refused {
        None => ready(hosts),
        Some(why) => {
            let status = format!("not reloaded, going on as before: {}", why.replace('\n', "; "));
            tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
        }
    }
}

/// The relay stops, and takes at most `drain` for what is under way.
pub(super) fn stopping(drain: Duration) {
    let status = format!("stopping: finishing what is under way, for at most {} s", drain.as_secs());
    // However short its own patience is.
    let needed = u32::try_from((drain + AFTER_DRAIN).as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::Status(&status), NotifyState::ExtendTimeoutUsec(needed)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager can't be told how the relay is; look at NOTIFY_SOCKET");
    }
}
