//! What single steps of a stanza's way cost, on one core and without a network: reading XML, finding out where a stanza goes,
//! and mux secrets.
//!
//!     cargo bench --bench micro
//!     cargo bench --bench micro -- reading
//!
//! There are no thresholds: times are the machine's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench that can't go on ends")]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use criterion::{Criterion, Throughput};

use fedmux::proto::admission::{Direction, Proven, Scope, Side, admit};
use fedmux::proto::discovery::Transport;
use fedmux::proto::hosts::{HostFacts, Hosts};
use fedmux::proto::limits::Limits;
use fedmux::proto::mux::secret::{Binding, Dialled, NONCE_BYTES, SecretKeys};
use fedmux::proto::mux::verifier::Allowance;
use fedmux::proto::policy::DomainPolicy;
use fedmux::proto::proof::{CertifiedNames, TrustScope};
use fedmux::proto::router::proofs::Anchor;
use fedmux::proto::router::{Action, PeerId, PeerPlace, PeerRule, Router, SessionFacts};
use fedmux::proto::session::{Facts, Lanes, Session};
use fedmux::proto::stream::Learned;
use fedmux::reason::Reason;
use fedmux::xmpp::domain::{Domain, DomainPattern};
use fedmux::xmpp::framer::{Frame, FrameKind, Framer, Progress, XmlLimits};
use fedmux::xmpp::header::StreamHeader;
use fedmux::xmpp::route::Route;

/// Octets of an ordinary message.
const MESSAGE_BYTES: usize = 334;
const BODY: &str = "So shaken as we are, so wan with care, find we a time for frighted peace to pant, ";
/// Stanzas that a stream holds before it comes round again.
const STANZAS: usize = 256;
/// What a read from a socket brings: much, a datagram, and a trickle.
const CHUNKS: [usize; 3] = [16_384, 1500, 100];
/// Octets of a hostile stanza, at least.
const HOSTILE_BYTES: usize = 60_000;
/// Hosts behind a relay, and domains that its peer has proven.
const HOSTS: usize = 1000;
/// Pairs that are placed in turn.
const PAIRS: usize = 500;
/// Seconds since 1970.
const NOW: u64 = 1_800_000_000;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .configure_from_args();
    reading(&mut criterion);
    hostile(&mut criterion);
    deciding(&mut criterion);
    secrets(&mut criterion);
    criterion.final_summary();
}

/// One direction of a stream, whose stanzas come again and again, in pieces of so many octets.
struct Reader {
    framer: Framer,
    stanzas: Vec<u8>,
    chunk: usize,
    /// Where the next frame begins, and how much has come.
    at: usize,
    come: usize,
}

impl Reader {
    fn new(stanzas: Vec<u8>, chunk: usize) -> Self {
        let limits = Limits::default();
        let mut framer = Framer::new(XmlLimits {
            stanza_bytes: limits.stanza_bytes,
            negotiation_bytes: limits.negotiation_bytes,
            depth: limits.stanza_depth,
            attributes: limits.element_attributes,
        });
        let header = StreamHeader::new(Some(domain("a.example")), Some(domain("b.example")), None).to_xml();
        let mut at = 0;
        loop {
            match framer.next(&header.as_bytes()[at..]).expect("it is our own") {
                Progress::Skip(len) => at += len,
                Progress::Frame(Frame { kind: FrameKind::Header, .. }) => break,
                other => panic!("{other:?} of a header"),
            }
        }
        framer.authenticated();
        Self { framer, stanzas, chunk, at: 0, come: 0 }
    }

    /// The next stanza.
    fn next(&mut self) -> (Frame, &[u8]) {
        if self.at == self.stanzas.len() {
            (self.at, self.come) = (0, 0);
        }
        loop {
            match self.framer.next(&self.stanzas[self.at..self.come]).expect("it is well-formed") {
                Progress::Frame(frame) => {
                    let begin = self.at;
                    self.at += frame.len;
                    return (frame, &self.stanzas[begin..self.at]);
                }
                Progress::Skip(len) => self.at += len,
                Progress::More => self.come = (self.come + self.chunk).min(self.stanzas.len()),
            }
        }
    }
}

