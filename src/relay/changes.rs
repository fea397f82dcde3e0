//! What of other settings counts at once, what only after a restart, and how both are named: key by key, so that what the log says of
//! a reload is what `config/fedmux.toml` says of each key.

use std::collections::BTreeMap;

use super::peering::Peers;
use super::settings::{Component, Dns, Host, LocalDns, Settings};
use crate::proto::budget::{Rate, Rates};
use crate::proto::limits::Limits;
use crate::proto::policy::DomainPolicy;
use crate::xmpp::domain::Domain;

/// What other settings come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// What counts at once, a line each.
    pub at_once: Vec<String>,
    /// The keys of what has changed and counts only after a restart, as `[section] key`.
    pub needs_restart: Vec<&'static str>,
}

impl Changes {
    /// What it comes to when a relay that goes by `former` reads `wanted`. The files that they name are not looked at.
    #[must_use]
    pub fn between(former: &Settings, wanted: &Settings) -> Self {
        let attained = attainable(wanted.clone(), former);
        let needs_restart = differing(wanted, &attained);
        Self { at_once: at_once(former, &attained), needs_restart }
    }
}

/// `wanted`, with what can't change in a running process as it was.
pub(super) fn attainable(wanted: Settings, former: &Settings) -> Settings {
    let Settings { identity, limits, hosts, components, peers, policy, .. } = wanted;
    let Limits { rates, session_resets, session_resets_every, .. } = limits;
    let limits = Limits { rates, session_resets, session_resets_every, ..former.limits.clone() };
    let same_components = without_policies(&components) == without_policies(&former.components);
    let components = if same_components { components } else { former.components.clone() };
    Settings { identity, limits, hosts, components, peers, policy, ..former.clone() }
}

/// What of the components can't change in a running process.
fn without_policies(components: &[Component]) -> Vec<Component> {
    let without = |component: &Component| Component { policy: DomainPolicy::default(), ..component.clone() };
    components.iter().map(without).collect()
}

/// The keys in which two settings differ that can't change in a running process.
fn differing(wanted: &Settings, attained: &Settings) -> Vec<&'static str> {
    let Settings {
        // All of these can.
        identity: _,
        hosts: _,
        peers: _,
        policy: _,
        remote_quic,
        remote_direct_tls,
        remote_starttls,
        local_s2s,
        local_components,
        admin_listen,
        admin_socket,
        admin_name_hosts,
        limits,
        components,
        dns,
        local_dns: LocalDns { listen, clients },
    } = wanted;
    let same_components = without_policies(components) == without_policies(&attained.components);
    let same = [
        ("[remote] quic", *remote_quic == attained.remote_quic),
        ("[remote] direct_tls", *remote_direct_tls == attained.remote_direct_tls),
        ("[remote] starttls", *remote_starttls == attained.remote_starttls),
        ("[local] s2s", *local_s2s == attained.local_s2s),
        ("[local] components", *local_components == attained.local_components),
        ("[local] dns", *listen == attained.local_dns.listen),
        ("[local] dns_clients", *clients == attained.local_dns.clients),
        ("[admin] listen", *admin_listen == attained.admin_listen),
        ("[admin] socket", *admin_socket == attained.admin_socket),
        ("[admin] name_hosts", *admin_name_hosts == attained.admin_name_hosts),
        ("[[component]]", same_components),
    ];
    let mut keys: Vec<&'static str> =
        same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect();
    keys.extend(differing_dns(dns.as_ref(), attained.dns.as_ref()));
    keys.extend(differing_limits(limits, &attained.limits));
    keys
}

fn differing_dns(wanted: Option<&Dns>, attained: Option<&Dns>) -> Vec<&'static str> {
    let (Some(wanted), Some(attained)) = (wanted, attained) else {
        return if wanted == attained { Vec::new() } else { vec!["[dns]"] };
    };
    let Dns { servers, allow_private, quic_443, host_meta, https_port: _ } = wanted;
    let same = [
        ("[dns] servers", *servers == attained.servers),
        ("[dns] allow_private", *allow_private == attained.allow_private),
        ("[dns] quic_443", *quic_443 == attained.quic_443),
        ("[dns] host_meta", *host_meta == attained.host_meta),
    ];
    same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
}

/// Compares each field under its own name: the compiler sees to it that none is left out.
macro_rules! differing {
    ($one:ident, $other:ident, $type:ident { $($field:ident,)* } but $($apart:ident)*) => {{
        let $type { $($apart: _,)* $($field,)* } = $one;
        let same = [$((concat!("[limits] ", stringify!($field)), *$field == $other.$field),)*];
        same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
    }};
}

