//! Certificates, made once for all histories, and what the relays are told.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::world::{Plan, address, domains};
use crate::identity::certificate::Certificate;
use crate::identity::development::{DevelopmentCa, Request};
use crate::identity::store::CertificateStore;
use crate::proto::limits::Limits;
use crate::proto::mux::verifier::Allowance;
use crate::relay::live::Live;
use crate::relay::settings::{
    Endpoint, Host, Identity, LocalAuth, LocalDns, Peer, Policy, Settings, Transport, Trust, Uncertain,
};
use crate::xmpp::domain::{Domain, DomainPattern};

/// Most relays of one history.
pub(super) const RELAYS_MAX: usize = 3;
/// Most domains behind one.
pub(super) const DOMAINS_MAX: usize = 3;

/// What the attacker's certificate carries.
pub(super) const ATTACKER: &str = "m.test";

/// A folder for each relay, and one for the attacker.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let ca = DevelopmentCa::create().unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.ca_pem()).unwrap();
        for index in 0..=RELAYS_MAX {
            let of = folder.path().join(index.to_string());
            std::fs::create_dir(&of).unwrap();
            let names = if index < RELAYS_MAX {
                domains(index, DOMAINS_MAX)
            } else {
                vec![ATTACKER.to_owned(), format!("x.{ATTACKER}")]
            };
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            for (n, dns) in names.chunks(2).enumerate() {
                let issued = ca.issue(&Request { dns, ..Request::default() }).unwrap();
                let text = format!("{}{}", issued.certificate, issued.key);
                std::fs::write(of.join(format!("{n}.pem")), text).unwrap();
            }
        }
        let path = folder.path().to_owned();
        (folder, path)
    });
    path
}

/// The attacker's certificate.
pub(super) fn of_attacker() -> Arc<Certificate> {
    static STORE: OnceLock<CertificateStore> = OnceLock::new();
    let store = STORE.get_or_init(|| CertificateStore::load(&folder().join(RELAYS_MAX.to_string())).unwrap());
    Arc::clone(&store.certificates()[0])
}

/// What the relay `index` goes by, but for what a history changes.
pub(in crate::relay) fn live(index: usize) -> Live {
    thread_local! {
        static READ: RefCell<Vec<Live>> = const { RefCell::new(Vec::new()) };
    }
    READ.with_borrow_mut(|read| {
        while read.len() <= index {
            let identity = Identity {
                certificates: folder().join(read.len().to_string()),
                trust: Trust::File(folder().join("ca.pem")),
                mux_key_file: None,
            };
            let settings = Settings {
                identity,
                remote_quic: Vec::new(),
                remote_direct_tls: Vec::new(),
                remote_starttls: Vec::new(),
                local_s2s: Vec::new(),
                local_dns: LocalDns::default(),
                local_components: Vec::new(),
                admin_listen: Vec::new(),
                admin_socket: None,
                admin_name_hosts: false,
                dns: None,
                limits: Limits::default(),
                hosts: Vec::new(),
                components: Vec::new(),
                peers: Vec::new(),
                policy: Policy::default(),
            };
            read.push(Live::read(settings, None).unwrap());
        }
        read[index].clone()
    })
}

/// What the relay `index` of a history is told.
pub(super) fn settings(plan: &Plan, index: usize, base: Settings) -> Settings {
    let own = domains(index, plan.domains);
    let host = |domain: &String| Host {
        domains: vec![Domain::parse(domain).unwrap()],
        deliver: vec![Endpoint::Address((Ipv4Addr::LOCALHOST, 2).into())],
        local_auth: LocalAuth::Trusted { sources: Vec::new(), loopback: true },
        announce: true,
        policy: crate::proto::policy::DomainPolicy::default(),
    };
    let peer = |place: usize, names: Vec<String>| Peer {
        domains: names.iter().map(|name| DomainPattern::parse(name).unwrap()).collect(),
        address: Endpoint::Address(address(place)),
        transport: Transport::Quic,
        trust: None,
        announce_all: true,
        placement: plan.placement,
        proofs: Allowance::PEER,
    };
    let others = (0..plan.relays).filter(|other| *other != index);
    let mut peers: Vec<Peer> = others.map(|other| peer(other, domains(other, plan.domains))).collect();
    peers.push(peer(plan.relays, vec![ATTACKER.to_owned()]));
    let uncertain = if plan.bounces { Uncertain::Bounce } else { Uncertain::Resend };
    Settings {
        hosts: own.iter().map(host).collect(),
        peers,
        limits: Limits {
            session_age: plan.ages.get(index).copied().unwrap_or(plan.limits.session_age),
            ..plan.limits.clone()
        },
        policy: Policy { uncertain, ..Policy::default() },
        ..base
    }
}
