//! How a server behind a relay negotiates its streams: SASL EXTERNAL on loopback (XEP-0178), stream management (XEP-0198). By
//! search for what must come, which is enough where the other end is known.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Failed;

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
pub(crate) const SM: &str = "urn:xmpp:sm:3";

/// A stream under negotiation.
pub(crate) struct Negotiation {
    pub(crate) socket: TcpStream,
    /// What came and wasn't looked at.
    pub(crate) rest: Vec<u8>,
}

fn header(from: &str, to: &str, id: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
         from='{from}' to='{to}' version='1.0'{id}>"
    )
}

impl Negotiation {
    pub(crate) fn new(socket: TcpStream) -> Result<Self, Failed> {
        socket.set_nodelay(true)?;
        Ok(Self { socket, rest: Vec::new() })
    }

    /// Open a stream from one domain to another, and turn stream management on.
    pub(crate) async fn open(&mut self, from: &str, to: &str) -> Result<(), Failed> {
        self.open_with(from, to, "").await
    }

    /// Open one stream from a domain to all of these, for both directions (XEP-0288, and XEP-0220 section 2.6).
    pub(crate) async fn open_shared(&mut self, from: &str, to: &[String]) -> Result<(), Failed> {
        let (first, further) = to.split_first().ok_or("no domain to open a stream to")?;
        self.open_with(from, first, "<bidi xmlns='urn:xmpp:bidi'/>").await?;
        let ask = |to: &String| {
            format!("<db:result xmlns:db='jabber:server:dialback' from='{from}' to='{to}'>bench</db:result>")
        };
        self.say(&further.iter().map(ask).collect::<String>()).await?;
        for _ in further {
            let answer = self.hear("/>").await?;
            if attribute(&answer, "type")? != "valid" {
                return Err(format!("a pair was refused: {answer}").into());
            }
        }
        Ok(())
    }

    async fn open_with(&mut self, from: &str, to: &str, before: &str) -> Result<(), Failed> {
        self.say(&header(from, to, "")).await?;
        self.hear("</stream:features>").await?;
        let identity = STANDARD.encode(from);
        self.say(&format!("{before}<auth xmlns='{SASL}' mechanism='EXTERNAL'>{identity}</auth>")).await?;
        self.hear("<success").await?;
        self.hear(">").await?;
        self.say(&header(from, to, "")).await?;
        self.hear("</stream:features>").await?;
        self.say(&format!("<enable xmlns='{SM}'/>")).await?;
        self.hear("<enabled").await?;
        self.hear(">").await?;
        Ok(())
    }

    /// Answer a stream: from which domain, and to which of ours.
    pub(crate) async fn accept(&mut self) -> Result<(String, String), Failed> {
        let heard = self.header().await?;
        let (from, to) = (attribute(&heard, "from")?, attribute(&heard, "to")?);
        let mechanisms = format!("<mechanisms xmlns='{SASL}'><mechanism>EXTERNAL</mechanism></mechanisms>");
        let answer = header(&to, &from, " id='bench'");
        self.say(&format!("{answer}<stream:features>{mechanisms}</stream:features>")).await?;
        self.hear("</auth>").await?;
        self.say(&format!("<success xmlns='{SASL}'/>")).await?;
        self.header().await?;
        let answer = header(&to, &from, " id='bench-2'");
        self.say(&format!("{answer}<stream:features><sm xmlns='{SM}'/></stream:features>")).await?;
        self.hear("<enable").await?;
        self.hear(">").await?;
        self.say(&format!("<enabled xmlns='{SM}'/>")).await?;
        Ok((from, to))
    }

    async fn header(&mut self) -> Result<String, Failed> {
        self.hear("<stream:stream").await?;
        self.hear(">").await
    }

    async fn say(&mut self, text: &str) -> Result<(), Failed> {
        Ok(self.socket.write_all(text.as_bytes()).await?)
    }

    /// Read up to the end of `what`.
    async fn hear(&mut self, what: &str) -> Result<String, Failed> {
        loop {
            if let Some(at) = memmem::find(&self.rest, what.as_bytes()) {
                let heard: Vec<u8> = self.rest.drain(..at + what.len()).collect();
                return Ok(String::from_utf8_lossy(&heard).into_owned());
            }
            if self.socket.read_buf(&mut self.rest).await? == 0 {
                let heard = String::from_utf8_lossy(&self.rest);
                return Err(format!("the stream ended where {what} was due: {heard}").into());
            }
        }
    }
}

fn attribute(text: &str, name: &str) -> Result<String, Failed> {
    let missing = || format!("no {name} in {text}");
    let (_, rest) = text.split_once(&format!(" {name}=")).ok_or_else(missing)?;
    let quote = rest.chars().next().ok_or_else(missing)?;
    Ok(rest[1..].split(quote).next().unwrap_or_default().to_owned())
}
