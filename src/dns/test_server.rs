//! An authoritative DNS server on loopback for tests: a real one, that misbehaves for the names that it is told. The
//! tests of a whole relay (`tests/discovery`) ask it, too.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_server::Server;
use hickory_server::net::runtime::{Time, TokioRuntimeProvider};
use hickory_server::proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, SRV};
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, MessageResponseBuilder, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

/// What happens to the questions for one name and type.
#[derive(Debug, Clone)]
pub(crate) enum Misbehaviour {
    /// No answer, ever.
    Silent,
    /// The right answer, too late.
    Slow(Duration),
    /// A code and nothing else.
    Code(ResponseCode),
    /// These records, whatever was asked.
    Lie(Vec<Record>),
    /// Not an answer but a pointer to another server.
    Referral,
}

/// The questions that came, as `"SRV _xmpp-server._tcp.b1.test."`, and when.
type Asked = Arc<Mutex<Vec<(Instant, String)>>>;

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    asked: Asked,
    _server: Server<Scripted>,
}

pub(crate) struct Zone {
    records: Vec<Record>,
    script: Vec<(Name, RecordType, Misbehaviour)>,
}

pub(crate) fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

/// `"b1.test A 127.0.0.1"`, `"x.test SRV 0 0 5269 y.test"`, with a TTL of 300 s.
pub(crate) fn record(text: &str) -> Record {
    let fields: Vec<&str> = text.split(' ').collect();
    let number = |index: usize| fields[index].parse().unwrap();
    let data = match fields[1] {
        "A" => RData::A(A(fields[2].parse().unwrap())),
        "AAAA" => RData::AAAA(AAAA(fields[2].parse().unwrap())),
        "CNAME" => RData::CNAME(CNAME(name(fields[2]))),
        "SRV" => RData::SRV(SRV::new(number(2), number(3), number(4), name(fields[5]))),
        other => panic!("{other}"),
    };
    Record::from_rdata(name(fields[0]), 300, data)
}

impl Zone {
    pub(crate) fn new(records: &[&str]) -> Self {
        Self { records: records.iter().map(|text| record(text)).collect(), script: Vec::new() }
    }

    pub(crate) fn misbehave(mut self, at: &str, kind: RecordType, how: Misbehaviour) -> Self {
        self.script.push((name(at), kind, how));
        self
    }

    pub(crate) async fn serve(self) -> TestServer {
        let handler = InMemoryZoneHandler::<TokioRuntimeProvider>::empty;
        let mut zone = handler(Name::root(), ZoneType::Primary, AxfrPolicy::Deny);
        let soa = SOA::new(name("ns"), name("ns"), 1, 3600, 600, 86_400, 90);
        zone.upsert_mut(Record::from_rdata(Name::root(), 300, RData::SOA(soa)), 1);
        for record in self.records {
            zone.upsert_mut(record, 1);
        }
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::new(&Name::root()), vec![Arc::new(zone)]);
        let asked = Asked::default();
        let scripted = Scripted { catalog, script: self.script, asked: Arc::clone(&asked) };
        let mut server = Server::new(scripted);
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        server.register_socket(UdpSocket::bind(address).await.unwrap());
        server.register_listener(tcp, Duration::from_secs(5), 16);
        TestServer { address, asked, _server: server }
    }
}

impl TestServer {
    /// The questions so far, in the order of their text.
    pub(crate) fn asked(&self) -> Vec<String> {
        let mut asked: Vec<_> = self.asked.lock().unwrap().iter().map(|(_, text)| text.clone()).collect();
        asked.sort();
        asked
    }

    /// When this question came, each time.
    pub(crate) fn asked_at(&self, question: &str) -> Vec<Instant> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(_, text)| text == question).map(|(at, _)| *at).collect()
    }
}

pub(crate) struct Scripted {
    catalog: Catalog,
    script: Vec<(Name, RecordType, Misbehaviour)>,
    asked: Asked,
}

#[async_trait::async_trait]
impl RequestHandler for Scripted {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let query = request.request_info().unwrap().query.original().clone();
        let question = format!("{} {}", query.query_type(), query.name().to_lowercase());
        self.asked.lock().unwrap().push((Instant::now(), question));
        let scripted = self
            .script
            .iter()
            .find(|(name, kind, _)| name == query.name() && *kind == query.query_type())
            .map(|(_, _, how)| how.clone());
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let (answers, authorities) = match scripted {
            None => return self.catalog.handle_request::<R, T>(request, response).await,
            Some(Misbehaviour::Slow(delay)) => {
                tokio::time::sleep(delay).await;
                return self.catalog.handle_request::<R, T>(request, response).await;
            }
            Some(Misbehaviour::Silent) => {
                return ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() });
            }
            Some(Misbehaviour::Code(code)) => {
                metadata.response_code = code;
                (Vec::new(), Vec::new())
            }
            Some(Misbehaviour::Lie(records)) => (records, Vec::new()),
            Some(Misbehaviour::Referral) => {
                let ns = Record::from_rdata(Name::root(), 300, RData::NS(NS(name("elsewhere"))));
                (Vec::new(), vec![ns])
            }
        };
        let none: [&Record; 0] = [];
        let message = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            &answers,
            &authorities,
            none,
            none,
        );
        response.send_response(message).await.unwrap()
    }
}
