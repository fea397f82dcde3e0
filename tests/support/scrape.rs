//! The metrics of a relay that is a process of its own, as they are scraped.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::soon;

/// The text of a scrape.
#[derive(Debug, Clone)]
pub(crate) struct Scrape(String);

impl Scrape {
    /// What is at `admin` now.
    pub(crate) async fn of(admin: SocketAddr) -> Self {
        let mut connection = TcpStream::connect(admin).await.unwrap();
        connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        soon("the metrics", connection.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        Self(answer)
    }

    /// The lines about metrics whose names begin so, where there is anything to count.
    pub(crate) fn told(&self, names: &[&str]) -> String {
        let wanted = |line: &&str| names.iter().any(|name| line.starts_with(name)) && !line.ends_with(" 0");
        self.0.lines().filter(wanted).collect::<Vec<_>>().join("\n")
    }

    /// The sum of a metric's series that carry these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |line: &str| labels.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")));
        let series = self.0.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && has(line)
        });
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}
