//! Whole reports over certificates of a development authority.

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::report::{Finding, ProvenBy};
use super::*;
use crate::identity::development::{DevelopmentCa, Purpose, Request};

const DAY: Duration = Duration::from_secs(86_400);

/// A folder with a configuration and certificates of one authority.
struct Place {
    folder: TempDir,
    authority: DevelopmentCa,
}

impl Place {
    fn new() -> Self {
        let place =
            Self { folder: tempfile::tempdir().unwrap(), authority: DevelopmentCa::create().unwrap() };
        std::fs::create_dir(place.path("certs")).unwrap();
        place.write("ca.pem", place.authority.ca_pem());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Put a certificate with its key into `certs/NAME.pem`, which only we can read.
    fn certificate(&self, name: &str, request: &Request<'_>) {
        let issued = self.authority.issue(request).unwrap();
        let file = format!("certs/{name}.pem");
        self.write(&file, &(issued.certificate + &issued.key));
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(self.path(&file), private).unwrap();
    }

    /// What `fedmux check` says about a relay with these hosts and further lines.
    fn report(&self, hosts: &[&str], more: &str) -> Report {
        self.report_with(hosts, "", more)
    }

    /// The same, with further lines in `[local]`.
    fn report_with(&self, hosts: &[&str], local: &str, more: &str) -> Report {
        let (file, settings) = self.settings(hosts, local, more);
        examine(&file, &settings, SystemTime::now())
    }

    /// The configuration file of that, and what it says.
    fn settings(&self, hosts: &[&str], local: &str, more: &str) -> (PathBuf, Settings) {
        let text = format!(
            "[identity]\ncertificates = \"certs\"\ntrust = \"ca.pem\"\n[remote]\nquic = \"127.0.0.1:0\"\n[local]\n\
             s2s = \"127.0.0.1:0\"\n{local}[[host]]\ndomains = {hosts:?}\ndeliver = \"127.0.0.2:5269\"\n{more}"
        );
        let file = self.path("fedmux.toml");
        let settings = config::parse(&file, &text).unwrap();
        (file, settings)
    }
}

#[test]
fn the_policy_of_a_host_is_shown_and_what_it_allows_in_vain() {
    let place = Place::new();
    place.certificate("a", &Request { dns: &["a.test"], ..Request::default() });
    let policy = "allow = [\"*.b.test\", \"c.test\"]\ndeny_in = \"x.b.test\"\n[policy]\nallow = \"*.test\"\ndeny = \"d.test\"\n";
    let report = place.report(&["a.test"], policy);
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    let text = table::render(&report);
    let shown = "\nPolicy\n  all hosts: allow = [\"*.test\"], deny = [\"d.test\"]\n  a.test: allow = [\"*.b.test\", \"c.test\"], \
                 deny_in = [\"x.b.test\"]\n";
    assert!(text.contains(shown), "{text}");
    let report = place.report(&["a.test"], &policy.replace("*.test", "*.b.test"));
    let [warning] = of(&report, Severity::Warning)[..] else { panic!("{:#?}", report.findings) };
    assert!(warning.text.contains("\"c.test\""), "{}", warning.text);
}

fn of(report: &Report, severity: Severity) -> Vec<&Finding> {
    report.findings.iter().filter(|finding| finding.severity == severity).collect()
}

#[test]
fn hosts_are_covered_by_their_name_or_by_a_wildcard() {
    let place = Place::new();
    place.certificate("a", &Request { dns: &["a.test", "*.a.test"], ..Request::default() });
    let report = place.report(&["a.test", "rooms.a.test"], "");
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    let covered: Vec<_> = report.hosts.iter().map(|row| row.covered_by.as_deref().unwrap()).collect();
    assert_eq!(covered, ["a.test", "*.a.test"]);
    let text = table::render(&report);
    assert!(text.contains("\n  rooms.a.test  1            certificate  *.a.test\n"), "{text}");
    assert!(text.ends_with("\nNothing would fail.\n"), "{text}");
}

#[test]
fn a_host_without_certificate_would_fail() {
    let place = Place::new();
    place.certificate("a", &Request { dns: &["a.test"], ..Request::default() });
    let report = place.report(&["a.test", "x.y.a.test"], "");
    let errors = of(&report, Severity::Error);
    assert_eq!((errors.len(), errors[0].subject.as_str()), (1, "x.y.a.test"));
    assert_eq!(errors[0].text, "nobody can prove this host (certificate-none)");
    assert!(report.would_fail() && table::render(&report).ends_with("1 thing would fail.\n"));
}

#[test]
fn an_expired_certificate_fails_and_one_that_soon_expires_warns() {
    let (place, now) = (Place::new(), SystemTime::now());
    let request =
        |names, end| Request { dns: names, not_before: now - 80 * DAY, not_after: end, ..Request::default() };
    place.certificate("old", &request(&["old.test"], now - DAY));
    place.certificate("soon", &request(&["soon.test"], now + 3 * DAY + DAY / 2));
    let report = place.report(&["old.test", "soon.test"], "");
    let errors = of(&report, Severity::Error);
    assert_eq!((errors.len(), errors[0].subject.as_str()), (1, "old.test"));
    assert!(errors[0].text.contains("certificate-expired"), "{errors:?}");
    let warnings = of(&report, Severity::Warning);
    assert!(
        warnings.iter().any(|w| w.subject.ends_with("soon.pem") && w.text.ends_with("in 3 days")),
        "{warnings:?}"
    );
}

#[test]
fn a_client_certificate_does_not_do_for_peers_that_dial_us() {
    let place = Place::new();
    place.certificate("a", &Request { dns: &["a.test"], purposes: &[Purpose::Client], ..Request::default() });
    let report = place.report(&["a.test"], "");
    let errors = of(&report, Severity::Error);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].text.contains("peers that dial us will refuse this host (certificate-wrong-purpose)"));
}

