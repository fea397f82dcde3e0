//! What people write to each other is never logged, whatever is asked of the log.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::Level;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::support::certificates::Authority;
use crate::support::log::Log;
use crate::support::provider::Plan;
use crate::support::until;

/// Stands in every stanza of this test: as text, as an attribute's value, as a name.
const SECRET: &str = "s3cret-between-two-people";

/// The log, as it would stand in a file.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn no_content_of_a_stanza_is_logged_at_any_level() {
    let _every_line_is_wanted = Log::capture();
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let authority = Authority::new();
    let (a, b) =
        (Plan::new(&authority, &["a.test"]).await.bind(), Plan::new(&authority, &["b.test"]).await.bind());
    let (at_a, at_b) = (a.quic, b.quic);
    let placement = fedmux::relay::settings::Placement::default();
    let mut a = a.peer(&["b.test"], at_b, placement).start().await;
    let mut b = b.peer(&["a.test"], at_a, placement).start().await;
    let (mut ours, mut theirs) = (a.host("a.test"), b.host("b.test"));

    let stanza = |from: &str, to: &str| {
        format!(
            "<message from='{from}' to='{to}' id='1'><body>{SECRET}</body><x xmlns='urn:x' note='{SECRET}'><{SECRET}/></x></message>"
        )
    };
    ours.say("b.test", stanza("u@a.test", "v@b.test")).await;
    theirs.receive().await;
    theirs.say("a.test", stanza("v@b.test", "u@a.test")).await;
    ours.receive().await;
    // One that comes back, one for somebody else's name, and one that is no XML.
    ours.say("nowhere.test", stanza("u@a.test", "w@nowhere.test")).await;
    ours.receive().await;
    let refused =
        |text: String| text.contains("reason=restricted-xml") && text.contains("reason=invalid-from");
    theirs.say("a.test", stanza("v@other.test", "u@a.test")).await;
    ours.say(
        "b.test",
        format!("<message from='a.test' to='b.test'><body>{SECRET}&{SECRET};</body></message>"),
    )
    .await;
    until("both refusals in the log", || refused(written.text())).await;

    let text = written.text();
    for known in ["DEBUG", "relay started", "a.test"] {
        assert!(text.contains(known), "{known} is not in the log: it was not captured");
    }
    let told: Vec<&str> = text.lines().filter(|line| line.contains(SECRET)).collect();
    assert!(told.is_empty(), "{told:#?}");
}
