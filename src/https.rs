//! Floor 2: one question by HTTPS, and its answer: HTTP/1.1 by hyper over a TLS connection of its own.
//!
//! Whom to ask, at which addresses, and what to make of a redirect is decided by whoever asks. Here nothing is followed,
//! kept, sent in clear or asked twice; an answer is read up to a bound, and how long all of it may take is the caller's
//! business: dropping the future ends it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, Error as TlsError};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::proto::race::{ATTEMPT_DELAY, IN_FLIGHT_MAX};
use crate::reason::Reason;

/// The port of HTTPS.
pub const PORT: u16 = 443;
/// Octets of an answer's header.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Fields in an answer's header.
const HEADER_FIELDS_MAX: usize = 64;

/// What to ask for.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The host, which its certificate has to carry.
    pub host: &'a str,
    /// The port, [`PORT`] in general.
    pub port: u16,
    /// The path, with its query.
    pub path: &'a str,
    /// What the answer should be: media types.
    pub accept: &'static str,
    /// Where the host is. The first ones are raced.
    pub addresses: &'a [SocketAddr],
    /// Octets of the answer's body.
    pub body_bytes_max: usize,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Where else to ask, if the answer says so.
    pub location: Option<String>,
    /// The body of a 200; nothing is read of another.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The host could not be reached, or its certificate is not good.
    #[error("{0}")]
    Unreached(Reason),
    /// What was answered is no HTTP.
    #[error("no answer in HTTP")]
    NotHttp,
    /// The body has more octets than are wanted.
    #[error("too many octets")]
    TooBig,
}

/// Ask.
///
/// # Errors
/// [`Failure`] if there is no answer, or not a whole one.
pub async fn get(tls: Arc<ClientConfig>, question: &Question<'_>) -> Result<Answer, Failure> {
    let stream = reach(&tls, question).await.map_err(Failure::Unreached)?;
    let authority = match question.port {
        PORT => question.host.to_owned(),
        port => format!("{}:{port}", question.host),
    };
    let request = Request::get(question.path)
        .header(HOST, authority)
        .header(ACCEPT, question.accept)
        .header(USER_AGENT, "fedmux")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| Failure::NotHttp)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADER_FIELDS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Failure::NotHttp)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|_| Failure::NotHttp)?;
        let status = answer.status();
        let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.map(str::to_owned);
        if status != StatusCode::OK {
            return Ok(Answer { status: status.as_u16(), location, body: Bytes::new() });
        }
        let body = Limited::new(answer.into_body(), question.body_bytes_max).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Failure::TooBig,
            None => Failure::NotHttp,
        })?;
        Ok(Answer { status: status.as_u16(), location, body: body.to_bytes() })
    };
    // The connection has to be driven while the answer is read, and what of it was read may outlast the connection.
    tokio::pin!(exchange, connection);
    tokio::select! {
        answer = &mut exchange => return answer,
        _closed = &mut connection => {}
    }
    exchange.await
}

/// To the first of the addresses with which a handshake succeeds; each is given a moment before the next one is tried
/// (RFC 8305).
async fn reach(tls: &Arc<ClientConfig>, question: &Question<'_>) -> Result<TlsStream<TcpStream>, Reason> {
    let mut dialling = JoinSet::new();
    let mut turn = Duration::ZERO;
    for address in question.addresses.iter().copied().take(IN_FLIGHT_MAX) {
        let (tls, host) = (Arc::clone(tls), question.host.to_owned());
        dialling.spawn(async move {
            tokio::time::sleep(turn).await;
            let tcp = TcpStream::connect(address).await.map_err(|error| of_io(&error))?;
            secure(tcp, tls, &host).await
        });
        turn += ATTEMPT_DELAY;
    }
    let mut told = Reason::NameNotResolved;
    while let Some(dialled) = dialling.join_next().await {
        match dialled.unwrap_or(Err(Reason::InternalServerError)) {
            Ok(stream) => return Ok(stream),
            // What somebody said is told rather than that nobody answered.
            Err(reason) if !told.is_permanent() => told = reason,
            Err(_) => {}
        }
    }
    Err(told)
}

async fn secure(tcp: TcpStream, tls: Arc<ClientConfig>, host: &str) -> Result<TlsStream<TcpStream>, Reason> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Reason::NameNotResolved)?;
    let shaken = TlsConnector::from(tls).connect(name, tcp).await;
    shaken.map_err(|error| {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
        tls.map_or_else(|| of_io(&error), of_tls)
    })
}

fn of_io(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::ConnectionRefused,
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Reason::ConnectionTimeout
        }
        _ => Reason::ConnectionLost,
    }
}

fn of_tls(error: &TlsError) -> Reason {
    use CertificateError as C;
    let TlsError::InvalidCertificate(error) = error else { return Reason::HandshakeFailed };
    match error {
        C::Expired | C::ExpiredContext { .. } => Reason::CertificateExpired,
        C::NotValidYet | C::NotValidYetContext { .. } => Reason::CertificateNotYetValid,
        C::UnknownIssuer => Reason::CertificateUnknownIssuer,
        C::NotValidForName | C::NotValidForNameContext { .. } => Reason::CertificateWrongName,
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => Reason::CertificateWrongPurpose,
        _ => Reason::CertificateInvalid,
    }
}