#[test]
fn hosts_with_another_certificate_are_told() {
    let place = Place::new();
    place.certificate("most", &Request { dns: &["a.test", "b.test"], ..Request::default() });
    place.certificate("other", &Request { dns: &["c.test"], ..Request::default() });
    let report = place.report(&["a.test", "b.test", "c.test"], "");
    let proven: Vec<_> = report.hosts.iter().map(|row| row.proven_by).collect();
    assert_eq!(proven, [ProvenBy::Certificate, ProvenBy::Certificate, ProvenBy::MuxSecret]);
    let notes = of(&report, Severity::Note);
    assert_eq!((notes.len(), notes[0].subject.as_str()), (1, "c.test"));
    assert!(notes[0].text.contains("it will need a mux secret to join"), "{notes:?}");
    assert!(!report.would_fail());
}

#[test]
fn a_peer_that_is_not_shown_a_host_which_needs_a_secret_is_warned_of() {
    let place = Place::new();
    place.certificate("most", &Request { dns: &["a.test", "b.test"], ..Request::default() });
    let peer = "[[peer]]\ndomain = \"p.test\"\naddress = \"127.0.0.3:7\"\n";
    let warned = |hosts: &[&str], more: &str| {
        let report = place.report(hosts, more);
        of(&report, Severity::Warning).iter().map(|w| (w.subject.clone(), w.text.clone())).collect::<Vec<_>>()
    };
    assert_eq!(warned(&["a.test", "b.test"], peer), []);
    place.certificate("other", &Request { dns: &["c.test"], ..Request::default() });
    let found = warned(&["a.test", "b.test", "c.test"], peer);
    assert_eq!((found.len(), found[0].0.as_str()), (1, "peer 127.0.0.3:7"));
    assert!(found[0].1.contains("(a.test, b.test, c.test)"), "{found:?}");
    assert_eq!(warned(&["a.test", "b.test", "c.test"], &format!("{peer}announce = \"all\"\n")), []);
    assert_eq!(warned(&["a.test", "b.test", "c.test"], &format!("announce = true\n{peer}")), []);
}

