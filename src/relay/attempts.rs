//! What was tried towards each remote domain, as it really happened: the memory of `fedmux explain`.
//!
//! Written where a peer is looked for, dialled and negotiated with, and where something is given up; never on the way of a
//! stanza that goes through. Bounded by `limits.domains_remembered` domains, of which the one that was longest not tried is
//! forgotten for another, [`ATTEMPTS_MAX`] attempts of each, and [`STEPS_MAX`] steps of each attempt.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rustc_hash::FxHashMap;

use super::clock;
use super::mailbox::lock;
use super::status::wall_text;
use crate::identity::verdict::Verdict;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

/// Attempts that are remembered of one domain.
pub(crate) const ATTEMPTS_MAX: usize = 6;
/// Steps that are remembered of one attempt: there may be 24 addresses.
pub(crate) const STEPS_MAX: usize = 96;
/// Characters of a step's detail: the other end writes some of it.
const DETAIL_CHARS_MAX: usize = 300;

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To find it by its records.
    LookUp,
    /// To connect to it, and to negotiate a stream.
    Connection,
    /// To have a host join a session by a mux secret.
    Proof,
    /// To send to it; what was given up.
    Sending,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::LookUp => "look-up",
            Self::Connection => "connection",
            Self::Proof => "proof",
            Self::Sending => "sending",
        }
    }
}

/// One step of an attempt.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) after: Duration,
    pub(crate) what: &'static str,
    pub(crate) detail: String,
    pub(crate) failed: Option<Reason>,
}

/// One attempt.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    id: u64,
    pub(crate) kind: Kind,
    /// The host of ours for which it was made, if for one.
    pub(crate) from: Option<Domain>,
    pub(crate) began: SystemTime,
    started: Instant,
    pub(crate) steps: Vec<Step>,
    /// How long it took, and why it failed if it did; `None`: it goes on.
    pub(crate) ended: Option<(Duration, Result<(), Reason>)>,
    /// How often the same happened in a row.
    pub(crate) times: u64,
}

/// The memory.
#[derive(Debug)]
pub(crate) struct Attempts {
    memory: Mutex<Memory>,
    domains_max: usize,
}

#[derive(Debug, Default)]
struct Memory {
    domains: FxHashMap<Domain, Remembered>,
    next: u64,
}

#[derive(Debug, Default)]
struct Remembered {
    attempts: VecDeque<Attempt>,
    used: u64,
}

impl Memory {
    /// What is remembered of `domain`, and whether another domain was forgotten for it.
    fn of(&mut self, domain: &Domain, domains_max: usize) -> Option<&mut Remembered> {
        self.next += 1;
        if !self.domains.contains_key(domain) {
            if self.domains.len() >= domains_max {
                let oldest = self.domains.iter().min_by_key(|(_, known)| known.used);
                let oldest = oldest.map(|(domain, _)| domain.clone())?;
                self.domains.remove(&oldest);
            }
            self.domains.insert(domain.clone(), Remembered::default());
        }
        let known = self.domains.get_mut(domain)?;
        known.used = self.next;
        Some(known)
    }
}

impl Attempts {
    pub(crate) fn new(domains_max: usize) -> Arc<Self> {
        Arc::new(Self { memory: Mutex::default(), domains_max })
    }

    /// Something begins to be tried towards `domain`.
    pub(crate) fn begin(self: &Arc<Self>, kind: Kind, domain: &Domain, from: Option<&Domain>) -> Trace {
        let mut memory = lock(&self.memory);
        let id = memory.next;
        if let Some(known) = memory.of(domain, self.domains_max) {
            remember(known, Attempt::new(id, kind, from));
        }
        Trace { attempts: Arc::clone(self), domain: domain.clone(), id }
    }

