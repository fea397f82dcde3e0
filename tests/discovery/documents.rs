//! How often a domain's web server is asked, and how long an answer holds: a real finder, DNS server and web server, and a clock
//! that is set forward.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fedmux::dns::{Finder, FinderSettings, HostMetaSource, Outcome, Page as Asked, Reply, Web};
use fedmux::https::{self, Question};
use fedmux::identity::config::web_client;
use fedmux::identity::trust::Anchors;
use fedmux::proto::discovery::found::{Answer, Found};
use fedmux::proto::discovery::standing::Backoff;
use fedmux::reason::Reason;
use fedmux::relay::settings::{HostMeta, Transport};
use fedmux::xmpp::domain::Domain;

use crate::dns_server::{TestServer, Zone};
use crate::scene::document;
use crate::support::certificates::Authority;
use crate::support::web::{Page, WebServer};

/// Time enough for a busy machine; the clock is only set forward between look-ups.
const BOUND: Duration = Duration::from_secs(60);
const BACKOFF: Backoff = Backoff { min: Duration::from_secs(10), max: Duration::from_secs(300) };
/// How long a look-up stands that failed, and one beside which the web server failed.
const FAILED: Duration = Duration::from_secs(2);
const INCOMPLETE: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);

/// Asks by HTTPS, as the relay does.
#[derive(Debug)]
struct Browser(Arc<rustls::ClientConfig>);

#[async_trait]
impl Web for Browser {
    async fn get(&self, page: &Asked) -> Result<Reply, Reason> {
        let question = Question {
            host: &page.host,
            port: page.port,
            path: &page.path,
            accept: "application/json",
            addresses: &page.addresses,
            body_bytes_max: 65_536,
        };
        let answer = https::get(Arc::clone(&self.0), &question).await.map_err(|_| Reason::HostMetaFailed)?;
        Ok(Reply { status: answer.status, location: answer.location, body: answer.body })
    }

    fn asked(&self, _: &Domain, _: &Outcome, _: Duration) {}
}

struct Stage {
    web: WebServer,
    finder: Finder,
    _dns: TestServer,
}

impl Stage {
    /// x.test has these records, and a web server.
    async fn set(when: HostMeta, records: &[&str]) -> Self {
        let authority = Authority::new();
        let web = WebServer::start(&authority.certify(&["x.test"])).await;
        let dns = Zone::new(records).serve().await;
        let anchors = Anchors::from_pem_file(&authority.file()).unwrap();
        let source = HostMetaSource {
            when,
            web: Arc::new(Browser(Arc::new(web_client(&anchors).unwrap()))),
            port: web.address.port(),
            backoff: BACKOFF,
        };
        let settings = FinderSettings {
            servers: vec![dns.address],
            allow_private: true,
            quic_443: false,
            own: Vec::new(),
            bound: BOUND,
            host_meta: Some(source),
        };
        Self { web, finder: Finder::new(settings).unwrap(), _dns: dns }
    }

    fn says(&self, ttl: u64, pins: &[[u8; 32]]) {
        let link = (Transport::DirectTls, "127.0.0.9:5270".parse().unwrap(), "x.test");
        let said = document(&[link], pins).replace("\"ttl\":300", &format!("\"ttl\":{ttl}"));
        self.web.put("x.test", Page::Text(said));
    }

    async fn find(&self) -> Found {
        Found::clone(&*self.finder.find(&Domain::parse("x.test").unwrap(), 1).await)
    }

    /// Where it is found, and how often the web server was asked so far.
    async fn found(&self) -> (String, usize) {
        let at = match self.find().await.answer {
            Answer::Ways(ways) => ways.attempts(1)[0].address.to_string(),
            other => format!("{other:?}"),
        };
        (at, self.web.asked().len())
    }
}

/// Let time pass. Nothing else happens meanwhile.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

const BY_DOCUMENT: &str = "127.0.0.9:5270";
const BY_ADDRESS: &str = "127.0.0.1:5269";

#[tokio::test]
async fn a_document_is_fetched_again_when_its_ttl_is_over_and_no_sooner() {
    for when in [HostMeta::Fallback, HostMeta::Prefer] {
        let stage = Stage::set(when, &["x.test A 127.0.0.1"]).await;
        // A minute at least, an hour at most.
        for (ttl, seconds) in [(300, 300), (1, 60), (86_400, 3_600)] {
            stage.says(ttl, &[]);
            let (_, before) = stage.found().await;
            let valid = stage.find().await.valid;
            assert!(
                valid.abs_diff(Duration::from_secs(seconds)) < Duration::from_secs(10),
                "{ttl}: {valid:?}"
            );
            for _ in 0..3 {
                pass(Duration::from_secs(seconds) / 4).await;
                assert_eq!(stage.found().await, (BY_DOCUMENT.to_owned(), before), "{ttl}");
            }
            pass(Duration::from_secs(seconds) / 4 + Duration::from_secs(1)).await;
        }
        assert_eq!(stage.found().await.1, 4);
    }
}

