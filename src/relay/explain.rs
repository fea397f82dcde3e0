//! Why a domain is reached, or isn't (`fedmux explain`): what was observed, each step as it was really tried, and the one that
//! failed. Nothing is tried for the sake of an explanation.

use serde::{Deserialize, Serialize};

use super::attempts::{Attempt, Kind, Step};
use super::clock;
use super::hub::Hub;
use super::mailbox::lock;
use super::status::wall_text;
use crate::proto::admission::Direction;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

/// Hosts that are named where several are concerned.
const NAMED_MAX: usize = 20;

/// What is known of the way to one domain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Explanation {
    /// The domain.
    pub domain: String,
    /// When this was.
    pub at: String,
    /// It is a host of ours.
    pub own: bool,
    /// The address of the `[[peer]]` that carries it, and how it is reached.
    pub configured: Option<String>,
    /// Hosts of ours that policy lets send to it, of how many.
    pub allowed: (usize, usize),
    /// Some of those that it doesn't.
    pub denied: Vec<String>,
    /// Sessions in which it is proven at this moment.
    pub sessions: Vec<u64>,
    /// What is going on: `asking-dns`, `dialling`, `back-off`, `refused` or `idle`; none if it was never needed.
    pub state: Option<String>,
    /// Seconds until the next attempt may be made.
    pub retry_seconds: Option<u64>,
    /// Directions of pairs that wait for it.
    pub waiting: usize,
    /// What was tried, the latest first.
    pub attempts: Vec<AttemptExplained>,
    /// The one fact that failed, if the latest attempt did.
    pub failed: Option<FactExplained>,
}

/// One attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttemptExplained {
    /// `look-up`, `connection`, `proof` or `sending`.
    pub attempt: String,
    /// The host of ours for which it was made.
    pub from: Option<String>,
    /// When it began; if it happened several times, the last time.
    pub began: String,
    /// Seconds since then.
    pub ago_seconds: u64,
    /// How often the same happened in a row.
    pub times: u64,
    /// `done`, `failed` or `going-on`.
    pub result: String,
    /// Why it failed.
    pub reason: Option<String>,
    /// How long it took.
    pub took_seconds: Option<f64>,
    /// What was done, in order.
    pub steps: Vec<StepExplained>,
}

/// One step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepExplained {
    /// Seconds after the attempt began.
    pub after_seconds: f64,
    /// What it was.
    pub step: String,
    /// What was seen.
    pub detail: String,
    /// Why it failed, if it did.
    pub reason: Option<String>,
}

/// The fact that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactExplained {
    /// The step.
    pub step: String,
    /// What was seen.
    pub detail: String,
    /// Why: the word that stands in the log, the metrics and the error that came back.
    pub reason: String,
    /// What to do.
    pub advice: String,
}

