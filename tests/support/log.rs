//! What the relay logged, for the tests that hold it to saying why.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// One line of the log.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) message: String,
    pub(crate) fields: BTreeMap<String, String>,
}

impl Line {
    /// A field's text; empty if there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// The log of this thread, from now until it is dropped. A test's runtime has one thread, so that is the log of its own
/// relay, whatever other tests do at the same time.
pub(crate) struct Log {
    captured: Captured,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Captured(Arc<(Mutex<Vec<Line>>, Notify)>);

/// As long as a process has one subscriber only, `tracing` asks the thread that comes to a line first whether anybody
/// wants it, and remembers the answer for all threads: a test without a log would take the line from one with. These two
/// hear nothing, and are always there.
static ALWAYS: OnceLock<[Dispatch; 2]> = OnceLock::new();

impl Log {
    pub(crate) fn capture() -> Self {
        let wants_all = || Dispatch::new(tracing_subscriber::registry().with(Captured::default()));
        ALWAYS.get_or_init(|| [wants_all(), wants_all()]);
        let captured = Captured::default();
        let subscriber = tracing_subscriber::registry().with(captured.clone());
        Self { captured, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.captured.0.0.lock().unwrap().clone()
    }

    /// The first line with this message, once there is one.
    pub(crate) async fn line(&self, message: &str) -> Line {
        let (_, written) = &*self.captured.0;
        super::soon(&format!("the log line {message:?}"), async {
            loop {
                let next = written.notified();
                tokio::pin!(next);
                next.as_mut().enable();
                if let Some(line) = self.lines().into_iter().find(|line| line.message == message) {
                    return line;
                }
                next.await;
            }
        })
        .await
    }

    /// Forget what was logged.
    pub(crate) fn clear(&self) {
        self.captured.0.0.lock().unwrap().clear();
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Captured {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // What the libraries say is no promise of ours.
        if !event.metadata().target().starts_with("fedmux") {
            return;
        }
        // A line says what its span says, as it does in the log.
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.0.extend(of_span.0.clone());
            }
        }
        event.record(&mut fields);
        let message = fields.0.remove("message").unwrap_or_default();
        let line = Line { level: *event.metadata().level(), message, fields: fields.0 };
        let (lines, written) = &*self.0;
        lines.lock().unwrap().push(line);
        written.notify_waiters();
    }
}

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}
