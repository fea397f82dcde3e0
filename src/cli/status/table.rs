//! The status for people: within 80 columns, the worst first, and long lists cut.

use std::fmt::Write as _;

use super::columns::{self, COLUMNS, number, octets, short_time, some, time};
use crate::relay::status::{PeerStatus, ProvenDomain, Queued, SessionFacts, SessionStatus, Status};

/// Rows of each list.
const ROWS_MAX: usize = 10;

/// Everything.
pub(super) fn render(status: &Status) -> String {
    let mut out = String::new();
    head(&mut out, status);
    sessions(&mut out, status);
    peers(&mut out, status);
    local(&mut out, status);
    waiting(&mut out, status);
    queues(&mut out, status);
    out
}

fn count(n: usize) -> String {
    number(i128::try_from(n).unwrap_or_default())
}

fn head(out: &mut String, status: &Status) {
    let Status { version, at, up_seconds, draining, hosts, saved, stanzas, queued, .. } = status;
    let state = if *draining { "stopping" } else { "running" };
    let _infallible =
        writeln!(out, "fedmux {version}, {state} for {}, {hosts} hosts; {at}", time(*up_seconds));
    let (pairs, held) = (number(saved.domain_pairs), number(saved.connections));
    let connections = if saved.connections == 1 { "connection" } else { "connections" };
    let _infallible = writeln!(
        out,
        "  pairs    {pairs} on {held} {connections} with peers: {} connections saved",
        number(saved.connections_saved)
    );
    let _infallible = writeln!(
        out,
        "  stanzas  {} accepted: {} delivered, {} bounced,\n           {} discarded, {} in custody",
        number(stanzas.accepted),
        number(stanzas.delivered),
        number(stanzas.bounced),
        number(stanzas.discarded),
        number(stanzas.in_custody),
    );
    let _infallible = writeln!(out, "  queued   {}", queued_text(*queued));
    let Some(reload) = &status.reload else { return };
    let what = match &reload.refused {
        Some(why) => format!("not reloaded at {}, going on as before: {why}", reload.at),
        None => format!("at {}: {}", reload.at, some_or(&reload.changed, "nothing changed")),
    };
    let _infallible = writeln!(out, "  reload   {}", columns::cut(&what, COLUMNS - 11));
    if !reload.needs_restart.is_empty() {
        let what = format!("needs a restart: {}", some_or(&reload.needs_restart, ""));
        let _infallible = writeln!(out, "           {}", columns::cut(&what, COLUMNS - 11));
    }
}

fn some_or(lines: &[String], nothing: &str) -> String {
    match lines {
        [] => nothing.to_owned(),
        [one] => one.clone(),
        [first, others @ ..] => format!("{first}, and {} more", others.len()),
    }
}

fn queued_text(queued: Queued) -> String {
    let waiting = match queued.oldest_seconds {
        Some(oldest) => format!(
            "{} stanzas ({}), the oldest for {}",
            count(queued.stanzas),
            octets(queued.bytes),
            short_time(oldest)
        ),
        None => "nothing".to_owned(),
    };
    match queued.sent_bytes {
        0 => waiting,
        sent => format!("{waiting}\n           {} sent and not acknowledged", octets(sent)),
    }
}

/// A heading, and how much of a list is shown.
fn heading(out: &mut String, what: &str, all: usize) {
    let shown = if all > ROWS_MAX { format!(", the worst {ROWS_MAX} of which") } else { String::new() };
    let _infallible = writeln!(out, "\n{what} ({}{shown})", count(all));
}

fn sessions(out: &mut String, status: &Status) {
    let mut all: Vec<&SessionStatus> = status.sessions.iter().collect();
    all.sort_by(|one, other| {
        let trouble = |session: &SessionStatus| (state(session) != "up", session.queued.oldest_seconds);
        let ((first, age), (second, other_age)) = (trouble(one), trouble(other));
        let ages = other_age.unwrap_or(-1.0).total_cmp(&age.unwrap_or(-1.0));
        second.cmp(&first).then(ages).then(other.routes.cmp(&one.routes))
    });
    heading(out, "Sessions", all.len());
    let shown = &all[..all.len().min(ROWS_MAX)];
    if shown.is_empty() {
        return;
    }
    let rows: Vec<Vec<String>> = shown.iter().map(|session| row(session)).collect();
    let heads = ["SESSION", "PEER", "OVER", "BY", "STATE", "LANES", "QUEUED", "OLDEST"];
    columns::write(out, &heads, &rows);
    for session in shown {
        if let Some(told) = &session.told {
            proven(out, session.session, told);
        }
    }
}

fn row(session: &SessionStatus) -> Vec<String> {
    let by = session.told.as_ref().map_or("-", |told| if told.opened_by_us { "us" } else { "peer" });
    vec![
        session.session.to_string(),
        session.peer.clone(),
        session.transport.clone(),
        by.to_owned(),
        state(session).to_owned(),
        count(session.lanes),
        octets(session.queued.bytes + session.queued.sent_bytes),
        or_dash(session.queued.oldest_seconds.map(short_time)),
    ]
}

fn state(session: &SessionStatus) -> &'static str {
    match &session.told {
        None => "no answer",
        Some(told) if !told.authenticated => "negotiating",
        Some(_) if session.retiring => "retiring",
        Some(_) => "up",
    }
}

