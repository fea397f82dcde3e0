//! `fedmux explain`: why a domain is reached, or isn't.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::ask::Asking;
use super::check::paragraph;
use super::failure::Failure;
use super::output::print;
use crate::admin::socket::Question;
use crate::relay::explain::{AttemptExplained, Explanation, StepExplained};
use crate::xmpp::domain::Domain;

/// Steps of an attempt that are shown; of more the first and the last.
const STEPS_SHOWN_MAX: usize = 40;

/// Say what was tried towards a domain, and the one fact that failed.
///
/// Shows every step as a running relay has really tried it, with its time: policy, the records that were found, the addresses that were
/// raced, TLS with the names and the extended key usage of the certificate, features, authentication, and how hosts joined by mux.
/// Nothing is tried for the sake of it: if nothing is known, send something to the domain and ask again.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The remote domain.
    #[arg(value_name = "DOMAIN", value_parser = parse_domain)]
    domain: Domain,

    /// Only what concerns this host of ours.
    #[arg(long, value_name = "HOST", value_parser = parse_domain)]
    from: Option<Domain>,

    #[command(flatten)]
    asking: Asking,

    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
}

fn parse_domain(text: &str) -> Result<Domain, String> {
    Domain::parse(text).map_err(|error| format!("{error}; write it like b.example"))
}

/// Ask, and show the answer.
pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let question = Question::Explain {
        domain: arguments.domain.to_string(),
        from: arguments.from.as_ref().map(ToString::to_string),
    };
    if arguments.json {
        let explanation: serde_json::Value = arguments.asking.ask(&question)?;
        print(&format!("{explanation:#}\n"))?;
    } else {
        let explanation: Explanation = arguments.asking.ask(&question)?;
        print(&render(&explanation))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(explanation: &Explanation) -> String {
    let mut out = String::new();
    let Explanation { domain, at, own, configured, allowed, denied, sessions, attempts, .. } = explanation;
    let _infallible = writeln!(out, "{domain}, {at}");
    if *own {
        paragraph(
            &mut out,
            "  ",
            "It is a host of this relay: `fedmux status` shows whether its server is there.",
        );
        return out;
    }
    let found = "by its records: no [[peer]] carries it";
    let way = configured.as_ref().map_or_else(|| found.to_owned(), |peer| format!("[[peer]] at {peer}"));
    paragraph(&mut out, "  found     ", &way);
    let policy = format!("{} of {} hosts may send to it", allowed.0, allowed.1);
    let more = if denied.is_empty() { String::new() } else { format!("; not {}", denied.join(", ")) };
    paragraph(&mut out, "  policy    ", &format!("{policy}{more}"));
    let proven: Vec<String> = sessions.iter().map(ToString::to_string).collect();
    let proven = if proven.is_empty() {
        "in no session".to_owned()
    } else {
        format!("in session {}", proven.join(", "))
    };
    paragraph(&mut out, "  proven    ", &proven);
    paragraph(&mut out, "  now       ", &now(explanation));
    if attempts.is_empty() {
        let nothing = "Nothing was tried towards it, as far as this relay remembers. Send something there, and ask again.";
        let _infallible = writeln!(out);
        paragraph(&mut out, "", nothing);
    }
    for attempt in attempts {
        show(&mut out, attempt);
    }
    verdict(&mut out, explanation);
    out
}

fn now(explanation: &Explanation) -> String {
    let state = explanation.state.as_deref().unwrap_or("not needed so far");
    let waiting = match explanation.waiting {
        0 => String::new(),
        waiting => format!(", {waiting} directions of pairs wait for it"),
    };
    let retry = explanation.retry_seconds.map(|seconds| format!(", next attempt in {seconds} s"));
    format!("{state}{waiting}{}", retry.unwrap_or_default())
}

fn show(out: &mut String, attempt: &AttemptExplained) {
    let from = attempt.from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
    let times =
        if attempt.times > 1 { format!(", {} times, the last", attempt.times) } else { String::new() };
    let took = attempt.took_seconds.map(|took| format!(" after {:.3} s", took)).unwrap_or_default();
    let reason = attempt.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let result = format!("{}{took}{reason}", attempt.result);
    let _infallible = writeln!(out);
    paragraph(out, "", &format!("{}{from}{times} {} s ago: {result}", attempt.attempt, attempt.ago_seconds));
    let steps = &attempt.steps;
    let left_out = steps.len().saturating_sub(STEPS_SHOWN_MAX);
    for (index, step) in steps.iter().enumerate() {
        let hidden = (STEPS_SHOWN_MAX / 2..STEPS_SHOWN_MAX / 2 + left_out).contains(&index);
        if !hidden {
            line(out, step);
        } else if index == STEPS_SHOWN_MAX / 2 {
            let _infallible = writeln!(out, "            {left_out} more; --json shows all");
        }
    }
}

fn line(out: &mut String, StepExplained { after_seconds, step, detail, reason }: &StepExplained) {
    let failed = reason.as_ref().map(|reason| format!(": FAILED, {reason}")).unwrap_or_default();
    paragraph(out, &format!("  {after_seconds:>7.3} {step:<15} "), &format!("{detail}{failed}"));
}

fn verdict(out: &mut String, explanation: &Explanation) {
    let _infallible = writeln!(out);
    match &explanation.failed {
        Some(failed) => {
            paragraph(out, "Failed: ", &format!("{}: {}, {}", failed.reason, failed.step, failed.detail));
            paragraph(out, "To do:  ", &failed.advice);
        }
        None if explanation.attempts.is_empty() => {}
        None => paragraph(out, "", "The latest attempt did not fail."),
    }
}
