//! Golden messages: what an operator reads when a configuration is wrong.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::proto::limits::Congestion;
use crate::relay::settings::{Dns, HostMeta, LocalAuth, Placement, Trust};

const GOOD: &str = r#"[identity]
certificates = "certs"
[remote]
quic = "[::]:5269"
[local]
s2s = "127.0.0.1:5266"
[[host]]
domain = "a.test"
deliver = "127.0.0.2:5269"
"#;

fn read(text: &str) -> Result<Settings, String> {
    parse(Path::new("etc/f.toml"), text).map_err(|errors| errors.to_string())
}

/// The error of the good configuration with `addition` from line 10 on.
fn error(addition: &str) -> String {
    read(&format!("{GOOD}{addition}")).map(|_| String::new()).unwrap_or_else(|error| error)
}

#[test]
fn a_small_configuration_has_the_defaults() {
    let settings = read(GOOD).unwrap();
    assert_eq!(settings.limits, Limits::default());
    assert_eq!(settings.identity.certificates, Path::new("etc/certs"));
    assert_eq!(settings.identity.trust, Trust::System);
    assert!(settings.identity.mux_key_file.is_none() && settings.admin_listen.is_empty());
    assert_eq!(settings.hosts[0].local_auth, LocalAuth::Dialback);
    assert_eq!(settings.policy.domains.both.allow.len(), 1);
}

#[test]
fn every_key_reaches_the_settings() {
    let text = r#"
        [identity]
        certificates = "/srv/certs"
        trust = "ca.pem"
        mux_key_file = "mux.key"
        [remote]
        quic = ["[::]:5269", "127.0.0.1:0"]
        [local]
        s2s = ["127.0.0.1:5266", "[::1]:5266"]
        dns = "127.0.0.1:5353"
        dns_clients = ["10.0.0.5"]
        [admin]
        listen = "127.0.0.1:9467"
        [limits]
        stanza_bytes = 1_000_000
        hold = "500ms"
        drain = 0
        congestion = "bbr"
        [[host]]
        domains = ["a.test", "Bücher.test"]
        deliver = ["127.0.0.2", "xmpp.internal:5270"]
        local_auth = "trusted"
        sources = ["10.0.0.5", "fd00::/64"]
        trusted_loopback = true
        announce = true
        deny = "y.b.test"
        allow_out = ["*.z.b.test"]
        [[peer]]
        domain = "*.b.test"
        address = "relay.b.test:5269"
        transport = "quic"
        trust = "b.pem"
        announce = "all"
        placement = "one-stream"
        [policy]
        allow = ["*.b.test"]
        deny = ["x.b.test"]
        deny_in = []
        dialback = "never"
    "#;
    let settings = read(text).unwrap();
    assert_eq!(settings.identity.trust, Trust::File("etc/ca.pem".into()));
    assert_eq!(settings.local_dns.listen, ["127.0.0.1:5353".parse().unwrap()]);
    assert_eq!(settings.local_dns.clients, ["10.0.0.5/32".parse().unwrap()]);
    assert_eq!(settings.identity.mux_key_file.as_deref(), Some(Path::new("etc/mux.key")));
    assert_eq!(
        (settings.remote_quic.len(), settings.local_s2s.len(), settings.admin_listen.len()),
        (2, 2, 1)
    );
    let limits = &settings.limits;
    assert_eq!((limits.stanza_bytes, limits.hold), (1_000_000, Duration::from_millis(500)));
    assert_eq!((limits.drain, limits.congestion), (Duration::ZERO, Congestion::Bbr));
    let host = &settings.hosts[0];
    assert_eq!(host.domains[1].to_ascii(), "xn--bcher-kva.test");
    assert_eq!(host.deliver[0].to_string(), "127.0.0.2:5269");
    assert!(matches!(&host.local_auth, LocalAuth::Trusted { sources, loopback: true } if sources.len() == 2));
    assert!(host.announce);
    let peer = &settings.peers[0];
    assert_eq!(peer.placement, Placement::OneStream);
    assert_eq!(peer.trust.as_deref(), Some(Path::new("etc/b.pem")));
    assert!(peer.announce_all && peer.address.to_string() == "relay.b.test:5269");
    assert_eq!(settings.policy.domains.to_string(), "allow = [\"*.b.test\"], deny = [\"x.b.test\"]");
    assert_eq!(host.policy.to_string(), "deny = [\"y.b.test\"], allow_out = [\"*.z.b.test\"]");
}