    /// Something happened at once. The same as the last time is counted, and remembered once.
    pub(crate) fn note(
        self: &Arc<Self>,
        kind: Kind,
        domain: &Domain,
        from: Option<&Domain>,
        (what, detail): (&'static str, impl FnOnce() -> String),
        outcome: Result<(), Reason>,
    ) {
        let mut memory = lock(&self.memory);
        let id = memory.next;
        let Some(known) = memory.of(domain, self.domains_max) else { return };
        let same = |last: &&mut Attempt| {
            last.kind == kind
                && last.from.as_ref() == from
                && last.ended.is_some_and(|(_, ended)| ended == outcome)
        };
        if let Some(last) = known.attempts.back_mut().filter(same) {
            last.times += 1;
            last.began = clock::wall();
            return;
        }
        let mut attempt = Attempt::new(id, kind, from);
        attempt.add(what, detail(), outcome.err());
        attempt.ended = Some((Duration::ZERO, outcome));
        remember(known, attempt);
    }

    /// What was tried towards `domain`, the latest last.
    pub(crate) fn of(&self, domain: &Domain) -> Vec<Attempt> {
        let memory = lock(&self.memory);
        memory.domains.get(domain).map(|known| known.attempts.iter().cloned().collect()).unwrap_or_default()
    }

    /// Domains of which something is remembered.
    pub(crate) fn domains(&self) -> usize {
        lock(&self.memory).domains.len()
    }

    fn change(&self, domain: &Domain, id: u64, change: impl FnOnce(&mut Attempt)) {
        let mut memory = lock(&self.memory);
        let Some(known) = memory.domains.get_mut(domain) else { return };
        if let Some(attempt) = known.attempts.iter_mut().rev().find(|attempt| attempt.id == id) {
            change(attempt);
        }
    }
}

fn remember(known: &mut Remembered, attempt: Attempt) {
    if known.attempts.len() >= ATTEMPTS_MAX {
        known.attempts.pop_front();
    }
    known.attempts.push_back(attempt);
}

impl Attempt {
    fn new(id: u64, kind: Kind, from: Option<&Domain>) -> Self {
        Self {
            id,
            kind,
            from: from.cloned(),
            began: clock::wall(),
            started: clock::now(),
            steps: Vec::new(),
            ended: None,
            times: 1,
        }
    }

    fn age(&self) -> Duration {
        clock::now().saturating_duration_since(self.started)
    }

    fn add(&mut self, what: &'static str, detail: String, failed: Option<Reason>) {
        if self.steps.len() < STEPS_MAX {
            // Escaped it is longer, never shorter: what is cut off needn't be.
            let detail = shown(detail.chars().take(DETAIL_CHARS_MAX + 1));
            let detail = match detail.char_indices().nth(DETAIL_CHARS_MAX) {
                Some((end, _)) => format!("{}...", &detail[..end]),
                None => detail,
            };
            self.steps.push(Step { after: self.age(), what, detail, failed });
        }
    }
}

/// `text` as it may stand on a terminal: strangers write some of it, whom nobody has verified. A control character would have its
/// effect there, and what turns the direction of writing would show something else than was said.
fn shown(text: impl Iterator<Item = char>) -> String {
    let turns = |c: char| matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown = String::new();
    for c in text {
        match c {
            c if c.is_control() || turns(c) => shown.extend(c.escape_debug()),
            c => shown.push(c),
        }
    }
    shown
}

/// Writes the steps of one attempt. Cheap to clone; what was forgotten meanwhile is written to nobody.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    attempts: Arc<Attempts>,
    domain: Domain,
    id: u64,
}

impl Trace {
    /// This was done, or observed.
    pub(crate) fn step(&self, what: &'static str, detail: impl Into<String>) {
        let detail = detail.into();
        self.attempts.change(&self.domain, self.id, |attempt| attempt.add(what, detail, None));
    }

    /// This failed.
    pub(crate) fn failed(&self, what: &'static str, detail: impl Into<String>, reason: Reason) {
        let detail = detail.into();
        self.attempts.change(&self.domain, self.id, |attempt| attempt.add(what, detail, Some(reason)));
    }

