//! The scenes: each sets up its processes, warms them up, and takes every figure several times. The relays that are compared,
//! and QUIC with nothing on it, take turns, so that whatever else the machine does strikes all of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::process::Process;
use crate::relays::Relays;
use crate::sink::Counted;
use crate::source::Sent;
use crate::table::{Figures, Sample, Table};
use crate::{Failed, Setting, usage};

/// Before anything is measured.
const WARM_UP: &str = "0.5";

/// Servers and relays that stand.
struct Stage {
    sink: Process,
    relays: Relays,
    source: Process,
    pairs: usize,
}

pub(crate) fn words(role: &str, settings: &[(&str, String)]) -> Vec<String> {
    let settings = settings.iter().flat_map(|(name, value)| [format!("--{name}"), value.clone()]);
    std::iter::once(role.to_owned()).chain(settings).collect()
}

impl Stage {
    async fn set(relay: &Path, pairs: usize, bytes: usize) -> Result<Self, Failed> {
        let bytes = bytes.to_string();
        let (sink, address) = Process::start(&words("sink", &[("bytes", bytes.clone())])).await?;
        let relays = Relays::start(relay, pairs, serde_json::from_str(&address)?).await?;
        let settings =
            [("relay", relays.entrances[0].to_string()), ("pairs", pairs.to_string()), ("bytes", bytes)];
        let (source, _) = Process::start(&words("source", &settings)).await?;
        let mut stage = Self { sink, relays, source, pairs };
        // Every lane is open, and every queue has found its size.
        stage.play(&format!("pace {} {WARM_UP}", 4 * pairs)).await?;
        stage.play(&format!("flood {WARM_UP}")).await?;
        Ok(stage)
    }

    /// Let the source do something, and see that all of it has arrived.
    async fn play(&mut self, order: &str) -> Result<Sample, Failed> {
        let processes = {
            let [a, b] = self.relays.ids()?;
            [self.source.id()?, a, b, self.sink.id()?]
        };
        let before = processes.map(usage::cpu);
        let sent: Sent = self.source.ask(order).await?;
        let counted: Counted = self.sink.ask("report").await?;
        if counted.stanzas != sent.stanzas || !counted.odd.is_empty() || counted.pairs != self.pairs {
            let (sent, Counted { stanzas, pairs, odd, .. }) = (sent.stanzas, counted);
            return Err(format!("{sent} sent, {stanzas} arrived, of {pairs} pairs; {odd:?}").into());
        }
        let mut spent = [Duration::ZERO; 4];
        for ((spent, before), process) in spent.iter_mut().zip(before).zip(processes) {
            *spent = usage::cpu(process)?.saturating_sub(before?);
        }
        let [_, a, b, _] = processes;
        let memory = [usage::memory_peak(a)?, usage::memory_peak(b)?];
        Ok(Sample { stanzas: sent.stanzas, seconds: sent.seconds, spent, waits: counted.quantiles, memory })
    }
}

/// Two ends of QUIC with nothing on it.
struct Raw {
    receiver: Process,
    sender: Process,
}

impl Raw {
    async fn set(setting: &Setting) -> Result<Self, Failed> {
        let mut settings = vec![("pairs", setting.pairs.to_string()), ("bytes", setting.bytes.to_string())];
        let (receiver, said) = Process::start(&words("raw", &settings)).await?;
        let (address, certificate): (String, String) = serde_json::from_str(&said)?;
        settings.extend([("to", address), ("certificate", certificate)]);
        let (sender, _) = Process::start(&words("raw", &settings)).await?;
        let mut raw = Self { receiver, sender };
        raw.play(&format!("flood {WARM_UP}")).await?;
        Ok(raw)
    }

    async fn play(&mut self, order: &str) -> Result<Sample, Failed> {
        let processes = [self.sender.id()?, self.receiver.id()?];
        let before = [usage::cpu(processes[0])?, usage::cpu(processes[1])?];
        let sent: Sent = self.sender.ask(order).await?;
        let after = [usage::cpu(processes[0])?, usage::cpu(processes[1])?];
        let spent = [Duration::ZERO, after[0] - before[0], after[1] - before[1], Duration::ZERO];
        let memory = [usage::memory_peak(processes[0])?, usage::memory_peak(processes[1])?];
        Ok(Sample { stanzas: sent.stanzas, seconds: sent.seconds, spent, waits: [0.0; 3], memory })
    }
}

/// As many stanzas as go.
pub(crate) async fn saturated(setting: &Setting) -> Result<(), Failed> {
    let title = format!("Saturated: {} pairs, stanzas of {} octets", setting.pairs, setting.bytes);
    play(&title, setting, &format!("flood {}", setting.seconds), !setting.no_raw).await
}

/// So many stanzas a second.
pub(crate) async fn paced(setting: &Setting, rates: &[u64]) -> Result<(), Failed> {
    for rate in rates {
        let title =
            format!("{rate} stanzas a second: {} pairs, stanzas of {} octets", setting.pairs, setting.bytes);
        play(&title, setting, &format!("pace {rate} {}", setting.seconds), false).await?;
    }
    Ok(())
}

/// One stanza at a time.
pub(crate) async fn lone(setting: &Setting) -> Result<(), Failed> {
    let setting = Setting { pairs: 1, ..setting.clone() };
    let title = format!("One stanza at a time, 100 a second: stanzas of {} octets", setting.bytes);
    play(&title, &setting, &format!("pace 100 {}", setting.seconds), false).await
}

/// Every scene.
pub(crate) async fn all() -> Result<(), Failed> {
    let setting = |pairs, bytes| Setting {
        pairs,
        bytes,
        repeats: 5,
        seconds: 3.0,
        relay: vec![env!("CARGO_BIN_EXE_fedmux").into()],
        no_raw: false,
    };
    for (pairs, bytes) in
        [(20, 300), (400, 300), (1, 300), (4_000, 300), (20, 100), (20, 4_096), (20, 65_536)]
    {
        saturated(&setting(pairs, bytes)).await?;
    }
    paced(&setting(20, 300), &[2_000, 20_000, 60_000]).await?;
    lone(&setting(1, 300)).await
}

async fn play(title: &str, setting: &Setting, order: &str, raw: bool) -> Result<(), Failed> {
    let mut stages = Vec::new();
    for relay in &setting.relay {
        stages.push((relay.display().to_string(), Stage::set(relay, setting.pairs, setting.bytes).await?));
    }
    let mut raw = if raw { Some(Raw::set(setting).await?) } else { None };
    let mut figures: BTreeMap<String, Figures> = BTreeMap::new();
    for _ in 0..setting.repeats.max(1) {
        for (name, stage) in &mut stages {
            figures.entry(name.clone()).or_default().add(stage.play(order).await?);
        }
        if let Some(raw) = &mut raw {
            figures.entry("raw QUIC".to_owned()).or_default().add(raw.play(order).await?);
        }
    }
    Table { title, figures: &figures }.print();
    Ok(())
}