#[test]
fn every_key_of_dns_reaches_the_settings() {
    let settings = read(&format!(
        "{GOOD}[dns]\nservers = [\"127.0.0.1\", \"[::1]:5301\"]\nallow_private = true\nquic_443 = true\nhost_meta = \"prefer\"",
    ));
    let servers = ["127.0.0.1:53", "[::1]:5301"].map(|text| text.parse().unwrap()).to_vec();
    let host_meta = HostMeta::Prefer;
    let dns = Dns { servers, allow_private: true, quic_443: true, host_meta, ..Dns::default() };
    assert_eq!(settings.unwrap().dns, Some(dns));
}

/// What is added to the good configuration, and what the operator then reads.
const MISTAKES: &[(&str, &str)] = &[
    (
        "[limits]\nstanza_byte = 1",
        "limits.stanza_byte is not a known key: etc/f.toml:11: did you mean stanza_bytes?",
    ),
    ("[limit]\nlanes = 1", "limit is not a known key: etc/f.toml:10: did you mean limits?"),
    (
        "colour = 1",
        "host.colour is not a known key: etc/f.toml:10: remove it; known here: domain, domains, deliver, \
            local_auth, sources, trusted_loopback, announce, allow, deny, allow_in, deny_in, allow_out, deny_out",
    ),
    (
        "[limits]\nstanza_bytes = 9999",
        "limits.stanza_bytes is 9999: etc/f.toml:11: write a whole number from 10000 to 67108864",
    ),
    ("[limits]\n\nlanes = -1", "limits.lanes is -1: etc/f.toml:12: write a whole number from 1 to 1000000"),
    (
        "[limits]\nlanes = \"many\"",
        "limits.lanes is a string: etc/f.toml:11: write a whole number from 1 to 1000000",
    ),
    (
        "[limits]\nhold = \"2 weeks\"",
        "limits.hold is \"2 weeks\": etc/f.toml:11: write a time from \"100ms\" to \"1h\" \
            (units ms, s, m, h, d), or whole seconds",
    ),
    (
        "[limits]\nhold = 99999",
        "limits.hold is 99999: etc/f.toml:11: write a time from \"100ms\" to \"1h\" \
            (units ms, s, m, h, d), or whole seconds",
    ),
    (
        "[limits]\ncongestion = \"reno\"",
        "limits.congestion is \"reno\": etc/f.toml:11: write \"cubic\" or \"bbr\"",
    ),
    (
        "[limits]\npair_queue_bytes = 20000",
        "limits.pair_queue_bytes is less than stanza_bytes: etc/f.toml:11: \
            raise pair_queue_bytes or lower stanza_bytes: a queue must hold one stanza",
    ),
    (
        "[limits]\nlane_window = 67108864",
        "limits.session_window is less than four times lane_window: etc/f.toml:10: \
            raise session_window or lower lane_window: a few unread lanes would hold up all others",
    ),
    ("[[limits]]\nlanes = 3", "limits is an array: etc/f.toml:10: write it as a table, [limits]"),
    (
        "[peer]\naddress = \"192.0.2.1:1\"",
        "peer is a table: etc/f.toml:10: write each as a table of its own, [[peer]]",
    ),
    (
        "[dns]\nhost_meta = true",
        "dns.host_meta is a boolean: etc/f.toml:11: write \"never\" or \"fallback\" or \"prefer\"",
    ),
    (
        "[dns]\nservers = [\"127.0.0.1\", \"ns.test\"]",
        "dns.servers is \"ns.test\": etc/f.toml:11: write the address of a DNS server, like \
            \"127.0.0.1:53\" or \"127.0.0.1\"",
    ),
    (
        "[dns]\nallow_private = \"yes\"",
        "dns.allow_private is a string: etc/f.toml:11: write true or false, without quotes",
    ),
    (
        "[host.limits]\nlanes = 1",
        "host.limits is not available in this version: etc/f.toml:10: remove it; set the limits \
            for all in [limits]",
    ),
    (
        "[policy]\ndialback = \"always\"",
        "policy.dialback is \"always\": etc/f.toml:11: write \"never\" or \"tls\"",
    ),
    (
        "[policy]\nallow = [\"b.test\", \"*.c.test\"]\nallow_in = [\"x.c.test\", \"x.b.test\"]",
        "policy.allow_in has \"x.b.test\", which allow leaves out: it has no effect: etc/f.toml:12: add it to allow, or \
         remove it: every list can only narrow",
    ),
    (
        "[policy]\nallow = \"*.b..test\"",
        "policy.allow is \"*.b..test\": not a valid domain name: etc/f.toml:11: write a domain \
            like \"b.example\", \"*.b.example\" for all below it, or \"*\"",
    ),
    ("announce = \"yes\"", "host.announce is a string: etc/f.toml:10: write true or false, without quotes"),
    (
        "local_auth = \"trusted\"",
        "host.local_auth = \"trusted\" names nobody: etc/f.toml:10: add sources = [\"10.0.0.5/32\"] \
            with the server's address, or trusted_loopback = true",
    ),
    (
        "sources = [\"10.0.0.5\"]",
        "host.sources has no effect with dialback: etc/f.toml:10: add local_auth = \"trusted\", or remove it",
    ),
    (
        "local_auth = \"trusted\"\nsources = [\n\"10.0.0.5/24\"\n]",
        "host.sources = \"10.0.0.5/24\" is an address with the length of a \
            network: etc/f.toml:12: write \"10.0.0.0/24\" for the network, or \"10.0.0.5\" for the address",
    ),
    (
        "domains = [\"b.test\"]",
        "host.domains stands beside domain: etc/f.toml:10: write either domain or domains",
    ),
    (
        "[[host]]\ndeliver = \"127.0.0.2\"",
        "host.domain is missing: etc/f.toml:10: add domain = \"a.example\"",
    ),
    (
        "[[host]]\ndomain = \"b.test\"",
        "host.deliver is missing: etc/f.toml:10: add deliver = \"127.0.0.1:5267\", where the \
            host's XMPP server listens",
    ),
    (
        "[[host]]\ndomains = [\n\"b.test\",\n\"A.test\"]\ndeliver = \"127.0.0.2\"",
        "host.domain = \"a.test\" stands at etc/f.toml:8 \
            already: etc/f.toml:13: remove one of the two",
    ),
    (
        "[[host]]\ndomain = \"b.test\"\ndeliver = \"127.0.0.1:5266\"",
        "host.deliver = \"127.0.0.1:5266\" is our own listener, \
            local.s2s: etc/f.toml:12: write where the host's XMPP server listens",
    ),
    (
        "[[peer]]\ndomain = \"a.test\"\naddress = \"192.0.2.1:5269\"",
        "peer.domain = \"a.test\" is a host of ours (etc/f.toml:8): \
            etc/f.toml:11: a domain is ours or a peer's: remove one of the two",
    ),
    (
        "[[peer]]\ndomains = [\"b.test\", \"b.test\"]\naddress = \"192.0.2.1:5269\"",
        "peer.domain = \"b.test\" stands at etc/f.toml:11 \
            already: etc/f.toml:11: remove one of the two",
    ),
    (
        "[[peer]]\ndomain = \"b.test\"\naddress = \"192.0.2.1\"",
        "peer.address is \"192.0.2.1\": etc/f.toml:12: write an address or a \
            name with its port, like \"192.0.2.1:5269\" or \"relay.b.example:5269\"",
    ),
    (
        "[[peer]]\ndomain = \"b.test\"\naddress = \"192.0.2.1:1\"\ntransport = \"tcp\"",
        "peer.transport is \"tcp\": etc/f.toml:13: write \"quic\" or \"direct-tls\" or \"starttls\"",
    ),
    (
        "[[peer]]\ndomain = \"b.test\"\naddress = \"192.0.2.1:1\"\ntransport = \"starttls\"\nplacement = \"one-stream\"",
        "peer.placement has no effect over TCP, which has one stream: etc/f.toml:14: remove it",
    ),
    (
        "[admin]\nlisten = \"127.0.0.1:5266\"",
        "admin.listen = \"127.0.0.1:5266\" is taken by local.s2s (etc/f.toml:6): \
            etc/f.toml:11: give each its own address or port",
    ),
    (
        "[admin]\nlisten = []",
        "admin.listen is an empty list: etc/f.toml:11: write an address and a port, like \
            \"127.0.0.1:9467\", or leave it out",
    ),
    (
        "[limits]\nlanes = ",
        "the text is not TOML (string values must be quoted, expected literal string): etc/f.toml:11: \
            correct the value of lanes",
    ),
    ("[remote]\n", "the text is not TOML (duplicate key): etc/f.toml:10: correct the line"),
];

