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
    /// The one behind the second relay.
    back: Option<Process>,
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
        let source = source(&relays, pairs, bytes, false).await?;
        Ok(Self { sink, relays, source, back: None })
    }

    /// With a server that sends behind the second relay, too; the one that counts is behind both.
    pub(crate) async fn with_way_back(self, pairs: usize, bytes: usize) -> Result<Self, Failed> {
        let back = Some(source(&self.relays, pairs, bytes, true).await?);
        Ok(Self { back, ..self })
    }

    /// Let each pair have so many stanzas under way, if that isn't left to the source.
    pub(crate) async fn with_window(mut self, window: Option<u64>) -> Result<Self, Failed> {
        if let Some(window) = window {
            self.order(&format!("window {window}")).await?;
        }
        Ok(self)
    }

    /// Open every lane, and let every queue find its size.
    pub(crate) async fn warm_up(mut self, pairs: usize) -> Result<Self, Failed> {
        self.play(&format!("pace {} {WARM_UP}", 4 * pairs)).await?;
        let (_, Counted { pairs: seen, .. }) = self.play(&format!("flood {WARM_UP}")).await?;
        let directions = if self.back.is_some() { 2 } else { 1 };
        if seen != directions * pairs {
            return Err(format!("stanzas of {seen} pairs arrived where {pairs} were sent").into());
        }
        Ok(self)
    }

    /// Let every source do something.
    pub(crate) async fn order(&mut self, order: &str) -> Result<Sent, Failed> {
        let Some(back) = &mut self.back else { return self.source.ask(order).await };
        let (there, back): (Sent, Sent) = tokio::try_join!(self.source.ask(order), back.ask(order))?;
        Ok(Sent {
            stanzas: there.stanzas + back.stanzas,
            seconds: there.seconds.max(back.seconds),
            lag: there.lag.max(back.lag),
        })
    }

    /// Let the source do something, and see that all of it has arrived, once and in order.
    pub(crate) async fn play(&mut self, order: &str) -> Result<(Sent, Counted), Failed> {
        self.play_and("report", order).await
    }

    /// The same; and what `report` says to the sink holds from then on.
    pub(crate) async fn play_and(&mut self, report: &str, order: &str) -> Result<(Sent, Counted), Failed> {
        let sent = self.order(order).await?;
        let counted: Counted = self.sink.ask(report).await?;
        if counted.stanzas + counted.returned != sent.stanzas || !counted.odd.is_empty() {
            let (sent, Counted { stanzas, odd, .. }) = (sent.stanzas, counted);
            return Err(format!("{sent} sent, {stanzas} arrived; {odd:?}").into());
        }
        Ok((sent, counted))
    }

    /// Let the source do something, and see what each process spends.
    pub(crate) async fn measure(&mut self, order: &str) -> Result<Sample, Failed> {
        let [a, b] = self.relays.ids()?;
        let back = self.back.as_ref().map(Process::id).transpose()?;
        let processes = [self.source.id()?, a, b, self.sink.id()?];
        let (before, of_back) = (processes.map(usage::cpu), back.map(usage::cpu).transpose()?);
        let (sent, counted) = self.play(order).await?;
        let mut spent = [Duration::ZERO; 4];
        for ((spent, before), process) in spent.iter_mut().zip(before).zip(processes) {
            *spent = usage::cpu(process)?.saturating_sub(before?);
        }
        if let (Some(back), Some(before)) = (back, of_back) {
            spent[0] += usage::cpu(back)?.saturating_sub(before);
        }
        let memory = [usage::memory_peak(a)?, usage::memory_peak(b)?];
        let [p50, _, p99, p999] = counted.quantiles;
        let waits = [p50, p99, p999];
        Ok(Sample { stanzas: sent.stanzas, seconds: sent.seconds, spent, waits, memory })
    }
}

async fn source(relays: &Relays, pairs: usize, bytes: usize, reverse: bool) -> Result<Process, Failed> {
    let settings = [
        ("relay", relays.entrances[usize::from(reverse)].to_string()),
        ("pairs", pairs.to_string()),
        ("bytes", bytes.to_string()),
        ("reverse", reverse.to_string()),
    ];
    Ok(Process::start(&words("source", &settings)).await?.0)
}
