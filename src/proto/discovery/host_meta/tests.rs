use proptest::prelude::*;

use super::*;
use crate::proto::discovery::plan::{CANDIDATES_MAX, TRANSPORT_CANDIDATES_MAX};

/// The example of XEP-0487 section 2.3.
const EXAMPLE: &str = r#"{
  "xmpp": { "ttl": 3000, "public-key-pins-sha-256": ["4/mggdlVx8A3pvHAWW5sD+qJyMtUHgiRuPjVC48N0XQ="] },
  "links": [
    { "rel": "urn:xmpp:alt-connections:websocket", "href": "wss://other.example.org/xmpp-websocket",
      "ips": ["1.2.3.4", "fd00:feed:dad:beef::1"], "priority": 15, "weight": 50, "sni": "example.org",
      "ech": "eG1wcC1jbGllbnQ=" },
    { "rel": "urn:xmpp:alt-connections:tls", "port": 443, "ips": ["1.2.3.4", "fd00:feed:dad:beef::1"],
      "priority": 10, "weight": 50, "sni": "example.org", "ech": "eG1wcC1jbGllbnQ=" },
    { "rel": "urn:xmpp:alt-connections:s2s-websocket", "href": "wss://other.example.org/s2s-xmpp-websocket",
      "ips": ["1.2.3.4", "fd00:feed:dad:beef::1"], "priority": 15, "weight": 50, "sni": "example.org",
      "ech": "eG1wcC1jbGllbnQ=" },
    { "rel": "urn:xmpp:alt-connections:s2s-tls", "port": 443, "ips": ["1.2.3.4", "fd00:feed:dad:beef::1"],
      "priority": 10, "weight": 50, "sni": "example.org", "ech": "eG1wcC1jbGllbnQ=" },
    { "rel": "urn:xmpp:alt-connections:s2s-quic", "port": 443, "ips": ["1.2.3.4", "fd00:feed:dad:beef::1"],
      "priority": 5, "weight": 50, "sni": "example.org", "ech": "eG1wcC1jbGllbnQ=" },
    { "rel": "urn:xmpp:alt-connections:xbosh", "href": "https://web.example.com:5280/bosh" }
  ]
}"#;

fn document(body: &str) -> Document {
    read(body.as_bytes(), 1).unwrap().unwrap()
}