#[test]
fn a_mistake_names_the_file_the_line_the_key_and_what_to_do() {
    for (addition, expected) in MISTAKES {
        assert_eq!(error(addition), *expected);
    }
}

#[test]
fn a_responder_that_could_not_do_its_work_stops_the_start() {
    let local = "[local]\ns2s = \"127.0.0.1:5266\"\n";
    for (instead, addition, expected) in [
        (
            "[local]\ndns = \"127.0.0.1:5353\"\n",
            "",
            "local.s2s is missing: etc/f.toml:6: add s2s = \"127.0.0.1:5266\" there, where local.dns leads our servers",
        ),
        (
            "[local]\ns2s = \"127.0.0.1:1\"\ndns_clients = \"10.0.0.5\"\n",
            "",
            "local.dns_clients has no effect without local.dns: etc/f.toml:7: add dns = \"127.0.0.1:5353\" there, or \
             remove it",
        ),
        (
            "[local]\ns2s = \"127.0.0.1:1\"\ndns = \"127.0.0.1:53\"\n",
            "[dns]\nservers = \"127.0.0.1\"",
            "dns.servers = \"127.0.0.1:53\" is our own listener, local.dns: etc/f.toml:12: name the servers that it \
             shall ask",
        ),
        (
            "[local]\ns2s = \"127.0.0.1:1\"\ndns = \"127.0.0.1:1\"\n",
            "",
            "local.dns = \"127.0.0.1:1\" is taken by local.s2s (etc/f.toml:6): etc/f.toml:7: give each its own address \
             or port",
        ),
        (
            "[local]\ns2s = \"127.0.0.1:1\"\ndns = \"0.0.0.0:53\"\n",
            "",
            "local.dns = \"0.0.0.0:53\" can be reached from outside: etc/f.toml:7: write a loopback or private address, \
             like \"127.0.0.1:5353\": only what is ours belongs there",
        ),
    ] {
        let text = format!("{}{addition}", GOOD.replace(local, instead));
        assert_eq!(read(&text).unwrap_err(), expected);
    }
}

