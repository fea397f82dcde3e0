//! The secrets of components.

use super::report::{Report, Severity};
use crate::identity::component_secret;
use crate::relay::settings::Settings;

/// Read each of them.
pub(super) fn examine(settings: &Settings, report: &mut Report) {
    for component in &settings.components {
        match component_secret::load(&component.secret_file) {
            Err(error) => report.add(Severity::Error, component.domain.to_string(), error.to_string(), ""),
            Ok(loaded) => {
                let Some(mode) = loaded.readable_by_others else { continue };
                let file = component.secret_file.display();
                report.add(
                    Severity::Warning,
                    component.domain.to_string(),
                    format!("others can read its secret ({file}, mode {mode:04o}), and speak for it"),
                    format!("chmod 600 {file}"),
                );
            }
        }
    }
}