/// How each domain of a session is proven, and until when.
fn proven(out: &mut String, session: u64, told: &SessionFacts) {
    for (who, domains) in [("peer", &told.theirs), ("we", &told.ours)] {
        for by in ["certificate", "mux-secret"] {
            let of: Vec<&ProvenDomain> = domains.iter().filter(|domain| domain.by == by).collect();
            let Some(until) = of.iter().map(|domain| domain.until.as_str()).min() else { continue };
            let day = until.split('T').next().unwrap_or(until);
            let lead = format!("  {session}: {who} by {by} until {day}: ");
            let names: Vec<&str> = of.iter().map(|domain| domain.domain.as_str()).collect();
            let room = COLUMNS.saturating_sub(lead.chars().count());
            let _infallible = writeln!(out, "{lead}{}", some(&names, room));
        }
    }
    if let Some(path) = &told.path {
        let _infallible = writeln!(
            out,
            "  {session}: round trip {:.1} ms, {} of {} packets lost, window {}",
            path.rtt_seconds * 1_000.0,
            number(path.packets_lost),
            number(path.packets_sent),
            octets(usize::try_from(path.congestion_window).unwrap_or(usize::MAX)),
        );
    }
}

fn peers(out: &mut String, status: &Status) {
    let troubled = |peer: &&PeerStatus| peer.state != "idle" || peer.waiting > 0;
    let mut all: Vec<&PeerStatus> = status.peers.iter().filter(troubled).collect();
    all.sort_by_key(|peer| std::cmp::Reverse((peer.down_seconds, peer.waiting, peer.refused)));
    let _infallible = writeln!(
        out,
        "\nPeers: {} known, {} in trouble or being reached",
        count(status.peers.len()),
        count(all.len())
    );
    if all.is_empty() {
        return;
    }
    let heads = ["PEER", "STATE", "REASON", "WAITING", "DOWN FOR", "NEXT TRY"];
    worst(out, &heads, &all, |peer| {
        vec![
            peer.peer.clone(),
            peer.state.clone(),
            or_dash(peer.reason.clone()),
            count(peer.waiting),
            or_dash(peer.down_seconds.map(time)),
            or_dash(peer.retry_seconds.map(|seconds| format!("in {}", time(seconds)))),
        ]
    });
    let _infallible = writeln!(out, "  `fedmux explain DOMAIN` says what was tried.");
}

/// The first of a list, the worst ones, and how many more there are.
fn worst<T>(out: &mut String, heads: &[&str], all: &[T], row: impl Fn(&T) -> Vec<String>) {
    let rows: Vec<Vec<String>> = all.iter().take(ROWS_MAX).map(row).collect();
    columns::write(out, heads, &rows);
    if all.len() > ROWS_MAX {
        let _infallible = writeln!(out, "  and {} more; --json shows all", count(all.len() - ROWS_MAX));
    }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn local(out: &mut String, status: &Status) {
    let down: Vec<_> =
        status.local.iter().filter(|server| server.state != "up" || server.waiting > 0).collect();
    let _infallible = writeln!(
        out,
        "\nOur servers and components: {} known, {} in trouble",
        count(status.local.len()),
        count(down.len())
    );
    if down.is_empty() {
        return;
    }
    worst(out, &["SERVER", "STATE", "REASON", "WAITING", "DOWN FOR"], &down, |server| {
        vec![
            server.server.clone(),
            server.state.clone(),
            or_dash(server.reason.clone()),
            count(server.waiting),
            or_dash(server.down_seconds.map(time)),
        ]
    });
}

/// What waits for what; the list comes with the worst first.
fn waiting(out: &mut String, status: &Status) {
    let all: Vec<_> = status.pairs.iter().filter(|pair| pair.waits_for.is_some()).collect();
    if all.is_empty() {
        return;
    }
    heading(out, "Waiting", all.len());
    worst(out, &["FROM", "TO", "WAITS FOR", "LAST FAILURE", "QUEUED", "OLDEST"], &all, |pair| {
        vec![
            pair.from.clone(),
            pair.to.clone(),
            pair.waits_for.clone().unwrap_or_default(),
            or_dash(pair.reason.clone()),
            count(pair.queued.stanzas),
            or_dash(pair.queued.oldest_seconds.map(short_time)),
        ]
    });
}

/// Queues behind lanes that are up: their next hop is slow.
fn queues(out: &mut String, status: &Status) {
    let mut all: Vec<_> = status
        .pairs
        .iter()
        .filter(|pair| pair.waits_for.is_none() && pair.queued.oldest_seconds.is_some())
        .collect();
    if all.is_empty() {
        return;
    }
    all.sort_by(|one, other| {
        let age = |queued: &Queued| queued.oldest_seconds.unwrap_or(-1.0);
        age(&other.queued).total_cmp(&age(&one.queued))
    });
    heading(out, "Queues behind a slow next hop", all.len());
    worst(out, &["FROM", "TO", "SESSION", "STANZAS", "BYTES", "SENT", "OLDEST"], &all, |pair| {
        vec![
            pair.from.clone(),
            pair.to.clone(),
            pair.session.map_or_else(|| "local".to_owned(), |session| session.to_string()),
            count(pair.queued.stanzas),
            octets(pair.queued.bytes),
            octets(pair.queued.sent_bytes),
            or_dash(pair.queued.oldest_seconds.map(short_time)),
        ]
    });
}
