//! What our own servers have to keep until we acknowledge it (XEP-0198).

use super::report::{Report, Severity};
use crate::relay::settings::{LocalAuth, Settings};

/// Prosody's `smacks_max_queue_size` where nobody has set it.
const PROSODY_KEEPS: u32 = 500;

/// Hold the limit against what servers keep. Only those that authenticate without dialback speak of acknowledgements.
pub(super) fn examine(settings: &Settings, report: &mut Report) {
    if !settings.hosts.iter().any(|host| matches!(host.local_auth, LocalAuth::Trusted { .. })) {
        return;
    }
    let unacked_max = settings.limits.unacked_max;
    report.unacked_max = Some(unacked_max);
    if unacked_max >= PROSODY_KEEPS {
        report.add(
            Severity::Warning,
            "limits.unacked_max",
            format!(
                "= {unacked_max}: Prosody keeps {PROSODY_KEEPS} unacknowledged stanzas of a stream, unless it is told otherwise, and \
                 drops the oldest of more without a word"
            ),
            "make it smaller; or set smacks_max_queue_size in Prosody to twice as many, which mod_fedmux does without",
        );
    }
}
