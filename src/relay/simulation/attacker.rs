//! A peer with a good certificate of its own that does what it shouldn't: it speaks for others, resumes what isn't its own,
//! acknowledges what was never sent, answers what nobody asked, breaks off in the middle, and never reads.
//!
//! Whatever it says stands in an [`EVIL`] stanza, so that the servers know it when it arrives.

use std::sync::Arc;
use std::time::Duration;

use super::account::EVIL;
use super::dice::Dice;
use super::identities::{self, ATTACKER};
use super::link::{Heard, Link};
use super::wire::End;
use super::world::{World, domains};
use crate::identity::certificate::{Certificate, Role};
use crate::proto::stream::Notice;
use crate::relay::connector::Origin;
use crate::relay::mailbox::lock;
use crate::relay::streams::Streams as _;
use crate::relay::{clock, session};
use crate::transport::quic::Code;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// A relay has connected to the attacker, who takes its streams and never answers.
pub(super) fn accept(world: &Arc<World>, end: End) -> Arc<Certificate> {
    world.spawn(async move {
        let mut silent = Vec::new();
        while let Ok(stream) = end.accept().await {
            silent.push(stream);
        }
    });
    identities::of_attacker()
}

/// Attack the relay `index`.
pub(super) fn attack(world: &Arc<World>, index: usize, mut dice: Dice) {
    let attacked = Arc::clone(world);
    world.spawn(async move {
        let Some(end) = connect(&attacked, index).await else { return };
        for _ in 0..dice.within(1..6) {
            let Ok(halves) = end.open().await else { return };
            let route = whom(&attacked, index, &mut dice);
            // Whoever says nothing for so long has been refused.
            let spoken = speak(&attacked, index, Link::open(halves, route, true), &mut dice);
            let _either = tokio::time::timeout(Duration::from_secs(40), spoken).await;
        }
        if dice.chance(50) {
            end.close(Code::Done);
        }
    });
}

/// A connection to the relay, with the attacker's own certificate.
async fn connect(world: &Arc<World>, index: usize) -> Option<End> {
    let [ours, theirs] = world.shake_hands([world.plan.relays, index]).await.ok()?;
    let hub = world.hub(index).filter(|hub| !hub.is_draining())?;
    let own = Domain::parse(&domains(index, 1)[0]).ok()?;
    let shown = hub.live().certificates.choose(&own, Role::Receiving, clock::wall()).ok()?;
    let certificate = identities::of_attacker();
    let from = (&certificate, world.plan.relays);
    let shared = world.session(&hub, from, &shown, world.exporters(), Origin::Accepted).await.ok()?;
    let serving = Arc::clone(&hub);
    hub.tasks.spawn(async move {
        let _told = session::run(serving, shared, theirs, None).await;
    });
    Some(ours)
}

/// Somebody's domain.
fn somebody(world: &World, dice: &mut Dice) -> String {
    let place = dice.below(world.plan.relays);
    dice.pick(&domains(place, world.plan.domains)).clone()
}

/// For whom a stream is opened: mostly for the attacker itself.
fn whom(world: &World, index: usize, dice: &mut Dice) -> Route {
    let from = if dice.chance(80) { ATTACKER.to_owned() } else { somebody(world, dice) };
    let to = if dice.chance(90) {
        dice.pick(&domains(index, world.plan.domains)).clone()
    } else {
        somebody(world, dice)
    };
    Route::new(Domain::parse(&from).unwrap(), Domain::parse(&to).unwrap())
}

async fn speak(world: &World, index: usize, mut link: Link, dice: &mut Dice) {
    let patience = dice.millis(1..2_000);
    let established = async {
        loop {
            match link.next().await {
                Heard::Notice(Notice::Proven { .. }) => return true,
                Heard::Over => return false,
                _ => {}
            }
        }
    };
    // It may begin before it is believed.
    if !tokio::time::timeout(patience, established).await.unwrap_or(true) {
        return;
    }
    for _ in 0..dice.within(1..20) {
        let octets = octets(world, index, dice);
        link.say(&octets);
        if link.flush().await.is_err() {
            return;
        }
        match dice.within(0..10) {
            0 => {
                link.reset(Code::Done);
                return;
            }
            1 => tokio::time::sleep(dice.millis(1..3_000)).await,
            2..5 => {
                let _either = tokio::time::timeout(dice.millis(1..500), link.next()).await;
            }
            _ => {}
        }
    }
}

fn octets(world: &World, index: usize, dice: &mut Dice) -> String {
    let (from, to) = (somebody(world, dice), dice.pick(&domains(index, world.plan.domains)).clone());
    let id = stream_id(world, index, dice);
    let h = *dice.pick(&[0, 1, 5, 1_000, u32::MAX]);
    match dice.within(0..14) {
        0..3 => format!("<message from='u@{ATTACKER}' to='u@{to}' id='1'><{EVIL}/></message>"),
        3..6 => format!("<message from='u@{from}' to='u@{to}' id='1'><{EVIL}/></message>"),
        6 => format!(
            "<iq from='{from}' to='{to}' type='set' id='1'><mux xmlns='urn:xmpp:features:mux'>{id}</mux><{EVIL}/></iq>"
        ),
        7 => format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"),
        8 => format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>"),
        9 => "<r xmlns='urn:xmpp:sm:3'/>".repeat(dice.below(50)),
        10 => format!("<db:result xmlns:db='jabber:server:dialback' from='{from}' to='{to}' type='valid'/>"),
        11 => format!(
            "<db:verify xmlns:db='jabber:server:dialback' from='{from}' to='{to}' id='{id}' type='valid'/>"
        ),
        12 => format!("<message from='u@{ATTACKER}' to='u@{to}' id='1'><{EVIL}/><body></message>"),
        _ => format!("<message from='u@{ATTACKER}' to='u@{to}'><{EVIL}/>"),
    }
}

/// The id of a stream that another may resume, if the relay has one.
fn stream_id(world: &World, index: usize, dice: &mut Dice) -> String {
    let ids = world.hub(index).map(|hub| lock(&hub.broken).theirs.ids()).unwrap_or_default();
    if ids.is_empty() { format!("{:032x}", dice.next()) } else { dice.pick(&ids).clone() }
}
