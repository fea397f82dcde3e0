//! The examples of the profile, held against what the machines write. Those of the first stream's two negotiations are
//! held by `proto::stream::tests`.

use std::time::{Duration, Instant};

use super::authorize::{Authorization, Refused, write_refused, write_request, write_secret};
use super::iq::{MuxIq, write_answer, write_offer};
use super::secret::{Binding, Dialled, NONCE_BYTES, SecretKeys};
use super::verifier::{Allowance, Clocks, Offer, Verifier};
use crate::proto::features::Features;
use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;

const PROFILE: &str = include_str!("mod.rs");
const FILES: [&str; 5] = [
    PROFILE,
    include_str!("authorize.rs"),
    include_str!("iq.rs"),
    include_str!("secret.rs"),
    include_str!("verifier.rs"),
];
const ID: &str = "fedmux-mux-0123456789abcdef0123456789abcdef";

/// The examples of a file, each as who says what; what goes on indented is one line.
fn examples_in(file: &str) -> Vec<Vec<String>> {
    let blocks = file.split("//! ```xml\n").skip(1);
    let lines = |block: &str| {
        let mut said: Vec<String> = Vec::new();
        for line in block.lines().take_while(|line| *line != "//! ```") {
            let line = &line["//! ".len()..];
            match said.last_mut().filter(|_| line.starts_with(' ')) {
                Some(last) => {
                    let line = line.trim_start();
                    if !last.ends_with('>') && !line.starts_with('<') {
                        last.push(' ');
                    }
                    last.push_str(line);
                }
                None => said.push(line.to_owned()),
            }
        }
        said
    };
    blocks.map(lines).collect()
}

/// The examples of the first two sections of the profile: a stream before and after its authentication.
pub(crate) fn of_a_first_stream() -> [Vec<String>; 2] {
    let mut examples = examples_in(PROFILE).into_iter();
    std::array::from_fn(|_| examples.next().unwrap())
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

/// The verifier and the key of the published test vector, with the request of that vector open; its secret.
fn asked(dialled: Dialled, now: Instant) -> (Verifier, SecretKeys, String) {
    let count = |start: u8, at: usize| start + u8::try_from(at).unwrap();
    let keys = SecretKeys::new([std::array::from_fn(|at| count(0, at))]);
    let binding = Binding {
        dialled,
        verifier: domain("montague.example"),
        host: domain("rooms.capulet.example"),
        prover: domain("capulet.example"),
        stream_id: "s1".to_owned(),
        first: [0x11; 32],
        second: [0x22; 32],
    };
    let mut verifier = Verifier::new(Allowance::STRANGER);
    let nonce: [u8; NONCE_BYTES] = std::array::from_fn(|at| count(0xa0, at));
    let secret = verifier.ask(&keys, binding, nonce, Clocks { now, unix: 1_700_000_000 }).unwrap();
    (verifier, keys, secret)
}

fn written(by: &str, write: impl FnOnce(&mut String)) -> String {
    let mut text = format!("{by}: ");
    write(&mut text);
    text
}

#[test]
fn the_way_of_a_secret_is_what_the_profile_shows() {
    let now = Instant::now();
    let (mut verifier, keys, secret) = asked(Dialled::ByVerifier, now);
    let (v, p, n) = (domain("montague.example"), domain("capulet.example"), domain("rooms.capulet.example"));
    let handed = written("S2, V", |out| write_secret(out, &p, &secret));
    let offer = written("S1, P", |out| write_offer(out, ID, &p, &v, &n, &secret));
    let element = Element::parse(&offer.as_bytes()["S1, P: ".len()..]).unwrap();
    let Some(MuxIq::Offer { id, from, to, host, secret }) = MuxIq::read(&element) else { panic!("{offer}") };
    let judge = |verifier: &mut Verifier| {
        let clocks = Clocks { now: now + Duration::from_secs(1), unix: 1_700_000_001 };
        let offer = Offer { from: &from, to: &to, host: host.as_deref(), secret: &secret };
        let granted = verifier.judge(&keys, offer, clocks).is_ok();
        written("S1, V", |out| write_answer(out, &id, &from, &to, granted))
    };
    let (once, again) = (judge(&mut verifier), judge(&mut verifier));
    assert_eq!(examples_in(PROFILE)[2], [handed, offer, once, again]);
}

#[test]
fn a_request_for_a_secret_and_what_answers_it_are_what_its_page_shows() {
    let (_, _, secret) = asked(Dialled::ByProver, Instant::now());
    let p = domain("capulet.example");
    let offered = written("V", |out| Features { authorize: true, ..Features::default() }.write(out));
    let request = written("P", |out| write_request(out, &p, "s1"));
    let handed = written("V", |out| write_secret(out, &p, &secret));
    let examples = examples_in(FILES[1]);
    assert_eq!(examples[0], [offered, request, handed]);
    let refused = [Refused::Busy, Refused::NoSession, Refused::NotProven];
    assert_eq!(examples[1], refused.map(|refused| written("V", |out| write_refused(out, refused))));
    for line in examples.iter().flatten().skip(1) {
        let element = Element::parse(&line.as_bytes()["V: ".len()..]).unwrap();
        assert!(matches!(Authorization::parse(&element), Ok(Some(_))), "{line}");
    }
}

#[test]
fn every_example_is_held_by_a_test() {
    assert_eq!(FILES.map(|file| examples_in(file).len()), [3, 2, 0, 0, 0]);
}
