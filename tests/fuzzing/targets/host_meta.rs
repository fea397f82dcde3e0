//! Host-meta documents (RFC 6415, XEP-0487), written by strangers: what is taken from one stands in it, as another reading
//! of the same JSON has it, within its bounds; and nothing is dialled for it that may not be.
//!
//! The first two octets say how the domain is looked for, the third what DNS says of it and how old the document is; then it
//! follows.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fedmux::proto::discovery::found::{Answer, Found, VALID_MAX, conclude};
use fedmux::proto::discovery::host_meta::{Document, LINK_ADDRESSES_MAX, Link, TTL_MAX, read};
use fedmux::proto::discovery::pins::PINS_MAX;
use fedmux::proto::discovery::plan::{CANDIDATES_MAX, TRANSPORT_CANDIDATES_MAX, plan};
use fedmux::proto::discovery::standing::{Backoff, Standing};
use fedmux::proto::discovery::{
    AddressAnswer, HostMeta, Origin, SrvAnswer, SrvAnswers, SrvName, SrvRecord, Transport,
};
use fedmux::reason::Reason;
use fedmux::xmpp::domain::Domain;
use serde_json::Value;

use super::choices::Choices;
use super::dns::judgement::{self, Asked};

/// Links that are looked at.
const LINKS_MAX: usize = 256;
const ECH_BYTES_MAX: usize = 2048;

pub(super) fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let asked = Asked::new(&mut choices);
    let bits = choices.byte();
    let body = choices.rest();
    let said = read(body, asked.seed);
    if let Ok(Some(document)) = &said {
        hold(document);
        dialled(document, &asked, bits);
    }
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    // Without names that stand there twice, and in another order.
    let again = read(value.to_string().as_bytes(), asked.seed);
    assert!(said.is_err() || said == again, "{value}\n{said:?}\n{again:?}");
    compare(&value, again.as_ref().ok());
}

fn hold(document: &Document) {
    assert!(document.ttl <= TTL_MAX && document.links.len() <= CANDIDATES_MAX);
    for transport in [Transport::Quic, Transport::DirectTls] {
        let of_transport = document.links.iter().filter(|link| link.candidate.transport == transport);
        assert!(of_transport.count() <= TRANSPORT_CANDIDATES_MAX);
    }
    for (at, Link { candidate, addresses }) in document.links.iter().enumerate() {
        assert!(document.links[..at].iter().all(|other| other.candidate != *candidate));
        assert!((1..=LINK_ADDRESSES_MAX).contains(&addresses.len()) && candidate.port != 0);
        assert!(addresses.iter().enumerate().all(|(at, ip)| !addresses[..at].contains(ip)));
        assert!(candidate.transport != Transport::StartTls && candidate.origin == Origin::HostMeta);
        assert_eq!(candidate.tls.sni.as_deref(), Some(candidate.host.as_str()));
        assert_eq!(Domain::parse(&candidate.host).map(|host| host.to_ascii()).as_ref(), Ok(&candidate.host));
    }
}

/// A link as it stands in the document: transport, name, port, priority, weight, ECH; and its addresses.
type Written = ((Transport, String, u64, u64, u64, Option<Vec<u8>>), Vec<IpAddr>);

fn written(link: &Value) -> Option<Written> {
    let transport = match link.get("rel")?.as_str()? {
        "urn:xmpp:alt-connections:s2s-quic" => Transport::Quic,
        "urn:xmpp:alt-connections:s2s-tls" => Transport::DirectTls,
        _ => return None,
    };
    let number = |name| link.get(name)?.as_u64().filter(|number| *number <= u16::MAX.into());
    let sni = Domain::parse(link.get("sni")?.as_str()?).ok()?.to_ascii();
    let port = number("port").filter(|port| *port != 0)?;
    let addresses = link.get("ips")?.as_array()?.iter();
    let addresses: Vec<IpAddr> = addresses.filter_map(|ip| ip.as_str()?.parse().ok()).collect();
    let ech = link.get("ech").and_then(|ech| STANDARD.decode(ech.as_str()?).ok());
    let ech = ech.filter(|ech| (1..=ECH_BYTES_MAX).contains(&ech.len()));
    let way = (transport, sni, port, number("priority")?, number("weight")?, ech);
    (!addresses.is_empty()).then(|| (way, addresses.iter().map(IpAddr::to_canonical).collect()))
}

