//! One XML stream in the hands of a script: a QUIC stream or a TCP connection.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes, BytesMut};
use fedmux::xmpp::element::Element;
use fedmux::xmpp::framer::{FrameKind, Framer, Progress, XmlLimits};
use fedmux::xmpp::header::{STREAM_END, StreamHeader};
use fedmux::xmpp::namespace as ns;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::TlsStream;

use super::soon;

/// A script hears everything.
const ANY: XmlLimits = XmlLimits {
    stanza_bytes: usize::MAX,
    negotiation_bytes: usize::MAX,
    depth: usize::MAX,
    attributes: usize::MAX,
};

/// What a script heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Header(StreamHeader),
    /// A first-level child that is no stanza.
    Element(Element),
    Stanza(Element),
    /// `</stream:stream>`
    End,
    /// No octet will come any more: FIN.
    Finished,
    /// The QUIC stream was reset with this code.
    Reset(u64),
    /// The connection is gone.
    Lost(String),
}

/// A stream with both its halves.
pub(crate) struct Wire {
    pub(crate) ear: Ear,
    pub(crate) mouth: Mouth,
    /// The id in the last stream header that the other end answered with.
    pub(crate) stream_id: String,
}

/// The half that hears.
pub(crate) struct Ear {
    octets: Receiving,
    /// The content namespace of what it hears.
    content: &'static str,
    framer: Framer,
    buffer: BytesMut,
}

/// The half that speaks.
pub(crate) struct Mouth(Sending);

enum Receiving {
    Quic(quinn::RecvStream),
    Tcp(OwnedReadHalf),
    Tls(ReadHalf<TlsStream<TcpStream>>),
}

enum Sending {
    Quic(quinn::SendStream),
    Tcp(OwnedWriteHalf),
    Tls(WriteHalf<TlsStream<TcpStream>>),
}

/// What a receiving script agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) bidi: bool,
    pub(crate) mux: bool,
}

/// An opening stream header.
pub(crate) fn header(from: &str, to: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='{}' xmlns:stream='{}' from='{from}' to='{to}' version='1.0'>",
        ns::SERVER,
        ns::STREAM
    )
}

/// A stream header that answers one.
pub(crate) fn answer(from: &str, to: &str, id: &str) -> String {
    header(from, to).replace(" from=", &format!(" id='{id}' from="))
}

/// SASL EXTERNAL as `identity`.
pub(crate) fn auth(identity: &str) -> String {
    format!("<auth xmlns='{}' mechanism='EXTERNAL'>{}</auth>", ns::SASL, STANDARD.encode(identity))
}

/// A message; `id` tells it from others.
pub(crate) fn message(from: &str, to: &str, id: &str) -> String {
    format!("<message from='{from}' to='{to}' id='{id}' type='chat'><body>{id}</body></message>")
}

impl Wire {
    pub(crate) fn quic((send, receive): (quinn::SendStream, quinn::RecvStream)) -> Self {
        Self::new(Receiving::Quic(receive), Sending::Quic(send))
    }

    pub(crate) fn tcp(connection: TcpStream) -> Self {
        connection.set_nodelay(true).unwrap();
        let (receive, send) = connection.into_split();
        Self::new(Receiving::Tcp(receive), Sending::Tcp(send))
    }

    pub(crate) fn tls(connection: TlsStream<TcpStream>) -> Self {
        connection.get_ref().0.set_nodelay(true).unwrap();
        let (receive, send) = tokio::io::split(connection);
        Self::new(Receiving::Tls(receive), Sending::Tls(send))
    }

    /// The connection under a TCP stream of which nothing was read that wasn't heard.
    pub(crate) fn into_tcp(self) -> TcpStream {
        assert!(self.ear.buffer.is_empty(), "clear text behind what was heard");
        match (self.ear.octets, self.mouth.0) {
            (Receiving::Tcp(receive), Sending::Tcp(send)) => receive.reunite(send).unwrap(),
            _ => panic!("only of plain TCP"),
        }
    }

    /// A component's end of its connection.
    pub(crate) fn component(connection: TcpStream) -> Self {
        let mut wire = Self::tcp(connection);
        wire.ear.framer = Framer::of(ns::COMPONENT_ACCEPT, ANY);
        wire.ear.content = ns::COMPONENT_ACCEPT;
        wire
    }

    fn new(receive: Receiving, send: Sending) -> Self {
        Self { ear: Ear::new(receive), mouth: Mouth(send), stream_id: String::new() }
    }

    pub(crate) async fn say(&mut self, octets: impl AsRef<[u8]>) {
        self.mouth.say(octets).await;
    }

    pub(crate) async fn hear(&mut self) -> Heard {
        self.ear.hear().await
    }

    /// As the initiating entity: the header, and the features that answer it.
    pub(crate) async fn greet(&mut self, from: &str, to: &str) -> Element {
        self.say(header(from, to)).await;
        self.features().await
    }

    /// As the initiating entity: authenticate, with everything that is offered. The features after that.
    pub(crate) async fn authenticate(&mut self, from: &str, to: &str) -> Element {
        self.authenticate_as(from, to, true).await
    }