#[tokio::test]
async fn a_web_server_that_fails_is_asked_no_more_often_than_its_back_off() {
    let stage = Stage::set(HostMeta::Fallback, &["x.test A 127.0.0.1"]).await;
    stage.web.put("x.test", Page::Status(500));
    assert_eq!(stage.found().await, (BY_ADDRESS.to_owned(), 1));
    let found = stage.find().await;
    assert_eq!((found.valid, found.incomplete), (INCOMPLETE, Some(Reason::HostMetaFailed)));
    // Somebody looks every two seconds for an hour: 10 s, doubled to 300 s, of which half at least.
    let mut gaps = vec![0_u64];
    for _ in 0..1_800 {
        pass(FAILED).await;
        let (_, asked) = stage.found().await;
        *gaps.last_mut().unwrap() += FAILED.as_secs();
        if asked > gaps.len() {
            gaps.push(0);
        }
    }
    gaps.pop();
    for (n, gap) in gaps.iter().enumerate() {
        let most = BACKOFF.max.as_secs().min(BACKOFF.min.as_secs() << n.min(10));
        assert!(*gap >= most / 2 && *gap <= most + INCOMPLETE.as_secs(), "{n}: {gaps:?}");
    }
    assert!((10..=26).contains(&gaps.len()), "{gaps:?}");
}

#[tokio::test]
async fn where_dns_fails_too_each_keeps_its_own_back_off() {
    let stage = Stage::set(
        HostMeta::Prefer,
        &["x.test A 127.0.0.1", "_xmpp-server._tcp.x.test SRV 0 0 5269 gone.test"],
    )
    .await;
    stage.web.put("x.test", Page::Status(503));
    let mut asked = Vec::new();
    for _ in 0..10 {
        asked.push(stage.found().await.1);
        pass(FAILED).await;
    }
    assert_eq!(asked[..3], [1; 3], "{asked:?}");
    assert!(*asked.last().unwrap() <= 3, "{asked:?}");
}

#[tokio::test]
async fn a_domain_without_a_document_is_not_asked_again_for_an_hour() {
    for page in [Page::Status(404), Page::Status(410), Page::Text("{\"links\":[]}".to_owned())] {
        let stage = Stage::set(HostMeta::Prefer, &["x.test A 127.0.0.1"]).await;
        stage.web.put("x.test", page);
        for _ in 0..11 {
            assert_eq!(stage.found().await, (BY_ADDRESS.to_owned(), 1));
            pass(5 * MINUTE).await;
        }
        pass(6 * MINUTE).await;
        assert_eq!(stage.found().await.1, 2);
    }
}

#[tokio::test]
async fn a_document_that_cannot_be_had_anew_holds_with_its_pins_and_then_for_want_of_others() {
    let stage = Stage::set(HostMeta::Fallback, &["x.test A 127.0.0.1"]).await;
    let (key, day) = ([1; 32], Duration::from_secs(86_400));
    let taken = |found: &Found| (found.pins.allow(&[[2; 32]]), found.pins.allow(&[key]));
    stage.says(2 * 3_600, &[key]);
    assert_eq!(stage.found().await.0, BY_DOCUMENT);
    stage.web.put("x.test", Page::Status(502));
    pass(61 * MINUTE).await;
    let found = stage.find().await;
    assert_eq!((stage.found().await.0, taken(&found)), (BY_DOCUMENT.to_owned(), (false, true)));
    pass(65 * MINUTE).await;
    let found = stage.find().await;
    assert_eq!(
        (stage.found().await.0, taken(&found)),
        (BY_DOCUMENT.to_owned(), (true, true)),
        "its ttl is over"
    );
    pass(day).await;
    assert_eq!(stage.found().await.0, BY_ADDRESS);

    stage.says(300, &[]);
    pass(6 * MINUTE).await;
    assert_eq!(stage.found().await.0, BY_DOCUMENT, "it is back");
    stage.web.put("x.test", Page::Status(404));
    pass(6 * MINUTE).await;
    assert_eq!(stage.found().await.0, BY_ADDRESS, "and withdrawn");
}
