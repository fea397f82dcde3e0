//! How the configuration and the certificates were last read again.
//!
//! Each is refused, and taken, for itself: certificates that are renewed mend no configuration, and that they were refused is over when
//! those in use are in their folder again. What waits for a restart waits whatever is read of certificates, or refused.

use super::clock;
use super::hub::Hub;
use super::mailbox::lock;
use super::status::{Reloaded, wall_text};

/// What is remembered of it.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// What was taken last.
    taken: Option<Taken>,
    /// What of it counts only after a restart.
    needs_restart: Vec<String>,
    /// The configuration was refused, and none taken since.
    configuration: Option<Refused>,
    /// The same of the certificates.
    certificates: Option<Refused>,
}

#[derive(Debug)]
struct Taken {
    at: String,
    changed: Vec<String>,
}

#[derive(Debug)]
struct Refused {
    at: String,
    why: String,
}

impl Readings {
    /// As it is told; `None` if nothing was read again. While something is refused, that is told.
    pub(super) fn told(&self) -> Option<Reloaded> {
        let refused: Vec<_> = self.configuration.iter().chain(&self.certificates).collect();
        let needs_restart = self.needs_restart.clone();
        let Some(at) = refused.iter().map(|refused| &refused.at).max() else {
            let Taken { at, changed } = self.taken.as_ref()?;
            return Some(Reloaded { at: at.clone(), refused: None, changed: changed.clone(), needs_restart });
        };
        let why: Vec<_> = refused.iter().map(|refused| refused.why.as_str()).collect();
        Some(Reloaded { at: at.clone(), refused: Some(why.join("; ")), changed: Vec::new(), needs_restart })
    }
}

impl Hub {
    /// The configuration was taken, and with it the certificates.
    pub(super) fn configuration_taken(&self, changed: Vec<String>, needs_restart: Vec<String>) {
        self.metrics.reloads.done();
        self.remember(|readings, at| {
            let taken = Some(Taken { at, changed });
            *readings = Readings { taken, needs_restart, configuration: None, certificates: None };
        });
    }

    /// It was not, because of this.
    pub(super) fn configuration_refused(&self, why: String) {
        self.metrics.reloads.refused();
        self.remember(|readings, at| readings.configuration = Some(Refused { at, why }));
    }

    /// Other certificates were taken.
    pub(super) fn certificates_taken(&self, changed: String) {
        self.metrics.reloads.done();
        self.remember(|readings, at| {
            readings.taken = Some(Taken { at, changed: vec![changed] });
            readings.certificates = None;
        });
    }

    /// They were not, because of this.
    pub(super) fn certificates_refused(&self, why: String) {
        self.metrics.reloads.refused();
        self.remember(|readings, at| readings.certificates = Some(Refused { at, why }));
    }

    /// Those in use are in their folder. Whether others had been refused.
    pub(super) fn certificates_stand(&self) -> bool {
        self.remember(|readings, _| readings.certificates.take().is_some())
    }

    fn remember<T>(&self, change: impl FnOnce(&mut Readings, String) -> T) -> T {
        let mut readings = lock(&self.readings);
        let changed = change(&mut readings, wall_text(clock::wall()));
        self.metrics
            .reloads
            .stands_refused(readings.configuration.is_some() || readings.certificates.is_some());
        changed
    }
}