    /// The same; `mux`: ask for it if it is offered.
    pub(crate) async fn authenticate_as(&mut self, from: &str, to: &str, mux: bool) -> Element {
        let features = self.greet(from, to).await;
        let mut request = String::new();
        if features.child("bidi", ns::BIDI_FEATURE).is_some() {
            request.push_str(&format!("<bidi xmlns='{}'/>", ns::BIDI));
        }
        if mux && features.child("mux", ns::MUX).is_some() {
            request.push_str(&format!("<mux xmlns='{}'/>", ns::MUX));
        }
        self.say(request + &auth(from)).await;
        self.expect_success().await;
        self.greet(from, to).await
    }

    /// `<success/>`; what comes next is a new document.
    pub(crate) async fn expect_success(&mut self) {
        match self.hear().await {
            Heard::Element(element) if element.is("success", ns::SASL) => self.ear.framer.restart(),
            other => panic!("{other:?} instead of <success/>"),
        }
    }

    /// A header, and the features behind it.
    pub(crate) async fn features(&mut self) -> Element {
        match self.hear().await {
            Heard::Header(header) => self.stream_id = header.id.unwrap_or_default(),
            other => panic!("{other:?} instead of a stream header"),
        }
        match self.hear().await {
            Heard::Element(element) if element.is("features", ns::STREAM) => element,
            other => panic!("{other:?} instead of features"),
        }
    }

    /// As the receiving entity: grant whatever is asked for.
    pub(crate) async fn accept(&mut self) -> Accepted {
        self.accept_with("").await
    }

    /// The same, with these features after authentication.
    pub(crate) async fn accept_with(&mut self, late: &str) -> Accepted {
        let Heard::Header(opening) = self.hear().await else { panic!("no stream header") };
        let name = |domain: Option<fedmux::xmpp::domain::Domain>| domain.unwrap().as_str().to_owned();
        let (from, to) = (name(opening.from), name(opening.to));
        self.say(format!(
            "{}<stream:features><mux xmlns='{}'/><bidi xmlns='{}'/>\
             <mechanisms xmlns='{}'><mechanism>EXTERNAL</mechanism></mechanisms></stream:features>",
            answer(&to, &from, "s0"),
            ns::MUX,
            ns::BIDI_FEATURE,
            ns::SASL
        ))
        .await;
        let mut accepted = Accepted { from, to, bidi: false, mux: false };
        loop {
            match self.hear().await {
                Heard::Element(element) if element.is("bidi", ns::BIDI) => accepted.bidi = true,
                Heard::Element(element) if element.is("mux", ns::MUX) => accepted.mux = true,
                Heard::Element(element) if element.is("auth", ns::SASL) => break,
                other => panic!("{other:?} instead of <auth/>"),
            }
        }
        self.say(format!("<success xmlns='{}'/>", ns::SASL)).await;
        self.ear.framer.restart();
        let Heard::Header(_) = self.hear().await else { panic!("no stream header after <success/>") };
        self.say(answer(&accepted.to, &accepted.from, "s1")).await;
        self.say(format!("<stream:features>{late}</stream:features>")).await;
        self.stream_id = "s1".to_owned();
        accepted
    }

    /// The stream ends with this stream error, its closing tag, and the end of its octets: all of it arrives. Headers,
    /// features and stanzas may stand before it. The error's text, which is our word for the reason.
    pub(crate) async fn expect_error(&mut self, condition: &str) -> String {
        let error = loop {
            match self.hear().await {
                Heard::Element(element) if element.is("error", ns::STREAM) => break element,
                Heard::Header(_) | Heard::Element(_) | Heard::Stanza(_) => {}
                other => panic!("{other:?} instead of the stream error {condition}"),
            }
        };
        let said: Vec<&str> = error.children().map(Element::name).collect();
        assert_eq!(said.first(), Some(&condition), "{error:?}");
        assert_eq!(self.hear().await, Heard::End);
        assert_eq!(self.hear().await, Heard::Finished);
        error.child("text", ns::STREAM_ERRORS).map(Element::text).unwrap_or_default()
    }

    /// Say goodbye, and hear it.
    pub(crate) async fn close(mut self) {
        self.say(STREAM_END).await;
        loop {
            match self.hear().await {
                Heard::End => return,
                Heard::Element(_) | Heard::Stanza(_) => {}
                other => panic!("{other:?} instead of </stream:stream>"),
            }
        }
    }
}

impl Mouth {
    /// Send octets that must go out.
    pub(crate) async fn say(&mut self, octets: impl AsRef<[u8]>) {
        self.try_say(octets).await.unwrap();
    }

    /// Send octets that the other end may not want any more.
    pub(crate) async fn try_say(&mut self, octets: impl AsRef<[u8]>) -> io::Result<()> {
        soon("room to send", async {
            match &mut self.0 {
                Sending::Quic(send) => Ok(send.write_all(octets.as_ref()).await?),
                Sending::Tcp(send) => send.write_all(octets.as_ref()).await,
                Sending::Tls(send) => {
                    send.write_all(octets.as_ref()).await?;
                    send.flush().await
                }
            }
        })
        .await
    }

