//! Requests over loopback.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::*;

/// A relay that is ready once it is told so.
#[derive(Default)]
struct View(AtomicBool);

impl AdminView for View {
    fn metrics_text(&self) -> String {
        "# TYPE fedmux_up gauge\nfedmux_up 1\n".to_owned()
    }

    fn readiness(&self) -> Result<(), Vec<String>> {
        match self.0.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(vec!["draining".to_owned(), "no certificate".to_owned()]),
        }
    }

    fn served(&self, ended: Result<(), JoinError>) {
        ended.unwrap();
    }
}

/// A relay with two defects; told when one is known.
#[derive(Default)]
struct Defect(Notify);

impl AdminView for Defect {
    fn metrics_text(&self) -> String {
        panic!("a defect")
    }

    fn readiness(&self) -> Result<(), Vec<String>> {
        panic!("another one")
    }

    fn served(&self, ended: Result<(), JoinError>) {
        if ended.is_err_and(|failure| failure.is_panic()) {
            self.0.notify_one();
        }
    }
}

/// A server on a port of its own. It ends with the test's runtime.
async fn server(view: Arc<impl AdminView + 'static>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, view));
    address
}

async fn send(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    send(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

#[tokio::test]
async fn metrics_come_in_the_text_format_of_prometheus() {
    let address = server(Arc::<View>::default()).await;
    let answer = get(address, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n# TYPE fedmux_up gauge\nfedmux_up 1\n"), "{answer}");
}

#[tokio::test]
async fn a_relay_that_is_not_ready_says_why_and_lives() {
    let view = Arc::new(View::default());
    let address = server(Arc::clone(&view)).await;
    let answer = get(address, "/ready").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\ndraining\nno certificate\n"), "{answer}");
    assert!(get(address, "/live").await.starts_with("HTTP/1.1 200 "));
    view.0.store(true, Ordering::SeqCst);
    assert!(get(address, "/ready").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn other_paths_are_not_found_and_other_methods_not_allowed() {
    let address = server(Arc::<View>::default()).await;
    assert!(get(address, "/").await.starts_with("HTTP/1.1 404 "));
    assert!(get(address, "/metrics/").await.starts_with("HTTP/1.1 404 "));
    for method in ["POST", "HEAD", "DELETE"] {
        let answer = send(address, &format!("{method} /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET"), "{answer}");
    }
}

#[tokio::test]
async fn a_request_that_is_no_http_or_too_long_is_refused() {
    let address = server(Arc::<View>::default()).await;
    assert!(send(address, "<stream:stream>\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    let long = format!("GET /live HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(HEADER_BYTES_MAX - 64));
    assert!(send(address, &long).await.starts_with("HTTP/1.1 200 "), "just within the bound");
    let many = format!("GET /live HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(HEADER_FIELDS_MAX + 1));
    assert!(send(address, &many).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn silent_clients_are_sent_away_and_hold_nobody_up_for_longer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bounds = Bounds { connections: 2, header_time: Duration::from_millis(50), ..BOUNDS };
    tokio::spawn(serve_within(bounds, listener, Arc::<View>::default()));
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /live HTTP/1.1\r\nHost").await.unwrap();
    assert!(get(address, "/live").await.starts_with("HTTP/1.1 200 "), "a third waits for one of the two");
    for stream in [&mut silent, &mut slow] {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_panic_is_seen_at_once_and_takes_nobody_with_it() {
    let defect = Arc::new(Defect::default());
    let address = server(Arc::clone(&defect)).await;
    let answer = get(address, "/metrics").await;
    assert!(
        answer.starts_with("HTTP/1.1 500 ") && answer.ends_with("the relay's log says why\n"),
        "{answer}"
    );
    defect.0.notified().await;
    assert_eq!(get(address, "/ready").await, "");
    defect.0.notified().await;
    assert!(get(address, "/live").await.starts_with("HTTP/1.1 200 "));
}

/// Metrics that take as long as the test wants.
struct Slow {
    begun: AtomicUsize,
    until: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl AdminView for Slow {
    fn metrics_text(&self) -> String {
        self.begun.fetch_add(1, Ordering::SeqCst);
        // Told, or the test is over.
        let _either = self.until.lock().map(|until| until.recv());
        "fedmux_up 1\n".to_owned()
    }

    fn readiness(&self) -> Result<(), Vec<String>> {
        Ok(())
    }

    fn served(&self, ended: Result<(), JoinError>) {
        ended.unwrap();
    }
}

#[test]
fn metrics_that_take_long_hold_up_nothing_else() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // Dropped before the runtime, whose threads would wait for it.
    let (told, until) = std::sync::mpsc::channel();
    let view = Arc::new(Slow { begun: AtomicUsize::new(0), until: until.into() });
    let address = runtime.block_on(server(Arc::clone(&view)));
    let ask = |path: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        stream
    };
    let read = |mut stream: std::net::TcpStream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer).unwrap_or_default()
    };
    let scrapes: Vec<_> = (0..4).map(|_| ask("/metrics")).collect();
    while view.begun.load(Ordering::SeqCst) == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    // All of them have come by then, and would be on the threads that there are.
    std::thread::sleep(Duration::from_millis(300));
    assert!(read(ask("/live")).starts_with("HTTP/1.1 200 "), "no thread was left for it");
    assert_eq!(view.begun.load(Ordering::SeqCst), 1, "one at a time");
    (0..4).for_each(|_| told.send(()).unwrap());
    for scrape in scrapes {
        assert!(read(scrape).ends_with("fedmux_up 1\n"));
    }
}