/// A document with these links.
fn with_links(links: &str) -> Document {
    document(&format!(r#"{{"xmpp":{{"ttl":300}},"links":[{links}]}}"#))
}

fn with_pins(pins: &str) -> Result<Option<Document>, Unreadable> {
    let body = format!(r#"{{"xmpp":{{"ttl":300,"public-key-pins-sha-256":{pins}}},"links":[]}}"#);
    read(body.as_bytes(), 1)
}

fn link(change: impl Fn(&mut Value)) -> String {
    let mut link = serde_json::json!({
        "rel": "urn:xmpp:alt-connections:s2s-tls", "port": 5270, "ips": ["9.0.0.1"], "priority": 1, "weight": 2,
        "sni": "x.example.org",
    });
    change(&mut link);
    link.to_string()
}

#[test]
fn an_array_is_no_object() {
    for body in [r#"[{"ttl":300},[]]"#, "[null]", r#"{"xmpp":[300,[]]}"#] {
        assert_eq!(read(body.as_bytes(), 1), Err(Unreadable), "{body}");
    }
    let in_turn = r#"["urn:xmpp:alt-connections:s2s-tls",5270,1,2,"x.example.org",["9.0.0.1"],null]"#;
    assert_eq!(with_links(in_turn).links, []);
}

#[test]
fn the_example_of_the_xep_is_read() {
    let document = document(EXAMPLE);
    assert_eq!(document.ttl, Duration::from_secs(3_000));
    let pin = STANDARD.decode("4/mggdlVx8A3pvHAWW5sD+qJyMtUHgiRuPjVC48N0XQ=").unwrap();
    assert!(document.pins.allow(&[[7; 32], pin.try_into().unwrap()]) && !document.pins.allow(&[[7; 32]]));
    let shown: Vec<_> =
        document.links.iter().map(|link| (link.candidate.transport, link.candidate.rank)).collect();
    assert_eq!(shown, [(Transport::DirectTls, 10), (Transport::Quic, 5)], "for servers, and what we speak");
    for link in &document.links {
        assert_eq!((link.candidate.port, link.candidate.weight), (443, 50));
        assert_eq!(link.candidate.origin, Origin::HostMeta);
        let ips: [IpAddr; 2] = ["1.2.3.4".parse().unwrap(), "fd00:feed:dad:beef::1".parse().unwrap()];
        assert_eq!(link.addresses, ips);
        assert_eq!(link.candidate.tls.sni.as_deref(), Some("example.org"));
        assert_eq!(link.candidate.tls.ech.as_deref(), Some(b"xmpp-client".as_slice()));
    }
}

#[test]
fn a_document_of_xep_0156_says_nothing_to_servers() {
    let links =
        r#""links":[{"rel":"urn:xmpp:alt-connections:xbosh","href":"https://web.example.com:5280/bosh"}]"#;
    for body in [format!("{{{links}}}"), "{}".to_owned(), format!(r#"{{"xmpp":null,{links}}}"#)] {
        assert_eq!(read(body.as_bytes(), 1), Ok(None), "{body}");
    }
    let own = link(|_| ());
    assert_eq!(
        read(format!(r#"{{"links":[{own}]}}"#).as_bytes(), 1),
        Ok(None),
        "our links come with the object"
    );
}

#[test]
fn what_is_no_such_document_is_unreadable() {
    for body in [
        "",
        "<XRD/>",
        "[]",
        "{",
        r#"{"xmpp":{}}"#,
        r#"{"xmpp":{"ttl":-1}}"#,
        r#"{"xmpp":{"ttl":1.5}}"#,
        r#"{"xmpp":{"ttl":"300"}}"#,
        r#"{"xmpp":7}"#,
        r#"{"xmpp":{"ttl":1},"links":{}}"#,
        r#"{"xmpp":{"ttl":1,"public-key-pins-sha-256":"x"}}"#,
        r#"{"xmpp":{"ttl":1},"xmpp":{"ttl":2}}"#,
    ] {
        assert_eq!(read(body.as_bytes(), 1), Err(Unreadable), "{body}");
    }
    let deep = format!("{{\"xmpp\":{}", "[".repeat(60_000));
    assert_eq!(read(deep.as_bytes(), 1), Err(Unreadable));
}

#[test]
fn a_link_without_what_is_mandatory_leaves_the_others() {
    let broken = [
        link(|link| link["port"] = 0.into()),
        link(|link| link["port"] = 65_536.into()),
        link(|link| link["priority"] = Value::Null),
        link(|link| link["weight"] = (-1).into()),
        link(|link| link["sni"] = "9.0.0.1".into()),
        link(|link| link["sni"] = "not a name".into()),
        link(|link| link["ips"] = serde_json::json!([])),
        link(|link| link["ips"] = serde_json::json!(["x.example.org", 7])),
        link(|link| link["ips"] = "9.0.0.1".into()),
        link(|link| link["rel"] = "urn:xmpp:alt-connections:s2s-websocket".into()),
        "7".to_owned(),
        "null".to_owned(),
    ];
    assert!(with_links(&broken.join(",")).links.is_empty());
    let good =
        link(|link| link["ips"] = serde_json::json!(["nonsense", "::ffff:9.0.0.1", "9.0.0.1", "2600::1"]));
    let links = with_links(&format!("{},{good}", broken.join(","))).links;
    let ips: [IpAddr; 2] = ["9.0.0.1".parse().unwrap(), "2600::1".parse().unwrap()];
    assert_eq!(links.iter().map(|link| &*link.addresses).collect::<Vec<_>>(), [ips]);
    assert_eq!(links[0].candidate.tls, TlsHints { sni: Some("x.example.org".into()), ech: None });
}

#[test]
fn a_name_for_sni_is_sent_as_ascii() {
    let links = with_links(&link(|link| link["sni"] = "Bücher.example.org".into())).links;
    assert_eq!(links[0].candidate.tls.sni.as_deref(), Some("xn--bcher-kva.example.org"));
}

#[test]
fn equal_links_are_one_and_more_than_are_dialled_are_left_out() {
    let other = link(|link| link["ips"] = serde_json::json!(["9.0.0.2"]));
    let links = with_links(&format!("{},{other}", link(|_| ()))).links;
    assert_eq!(links.iter().map(|link| link.addresses.len()).collect::<Vec<_>>(), [2]);

    let many: Vec<String> = (0..100).map(|n| link(|link| link["port"] = (n + 1).into())).collect();
    assert_eq!(with_links(&many.join(",")).links.len(), TRANSPORT_CANDIDATES_MAX);
    let ips: Vec<String> = (0..100).map(|n| format!("9.0.0.{n}")).collect();
    let links = with_links(&link(|link| link["ips"] = ips.clone().into())).links;
    assert_eq!(links[0].addresses.len(), LINK_ADDRESSES_MAX);
}

#[test]
fn an_unreasonable_ech_configuration_is_none() {
    for ech in [Value::from("?"), 7.into(), "".into(), STANDARD.encode([0; ECH_BYTES_MAX + 1]).into()] {
        let links = with_links(&link(|link| link["ech"] = ech.clone())).links;
        assert_eq!(links[0].candidate.tls.ech, None, "{ech}");
    }
}

#[test]
fn pins_that_cannot_be_read_let_nobody_in_and_too_many_are_no_pins() {
    let key = [7; 32];
    let pins = |pins: &str| with_pins(pins).unwrap().unwrap().pins;
    assert!(pins("[]").is_none() && pins("[]").allow(&[]));
    for unreadable in [r#"["x"]"#, r#"[""]"#, "[7]", "[null]", &format!("[\"{}\"]", STANDARD.encode([7; 20]))]
    {
        assert!(!pins(unreadable).allow(&[key]), "{unreadable}");
    }
    let good = format!("\"{}\"", STANDARD.encode(key));
    assert!(pins(&format!("[\"x\",{good}]")).allow(&[[1; 32], key]));
    let list = |count| format!("[{}]", vec![good.clone(); count].join(","));
    assert!(pins(&list(PINS_MAX)).allow(&[key]));
    assert_eq!(with_pins(&list(PINS_MAX + 1)), Err(Unreadable));
}

/// Text that is a document in parts, and broken somewhere.
fn nearly_a_document() -> impl Strategy<Value = Vec<u8>> {
    (0..EXAMPLE.len(), any::<u8>(), 0..EXAMPLE.len()).prop_map(|(at, octet, end)| {
        let mut body = EXAMPLE.as_bytes().to_vec();
        body[at] = octet;
        if end % 3 == 0 {
            body.truncate(end);
        }
        body
    })
}

/// Values of every kind where links are expected.
fn any_link() -> impl Strategy<Value = Value> {
    let number =
        prop_oneof![Just(Value::Null), any::<u32>().prop_map(Value::from), (0..3u16).prop_map(Value::from)];
    let rel = prop_oneof![Just("s2s-tls"), Just("s2s-quic"), Just("tls")];
    let ips = prop::collection::vec(any::<[u8; 4]>().prop_map(|ip| IpAddr::from(ip).to_string()), 0..20);
    (rel, [number.clone(), number.clone(), number].prop_map(|numbers| numbers), ips, "[a-z.]{0,8}").prop_map(
        |(rel, [port, priority, weight], ips, sni)| {
            serde_json::json!({
                "rel": format!("urn:xmpp:alt-connections:{rel}"), "port": port, "priority": priority,
                "weight": weight, "ips": ips, "sni": sni, "ech": sni,
            })
        },
    )
}

fn bounds_hold(document: &Document) -> bool {
    let links = &document.links;
    links.len() <= CANDIDATES_MAX
        && document.ttl <= TTL_MAX
        && links.iter().all(|link| {
            (1..=LINK_ADDRESSES_MAX).contains(&link.addresses.len())
                && link.candidate.port != 0
                && link.candidate.tls.sni.is_some()
        })
}

proptest! {
    #[test]
    fn no_octets_are_too_strange(body in prop::collection::vec(any::<u8>(), 0..2_000), seed: u64) {
        prop_assert!(read(&body, seed).ok().flatten().is_none_or(|document| bounds_hold(&document)));
    }

    #[test]
    fn a_broken_document_breaks_nothing(body in nearly_a_document(), seed: u64) {
        prop_assert!(read(&body, seed).ok().flatten().is_none_or(|document| bounds_hold(&document)));
    }

    #[test]
    fn whatever_the_links_say_the_bounds_hold(
        links in prop::collection::vec(any_link(), 0..60),
        ttl: u64,
        seed: u64,
    ) {
        let body = serde_json::json!({ "xmpp": { "ttl": ttl }, "links": links }).to_string();
        let document = read(body.as_bytes(), seed).unwrap().unwrap();
        prop_assert!(bounds_hold(&document));
        prop_assert_eq!(Some(document), read(body.as_bytes(), seed).unwrap(), "the same seed, the same document");
    }
}
