//! The XMPP server behind a relay: it takes every stream that the relay opens, and each of its hosts can speak and hear.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use fedmux::xmpp::element::Element;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::soon;
use super::wire::{Ear, Heard, Mouth, Wire, message};

/// The server. Its streams end when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    hosts: HashMap<String, UnboundedReceiver<Element>>,
    post: Arc<Post>,
    tasks: JoinSet<()>,
}

/// Where the stanzas for each host go.
struct Post(HashMap<String, UnboundedSender<Element>>);

/// One host of a server.
pub(crate) struct Host {
    pub(crate) name: String,
    inbox: UnboundedReceiver<Element>,
    relay: SocketAddr,
    post: Arc<Post>,
    /// Streams that it opened, by the domain they lead to.
    mouths: HashMap<String, Mouth>,
    ears: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(hosts: &[&str]) -> Self {
        Self::listening(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(), hosts)
    }

    /// A server that listens there.
    pub(crate) fn listening(listener: TcpListener, hosts: &[&str]) -> Self {
        let address = listener.local_addr().unwrap();
        let (mut post, mut inboxes) = (HashMap::new(), HashMap::new());
        for host in hosts {
            let (sender, inbox) = unbounded_channel();
            post.insert((*host).to_owned(), sender);
            inboxes.insert((*host).to_owned(), inbox);
        }
        let post = Arc::new(Post(post));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&post)));
        Self { address, hosts: inboxes, post, tasks }
    }

    /// Take one host out, to speak and hear for it through the relay that listens at `relay`.
    pub(crate) fn host(&mut self, name: &str, relay: SocketAddr) -> Host {
        Host {
            name: name.to_owned(),
            inbox: self.hosts.remove(name).unwrap(),
            relay,
            post: Arc::clone(&self.post),
            mouths: HashMap::new(),
            ears: JoinSet::new(),
        }
    }
}

impl Host {
    /// The next stanza for this host.
    pub(crate) async fn receive(&mut self) -> Element {
        soon(&format!("a stanza for {}", self.name), self.inbox.recv()).await.unwrap()
    }

    /// A stanza that has come already.
    pub(crate) fn received(&mut self) -> Option<Element> {
        self.inbox.try_recv().ok()
    }

    /// Send a message to a remote domain.
    pub(crate) async fn send(&mut self, to: &str, id: &str) {
        let stanza = message(&self.name, to, id);
        self.say(to, stanza).await;
    }

    /// Send octets on this host's stream to the remote domain `to`, which is opened if there is none.
    pub(crate) async fn say(&mut self, to: &str, octets: impl AsRef<[u8]>) {
        if !self.mouths.contains_key(to) {
            let mut wire = Wire::tcp(TcpStream::connect(self.relay).await.unwrap());
            wire.authenticate(&self.name, to).await;
            self.ears.spawn(listen(wire.ear, Arc::clone(&self.post)));
            self.mouths.insert(to.to_owned(), wire.mouth);
        }
        self.mouths.get_mut(to).unwrap().say(octets).await;
    }
}

async fn serve(listener: TcpListener, post: Arc<Post>) {
    let mut streams = JoinSet::new();
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        let post = Arc::clone(&post);
        streams.spawn(async move {
            let mut wire = Wire::tcp(connection);
            wire.accept().await;
            let Wire { ear, mut mouth, .. } = wire;
            listen(ear, post).await;
            // Closed in return; the relay may be gone already.
            let _gone = mouth.try_say("</stream:stream>").await;
        });
    }
}

/// Hand every stanza to its host until the stream ends.
async fn listen(mut ear: Ear, post: Arc<Post>) {
    loop {
        match ear.hear_at_last().await {
            Heard::Stanza(stanza) => {
                let to = stanza.attribute("to").unwrap();
                let domain = to.rsplit('@').next().unwrap().split('/').next().unwrap();
                if let Some(host) = post.0.get(domain) {
                    // A host that nobody asks any more hears nothing.
                    let _nobody = host.send(stanza);
                }
            }
            Heard::Header(_) | Heard::Element(_) => {}
            Heard::End | Heard::Finished | Heard::Reset(_) | Heard::Lost(_) => return,
        }
    }
}
