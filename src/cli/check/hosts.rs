//! Which certificate speaks for each host, which hosts nobody can prove, and which need a mux secret to join the others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::certificates::file;
use super::report::{HostRow, ProvenBy, Report, Severity, said};
use crate::identity::certificate::{Certificate, Role};
use crate::identity::store::CertificateStore;
use crate::proto::policy::DomainPolicy;
use crate::relay::settings::{LocalAuth, Settings};
use crate::xmpp::domain::{Domain, DomainPattern};

/// Host names in one finding; the others are counted.
const NAMES_SHOWN_MAX: usize = 5;

/// Look at each host.
pub(super) fn examine(settings: &Settings, store: &CertificateStore, now: SystemTime, report: &mut Report) {
    let domains =
        settings.hosts.iter().flat_map(|host| host.domains.iter().map(move |domain| (domain, &host.policy)));
    let hosts = domains.map(|(domain, policy)| (domain, false, policy));
    let components = settings.components.iter().map(|each| (&each.domain, true, &each.policy));
    let all: Vec<_> = hosts.chain(components).collect();
    let chosen: Vec<_> =
        all.iter().map(|(domain, ..)| choose(settings, store, domain, now, report)).collect();
    let covered: Vec<_> = all
        .iter()
        .zip(&chosen)
        .filter_map(|((domain, ..), certificate)| Some((*domain, certificate.clone()?)))
        .collect();
    let main = main_certificate(store, &covered, now);
    for ((domain, component, policy), certificate) in all.into_iter().zip(chosen) {
        // A session shows one certificate: what that one doesn't cover joins by a secret.
        let joins = main.as_ref().is_some_and(|main| main.names.covers(domain));
        let proven_by = match certificate {
            None => ProvenBy::Nothing,
            Some(_) if joins => ProvenBy::Certificate,
            Some(_) => ProvenBy::MuxSecret,
        };
        report.hosts.push(HostRow {
            domain: domain.to_string(),
            component,
            certificate: certificate.as_deref().map(file),
            covered_by: certificate.as_deref().map(|certificate| covering_name(certificate, domain)),
            proven_by,
            policy: said(policy),
        });
        warn_of_idle_rules(settings, domain, policy, report);
    }
    if let Some(main) = main {
        note_secrets(settings, &main, &covered, report);
    }
    warn_of_trust(settings, report);
}

/// A host can only narrow `[policy]`: what it allows beside that isn't allowed.
fn warn_of_idle_rules(settings: &Settings, domain: &Domain, policy: &DomainPolicy, report: &mut Report) {
    let all = &settings.policy.domains.both.allow;
    // Where nothing is allowed at all, nothing is allowed in vain.
    let idle = |rule: &&DomainPattern| !all.is_empty() && !all.iter().any(|allowed| allowed.overlaps(rule));
    for rule in policy.both.allow.iter().filter(idle) {
        report.add(
            Severity::Warning,
            domain.to_string(),
            format!("allow has \"{rule}\", which [policy] allow leaves out: the host can't exchange anything with it"),
            "add it to [policy] allow, or remove it",
        );
    }
}

/// The certificate that speaks for `domain`; why there is none becomes an error.
fn choose(
    settings: &Settings,
    store: &CertificateStore,
    domain: &Domain,
    now: SystemTime,
    report: &mut Report,
) -> Option<Arc<Certificate>> {
    let initiating = store.choose(domain, Role::Initiating, now);
    let refusal = match &initiating {
        Err(reason) => Some((*reason, "nobody can prove this host")),
        // Whoever dials us asks more of a certificate than whom we dial.
        Ok(_) if !settings.is_reached() => None,
        Ok(_) => store
            .choose(domain, Role::Receiving, now)
            .err()
            .map(|reason| (reason, "peers that dial us will refuse this host")),
    };
    if let Some((reason, meaning)) = refusal {
        report.add(Severity::Error, domain.to_string(), format!("{meaning} ({reason})"), reason.advice());
    }
    initiating.ok()
}