fn differing_limits(one: &Limits, other: &Limits) -> Vec<&'static str> {
    let mut keys: Vec<&'static str> = differing!(one, other, Limits {
        stanza_bytes, negotiation_bytes, stanza_depth, element_attributes, threads, pair_queue_bytes,
        queue_bytes, pairs, read_pause, hold_iq, hold, hold_groupchat, ack_hold, unacked_max, ack_every, ack_within,
        ack_request_every, ack_request_within, linger, ack_wait, lane_stall, enable_wait, resume, resume_wait,
        resumable, handshake, connect, look_up, host_meta_bytes, retry_min, retry_max, peer_dials,
        remote_connections, address_connections, address_handshakes, address_burst, address_every,
        local_connections, lanes, lanes_unauthenticated, session_resets, session_resets_every, lane_window,
        session_window, lane_idle, session_idle, session_age, path_idle, credit_wait, header_wait,
        single_stream_memory, proofs_open, proofs_burst, proofs_every, proofs_under_way, secrets_returned,
        grants, peers_poll, certificates_poll, domains_remembered, sessions_shown, drain, congestion,
        congestion_window_min,
    } but rates);
    keys.extend(differing_rates(&one.rates, &other.rates));
    keys
}

fn differing_rates(one: &Rates, other: &Rates) -> Vec<&'static str> {
    let values = |rates: &Rates| {
        let Rates { pair, host, peer, pair_bounces, burst } = *rates;
        let each = |rate: Rate| [u128::from(rate.stanzas), u128::from(rate.bytes)];
        let [pair, host, peer] = [each(pair), each(host), each(peer)];
        [pair[0], pair[1], host[0], host[1], peer[0], peer[1], pair_bounces.into(), burst.as_nanos()]
    };
    let keys = [
        "[limits] pair_stanzas_rate",
        "[limits] pair_bytes_rate",
        "[limits] host_stanzas_rate",
        "[limits] host_bytes_rate",
        "[limits] peer_stanzas_rate",
        "[limits] peer_bytes_rate",
        "[limits] pair_bounces_rate",
        "[limits] rate_burst",
    ];
    let each = keys.into_iter().zip(values(one).into_iter().zip(values(other)));
    each.filter(|(_, (one, other))| one != other).map(|(key, _)| key).collect()
}

/// What changes at once, a line each.
pub(super) fn at_once(former: &Settings, now: &Settings) -> Vec<String> {
    let mut changed = of_hosts(former, now);
    for (old, new) in former.components.iter().zip(&now.components) {
        if old.policy != new.policy {
            changed.push(format!("component {}: policy changed", new.domain));
        }
    }
    changed.extend(Peers::new(&now.peers).differences(&Peers::new(&former.peers)));
    changed.extend(differing_limits(&now.limits, &former.limits).iter().map(|key| format!("{key} changed")));
    let (identity, policy) = (&former.identity, &former.policy);
    let others = [
        ("policy changed", policy.domains == now.policy.domains),
        ("policy: dialback changed", policy.dialback == now.policy.dialback),
        ("policy: uncertain changed", policy.uncertain == now.policy.uncertain),
        ("certificates are in another folder", identity.certificates == now.identity.certificates),
        (
            "trust changed; standing connections were judged by the former",
            identity.trust == now.identity.trust,
        ),
        ("mux_key_file changed", identity.mux_key_file == now.identity.mux_key_file),
    ];
    changed.extend(others.into_iter().filter(|(_, same)| !same).map(|(what, _)| what.to_owned()));
    changed
}

fn of_hosts(former: &Settings, now: &Settings) -> Vec<String> {
    let (before, after) = (hosts(former), hosts(now));
    let mut changed = Vec::new();
    let missing = |host: &&&Domain, there: &BTreeMap<&Domain, &Host>| !there.contains_key(**host);
    changed
        .extend(after.keys().filter(|host| missing(host, &before)).map(|host| format!("host {host} added")));
    let gone = before.keys().filter(|host| missing(host, &after));
    changed.extend(gone.map(|host| format!("host {host} taken away")));
    for (host, old) in before {
        let Some(Host { domains: _, deliver, local_auth, announce, policy }) = after.get(host) else {
            continue;
        };
        for (key, same) in [
            ("announce", old.announce == *announce),
            ("deliver", old.deliver == *deliver),
            ("local_auth", old.local_auth == *local_auth),
            ("policy", old.policy == *policy),
        ] {
            if !same {
                changed.push(format!("host {host}: {key} changed"));
            }
        }
    }
    changed
}

fn hosts(settings: &Settings) -> BTreeMap<&Domain, &Host> {
    settings.hosts.iter().flat_map(|host| host.domains.iter().map(move |domain| (domain, host))).collect()
}
