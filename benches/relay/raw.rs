//! QUIC with nothing on it: the same octets on as many streams, with the relay's own settings of the transport, written in
//! batches as large as the relay's. What it costs is what no relay over QUIC can save.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fedmux::proto::limits::Limits;
use fedmux::transport::quic;
use quinn::{Connection, Endpoint, RecvStream, SendStream, TransportConfig};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::task::JoinSet;

use crate::Failed;
use crate::message::{Template, date, pair};
use crate::process::{Orders, answer};
use crate::source::{Sent, TICK};

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
    /// Its own address.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    at: IpAddr,
    /// With the QUIC library's own settings of the transport instead of the relay's: plain Cubic.
    #[arg(long)]
    plain: bool,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failed> {
    match (arguments.to, &arguments.certificate) {
        (Some(to), Some(certificate)) => send(&arguments, to, certificate).await,
        _ => receive(&arguments).await,
    }
}

impl Arguments {
    fn endpoint(&self) -> Result<Endpoint, Failed> {
        Ok(quic::endpoint(UdpSocket::bind((self.at, 0))?, &KEY)?)
    }

    fn transport(&self) -> Arc<TransportConfig> {
        let streams = u32::try_from(self.pairs).unwrap_or(u32::MAX);
        if self.plain {
            let mut config = TransportConfig::default();
            config.max_concurrent_bidi_streams(streams.into());
            return Arc::new(config);
        }
        quic::transport_config(&Limits { lanes_unauthenticated: streams, ..Limits::default() })
    }
}

async fn receive(arguments: &Arguments) -> Result<(), Failed> {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    let endpoint = arguments.endpoint()?;
    quic::listen(&endpoint, quic::server_config(Arc::new(tls), &arguments.transport())?);
    let digits: String = made.cert.der().iter().map(|octet| format!("{octet:02x}")).collect();
    answer(&(endpoint.local_addr()?, digits))?;
    let connection = endpoint.accept().await.ok_or("the endpoint is closed")?.await?;
    let (mut readers, mut streams, mut orders) = (JoinSet::new(), Vec::new(), Orders::new());
    loop {
        tokio::select! {
            Ok((sending, reading)) = connection.accept_bi() => {
                let (a, b) = pair(streams.len(), arguments.pairs);
                streams.push((sending, Template::new(&(b, a), arguments.bytes)));
                readers.spawn(read(reading));
            }
            order = orders.next() => match order? {
                None => return Ok(()),
                Some(order) => answer(&obey(&mut streams, &order).await?)?,
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

async fn connect(
    arguments: &Arguments,
    to: SocketAddr,
    certificate: &str,
) -> Result<(Endpoint, Connection), Failed> {
    let octets = (0..certificate.len()).step_by(2).map(|at| u8::from_str_radix(&certificate[at..at + 2], 16));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(octets.collect::<Result<Vec<u8>, _>>()?))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = quic::client_config(tls, &arguments.transport())?;
    let endpoint = arguments.endpoint()?;
    let connection = endpoint.connect_with(config, to, NAME)?.await?;
    Ok((endpoint, connection))
}

async fn send(arguments: &Arguments, to: SocketAddr, certificate: &str) -> Result<(), Failed> {
    let (_endpoint, connection) = connect(arguments, to, certificate).await?;
    let (mut readers, mut streams) = (JoinSet::new(), Vec::new());
    for at in 0..arguments.pairs {
        let (sending, reading) = connection.open_bi().await?;
        streams.push((sending, Template::new(&pair(at, arguments.pairs), arguments.bytes)));
        readers.spawn(read(reading));
    }
    answer(&"open")?;
    let mut orders = Orders::new();
    while let Some(order) = orders.next().await? {
        answer(&obey(&mut streams, &order).await?)?;
    }
    Ok(())
}

type Streams = Vec<(SendStream, Template)>;

/// `flood`: as much as goes, for so many seconds; `pace`: so many a second, of one stream after the other.
async fn obey(streams: &mut Streams, order: &[String]) -> Result<Sent, Failed> {
    let began = Instant::now();
    let until = |seconds: &str| Ok::<_, Failed>(began + Duration::try_from_secs_f64(seconds.parse()?)?);
    let mut stanzas = 0;
    match order.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["flood", seconds] => {
            let (until, mut floods) = (until(seconds)?, JoinSet::new());
            for (stream, template) in std::mem::take(streams) {
                floods.spawn(flood(stream, template, until));
            }
            while let Some(flooded) = floods.join_next().await {
                let (stream, template, count) = flooded??;
                streams.push((stream, template));
                stanzas += count;
            }
        }
        ["pace", rate, seconds] => stanzas = pace(streams, rate.parse()?, until(seconds)?).await?,
        _ => return Err(format!("no such order: {order:?}").into()),
    }
    Ok(Sent { stanzas, seconds: began.elapsed().as_secs_f64(), lag: 0.0 })
}

async fn pace(streams: &mut Streams, rate: f64, until: Instant) -> Result<u64, Failed> {
    let (began, mut done) = (Instant::now(), 0_usize);
    let mut ticks = tokio::time::interval(TICK);
    let count = streams.len();
    while Instant::now() < until {
        ticks.tick().await;
        while (done as f64) < began.elapsed().as_secs_f64() * rate {
            let (stream, template) = &mut streams[done % count];
            let mut stanza = Vec::new();
            template.write(&mut stanza, done as u64, date());
            stream.write_chunk(stanza.into()).await?;
            done += 1;
        }
    }
    Ok(done as u64)
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
