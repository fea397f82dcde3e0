//! A web server: real HTTPS, and as bad an answer as it is told.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificates::Certificate;
use super::peer::{Manners, Served, tls_server};
use super::tcp_peer::ANY_VERSION;

/// Octets of an answer that has no end, which is cut off here all the same.
pub(crate) const ENDLESS_BYTES: u64 = 500 << 20;

/// What it does with a question.
#[derive(Debug, Clone)]
pub(crate) enum Page {
    /// 200, and this.
    Text(String),
    /// The same, after a while.
    Late(Duration, String),
    /// This status, and a body that nobody should care about.
    Status(u16),
    /// This status, and where else to ask.
    Redirect(u16, String),
    /// No answer, ever.
    Silent,
    /// 200, and octets without end.
    Endless,
    /// A body that is announced longer than it is.
    CutOff,
    /// Octets that are no HTTP.
    NoHttp,
}

/// A web server on loopback.
pub(crate) struct WebServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    tls: TlsAcceptor,
    /// By host and path, or by host alone.
    pages: Mutex<BTreeMap<String, Page>>,
    asked: Mutex<Vec<(Instant, String)>>,
    connections: AtomicUsize,
    sent: AtomicU64,
}

impl WebServer {
    /// One with this certificate, that has no pages.
    pub(crate) async fn start(certificate: &Certificate) -> Self {
        let served = Served { by_name: BTreeMap::new(), default: certificate.certified_key() };
        let config: ServerConfig = tls_server(served, Manners::Incurious, ANY_VERSION, &[b"http/1.1"]);
        let shared = Arc::new(Shared {
            tls: TlsAcceptor::from(Arc::new(config)),
            pages: Mutex::default(),
            asked: Mutex::default(),
            connections: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let serving = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                serving.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(Arc::clone(&serving).serve(tcp));
            }
        });
        Self { address, shared, _tasks: tasks }
    }

    /// From now on it has this at `place`: a host, or a host and a path.
    pub(crate) fn put(&self, place: &str, page: Page) {
        self.shared.pages.lock().unwrap().insert(place.to_owned(), page);
    }

    /// The same, to begin with.
    pub(crate) fn with(self, place: &str, page: Page) -> Self {
        self.put(place, page);
        self
    }

    /// What was asked for, as `"x.test/path"`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().iter().map(|(_, asked)| asked.clone()).collect()
    }

    /// When.
    pub(crate) fn asked_at(&self) -> Vec<Instant> {
        self.shared.asked.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }

    /// TCP connections so far, whatever became of them.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Octets of an endless answer that were taken.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, tcp: TcpStream) {
        // Whoever doesn't like the certificate leaves here.
        let Ok(mut stream) = self.tls.accept(tcp).await else { return };
        let Some(question) = question(&mut stream).await else { return };
        let sni = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
        let (host, path) = question;
        let named = host.split(':').next().unwrap_or_default();
        let whole = if named == sni { format!("{sni}{path}") } else { format!("{named}{path} as {sni}") };
        self.asked.lock().unwrap().push((Instant::now(), whole));
        let page = {
            let pages = self.pages.lock().unwrap();
            pages.get(&format!("{sni}{path}")).or_else(|| pages.get(&sni)).cloned()
        };
        // Whoever has heard enough leaves early.
        let _left = self.answer(&mut stream, page.unwrap_or(Page::Status(404))).await;
    }

    async fn answer(&self, stream: &mut TlsStream<TcpStream>, page: Page) -> std::io::Result<()> {
        let whole = |status: u16, more: &str, body: &str| {
            format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n{more}\r\n{body}", body.len())
        };
        let text = match page {
            Page::Text(body) => whole(200, "", &body),
            Page::Late(delay, body) => {
                tokio::time::sleep(delay).await;
                whole(200, "", &body)
            }
            Page::Status(status) => whole(status, "", "{}"),
            Page::Redirect(status, to) => whole(status, &format!("Location: {to}\r\n"), "elsewhere"),
            Page::Silent => {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await?;
                return Ok(());
            }
            Page::Endless => {
                stream.write_all(b"HTTP/1.1 200 x\r\n\r\n{\"xmpp\":").await?;
                let chunk = [b' '; 16_384];
                while self.sent.load(Ordering::Relaxed) < ENDLESS_BYTES {
                    stream.write_all(&chunk).await?;
                    self.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                }
                String::new()
            }
            Page::CutOff => "HTTP/1.1 200 x\r\nContent-Length: 1000\r\n\r\n{}".to_owned(),
            Page::NoHttp => "220 mail.x.test ESMTP\r\n".to_owned(),
        };
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    }
}

/// The host and the path of a question.
async fn question(stream: &mut TlsStream<TcpStream>) -> Option<(String, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let path = lines.next().unwrap().strip_prefix("GET ").unwrap().strip_suffix(" HTTP/1.1").unwrap();
    let host = lines.find_map(|line| line.strip_prefix("host: ")).unwrap();
    Some((host.to_owned(), path.to_owned()))
}
