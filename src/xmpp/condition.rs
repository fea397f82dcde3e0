//! The defined conditions that stand on the wire, and which of them each [`Reason`] becomes.
//!
//! A violation is a [`Reason`] all the way; this file is the one place where it is mapped to stream errors
//! (RFC 6120 section 4.9.3) and stanza errors (section 8.3.3).

use crate::reason::Reason;

/// The stream error condition for `reason`.
#[must_use]
pub fn stream_condition(reason: Reason) -> &'static str {
    match reason {
        Reason::BadFormat => "bad-format",
        Reason::BadNamespacePrefix => "bad-namespace-prefix",
        Reason::Conflict | Reason::ComponentConnected => "conflict",
        Reason::NegotiationTimeout | Reason::Idle | Reason::ConnectionTimeout | Reason::Stalled => {
            "connection-timeout"
        }
        Reason::HostGone => "host-gone",
        Reason::HostUnknown | Reason::NotOurHost => "host-unknown",
        Reason::ImproperAddressing => "improper-addressing",
        Reason::InvalidFrom | Reason::WrongPair | Reason::CertificateWrongName => "invalid-from",
        Reason::InvalidNamespace => "invalid-namespace",
        Reason::NotAuthorized
        | Reason::SourceNotTrusted
        | Reason::DialbackInvalid
        | Reason::InvalidAuthzid
        | Reason::InvalidMechanism
        | Reason::ComponentSecretWrong => "not-authorized",
        Reason::NotWellFormed => "not-well-formed",
        Reason::StanzaTooBig
        | Reason::StanzaTooDeep
        | Reason::TooManyAttributes
        | Reason::PolicyViolation
        | Reason::PolicyDenied
        | Reason::TlsRequired
        | Reason::StarttlsInjection => "policy-violation",
        Reason::ResourceConstraint | Reason::TooMany | Reason::QueueFull => "resource-constraint",
        Reason::Reset => "reset",
        Reason::RestrictedXml => "restricted-xml",
        Reason::SystemShutdown | Reason::Draining => "system-shutdown",
        Reason::UnsupportedEncoding => "unsupported-encoding",
        Reason::UnsupportedFeature | Reason::ExternalNotOffered | Reason::StarttlsNotOffered => {
            "unsupported-feature"
        }
        Reason::UnsupportedStanzaType => "unsupported-stanza-type",
        Reason::UnsupportedVersion => "unsupported-version",
        Reason::DialbackTimeout => "remote-connection-failed",
        Reason::InternalServerError => "internal-server-error",
        _ => "undefined-condition",
    }
}

/// The reason that a received stream error condition stands for.
#[must_use]
pub fn reason_of_stream_condition(condition: &str) -> Reason {
    match condition {
        "remote-connection-failed" => Reason::DialbackTimeout,
        "connection-timeout" => Reason::Idle,
        "xml-not-well-formed" => Reason::NotWellFormed,
        _ => Reason::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == condition)
            .unwrap_or(Reason::UndefinedCondition),
    }
}

/// A stanza error: its type and its condition (RFC 6120 section 8.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StanzaError {
    /// `cancel`, `wait`, ...
    pub error_type: &'static str,
    /// The defined condition.
    pub condition: &'static str,
}

/// The stanza error with which a stanza comes back that could not go on for `reason`.
///
/// Time-outs and constraints are `wait`: rooms must not drop occupants for what passes.
#[must_use]
pub fn stanza_error(reason: Reason) -> StanzaError {
    let (error_type, condition) = match reason {
        Reason::QueueFull | Reason::TooMany | Reason::ResourceConstraint => ("wait", "resource-constraint"),
        Reason::MuxOwn => ("cancel", "not-allowed"),
        Reason::PolicyDenied | Reason::PolicyViolation | Reason::PoisonStanza => {
            ("cancel", "policy-violation")
        }
        Reason::StanzaTooBig | Reason::StanzaTooDeep | Reason::TooManyAttributes => {
            ("modify", "policy-violation")
        }
        Reason::NoRoute
        | Reason::NoRecords
        | Reason::NameNotResolved
        | Reason::HostUnknown
        | Reason::HostGone
        | Reason::AlpnRefused => ("cancel", "remote-server-not-found"),
        reason if reason.is_permanent() => ("cancel", "remote-server-not-found"),
        _ => ("wait", "remote-server-timeout"),
    };
    StanzaError { error_type, condition }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_condition_comes_back_as_a_reason_that_maps_to_it() {
        for reason in Reason::ALL {
            let condition = stream_condition(*reason);
            if condition != "undefined-condition" {
                assert_eq!(stream_condition(reason_of_stream_condition(condition)), condition);
            }
        }
        assert_eq!(reason_of_stream_condition("see-other-host"), Reason::UndefinedCondition);
    }
}
