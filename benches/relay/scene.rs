//! The scenes of cost: each sets up its processes, warms them up, and takes every figure several times. The relays that are
//! compared, other proxies, and QUIC with nothing on it take turns, so that whatever else the machine does strikes all of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::peer::Peer;
use crate::process::Process;
use crate::relays::Link;
use crate::source::Sent;
use crate::stage::{Stage, WARM_UP, words};
use crate::svg::{Line, lines};
use crate::table::{Figures, PEER, RAW, Sample, Table};
use crate::{Failed, Setting, usage};

/// Two ends of QUIC with nothing on it.
struct Raw {
    receiver: Process,
    sender: Process,
}

impl Raw {
    async fn set(setting: &Setting, pairs: usize) -> Result<Self, Failed> {
        let mut settings = vec![("pairs", pairs.to_string()), ("bytes", setting.bytes.to_string())];
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

/// As many stanzas as go; and a picture of what a stanza costs.
pub(crate) async fn saturated(setting: &Setting, svg: Option<&Path>) -> Result<(), Failed> {
    let mut measured = Vec::new();
    for pairs in &setting.pairs {
        let title = format!("Saturated: {pairs} pairs, stanzas of {} octets", setting.bytes);
        let order = format!("flood {}", setting.seconds);
        measured.push((*pairs, play(&title, setting, *pairs, &order, !setting.no_raw).await?));
    }
    let Some(svg) = svg else { return Ok(()) };
    let mut drawn: BTreeMap<String, Line> = BTreeMap::new();
    for (pairs, figures) in &measured {
        for (name, figures) in figures {
            for (process, side) in [(1, "sending"), (2, "receiving")] {
                let line = drawn.entry(format!("{name}, {side}")).or_default();
                line.push((*pairs as f64, figures.cost(process).median));
            }
        }
    }
    let title = format!("CPU us a stanza of {} octets, saturated, by domain pairs", setting.bytes);
    Ok(std::fs::write(svg, lines(&title, &drawn))?)
}

/// So many stanzas a second.
pub(crate) async fn paced(setting: &Setting, rates: &[u64]) -> Result<(), Failed> {
    for pairs in &setting.pairs {
        for rate in rates {
            let title =
                format!("{rate} stanzas a second: {pairs} pairs, stanzas of {} octets", setting.bytes);
            play(&title, setting, *pairs, &format!("pace {rate} {}", setting.seconds), false).await?;
        }
    }
    Ok(())
}

/// One stanza at a time.
pub(crate) async fn lone(setting: &Setting) -> Result<(), Failed> {
    let title = format!("One stanza at a time, 100 a second: stanzas of {} octets", setting.bytes);
    play(&title, setting, 1, &format!("pace 100 {}", setting.seconds), false).await?;
    Ok(())
}

/// All of these.
pub(crate) async fn all() -> Result<(), Failed> {
    let setting = |pairs, bytes| Setting {
        pairs: vec![pairs],
        bytes,
        repeats: 5,
        seconds: 3.0,
        relay: vec![env!("CARGO_BIN_EXE_fedmux").into()],
        no_raw: false,
        peer: Peer::default(),
    };
    for (pairs, bytes) in
        [(20, 300), (400, 300), (1, 300), (4_000, 300), (20, 100), (20, 4_096), (20, 65_536)]
    {
        saturated(&setting(pairs, bytes), None).await?;
    }
    paced(&setting(20, 300), &[2_000, 20_000, 60_000]).await?;
    lone(&setting(1, 300)).await
}

async fn play(
    title: &str,
    setting: &Setting,
    pairs: usize,
    order: &str,
    raw: bool,
) -> Result<BTreeMap<String, Figures>, Failed> {
    let mut stages = Vec::new();
    for relay in &setting.relay {
        let stage = Stage::cold(relay, pairs, setting.bytes, Link::default()).await?;
        stages.push((relay.display().to_string(), stage.warm_up(pairs).await?));
    }
    let own = setting.relay.first().ok_or("no relay to measure")?;
    if let Some(stage) = Stage::peer(&setting.peer, own, pairs, setting.bytes).await? {
        stages.push((PEER.to_owned(), stage.warm_up(pairs).await?));
    }
    let mut raw = if raw { Some(Raw::set(setting, pairs).await?) } else { None };
    let mut figures: BTreeMap<String, Figures> = BTreeMap::new();
    for _ in 0..setting.repeats.max(1) {
        for (name, stage) in &mut stages {
            figures.entry(name.clone()).or_default().add(stage.measure(order).await?);
        }
        if let Some(raw) = &mut raw {
            figures.entry(RAW.to_owned()).or_default().add(raw.play(order).await?);
        }
    }
    Table { title, figures: &figures }.print();
    Ok(figures)
}
