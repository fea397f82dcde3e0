//! QUIC with nothing on it: the same octets on as many streams, with the relay's own settings of the transport, written in
//! batches as large as the relay's. What it costs is what no relay over QUIC can save.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fedmux::proto::limits::Limits;
use fedmux::transport::quic;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::task::JoinSet;

use crate::Failed;
use crate::message::{Template, date, pair};
use crate::process::{Orders, answer};
use crate::source::Sent;

const NAME: &str = "raw.test";
const KEY: [u8; 32] = [7; 32];
/// As the relay's turn of one lane.
const BATCH_BYTES: usize = 16_384;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Where the receiving end is; left out: this is it.
    #[arg(long)]
    to: Option<SocketAddr>,
    /// Its certificate, in hexadecimal digits.
    #[arg(long)]
    certificate: Option<String>,
    #[arg(long)]
    pairs: usize,
    #[arg(long)]
    bytes: usize,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failed> {
    match (arguments.to, &arguments.certificate) {
        (Some(to), Some(certificate)) => send(&arguments, to, certificate).await,
        _ => receive(&arguments).await,
    }
}

fn endpoint() -> Result<Endpoint, Failed> {
    Ok(quic::endpoint(UdpSocket::bind("127.0.0.1:0")?, &KEY)?)
}

fn limits(pairs: usize) -> Limits {
    Limits { lanes_unauthenticated: u32::try_from(pairs).unwrap_or(u32::MAX), ..Limits::default() }
}

async fn receive(arguments: &Arguments) -> Result<(), Failed> {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    let transport = quic::transport_config(&limits(arguments.pairs));
    let endpoint = endpoint()?;
    quic::listen(&endpoint, quic::server_config(Arc::new(tls), &transport)?);
    let digits: String = made.cert.der().iter().map(|octet| format!("{octet:02x}")).collect();
    answer(&(endpoint.local_addr()?, digits))?;
    let mut readers = JoinSet::new();
    let connection = endpoint.accept().await.ok_or("the endpoint is closed")?.await?;
    let mut orders = Orders::new();
    loop {
        tokio::select! {
            Ok((_, stream)) = connection.accept_bi() => {
                readers.spawn(read(stream));
            }
            order = orders.next() => match order? {
                None => return Ok(()),
                Some(_) => answer(&"here")?,
            }
        }
    }
}

async fn read(mut stream: RecvStream) {
    // Whatever ends it ends the bench.
    while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX, true).await {
        std::hint::black_box(chunk.bytes.last());
    }
}

async fn connect(to: SocketAddr, certificate: &str, pairs: usize) -> Result<(Endpoint, Connection), Failed> {
    let octets = (0..certificate.len()).step_by(2).map(|at| u8::from_str_radix(&certificate[at..at + 2], 16));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(octets.collect::<Result<Vec<u8>, _>>()?))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = quic::client_config(tls, &quic::transport_config(&limits(pairs)))?;
    let endpoint = endpoint()?;
    let connection = endpoint.connect_with(config, to, NAME)?.await?;
    Ok((endpoint, connection))
}

async fn send(arguments: &Arguments, to: SocketAddr, certificate: &str) -> Result<(), Failed> {
    let (_endpoint, connection) = connect(to, certificate, arguments.pairs).await?;
    let mut streams = Vec::new();
    for at in 0..arguments.pairs {
        let template = Template::new(&pair(at, arguments.pairs), arguments.bytes);
        streams.push((connection.open_bi().await?.0, template));
    }
    answer(&"open")?;
    let mut orders = Orders::new();
    while let Some(order) = orders.next().await? {
        let [_, seconds] = &order[..] else { return Err(format!("no such order: {order:?}").into()) };
        let (began, mut floods, mut stanzas) = (Instant::now(), JoinSet::new(), 0);
        let until = began + Duration::try_from_secs_f64(seconds.parse()?)?;
        for (stream, template) in std::mem::take(&mut streams) {
            floods.spawn(flood(stream, template, until));
        }
        while let Some(flooded) = floods.join_next().await {
            let (stream, template, count) = flooded??;
            streams.push((stream, template));
            stanzas += count;
        }
        answer(&Sent { stanzas, seconds: began.elapsed().as_secs_f64() })?;
    }
    Ok(())
}

async fn flood(
    mut stream: SendStream,
    template: Template,
    until: Instant,
) -> Result<(SendStream, Template, u64), Failed> {
    let count = (BATCH_BYTES / template.len()).max(1) as u64;
    let mut batch = Vec::new();
    (0..count).for_each(|number| template.write(&mut batch, number, date()));
    let (batch, mut stanzas) = (bytes::Bytes::from(batch), 0);
    while Instant::now() < until {
        stream.write_chunk(batch.clone()).await?;
        stanzas += count;
    }
    Ok((stream, template, stanzas))
}