#[test]
fn trust_in_loopback_is_warned_of_however_it_is_written() {
    let place = Place::new();
    place.certificate("a", &Request { dns: &["a.test"], ..Request::default() });
    for more in ["trusted_loopback = true", "sources = [\"127.0.0.2/32\"]", "sources = [\"::/1\"]"] {
        let report = place.report(&["a.test"], &format!("local_auth = \"trusted\"\n{more}\n"));
        let warnings = of(&report, Severity::Warning);
        assert_eq!(warnings.len(), 1, "{more}: {warnings:?}");
        assert!(warnings[0].text.contains("every process of this machine can speak for it"), "{warnings:?}");
    }
    let report = place.report(&["a.test"], "local_auth = \"trusted\"\nsources = [\"10.0.0.5\"]\n");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn what_a_server_has_to_keep_is_told_and_too_much_is_warned_of() {
    let place = Place::new();
    place.certificate("a", &Request { dns: &["a.test"], ..Request::default() });
    let trusted = "local_auth = \"trusted\"\nsources = [\"10.0.0.5\"]\n";
    let limit = |n: u32| format!("[limits]\nunacked_max = {n}\n");
    let report = place.report(&["a.test"], trusted);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let text = table::render(&report);
    assert!(
        text.contains("the server has to keep more than 400") && text.contains("smacks_max_queue_size"),
        "{text}"
    );
    let report = place.report(&["a.test"], &(trusted.to_owned() + &limit(500)));
    let [warning] = of(&report, Severity::Warning)[..] else { panic!("{:#?}", report.findings) };
    assert_eq!(warning.subject, "limits.unacked_max");
    assert!(place.report(&["a.test"], &(trusted.to_owned() + &limit(499))).findings.is_empty());
    // A server that dials back hears of no acknowledgement.
    let report = place.report(&["a.test"], &limit(500));
    assert!(report.findings.is_empty() && !table::render(&report).contains("acknowledged"));
}

#[test]
fn files_that_cannot_be_read_would_fail() {
    let place = Place::new();
    place.certificate("a", &Request { dns: &["a.test"], ..Request::default() });
    let peer = "[[peer]]\ndomain = \"b.test\"\naddress = \"127.0.0.3:7\"\ntrust = \"b.pem\"\n";
    let report = place.report(&["a.test"], peer);
    let errors = of(&report, Severity::Error);
    assert_eq!((errors.len(), errors[0].subject.as_str()), (1, "peer 127.0.0.3:7, trust"));
    std::fs::remove_dir_all(place.path("certs")).unwrap();
    let report = place.report(&["a.test"], "");
    assert_eq!(of(&report, Severity::Error)[0].subject, "identity.certificates");
}

#[test]
fn a_port_in_use_is_noted_and_an_address_of_others_would_fail() {
    let place = Place::new();
    place.certificate("a", &Request { dns: &["a.test"], ..Request::default() });
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let report = place.report(&["a.test"], &format!("[admin]\nlisten = [\"{address}\", \"192.0.2.1:9\"]\n"));
    let notes = of(&report, Severity::Note);
    assert_eq!((notes.len(), notes[0].text.as_str()), (1, "the TCP port is in use"));
    let errors = of(&report, Severity::Error);
    assert_eq!((errors.len(), errors[0].subject.as_str()), (1, "admin.listen 192.0.2.1:9"));
}

#[test]
fn the_report_fits_80_columns_and_is_json_too() {
    let place = Place::new();
    let long = format!("{}.test", "long-label-of-a-host".repeat(3));
    place.certificate("a", &Request { dns: &["a.test", &long], ..Request::default() });
    let report = place.report(&["a.test", &long, "missing.test"], "");
    let text = table::render(&report);
    let wide = text
        .lines()
        .find(|line| line.chars().count() > 80 && !line.contains(place.folder.path().to_str().unwrap()));
    assert_eq!(wide, None, "{text}");
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["hosts"][0]["covered_by"], "a.test");
    assert_eq!(json["hosts"][0]["proven_by"], "certificate");
    assert_eq!(json["hosts"][2]["certificate"], serde_json::Value::Null);
    assert_eq!(json["hosts"][2]["proven_by"], "nothing");
    assert_eq!(json["findings"][0]["severity"], "error");
    assert!(json["certificates"][0]["not_after"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn components_are_hosts_and_their_secrets_are_read() {
    let place = Place::new();
    place.certificate("a", &Request { dns: &["a.test", "irc.a.test"], ..Request::default() });
    let component = |domain: &str, file: &str| {
        format!("[[component]]\ndomain = \"{domain}\"\nsecret_file = \"{file}\"\n")
    };
    let more = component("irc.a.test", "irc.secret") + &component("bot.a.test", "bot.secret");
    place.write("irc.secret", "opensesame\n");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(place.path("irc.secret"), mode(0o644)).unwrap();
    let report = place.report_with(&["a.test"], "components = \"127.0.0.1:0\"\n", &more);
    let covered: Vec<_> = report.hosts.iter().map(|row| (&*row.domain, row.component)).collect();
    assert_eq!(covered, [("a.test", false), ("irc.a.test", true), ("bot.a.test", true)]);
    let errors: Vec<_> = of(&report, Severity::Error).iter().map(|f| (&*f.subject, f.text.clone())).collect();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert_eq!((errors[0].0, &*errors[0].1), ("bot.a.test", "nobody can prove this host (certificate-none)"));
    assert!(errors[1].1.contains("bot.secret: can't be read: No such file"), "{errors:#?}");
    let warnings = of(&report, Severity::Warning);
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].subject == "irc.a.test" && warnings[0].text.contains("mode 0644"), "{warnings:#?}");
    let text = table::render(&report);
    assert!(text.contains("irc.a.test  1            certificate  its own name (component)\n"), "{text}");
    assert!(!text.contains("opensesame") && !report.to_json().contains("opensesame"));
}

#[test]
fn metrics_that_everybody_can_read_are_warned_of() {
    let place = Place::new();
    place.certificate("a", &Request { dns: &["a.test"], ..Request::default() });
    for (listen, warned) in [("127.0.0.1:0", false), ("[::]:0", true), ("0.0.0.0:0", true)] {
        let report = place.report(&["a.test"], &format!("[admin]\nlisten = \"{listen}\"\n"));
        let warnings = of(&report, Severity::Warning);
        assert_eq!(warnings.len(), usize::from(warned), "{listen}: {warnings:#?}");
    }
}

#[test]
fn an_admin_socket_that_could_not_be_made_would_fail() {
    let place = Place::new();
    place.certificate("a", &Request { dns: &["a.test"], ..Request::default() });
    place.write("file", "");
    let found = |path: &str| {
        let report = place.report(&["a.test"], &format!("[admin]\nsocket = \"{path}\"\n"));
        let found = report.findings.iter().map(|finding| (finding.severity, finding.text.clone()));
        found.collect::<Vec<_>>()
    };
    assert_eq!(found("admin.sock"), []);
    for (path, why) in [
        ("missing/admin.sock", "can't be made (No such file"),
        ("file/admin.sock", "can't be looked at (Not a directory"),
        ("file", "is there already and is no socket"),
        ("/proc/admin.sock", "can't be made ("),
        ("/run/fedmux-of-a-test/of/it/admin.sock", "can't be made (No such file"),
    ] {
        let [(Severity::Error, text)] = &found(path)[..] else { panic!("{path}: {:?}", found(path)) };
        assert!(text.starts_with(why), "{path}: {text}");
    }
    let [(Severity::Note, text)] = &found("/run/fedmux-of-a-test/admin.sock")[..] else { panic!() };
    assert_eq!(text, "its folder isn't there yet");
    // A relay that runs, and one that was killed.
    let listening = std::os::unix::net::UnixListener::bind(place.path("admin.sock")).unwrap();
    assert_eq!(found("admin.sock"), [(Severity::Note, "a relay answers there".to_owned())]);
    drop(listening);
    assert_eq!(found("admin.sock"), []);
    let left: Vec<_> =
        std::fs::read_dir(place.folder.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert!(place.path("admin.sock").exists() && left.len() == 4, "{left:?}");
}

#[test]
fn listeners_that_cannot_be_had_at_once_would_fail() {
    let place = Place::new();
    place.certificate("a", &Request { dns: &["a.test"], ..Request::default() });
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (file, mut settings) = place.settings(&["a.test"], "", "");
    // The configuration refuses such a pair itself: this is for what it doesn't see.
    settings.remote_direct_tls = vec![([0, 0, 0, 0], port).into()];
    settings.admin_listen = vec![([127, 0, 0, 1], port).into()];
    let report = examine(&file, &settings, SystemTime::now());
    let [error] = of(&report, Severity::Error)[..] else { panic!("{:#?}", report.findings) };
    assert_eq!(error.subject, format!("admin.listen 127.0.0.1:{port}"));
    assert_eq!(error.text, "another listener of ours takes the TCP port");
}