fn message() -> Vec<u8> {
    let head = "<message type='chat' from='romeo@a17.example/orchard' to='juliet@b42.example/balcony' id='4f1c'><body>";
    let end = "</body></message>";
    let body = BODY.chars().cycle().take(MESSAGE_BYTES - head.len() - end.len());
    head.chars().chain(body).chain(end.chars()).collect::<String>().into_bytes()
}

/// Framing and checking, and what is read of a stanza to know where it goes.
fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reading");
    for chunk in CHUNKS {
        let mut reader = Reader::new(message().repeat(STANZAS), chunk);
        group.bench_function(format!("stanza of {MESSAGE_BYTES} octets, in {chunk}"), |bencher| {
            bencher.iter(|| reader.next().0.len);
        });
    }
    let mut reader = Reader::new(message(), usize::MAX >> 1);
    let (frame, stanza) = reader.next();
    group.bench_function("head: both domains", |bencher| {
        bencher.iter(|| {
            let head = black_box(frame).head;
            [head.from_domain(stanza), head.to_domain(stanza)]
                .map(|text| Domain::parse(&text.unwrap()).unwrap())
        });
    });
    group.finish();
}

/// A stanza that declares as many prefixes as one may, with this said again and again inside.
fn declaring(inside: &str) -> Vec<u8> {
    let most = Limits::default().element_attributes;
    let mut stanza = "<message from='a.example' to='b.example'".to_owned();
    // The oldest is looked for longest.
    stanza.push_str(" xmlns:z='z'");
    for at in 3..most {
        stanza.push_str(&format!(" xmlns:p{at}='u'"));
    }
    stanza.push('>');
    while stanza.len() < HOSTILE_BYTES {
        stanza.push_str(inside);
    }
    stanza.push_str("</message>");
    stanza.into_bytes()
}

/// So many names of two letters.
fn short_names(count: usize) -> impl Iterator<Item = String> {
    ('a'..='z').flat_map(|first| ('a'..='z').map(move |second| format!("{first}{second}"))).take(count)
}

/// Stanzas that pass every check and were made to cost as much as they can.
fn hostile(criterion: &mut Criterion) {
    let most = Limits::default().element_attributes;
    let attributes =
        |prefix: &str| short_names(most).map(|name| format!(" {prefix}{name}=''")).collect::<String>();
    let cases = [
        ("attributes of the oldest of all prefixes", format!("<a{}/>", attributes("z:"))),
        ("elements of the oldest of all prefixes", "<z:a/>".to_owned()),
        ("as many attributes as there may be", format!("<a{}/>", attributes(""))),
        ("the smallest elements", "<a/>".to_owned()),
        ("the smallest CDATA sections", "<![CDATA[]]>".to_owned()),
        ("references", "&lt;".to_owned()),
    ];
    let mut group = criterion.benchmark_group("hostile");
    for (name, inside) in cases {
        let stanza = declaring(&inside);
        group.throughput(Throughput::Bytes(u64::try_from(stanza.len()).unwrap()));
        let mut reader = Reader::new(stanza, CHUNKS[0]);
        group.bench_function(name, |bencher| bencher.iter(|| reader.next().0.len));
    }
    group.finish();
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn host(side: char, at: usize) -> Domain {
    domain(&format!("{side}{at}.example"))
}

fn certificate(side: char) -> Arc<CertifiedNames> {
    Arc::new(CertifiedNames {
        exact: (0..HOSTS).map(|at| host(side, at)).collect(),
        wildcard: BTreeSet::new(),
        not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW),
        scope: TrustScope::everything(),
    })
}

fn our_hosts() -> Arc<Hosts> {
    let facts = HostFacts { entry: 0, announce: true };
    Arc::new(Hosts::new((0..HOSTS).map(|at| (host('a', at), facts)), DomainPolicy::default()))
}