    /// Send one piece again and again, until nobody wants it any more or `most` octets are sent. How many were.
    pub(crate) async fn flood(&mut self, piece: &Bytes, most: u64) -> u64 {
        let mut sent = 0;
        while sent < most && self.try_say(piece).await.is_ok() {
            sent += piece.len() as u64;
        }
        sent
    }

    /// No octet will follow.
    pub(crate) async fn finish(&mut self) {
        match &mut self.0 {
            Sending::Quic(send) => send.finish().unwrap(),
            Sending::Tcp(send) => send.shutdown().await.unwrap(),
            Sending::Tls(send) => send.shutdown().await.unwrap(),
        }
    }

    /// Break a QUIC stream off.
    pub(crate) fn reset(&mut self, code: u32) {
        match &mut self.0 {
            Sending::Quic(send) => send.reset(code.into()).unwrap(),
            Sending::Tcp(_) | Sending::Tls(_) => panic!("TCP has no streams to reset"),
        }
    }

    /// The code with which the other end stopped reading a QUIC stream; `None`: it has read everything.
    pub(crate) async fn stopped(&mut self) -> Option<u64> {
        match &mut self.0 {
            Sending::Quic(send) => {
                soon("the stream to be stopped", send.stopped()).await.unwrap().map(u64::from)
            }
            Sending::Tcp(_) | Sending::Tls(_) => panic!("TCP has no streams to stop"),
        }
    }
}

impl Ear {
    fn new(octets: Receiving) -> Self {
        Self { octets, content: ns::SERVER, framer: Framer::new(ANY), buffer: BytesMut::new() }
    }

    /// The next thing, which must come.
    pub(crate) async fn hear(&mut self) -> Heard {
        soon("something on the stream", self.hear_at_last()).await
    }

    /// The next thing, however long it takes.
    pub(crate) async fn hear_at_last(&mut self) -> Heard {
        loop {
            match self.framer.next(&self.buffer) {
                Ok(Progress::Skip(len)) => self.buffer.advance(len),
                Ok(Progress::Frame(frame)) => {
                    let octets = self.buffer.split_to(frame.len);
                    return match frame.kind {
                        FrameKind::Header => Heard::Header(StreamHeader::parse(&octets).unwrap()),
                        FrameKind::Element => Heard::Element(self.parse(&octets)),
                        FrameKind::Stanza(_) => Heard::Stanza(self.parse(&octets)),
                        FrameKind::End => Heard::End,
                    };
                }
                Ok(Progress::More) => {
                    if let Some(end) = self.read().await {
                        assert!(self.buffer.is_empty(), "{end:?} in the middle of {:?}", self.buffer);
                        return end;
                    }
                }
                Err(error) => panic!("{error} in {:?}", self.buffer),
            }
        }
    }

    fn parse(&self, octets: &[u8]) -> Element {
        Element::parse_within(octets, self.content).unwrap()
    }

    /// The next stanza; nothing else may come.
    pub(crate) async fn stanza(&mut self) -> Element {
        match self.hear().await {
            Heard::Stanza(stanza) => stanza,
            other => panic!("{other:?} instead of a stanza"),
        }
    }

    /// So many octets, as they are.
    pub(crate) async fn raw(&mut self, len: usize) -> BytesMut {
        while self.buffer.len() < len {
            let end = soon("more octets", self.read()).await;
            assert_eq!(end, None);
        }
        self.buffer.split_to(len)
    }

    /// What comes next is a new document.
    pub(crate) fn restart(&mut self) {
        self.framer.restart();
    }

    /// Take nothing more of a QUIC stream.
    pub(crate) fn stop(&mut self, code: u32) {
        match &mut self.octets {
            Receiving::Quic(receive) => receive.stop(code.into()).unwrap(),
            Receiving::Tcp(_) | Receiving::Tls(_) => panic!("TCP has no streams to stop"),
        }
    }

    async fn read(&mut self) -> Option<Heard> {
        match &mut self.octets {
            Receiving::Quic(receive) => match receive.read_chunk(65_536, true).await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk.bytes),
                Ok(None) => return Some(Heard::Finished),
                Err(quinn::ReadError::Reset(code)) => return Some(Heard::Reset(code.into_inner())),
                Err(error) => return Some(Heard::Lost(error.to_string())),
            },
            Receiving::Tcp(receive) => return read_from(receive, &mut self.buffer).await,
            Receiving::Tls(receive) => return read_from(receive, &mut self.buffer).await,
        }
        None
    }
}

async fn read_from<R: AsyncRead + Unpin>(receive: &mut R, buffer: &mut BytesMut) -> Option<Heard> {
    match receive.read_buf(buffer).await {
        Ok(0) => Some(Heard::Finished),
        Ok(_) => None,
        Err(error) => Some(Heard::Lost(error.to_string())),
    }
}
