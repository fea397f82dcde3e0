//! Servers and the relays between them, each a process, and what one order to the source costs and shows.

use std::path::Path;
use std::time::Duration;

use crate::peer::Peer;
use crate::process::Process;
use crate::relays::{Link, Relays};
use crate::sink::Counted;
use crate::source::Sent;
use crate::table::Sample;
use crate::{Failed, usage};

/// Before anything is measured.
pub(crate) const WARM_UP: &str = "0.5";

/// The words that start this bench in another role.
pub(crate) fn words(role: &str, settings: &[(&str, String)]) -> Vec<String> {
    let settings = settings.iter().flat_map(|(name, value)| [format!("--{name}"), value.clone()]);
    std::iter::once(role.to_owned()).chain(settings).collect()
}

/// Servers and relays that stand.
pub(crate) struct Stage {
    pub(crate) sink: Process,
    pub(crate) relays: Relays,
    source: Process,
}

impl Stage {
    /// Where nothing was sent yet.
    pub(crate) async fn cold(relay: &Path, pairs: usize, bytes: usize, link: Link) -> Result<Self, Failed> {
        let (sink, address) = Process::start(&words("sink", &[("bytes", bytes.to_string())])).await?;
        let relays = Relays::start(relay, pairs, serde_json::from_str(&address)?, link).await?;
        Self::around(relays, sink, pairs, bytes).await
    }

    /// With another pair of proxies, if there is one.
    pub(crate) async fn peer(
        peer: &Peer,
        relay: &Path,
        pairs: usize,
        bytes: usize,
    ) -> Result<Option<Self>, Failed> {
        let (sink, address) = Process::start(&words("sink", &[("bytes", bytes.to_string())])).await?;
        match peer.start(relay, pairs, serde_json::from_str(&address)?).await? {
            Some(proxies) => Ok(Some(Self::around(proxies, sink, pairs, bytes).await?)),
            None => Ok(None),
        }
    }

    async fn around(relays: Relays, sink: Process, pairs: usize, bytes: usize) -> Result<Self, Failed> {
        let settings = [
            ("relay", relays.entrances[0].to_string()),
            ("pairs", pairs.to_string()),
            ("bytes", bytes.to_string()),
        ];
        let (source, _) = Process::start(&words("source", &settings)).await?;
        Ok(Self { sink, relays, source })
    }

    /// Open every lane, and let every queue find its size.
    pub(crate) async fn warm_up(mut self, pairs: usize) -> Result<Self, Failed> {
        self.play(&format!("pace {} {WARM_UP}", 4 * pairs)).await?;
        let (_, Counted { pairs: seen, .. }) = self.play(&format!("flood {WARM_UP}")).await?;
        if seen != pairs {
            return Err(format!("stanzas of {seen} pairs arrived where {pairs} were sent").into());
        }
        Ok(self)
    }

    /// Let the source do something, and see that all of it has arrived, once and in order.
    pub(crate) async fn play(&mut self, order: &str) -> Result<(Sent, Counted), Failed> {
        self.play_and("report", order).await
    }

    /// The same; and what `report` says to the sink holds from then on.
    pub(crate) async fn play_and(&mut self, report: &str, order: &str) -> Result<(Sent, Counted), Failed> {
        let sent: Sent = self.source.ask(order).await?;
        let counted: Counted = self.sink.ask(report).await?;
        if counted.stanzas != sent.stanzas || !counted.odd.is_empty() {
            let (sent, Counted { stanzas, odd, .. }) = (sent.stanzas, counted);
            return Err(format!("{sent} sent, {stanzas} arrived; {odd:?}").into());
        }
        Ok((sent, counted))
    }

    /// Let the source do something, and see what each process spends.
    pub(crate) async fn measure(&mut self, order: &str) -> Result<Sample, Failed> {
        let [a, b] = self.relays.ids()?;
        let processes = [self.source.id()?, a, b, self.sink.id()?];
        let before = processes.map(usage::cpu);
        let (sent, counted) = self.play(order).await?;
        let mut spent = [Duration::ZERO; 4];
        for ((spent, before), process) in spent.iter_mut().zip(before).zip(processes) {
            *spent = usage::cpu(process)?.saturating_sub(before?);
        }
        let memory = [usage::memory_peak(a)?, usage::memory_peak(b)?];
        let [p50, _, p99, p999] = counted.quantiles;
        let waits = [p50, p99, p999];
        Ok(Sample { stanzas: sent.stanzas, seconds: sent.seconds, spent, waits, memory })
    }
}
