//! What each path answers.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::AdminView;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Prometheus' text exposition format.
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Makes the metrics. Of thousands of sessions that takes some time: a thread of its own spends it, so that no lane waits for it.
pub(super) struct Scraping {
    view: Arc<dyn AdminView>,
    /// The one that is being made. Requests wait here for their turn, and hold no thread meanwhile. One whose client has gone leaves
    /// its own to the next, so that there are never two.
    making: Mutex<JoinSet<String>>,
}

impl Scraping {
    pub(super) fn new(view: Arc<dyn AdminView>) -> Self {
        Self { view, making: Mutex::default() }
    }

    /// `None`: it ended by a panic.
    async fn text(&self) -> Option<String> {
        let mut making = self.making.lock().await;
        while let Some(left) = making.join_next().await {
            self.view.served(left.map(drop));
        }
        let view = Arc::clone(&self.view);
        making.spawn_blocking(move || view.metrics_text());
        let (text, ended) = match making.join_next().await? {
            Ok(text) => (Some(text), Ok(())),
            Err(failure) => (None, Err(failure)),
        };
        self.view.served(ended);
        text
    }
}

/// The answer to `request`; its body, if any, is never read.
pub(super) async fn respond<B>(request: Request<B>, scraping: &Scraping) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !matches!(path, "/metrics" | "/live" | "/ready") {
        return text(StatusCode::NOT_FOUND, "not found; here are /metrics, /live and /ready\n");
    }
    if request.method() != Method::GET {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    match path {
        "/metrics" => match scraping.text().await {
            Some(metrics) => {
                let mut response = text(StatusCode::OK, metrics);
                response.headers_mut().insert(CONTENT_TYPE, METRICS);
                response
            }
            None => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics can't be told; the relay's log says why\n",
            ),
        },
        "/live" => text(StatusCode::OK, "ok\n"),
        _ => match scraping.view.readiness() {
            Ok(()) => text(StatusCode::OK, "ok\n"),
            Err(reasons) => text(StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
        },
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PLAIN);
    response
}
