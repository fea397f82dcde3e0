//! A relay for a.test that is asked why a domain isn't reached.

use std::time::Duration;

use fedmux::relay::explain::Explanation;
use fedmux::xmpp::domain::Domain;

use crate::support::PATIENCE;
use crate::support::certificates::Authority;
use crate::support::provider::{Plan, Provider};

/// A relay that gives up soon, and tries again late.
pub(crate) async fn plan(authority: &Authority) -> Plan {
    hasty(Plan::new(authority, &["a.test"]).await)
}

pub(crate) fn hasty(plan: Plan) -> Plan {
    plan.limits(|limits| {
        limits.connect = Duration::from_secs(3);
        limits.look_up = Duration::from_secs(2);
        limits.retry_min = Duration::from_secs(60);
    })
}

/// What `provider` says of `domain` now.
pub(crate) fn explain(provider: &Provider, domain: &str) -> Explanation {
    provider.relay.view().explain(&Domain::parse(domain).unwrap(), None).unwrap()
}

/// The same, once `holds`.
pub(crate) async fn once(
    provider: &Provider,
    domain: &str,
    what: &str,
    holds: impl Fn(&Explanation) -> bool,
) -> Explanation {
    let begun = std::time::Instant::now();
    loop {
        let explanation = explain(provider, domain);
        if holds(&explanation) {
            return explanation;
        }
        assert!(begun.elapsed() < PATIENCE, "waited for {what}: {explanation:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Send something to `domain`; the attempt fails, at this step and for this reason.
pub(crate) async fn fails(provider: &mut Provider, domain: &str, step: &str, reason: &str) -> Explanation {
    assert!(explain(provider, domain).attempts.is_empty(), "nothing was tried yet");
    provider.host("a.test").send(domain, "1").await;
    failed(provider, domain, step, reason).await
}

/// The attempt that is under way fails so.
pub(crate) async fn failed(provider: &Provider, domain: &str, step: &str, reason: &str) -> Explanation {
    let explanation = once(provider, domain, "a failure", |it| it.failed.is_some()).await;
    let failed = explanation.failed.clone().unwrap();
    assert_eq!((failed.step.as_str(), failed.reason.as_str()), (step, reason), "{explanation:#?}");
    assert!(!failed.advice.is_empty());
    explanation
}

/// Everything that was seen, one step a line.
pub(crate) fn seen(explanation: &Explanation) -> String {
    let steps = explanation.attempts.iter().flat_map(|attempt| &attempt.steps);
    steps.map(|step| format!("{}: {}\n", step.step, step.detail)).collect()
}