/// The name of the certificate that covers `domain`: its own, or the wildcard above it.
fn covering_name(certificate: &Certificate, domain: &Domain) -> String {
    match domain.parent() {
        Some(parent) if !certificate.names_exactly(domain) => format!("*.{parent}"),
        _ => domain.to_string(),
    }
}

/// The certificate that proves most hosts at once.
fn main_certificate(
    store: &CertificateStore,
    covered: &[(&Domain, Arc<Certificate>)],
    now: SystemTime,
) -> Option<Arc<Certificate>> {
    let covers = |certificate: &Arc<Certificate>| {
        covered.iter().filter(|(domain, _)| certificate.names.covers(domain)).count()
    };
    let valid = store.certificates().iter().filter(|certificate| certificate.is_valid_at(now));
    // Of several the first: where each host has one of its own, any of them could begin a session.
    valid.rev().max_by_key(|certificate| covers(certificate)).cloned()
}

/// A session shows one certificate. Hosts that it doesn't cover join it by mux secrets, if the peer is shown their names.
fn note_secrets(
    settings: &Settings,
    main: &Certificate,
    covered: &[(&Domain, Arc<Certificate>)],
    report: &mut Report,
) {
    let mut others: BTreeMap<PathBuf, Vec<&Domain>> = BTreeMap::new();
    for (domain, certificate) in covered.iter().filter(|(domain, _)| !main.names.covers(domain)) {
        others.entry(file(certificate)).or_default().push(domain);
    }
    for (other, domains) in &others {
        let (verb, pronoun) = if domains.len() == 1 { ("has", "it") } else { ("have", "they") };
        report.add(
            Severity::Note,
            names(domains),
            format!(
                "{verb} another certificate ({}) than most hosts ({}): {pronoun} will need a mux secret to join a session of theirs",
                other.display(),
                file(main).display(),
            ),
            "nothing, if it is meant so; one certificate for all hosts saves the proofs",
        );
    }
    if !others.is_empty() {
        warn_of_hidden_hosts(settings, covered, report);
    }
}

/// A secret for a further host is handed to it only if the peer is shown both its name and that of the session's own host.
fn warn_of_hidden_hosts(settings: &Settings, covered: &[(&Domain, Arc<Certificate>)], report: &mut Report) {
    let announced = |domain: &Domain| {
        settings.hosts.iter().any(|host| host.announce && host.domains.contains(domain))
            || settings.components.iter().any(|component| component.announce && component.domain == *domain)
    };
    let hidden: Vec<&Domain> =
        covered.iter().map(|(domain, _)| *domain).filter(|domain| !announced(domain)).collect();
    if hidden.is_empty() {
        return;
    }
    for peer in settings.peers.iter().filter(|peer| !peer.announce_all) {
        report.add(
            Severity::Warning,
            format!("peer {}", peer.address),
            format!("isn't shown all of our hosts ({}): those that need a mux secret may keep connections of their own", names(&hidden)),
            "set announce = \"all\" for the peer, or announce = true for these hosts",
        );
    }
}

/// `a.test, b.test and 3 more`
pub(super) fn names<T: ToString>(domains: &[&T]) -> String {
    let shown: Vec<_> = domains.iter().take(NAMES_SHOWN_MAX).map(|name| name.to_string()).collect();
    match domains.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Whoever runs a process on this machine can speak for a host that trusts loopback.
fn warn_of_trust(settings: &Settings, report: &mut Report) {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    for host in &settings.hosts {
        let LocalAuth::Trusted { sources, loopback: trusted_loopback } = &host.local_auth else { continue };
        let names = names(&host.domains.iter().collect::<Vec<_>>());
        let source = sources
            .iter()
            .find(|source| source.addr().is_loopback() || loopback.iter().any(|a| source.contains(a)));
        let how = match (trusted_loopback, source) {
            (true, _) => "trusted_loopback = true".to_owned(),
            (false, Some(source)) => format!("sources = [\"{source}\"]"),
            (false, None) => continue,
        };
        report.add(
            Severity::Warning,
            names,
            format!("{how}: every process of this machine can speak for it"),
            "use local_auth = \"dialback\", unless nobody else has an account here",
        );
    }
}
