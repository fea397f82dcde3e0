//! Bad input on the port of the metrics: it is closed, and the next one is answered.

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::scene::Scene;
use crate::support::soon;

/// Send `request`; whatever is answered until the relay closes.
async fn ask(scene: &Scene, request: &[u8]) -> String {
    let mut connection = TcpStream::connect(scene.provider.admin).await.unwrap();
    let mut answer = Vec::new();
    soon("an answer of the admin port", async {
        // The relay may close before it has read all of it; and then reading fails where it was cut off.
        let _unwanted = connection.write_all(request).await;
        let _cut_off = connection.read_to_end(&mut answer).await;
    })
    .await;
    String::from_utf8(answer).unwrap()
}

/// The metrics are there, and nothing is disturbed.
async fn is_well(scene: &mut Scene) {
    let answer = ask(scene, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("\nfedmux_tasks_failed_total 0\n"), "{answer}");
    scene.is_undisturbed().await;
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let mut scene = Scene::set().await;
    let noise: Vec<u8> = (0..=255).rev().cycle().take(4096).collect();
    let stream = crate::support::wire::header("a1.test", "b1.test") + "\r\n\r\n";
    for request in [&noise[..], stream.as_bytes(), b"\0\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"] {
        let answer = ask(&scene, request).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    is_well(&mut scene).await;
}

#[tokio::test]
async fn a_header_of_a_gigabyte_is_refused() {
    let mut scene = Scene::set().await;
    let mut connection = TcpStream::connect(scene.provider.admin).await.unwrap();
    connection.write_all(b"GET /metrics HTTP/1.1\r\nX: ").await.unwrap();
    let (piece, mut sent) = (Bytes::from(vec![b'x'; 65_536]), 0_u64);
    while sent < 1 << 30 && soon("room", connection.write_all(&piece)).await.is_ok() {
        sent += piece.len() as u64;
    }
    // What the system's own buffers hold, and no more.
    assert!(sent <= 32 << 20, "{sent} octets were taken");
    is_well(&mut scene).await;
}

#[tokio::test]
async fn ten_thousand_header_fields_and_a_body_are_refused() {
    let mut scene = Scene::set().await;
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(10_000));
    assert!(!ask(&scene, many.as_bytes()).await.contains(" 200 "));
    let body = format!("POST /metrics HTTP/1.1\r\nContent-Length: {}\r\n\r\nx", u64::MAX / 2);
    assert!(ask(&scene, body.as_bytes()).await.starts_with("HTTP/1.1 405 "));
    is_well(&mut scene).await;
}

#[tokio::test]
async fn half_a_request_for_ever_is_closed() {
    let mut scene = Scene::set().await;
    let mut halves = Vec::new();
    for _ in 0..20 {
        let mut connection = TcpStream::connect(scene.provider.admin).await.unwrap();
        connection.write_all(b"GET /metr").await.unwrap();
        halves.push(connection);
    }
    is_well(&mut scene).await;
    for mut connection in halves {
        let mut answer = Vec::new();
        soon("the end of half a request", connection.read_to_end(&mut answer)).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    is_well(&mut scene).await;
}