/// What is known of the way from `from`, or any of our hosts, to `domain`.
pub(super) fn explain(hub: &Hub, domain: &Domain, from: Option<&Domain>) -> Explanation {
    let (live, now) = (hub.live(), clock::now());
    let mut hosts: Vec<Domain> = live.hosts.iter().map(|(host, _)| host.clone()).collect();
    hosts.retain(|host| from.is_none_or(|from| from == host));
    hosts.sort_unstable();
    let denied = hosts.iter().filter(|host| live.hosts.policy(Direction::Outbound, host, domain).is_err());
    let denied: Vec<String> = denied.map(ToString::to_string).collect();
    let (peer, facts, sessions) = {
        let control = lock(&hub.control);
        let peer = control.router.peer_for(domain);
        let facts = peer.and_then(|peer| control.router.peer_fact(peer, now));
        let proven = control
            .sessions
            .values()
            .filter(|(_, shared)| shared.is_up() && lock(&shared.machine).theirs_proven(domain));
        let mut sessions: Vec<u64> = proven.map(|(_, shared)| shared.id.0).collect();
        sessions.sort_unstable();
        (peer, facts, sessions)
    };
    let configured = peer.and_then(|peer| live.peers.get(peer));
    let mut attempts = hub.attempts.of(domain);
    attempts.retain(|attempt| from.is_none() || attempt.from.is_none() || attempt.from.as_ref() == from);
    let failed = failed(&attempts, &denied, hosts.len());
    Explanation {
        domain: domain.to_string(),
        at: wall_text(clock::wall()),
        own: live.hosts.serves(domain),
        configured: configured.map(|peer| format!("{} by {}", peer.address, peer.transport)),
        allowed: (hosts.len() - denied.len(), hosts.len()),
        denied: denied.into_iter().take(NAMED_MAX).collect(),
        sessions,
        state: facts.as_ref().map(|facts| facts.state().to_owned()),
        retry_seconds: facts.as_ref().and_then(|facts| {
            let retry = facts.hop.retry.or(facts.refusal.as_ref().map(|(_, _, until)| *until));
            retry.map(|at| at.saturating_duration_since(now).as_secs())
        }),
        waiting: facts.map_or(0, |facts| facts.hop.waiting),
        attempts: attempts.iter().rev().map(attempt).collect(),
        failed,
    }
}

/// The fact by which the latest attempt failed. That something came back says less than why its connection failed; and if it is the
/// policy that forbids every host to send there, it is that.
fn failed(attempts: &[Attempt], denied: &[String], hosts: usize) -> Option<FactExplained> {
    if hosts > 0 && denied.len() == hosts {
        let detail = "policy lets none of these hosts send to it".to_owned();
        return Some(fact("policy", detail, Reason::PolicyDenied));
    }
    let ended = attempts.iter().rev().filter_map(|attempt| Some((attempt, attempt.ended?.1)));
    let latest =
        ended.clone().find(|(attempt, _)| attempt.kind != Kind::Proof).or_else(|| ended.clone().next());
    let reason = latest?.1.err()?;
    let why = ended.filter(|(attempt, outcome)| attempt.kind != Kind::Sending && *outcome == Err(reason));
    let attempt = why.map(|(attempt, _)| attempt).next().or(latest.map(|(attempt, _)| attempt))?;
    // The first of those with this reason; where none of them says so, the other end's last words.
    let step = attempt.steps.iter().find(|step| step.failed == Some(reason)).or_else(|| attempt.steps.last());
    Some(step.map_or_else(
        || fact(attempt.kind.as_str(), String::new(), reason),
        |step| fact(step.what, step.detail.clone(), reason),
    ))
}

fn fact(step: &str, detail: String, reason: Reason) -> FactExplained {
    FactExplained {
        step: step.to_owned(),
        detail,
        reason: reason.as_str().to_owned(),
        advice: reason.advice().to_owned(),
    }
}

fn attempt(attempt: &Attempt) -> AttemptExplained {
    let Attempt { kind, from, began, steps, ended, times, .. } = attempt;
    let ago = clock::wall().duration_since(*began).unwrap_or_default();
    AttemptExplained {
        attempt: kind.as_str().to_owned(),
        from: from.as_ref().map(ToString::to_string),
        began: wall_text(*began),
        ago_seconds: ago.as_secs(),
        times: *times,
        result: match ended {
            None => "going-on",
            Some((_, Ok(()))) => "done",
            Some((_, Err(_))) => "failed",
        }
        .to_owned(),
        reason: ended.and_then(|(_, outcome)| outcome.err()).map(|reason| reason.as_str().to_owned()),
        took_seconds: ended.map(|(took, _)| took.as_secs_f64()),
        steps: steps.iter().map(step).collect(),
    }
}

fn step(step: &Step) -> StepExplained {
    StepExplained {
        after_seconds: step.after.as_secs_f64(),
        step: step.what.to_owned(),
        detail: step.detail.clone(),
        reason: step.failed.map(|reason| reason.as_str().to_owned()),
    }
}