    /// It is over; what ended first counts.
    pub(crate) fn end(&self, outcome: Result<(), Reason>) {
        self.attempts.change(&self.domain, self.id, |attempt| {
            let took = attempt.age();
            attempt.ended.get_or_insert((took, outcome));
        });
    }
}

/// What the other end of a handshake showed.
pub(crate) fn certificate_text(verdict: &Verdict, version: &str) -> String {
    let Some(seen) = verdict.seen() else { return format!("{version}, no certificate was shown") };
    let mut names = seen.names.join(", ");
    if names.is_empty() {
        "no names".clone_into(&mut names);
    }
    format!(
        "{version}, a certificate for {names}; {} to {}, for {}, issued by {}",
        wall_text(seen.not_before),
        wall_text(seen.not_after),
        seen.purposes,
        seen.issuer
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(n: usize) -> Domain {
        Domain::parse(&format!("b{n}.test")).unwrap()
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_longest_untried_goes_first() {
        let attempts = Attempts::new(3);
        let kept = attempts.begin(Kind::Connection, &domain(0), None);
        for n in 1..5 {
            attempts.begin(Kind::LookUp, &domain(n), None).end(Ok(()));
            attempts.note(
                Kind::Sending,
                &domain(0),
                None,
                ("policy", String::new),
                Err(Reason::PolicyDenied),
            );
        }
        assert_eq!(attempts.domains(), 3);
        assert!(attempts.of(&domain(1)).is_empty() && !attempts.of(&domain(4)).is_empty());
        let of = attempts.of(&domain(0));
        assert_eq!((of.len(), of[1].times), (2, 4), "the same is remembered once");
        for _ in 0..2 * STEPS_MAX {
            kept.step("address", "x".repeat(2 * DETAIL_CHARS_MAX));
        }
        let of = attempts.of(&domain(0));
        assert_eq!((of[0].steps.len(), of[0].steps[0].detail.len()), (STEPS_MAX, DETAIL_CHARS_MAX + 3));
        for _ in 0..2 * ATTEMPTS_MAX {
            attempts.begin(Kind::Connection, &domain(0), None);
        }
        assert_eq!(attempts.of(&domain(0)).len(), ATTEMPTS_MAX);
        // Nobody remembers it any more.
        kept.end(Ok(()));
    }

    #[test]
    fn what_strangers_write_has_no_effect_on_a_terminal() {
        let attempts = Attempts::new(1);
        let trace = attempts.begin(Kind::Connection, &domain(0), None);
        trace.step("tls", "CN=\u{1b}]0;x\u{7}, O=B\u{fc}ro\r\n");
        trace.failed("refused", "<error/>: text (\u{9b}2J\u{202e}daolyap\u{2069})", Reason::PolicyViolation);
        attempts.note(
            Kind::Sending,
            &domain(0),
            None,
            ("policy", || "\u{7f}\u{2028}".to_owned()),
            Err(Reason::PolicyDenied),
        );
        let of = attempts.of(&domain(0));
        let details: Vec<_> = of.iter().flat_map(|it| &it.steps).map(|step| step.detail.as_str()).collect();
        let expected = [
            r"CN=\u{1b}]0;x\u{7}, O=Büro\r\n",
            r"<error/>: text (\u{9b}2J\u{202e}daolyap\u{2069})",
            r"\u{7f}\u{2028}",
        ];
        assert_eq!(details, expected);
    }

    #[test]
    fn the_first_end_of_an_attempt_counts() {
        let attempts = Attempts::new(1);
        let trace = attempts.begin(Kind::Connection, &domain(0), None);
        trace.failed("tls", "", Reason::CertificateExpired);
        trace.end(Err(Reason::CertificateExpired));
        trace.end(Ok(()));
        let of = attempts.of(&domain(0));
        assert!(matches!(of[0].ended, Some((_, Err(Reason::CertificateExpired)))));
    }
}
