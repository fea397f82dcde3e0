//! Which remote domains the operator lets exchange stanzas with a host of ours, and which way.
//!
//! There is one rule: every list can only narrow. What passes stands in each `allow` that speaks of its direction, and in
//! no such `deny`; first those of `[policy]`, then those of the host itself.

use std::fmt;

use super::admission::Direction;
use crate::xmpp::domain::{Domain, DomainPattern};

/// The domains of `allow` without those of `deny`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lists {
    /// What may pass. Everything, if nothing is said.
    pub allow: Vec<DomainPattern>,
    /// What may not, whatever allows it.
    pub deny: Vec<DomainPattern>,
}

impl Default for Lists {
    fn default() -> Self {
        Self { allow: vec![DomainPattern::Any], deny: Vec::new() }
    }
}

impl Lists {
    fn allow(&self, remote: &Domain) -> bool {
        let speaks = |rule: &DomainPattern| rule.matches(remote);
        self.allow.iter().any(speaks) && !self.deny.iter().any(speaks)
    }
}

/// The lists of one table, `[policy]`, `[[host]]` or `[[component]]`. By default everything passes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DomainPolicy {
    /// `allow` and `deny`, which hold both ways.
    pub both: Lists,
    /// `allow_in` and `deny_in`: for stanzas from the remote domain.
    pub inbound: Lists,
    /// `allow_out` and `deny_out`: for stanzas to the remote domain.
    pub outbound: Lists,
}

impl DomainPolicy {
    /// Whether stanzas may come from `remote` ([`Direction::Inbound`]), or go to it.
    #[must_use]
    pub fn allows(&self, direction: Direction, remote: &Domain) -> bool {
        let one_way = match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        };
        self.both.allow(remote) && one_way.allow(remote)
    }

    /// Whether everything passes.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

/// The keys that say something, as the configuration has them.
impl fmt::Display for DomainPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [(&self.both, ""), (&self.inbound, "_in"), (&self.outbound, "_out")];
        let mut before = "";
        for (Lists { allow, deny }, way) in lists {
            let said = [("allow", allow, *allow != [DomainPattern::Any]), ("deny", deny, !deny.is_empty())];
            for (key, list, _) in said.into_iter().filter(|(.., said)| *said) {
                let rules: Vec<String> = list.iter().map(|rule| format!("\"{rule}\"")).collect();
                write!(f, "{before}{key}{way} = [{}]", rules.join(", "))?;
                before = ", ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(list: &[&str]) -> Vec<DomainPattern> {
        list.iter().map(|rule| DomainPattern::parse(rule).unwrap()).collect()
    }

    fn lists(allow: &[&str], deny: &[&str]) -> Lists {
        Lists { allow: rules(allow), deny: rules(deny) }
    }

    /// Whether stanzas may come from `remote`, and go there.
    fn ways(policy: &DomainPolicy, remote: &str) -> (bool, bool) {
        let remote = Domain::parse(remote).unwrap();
        (policy.allows(Direction::Inbound, &remote), policy.allows(Direction::Outbound, &remote))
    }

    #[test]
    fn every_list_can_only_narrow() {
        let policy = DomainPolicy {
            both: lists(&["*.good.test", "good.test", "half.test"], &["bad.good.test"]),
            inbound: lists(&["*"], &["half.test"]),
            outbound: lists(&["*.good.test", "half.test", "other.test", "bad.good.test"], &[]),
        };
        for (remote, expected) in [
            ("x.good.test", (true, true)),
            ("x.y.good.test", (true, true)),
            ("bad.good.test", (false, false)),
            ("below.bad.good.test", (true, true)),
            ("good.test", (true, false)),
            ("half.test", (false, true)),
            ("other.test", (false, false)),
        ] {
            assert_eq!(ways(&policy, remote), expected, "{remote}");
        }
        assert_eq!(
            policy.to_string(),
            "allow = [\"*.good.test\", \"good.test\", \"half.test\"], deny = [\"bad.good.test\"], \
             deny_in = [\"half.test\"], allow_out = [\"*.good.test\", \"half.test\", \"other.test\", \"bad.good.test\"]"
        );
    }

    #[test]
    fn what_says_nothing_lets_everything_pass_and_what_allows_nobody_nothing() {
        assert_eq!(ways(&DomainPolicy::default(), "b.test"), (true, true));
        assert!(DomainPolicy::default().is_open());
        let closed = DomainPolicy { both: lists(&[], &[]), ..DomainPolicy::default() };
        assert_eq!(ways(&closed, "b.test"), (false, false));
        assert!(!closed.is_open());
    }
}