fn compare(value: &Value, read: Option<&Option<Document>>) {
    let is_list = |value: Option<&Value>| value.is_none_or(Value::is_array);
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let xmpp = value.get("xmpp").filter(|xmpp| !xmpp.is_null());
    let pins = xmpp.and_then(|xmpp| xmpp.get("public-key-pins-sha-256"));
    let ttl = xmpp.map(|xmpp| xmpp.get("ttl").and_then(Value::as_u64));
    let makes_sense = value.is_object()
        && xmpp.is_none_or(Value::is_object)
        && is_list(value.get("links"))
        && is_list(pins)
        && list(pins).len() <= PINS_MAX
        && ttl != Some(None);
    assert_eq!(read.is_some(), makes_sense, "{value}");
    let Some(document) = read else { return };
    assert_eq!(document.is_some(), xmpp.is_some(), "{value}");
    let (Some(document), Some(Some(ttl))) = (document, ttl) else { return };
    assert_eq!(document.ttl, Duration::from_secs(ttl).min(TTL_MAX));
    compare_pins(document, &list(pins));
    compare_links(document, &list(value.get("links")));
}

fn compare_pins(document: &Document, pins: &[Value]) {
    let digest = |pin: &Value| <[u8; 32]>::try_from(STANDARD.decode(pin.as_str()?).ok()?).ok();
    let digests: Vec<[u8; 32]> = pins.iter().filter_map(digest).collect();
    let other = [0x5A; 32];
    assert!(digests.iter().all(|digest| document.pins.allow(&[other, *digest])));
    assert_eq!(document.pins.allow(&[other]), pins.is_empty() || digests.contains(&other));
}

fn compare_links(document: &Document, links: &[Value]) {
    let mut all: Vec<Written> = Vec::new();
    for (way, addresses) in links.iter().take(LINKS_MAX).filter_map(written) {
        let at = all.iter().position(|(known, _)| *known == way).unwrap_or(all.len());
        if at == all.len() {
            all.push((way, Vec::new()));
        }
        for address in addresses {
            if !all[at].1.contains(&address) && all[at].1.len() < LINK_ADDRESSES_MAX {
                all[at].1.push(address);
            }
        }
    }
    for Link { candidate, addresses } in &document.links {
        let way = (
            candidate.transport,
            candidate.host.clone(),
            candidate.port.into(),
            candidate.rank.into(),
            candidate.weight.into(),
            candidate.tls.ech.as_deref().map(<[u8]>::to_vec),
        );
        assert!(all.contains(&(way, addresses.clone())), "{candidate:?} {addresses:?}");
    }
    let count = |transport| all.iter().filter(|((of, ..), _)| *of == transport).count();
    let chosen = [Transport::Quic, Transport::DirectTls].map(|of| count(of).min(TRANSPORT_CANDIDATES_MAX));
    assert_eq!(document.links.len(), chosen.iter().sum::<usize>().min(CANDIDATES_MAX));
}

/// As `dns::finder` does it.
fn dialled(document: &Document, asked: &Asked, bits: u8) {
    let domain = Domain::parse("b1.example.com").expect("a domain");
    let record = SrvRecord { priority: 1, weight: 1, port: 5269, target: "t.example.com".to_owned() };
    let said = [SrvAnswer::Nothing, SrvAnswer::Records(vec![record]), SrvAnswer::Failed(Reason::DnsFailed)];
    let mut srv = SrvAnswers::all(&SrvAnswer::Nothing);
    srv.set(SrvName::StartTls, said[usize::from(bits & 3) % said.len()].clone());
    let at = |ip: &str| AddressAnswer { addresses: vec![ip.parse().expect("an address")], failed: None };
    let addresses =
        HashMap::from([(domain.to_ascii(), at("10.0.0.9")), ("t.example.com".to_owned(), at("9.9.9.8"))]);
    let plan = plan(&domain, &srv, asked.quic_443, asked.seed);
    let by_dns = conclude(&srv, plan, &addresses, asked.rules(), VALID_MAX);

    let (mut standing, now) = (Standing::default(), Instant::now());
    let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(300) };
    standing.answered(Ok(Some(document.clone())), now, backoff, asked.seed);
    let hours = u64::from(bits >> 3);
    let Some(counting) = standing.counting(now + Duration::from_secs(3600 * hours)) else { return };
    let when = if bits & 4 == 0 { HostMeta::Fallback } else { HostMeta::Prefer };
    let found = by_dns.clone().with_document(&counting, when, asked.rules());
    judgement::hold_found(&found, asked);
    let unpinned = fedmux::proto::discovery::pins::Pins::none();
    assert_eq!(found.pins, if counting.expired { unpinned } else { document.pins.clone() });
    hold_order(&by_dns, &found, counting.expired || when != HostMeta::Prefer);
}

/// What is named by DNS stands unless the document comes first.
fn hold_order(by_dns: &Found, found: &Found, behind: bool) {
    if by_dns.is_named() && behind {
        assert_eq!(found.answer, by_dns.answer);
    } else if found.answer != by_dns.answer
        && let Answer::Ways(ways) = &found.answer
    {
        assert!(ways.as_slice().iter().all(|way| way.candidate.origin == Origin::HostMeta));
    }
}