/// A router with one session, whose certificates cover all hosts of both sides.
fn router() -> (Router, Instant) {
    let (now, hosts, peer) = (Instant::now(), our_hosts(), PeerId(0));
    let rule =
        PeerRule { domains: vec![DomainPattern::parse("*.example").unwrap()], proofs: Allowance::STRANGER };
    let keys = Arc::new(SecretKeys::new([[1; 32]]));
    let mut router = Router::new(Arc::clone(&hosts), vec![rule], Limits::default(), keys, 1);
    router.want(&Route::new(host('a', 0), host('b', 0)), now);
    let dialled = router.actions().into_iter().find_map(|action| match action {
        Action::Dial { session, lane, .. } => Some((session, lane)),
        _ => None,
    });
    let (id, lane) = dialled.expect("it dials the peer");
    let mut session = Session::new(Facts {
        hosts,
        theirs: certificate('b'),
        ours: certificate('a'),
        dialled: true,
        lanes: Lanes::PerPair,
        single: false,
        dialback: false,
        announce_all: true,
        second: false,
    });
    session.learn(Learned { mux: true, pipelining: true, ..Learned::default() });
    let address = "192.0.2.1:5269".parse().unwrap();
    let facts = SessionFacts {
        pinned: vec![peer],
        place: PeerPlace { transport: Transport::Quic, address, target: None, keys: Arc::default() },
        exporter: [1; 32],
        mux_exporter: [2; 32],
        anchor: Anchor { ours: host('a', 0), theirs: host('b', 0), stream_id: "s".to_owned(), bidi: true },
    };
    router.session_up(id, session, facts, now);
    router.lane_established(lane, now);
    router.actions();
    (router, now)
}

/// Who may speak for whom, of each stanza; and where a pair goes, of its first.
fn deciding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deciding");
    let hosts = our_hosts();
    let pair = Route::new(host('b', 7), host('a', 7));
    let scope = Scope {
        side: Side::Remote,
        theirs: Proven::Session(certificate('b'), Arc::default()),
        ours: Proven::Session(certificate('a'), Arc::default()),
        pair: Some(pair.clone()),
    };
    group.bench_function("admission of a stanza, 1000 hosts and 1000 proven domains", |bencher| {
        bencher.iter(|| admit(&scope, &hosts, Direction::Inbound, black_box(&pair.from), &pair.to).unwrap());
    });
    let (mut router, now) = router();
    let routes: Vec<Route> = (1..=PAIRS).map(|at| Route::new(host('a', at), host('b', at))).collect();
    group.bench_function("placing a new pair on a standing session", |bencher| {
        bencher.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for turn in 0..times {
                let route = &routes[usize::try_from(turn).unwrap() % PAIRS];
                let begun = Instant::now();
                router.want(route, now);
                let actions = router.actions();
                took += begun.elapsed();
                let [Action::OpenLane { lane, .. }, Action::Attach { .. }] = actions[..] else {
                    panic!("{actions:?}")
                };
                router.lane_established(lane, now);
                router.lane_down(lane, Reason::ConnectionLost, now);
                router.unwanted(route);
                router.actions();
            }
            took
        });
    });
    group.finish();
}

/// Making a mux secret and verifying it (XEP-0451 section 3.2).
fn secrets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mux secret");
    let keys = SecretKeys::new([[1; 32], [2; 32]]);
    let binding = Binding {
        dialled: Dialled::ByVerifier,
        verifier: host('b', 1),
        host: host('a', 2),
        prover: host('a', 1),
        stream_id: "c3f1a9d2-7b60".to_owned(),
        first: [3; 32],
        second: [4; 32],
    };
    let nonce = [5; NONCE_BYTES];
    group.bench_function("made", |bencher| {
        bencher.iter(|| keys.make(black_box(&binding), NOW + 30, &nonce).unwrap());
    });
    let secret = keys.make(&binding, NOW + 30, &nonce).unwrap();
    group.bench_function("verified", |bencher| {
        bencher.iter(|| keys.verify(black_box(&secret), &binding, NOW).unwrap());
    });
    let forged = SecretKeys::new([[1; 32]]).make(&binding, NOW + 31, &nonce).unwrap();
    let forged = secret[..secret.len() - 4].to_owned() + &forged[forged.len() - 4..];
    group.bench_function("refused as forged", |bencher| {
        bencher.iter(|| keys.verify(black_box(&forged), &binding, NOW).unwrap_err());
    });
    group.finish();
}
