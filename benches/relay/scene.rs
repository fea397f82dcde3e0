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
use crate::table::{BOTH, Figures, PEER, RAW, Sample, Table};
use crate::{Failed, Setting, usage};

/// Two ends of QUIC with nothing on it.
struct Raw {
    receiver: Process,
    sender: Process,
    /// Either sends.
    both: bool,
}

impl Raw {
    async fn set(pairs: usize, bytes: usize, both: bool) -> Result<Self, Failed> {
        let mut settings = vec![("pairs", pairs.to_string()), ("bytes", bytes.to_string())];
        let (receiver, said) = Process::start(&words("raw", &settings)).await?;
        let (address, certificate): (String, String) = serde_json::from_str(&said)?;
        settings.extend([("to", address), ("certificate", certificate)]);
        let (sender, _) = Process::start(&words("raw", &settings)).await?;
        // What this brings opens the streams.
        let mut raw = Self { receiver, sender, both: false };
        raw.play(&format!("flood {WARM_UP}")).await?;
        Ok(Self { both, ..raw })
    }

    async fn play(&mut self, order: &str) -> Result<Sample, Failed> {
        let processes = [self.sender.id()?, self.receiver.id()?];
        let before = [usage::cpu(processes[0])?, usage::cpu(processes[1])?];
        let there = self.sender.ask(order);
        let sent: Sent = if self.both {
            let (there, back): (Sent, Sent) = tokio::try_join!(there, self.receiver.ask(order))?;
            Sent { stanzas: there.stanzas + back.stanzas, ..there }
        } else {
            there.await?
        };
        let after = [usage::cpu(processes[0])?, usage::cpu(processes[1])?];
        let spent = [Duration::ZERO, after[0] - before[0], after[1] - before[1], Duration::ZERO];
        let memory = [usage::memory_peak(processes[0])?, usage::memory_peak(processes[1])?];
        Ok(Sample { stanzas: sent.stanzas, seconds: sent.seconds, spent, waits: [0.0; 3], memory })
    }
}

/// As many stanzas as go; and a picture of what a stanza costs.
pub(crate) async fn saturated(setting: &Setting, svg: Option<&Path>) -> Result<(), Failed> {
    let mut measured = Vec::new();
    for (pairs, bytes) in setting.each() {
        let title = format!("Saturated: {pairs} pairs, stanzas of {bytes} octets");
        let order = format!("flood {}", setting.seconds);
        measured.push((pairs, play(&title, setting, pairs, bytes, &order).await?));
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
    let title = format!("CPU us a stanza of {:?} octets, saturated, by domain pairs", setting.bytes);
    Ok(std::fs::write(svg, lines(&title, &drawn))?)
}

/// So many stanzas a second.
pub(crate) async fn paced(setting: &Setting, rates: &[u64]) -> Result<(), Failed> {
    for (pairs, bytes) in setting.each() {
        for rate in rates {
            let title = format!("{rate} stanzas a second: {pairs} pairs, stanzas of {bytes} octets");
            play(&title, setting, pairs, bytes, &format!("pace {rate} {}", setting.seconds)).await?;
        }
    }
    Ok(())
}

/// One stanza at a time.
pub(crate) async fn lone(setting: &Setting) -> Result<(), Failed> {
    for bytes in &setting.bytes {
        let title = format!("One stanza at a time, 100 a second: stanzas of {bytes} octets");
        play(&title, setting, 1, *bytes, &format!("pace 100 {}", setting.seconds)).await?;
    }
    Ok(())
}

/// All of these.
pub(crate) async fn all() -> Result<(), Failed> {
    let setting = |pairs: &[usize], bytes: &[usize], both| Setting {
        pairs: pairs.to_vec(),
        bytes: bytes.to_vec(),
        both,
        window: None,
        repeats: 5,
        seconds: 3.0,
        relay: vec![env!("CARGO_BIN_EXE_fedmux").into()],
        no_raw: false,
        peer: Peer::default(),
    };
    saturated(&setting(&[20], &[300], true), None).await?;
    saturated(&setting(&[400, 1, 4_000], &[300], false), None).await?;
    saturated(&setting(&[20], &[100, 1_000, 4_096, 16_384, 65_536], false), None).await?;
    paced(&setting(&[20], &[300], true), &[2_000, 20_000, 60_000]).await?;
    lone(&setting(&[1], &[300], false)).await
}

async fn play(
    title: &str,
    setting: &Setting,
    pairs: usize,
    bytes: usize,
    order: &str,
) -> Result<BTreeMap<String, Figures>, Failed> {
    let mut stages = Vec::new();
    for relay in &setting.relay {
        let name = relay.display().to_string();
        let stage = async || Stage::cold(relay, pairs, bytes, Link::default()).await;
        stages.push((name.clone(), stage().await?.with_window(setting.window).await?.warm_up(pairs).await?));
        if setting.both {
            let stage = stage().await?.with_way_back(pairs, bytes).await?;
            stages.push((name + BOTH, stage.with_window(setting.window).await?.warm_up(pairs).await?));
        }
    }
    let own = setting.relay.first().ok_or("no relay to measure")?;
    if let Some(stage) = Stage::peer(&setting.peer, own, pairs, bytes).await? {
        stages.push((PEER.to_owned(), stage.warm_up(pairs).await?));
    }
    let mut raw = Vec::new();
    if !setting.no_raw {
        raw.push((RAW.to_owned(), Raw::set(pairs, bytes, false).await?));
    }
    if setting.both && !setting.no_raw {
        raw.push((RAW.to_owned() + BOTH, Raw::set(pairs, bytes, true).await?));
    }
    let mut figures: BTreeMap<String, Figures> = BTreeMap::new();
    for _ in 0..setting.repeats.max(1) {
        for (name, stage) in &mut stages {
            figures.entry(name.clone()).or_default().add(stage.measure(order).await?);
        }
        for (name, raw) in &mut raw {
            figures.entry(name.clone()).or_default().add(raw.play(order).await?);
        }
    }
    Table { title, figures: &figures }.print();
    Ok(figures)
}