#[test]
fn a_local_listener_on_a_public_address_stops_the_start() {
    for (key, port) in [("s2s", 5266), ("components", 5347)] {
        for address in ["0.0.0.0", "[::]", "192.0.2.1"] {
            let line = format!("{key} = \"{address}:{port}\"");
            let error = read(&GOOD.replace("s2s = \"127.0.0.1:5266\"", &line)).unwrap_err();
            let expected = format!(
                "local.{line} can be reached from outside: etc/f.toml:6: write a loopback or private address, \
                 like \"127.0.0.1:{port}\": only what is ours belongs there"
            );
            assert_eq!(error, expected);
        }
    }
}

/// A `[[component]]` and its listener, behind the good configuration.
fn with_component(component: &str) -> String {
    GOOD.replace("[[host]]", "components = \"127.0.0.1:5347\"\n[[host]]") + "[[component]]\n" + component
}

#[test]
fn a_component_has_a_domain_and_a_secret_file() {
    let good = with_component("domain = \"irc.a.test\"\nsecret_file = \"irc.secret\"\nannounce = true\n");
    let settings = read(&good).unwrap();
    let component = &settings.components[0];
    assert_eq!((component.domain.as_str(), component.announce), ("irc.a.test", true));
    assert_eq!(component.secret_file, Path::new("etc/irc.secret"));
    assert_eq!(settings.local_components, ["127.0.0.1:5347".parse().unwrap()]);
    let mistakes = [
        (
            "secret_file = \"s\"\n",
            "component.domain is missing: etc/f.toml:11: add domain = \"irc.a.example\"",
        ),
        (
            "domain = \"irc.a.test\"\n",
            "component.secret_file is missing: etc/f.toml:11: add secret_file = \"irc.secret\"",
        ),
        (
            "domain = \"irc.a.test\"\nsecret = \"s\"\nsecret_file = \"s\"\n",
            "component.secret is not a known key: etc/f.toml:13: ",
        ),
        (
            "domain = \"a.test\"\nsecret_file = \"s\"\n",
            "component.domain = \"a.test\" stands at etc/f.toml:9 already: etc/f.toml:12: remove one of the two",
        ),
    ];
    for (component, expected) in mistakes {
        let error = read(&with_component(component)).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    let closed = read(&good.replace("components = \"127.0.0.1:5347\"\n", "")).unwrap_err();
    assert!(closed.starts_with("local.components is missing: the component has no way in"), "{closed}");
    let taken = read(&good.replace("127.0.0.1:5347", "127.0.0.1:5266")).unwrap_err();
    assert!(taken.contains("is taken by local.s2s"), "{taken}");
}

#[test]
fn a_relay_may_serve_components_alone() {
    let text = with_component("domain = \"irc.a.test\"\nsecret_file = \"irc.secret\"\n");
    let alone = text.replace("[[host]]\ndomain = \"a.test\"\ndeliver = \"127.0.0.2:5269\"\n", "");
    assert!(read(&alone).unwrap().hosts.is_empty());
}

#[test]
fn a_relay_that_could_serve_or_reach_nobody_does_not_start() {
    let nobody = GOOD.split("[[host]]").next().unwrap();
    assert!(
        read(nobody)
            .unwrap_err()
            .starts_with("host is missing: the relay would serve nobody: etc/f.toml: add")
    );
    let nowhere = GOOD.replace("[remote]\nquic = \"[::]:5269\"\n", "");
    assert!(read(&nowhere).unwrap_err().starts_with("remote.quic is missing, and there is no peer"));
    let anonymous = GOOD.replace("[identity]\ncertificates = \"certs\"\n", "");
    assert!(
        read(&anonymous)
            .unwrap_err()
            .starts_with("identity.certificates is missing: etc/f.toml: add [identity]")
    );
}

#[test]
fn one_start_shows_all_mistakes_in_the_order_of_the_lines() {
    let text = format!("colour = 1\n{GOOD}colour = 2\n[limits]\nlanes = 0\nhold = 0\n");
    let errors = parse(Path::new("f.toml"), &text).unwrap_err();
    let lines: Vec<_> = errors.iter().map(|error| (error.line().unwrap(), error.key())).collect();
    assert_eq!(lines, [(1, "colour"), (11, "host.colour"), (13, "limits.lanes"), (14, "limits.hold")]);
    assert!(errors.iter().all(|error| error.file() == Path::new("f.toml")));
}

#[test]
fn an_error_is_one_line_whatever_the_key_holds() {
    assert_eq!(error("\"a\\nb\" = 1").lines().count(), 1);
    assert_eq!(error("[policy]\nallow = \"\"\"\na\nb\"\"\"").lines().count(), 1);
    let include = read(&format!("include = \"none.d/a\\nb.toml\"\n{GOOD}")).unwrap_err();
    assert!(
        include.lines().count() == 1 && include.contains("(etc/none.d/a\\nb.toml: no such file)"),
        "{include}"
    );
    assert_eq!(error("[policy]\nallow = \"a\nb\"").lines().count(), 1);
}

mod included {
    use super::*;

    /// A folder with the good configuration, which includes `hosts.d/*.toml`, and these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("hosts.d")).unwrap();
        std::fs::write(folder.path().join("f.toml"), format!("include = \"hosts.d/*.toml\"\n{GOOD}"))
            .unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join("hosts.d").join(name), text).unwrap();
        }
        folder
    }

    fn host(domain: &str) -> String {
        format!("[[host]]\ndomain = \"{domain}\"\ndeliver = \"127.0.0.2\"\n")
    }

    #[test]
    fn files_come_in_the_order_of_their_names() {
        let (b, c, d) = (host("b.test"), host("c.test"), host("d.test"));
        let folder = folder(&[("20.toml", &c), ("10.toml", &b), (".30.toml", &d), ("40.toml~", &d)]);
        let settings = load(&folder.path().join("f.toml")).unwrap();
        let domains: Vec<_> = settings.hosts.iter().map(|host| host.domains[0].as_str()).collect();
        assert_eq!(domains, ["a.test", "b.test", "c.test"]);
    }

    #[test]
    fn a_mistake_names_the_included_file() {
        let wrong = format!("{}colour = 1\n{}", host("b.test"), host("a.test"));
        let folder = folder(&[("b.toml", &wrong), ("c.toml", "[limits]\nlanes = 1\n")]);
        let main = folder.path().join("f.toml");
        let errors = load(&main).unwrap_err().to_string();
        let (b, c) = (folder.path().join("hosts.d/b.toml"), folder.path().join("hosts.d/c.toml"));
        let (main, b, c) = (main.display(), b.display(), c.display());
        let lines: Vec<_> = errors.lines().collect();
        assert!(lines[0].starts_with(&format!("host.colour is not a known key: {b}:4: ")), "{errors}");
        assert_eq!(
            lines[1],
            format!("host.domain = \"a.test\" stands at {main}:9 already: {b}:6: remove one of the two")
        );
        assert_eq!(
            lines[2],
            format!(
                "limits stands in an included file: {c}:1: move it to the main file: an included file may hold \
                 [[host]], [[component]] and [[peer]] only"
            )
        );
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_missing_folder_or_file_stops_the_start_and_an_empty_folder_does_not() {
        let folder = folder(&[]);
        let main = folder.path().join("f.toml");
        assert!(load(&main).is_ok());
        for pattern in ["host.d/*.toml", "hosts.d/b.toml"] {
            std::fs::write(&main, format!("include = \"{pattern}\"\n{GOOD}")).unwrap();
            let error = load(&main).unwrap_err().to_string();
            assert!(error.contains(&format!("include = \"{pattern}\" can't be read (")), "{error}");
            assert!(error.contains("f.toml:1: create it"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = load(Path::new("/nonexistent/f.toml")).unwrap_err().to_string();
        let expected = "the configuration can't be read (No such file or directory (os error 2)): /nonexistent/f.toml: \
                        create it, make it readable, or name another with --config FILE";
        assert_eq!(error, expected);
    }
}
