//! What the end of a stream promises: that whatever came is dealt with, however full everything is; and nothing if the relay ends.

use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use super::world::{Plan, World};
use crate::proto::admission::{Proven, Scope, Side};
use crate::proto::limits::Limits;
use crate::proto::queue::Mark;
use crate::proto::router::LaneId;
use crate::proto::stream::Learned;
use crate::proto::stream_management::receipts::Ticket;
use crate::reason::Reason;
use crate::relay::carry::{Carry, Place};
use crate::relay::clock;
use crate::relay::hub::Hub;
use crate::relay::inbound::Inbound;
use crate::relay::mailbox::{Mailbox, lock};
use crate::relay::outlet::{Outlet, Pushed};
use crate::relay::outlets::Begins;
use crate::relay::settings::Placement;
use crate::xmpp::domain::Domain;
use crate::xmpp::framer::{FrameKind, Framer, Progress};
use crate::xmpp::route::Route;

const STANZA: &[u8] = b"<message from='u@a0.test' to='u@b0.test' id='1'/>";

#[tokio::test(start_paused = true)]
async fn what_the_end_of_a_stream_answers_for_comes_back_however_full_it_is() {
    let limits = Limits { pair_queue_bytes: 1_000, ..Limits::default() };
    let world = World::new(Plan { limits, ..Plan::quiet() }, &mut Dice::new(1));
    world.start(0);
    let hub = world.hub(0).unwrap();
    let route = Route::new(Domain::parse("a0.test").unwrap(), Domain::parse("b0.test").unwrap());
    let mark = [Mark::of(STANZA.len())];
    let bounce = |origin| hub.bounce_run(&route, STANZA, &mark, &origin, Reason::QueueFull, Begins::Ours);
    let inbound = Inbound::new(&hub.acknowledger, &Arc::new(Mailbox::default()), hub.acknowledger.patience);
    let receive = || Some((inbound.clone(), inbound.receive(1, clock::now())));
    while bounce(receive()).is_ok() {}
    let waiting = receive();
    assert_eq!(bounce(waiting.clone()), Err(0), "its sender isn't told that it is handled");
    inbound.tell_finally();
    assert_eq!(bounce(waiting), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_ends_promises_nothing_but_what_is_handled() {
    let world = World::new(Plan::quiet(), &mut Dice::new(1));
    world.start(0);
    let hub = world.hub(0).unwrap();
    let stream = || Inbound::new(&hub.acknowledger, &Arc::new(Mailbox::default()), hub.acknowledger.patience);
    let (handled, unhandled, early) = (stream(), stream(), stream());
    for inbound in [&handled, &unhandled, &early] {
        inbound.receive(2, clock::now());
    }
    handled.settle(Ticket { run: 0, at: 0 }, 2);
    unhandled.settle(Ticket { run: 0, at: 0 }, 1);
    assert_eq!(early.tell_finally(), Some(2));
    hub.start_draining();
    assert_eq!((handled.tell_finally(), unhandled.tell_finally()), (Some(2), None));
    assert!(unhandled.is_closed());
    let refused = stream();
    let first = refused.receive(2, clock::now());
    refused.refuse_from(first.plus(1));
    assert_eq!(refused.refused_behind(), None, "how much that is depends on what comes of it");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_ends_says_how_many_of_its_errors_found_nobody() {
    let world = World::new(Plan::quiet(), &mut Dice::new(1));
    // The relay of the stanza's sender isn't there.
    world.start(1);
    let hub = world.hub(1).unwrap();
    let route = Route::new(Domain::parse("a0.test").unwrap(), Domain::parse("b0.test").unwrap());
    let mark = [Mark::of(STANZA.len())];
    hub.bounce_run(&route, STANZA, &mark, &None, Reason::QueueFull, Begins::Ours).unwrap();
    let report = world.drain(1).await.unwrap();
    assert_eq!((report.untold, report.discarded), (1, 0), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_ends_gives_back_what_a_lane_lets_go_of() {
    let world = World::new(Plan::quiet(), &mut Dice::new(1));
    world.start(0);
    let hub = world.hub(0).unwrap();
    let route = Route::new(Domain::parse("b0.test").unwrap(), Domain::parse("a0.test").unwrap());
    let outlet = hub.outlet(&route).unwrap();
    let lane = Arc::new(Mailbox::default());
    outlet.attach(&lane);
    let stanza = b"<message from='u@b0.test' to='u@a0.test' id='1'/>";
    outlet.push(stanza, &[Mark::of(stanza.len())], None, clock::now());
    let (run, _) = outlet.take(&lane).unwrap();
    hub.end();
    hub.put_back(&outlet, run);
    let [_, _, bounced, _] = hub.metrics.ledger();
    assert_eq!((bounced, outlet.has_waiting(), hub.queued.stanzas()), (1, false, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_relay_that_ends_never_acknowledged_is_left_to_its_sender() {
    let world = World::new(Plan::quiet(), &mut Dice::new(1));
    world.start(0);
    let hub = world.hub(0).unwrap();
    let route = Route::new(Domain::parse("b0.test").unwrap(), Domain::parse("a0.test").unwrap());
    let stream = || Inbound::new(&hub.acknowledger, &Arc::new(Mailbox::default()), hub.acknowledger.patience);
    let (waiting, early) = (stream(), stream());
    let origin = |from: &Arc<Inbound>| Some((Arc::clone(from), from.receive(1, clock::now())));
    let outlet = hub.outlet(&route).unwrap();
    for from in [&waiting, &early] {
        outlet.push(STANZA, &[Mark::of(STANZA.len())], origin(from), clock::now());
    }
    early.tell_finally();
    assert_eq!(hub.discard_everything(Reason::Draining), (1, 0), "one sender believes it handled");
    assert_eq!(hub.metrics.discarded_for(Reason::TakenBack).get(), 1);
}

/// A stream of several pairs brings one stanza from `b0.test`, which waits for room, and two more from `b2.test`; `meanwhile` happens then.
async fn waiting_for_room(hub: &Arc<Hub>, mut carry: Carry, meanwhile: impl FnOnce()) {
    let stanza = |from| format!("<message from='u@{from}' to='u@a0.test' id='1'/>");
    let (filling, others) = (stanza("b0.test"), stanza("b2.test").repeat(2));
    let (full, marks) = (outlet(hub, "b0.test"), [Mark::of(filling.len())]);
    while !matches!(full.push(filling.as_bytes(), &marks, None, clock::now()), Pushed::Full(_)) {}
    let said = filling + &others;
    let (read, ()) = tokio::join!(biased; read(hub, &mut carry, &said), async { meanwhile() });
    assert_eq!(read, Ok(()));
}

/// A stream brings these stanzas.
pub(super) async fn read(hub: &Hub, carry: &mut Carry, stanzas: &str) -> Result<(), Reason> {
    let header =
        "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";
    let buffer = [header, stanzas].concat().into_bytes();
    let mut framer = Framer::new(hub.xml_limits());
    framer.authenticated();
    let mut at = 0;
    while let Ok(Progress::Frame(frame)) = framer.next(&buffer[at..]) {
        if let FrameKind::Stanza(kind) = frame.kind {
            carry.take(&buffer, at, frame.len, kind, frame.head).await?;
        }
        at += frame.len;
    }
    assert_eq!(at, buffer.len());
    carry.flush(&buffer, at).await
}

fn outlet(hub: &Hub, from: &str) -> Arc<Outlet> {
    let domain = |text| Domain::parse(text).unwrap();
    hub.outlet(&Route::new(domain(from), domain("a0.test"))).unwrap()
}

/// The data path of a stream that all pairs share, and its counters.
fn managed(hub: &Arc<Hub>) -> (Carry, Arc<Inbound>) {
    let scope = Scope { side: Side::Remote, theirs: Proven::Any, ours: Proven::Any, pair: None };
    let mut carry = Carry::new(hub, scope, None);
    let inbound = Inbound::new(&hub.acknowledger, &Arc::new(Mailbox::default()), hub.acknowledger.patience);
    carry.manage(&inbound, 0);
    (carry, inbound)
}

fn small_queues() -> Plan {
    let limits = Limits { pair_queue_bytes: 1_000, ..Limits::default() };
    Plan { limits, placement: Placement::OneStream, ..Plan::quiet() }
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_stream_ends_goes_nowhere() {
    for ends in [false, true] {
        let world = World::new(small_queues(), &mut Dice::new(1));
        world.start(0);
        let hub = world.hub(0).unwrap();
        let (carry, inbound) = managed(&hub);
        waiting_for_room(&hub, carry, || {
            // Its sender has the others again.
            assert!(!ends || inbound.tell_finally() == Some(1));
        })
        .await;
        assert_eq!(outlet(&hub, "b2.test").has_waiting(), !ends);
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_room_when_its_lane_ends_is_left_to_its_sender_or_answered() {
    for answered in [false, true] {
        let world = World::new(small_queues(), &mut Dice::new(1));
        world.start(0);
        let hub = world.hub(0).unwrap();
        let (carry, inbound) = managed(&hub);
        let reading = waiting_for_room(&hub, carry, || {
            assert!(!answered || inbound.tell_finally() == Some(1));
        });
        assert!(tokio::time::timeout(hub.limits.read_pause / 2, reading).await.is_err());
        let told = u32::from(answered);
        assert_eq!(
            (inbound.tell(), inbound.is_handled()),
            (told, true),
            "nothing of it came, or it was dealt with"
        );
        let [_, _, bounced, _] = hub.metrics.ledger();
        assert_eq!(bounced, u64::from(told));
    }
}

#[tokio::test(start_paused = true)]
async fn what_waited_behind_another_stanza_is_judged_by_what_may_pass_then() {
    let world = World::new(small_queues(), &mut Dice::new(1));
    world.start(0);
    let hub = world.hub(0).unwrap();
    let session = world.accepted(&hub, 1).await;
    let host = Domain::parse("b2.test").unwrap();
    let until = clock::wall() + Duration::from_secs(60);
    let route = outlet(&hub, "b0.test").route.clone();
    let scope = {
        let mut machine = lock(&session.machine);
        machine.learn(Learned { mux: true, ..Learned::default() });
        machine.grant_theirs(host.clone(), until).unwrap();
        machine.scope(&route, false)
    };
    let stands = Place { session: Arc::clone(&session), lane: LaneId(1), route, initiating: false };
    waiting_for_room(&hub, Carry::new(&hub, scope, Some(stands)), || {
        assert_eq!(lock(&session.machine).end_grants(until), [host]);
        session.grants.tell();
    })
    .await;
    assert!(!outlet(&hub, "b2.test").has_waiting());
    assert_eq!(hub.metrics.discarded_for(Reason::CertificateExpired).get(), 2);
}

/// The certificate of a host that had joined by a mux secret ends while stanzas of it are under way.
#[tokio::test(start_paused = true)]
async fn what_comes_after_the_end_of_a_grant_is_left_to_its_sender_unless_others_share_the_stream() {
    for placement in [Placement::StreamPerPair, Placement::OneStream] {
        let world = World::new(Plan { placement, ..Plan::quiet() }, &mut Dice::new(1));
        world.start(0);
        let hub = world.hub(0).unwrap();
        let session = world.accepted(&hub, 1).await;
        let (host, until) = (Domain::parse("b2.test").unwrap(), clock::wall() + Duration::from_secs(60));
        let route = outlet(&hub, "b2.test").route.clone();
        let scope = {
            let mut machine = lock(&session.machine);
            machine.learn(Learned { mux: true, ..Learned::default() });
            machine.grant_theirs(host, until).unwrap();
            machine.scope(&route, false)
        };
        let (lane, mailbox) = hub.admit_lane();
        let inbound = Inbound::new(&hub.acknowledger, &mailbox, hub.acknowledger.patience);
        let stands = Place { session: Arc::clone(&session), lane, route, initiating: false };
        let mut carry = Carry::new(&hub, scope, Some(stands));
        carry.manage(&inbound, 0);
        let stanza = "<message from='u@b2.test' to='u@a0.test' id='1'/>";
        assert_eq!(read(&hub, &mut carry, stanza).await, Ok(()));
        lock(&session.machine).end_grants(until);
        session.grants.tell();
        assert_eq!(read(&hub, &mut carry, &stanza.repeat(2)).await, Ok(()));
        let alone = placement == Placement::StreamPerPair;
        assert_eq!(inbound.tell_finally(), Some(if alone { 1 } else { 3 }));
        assert_eq!(mailbox.closing(), alone.then_some(Reason::CertificateExpired), "{placement:?}");
        let [accepted, _, bounced, discarded] = hub.metrics.ledger();
        assert_eq!([accepted, bounced, discarded], if alone { [1, 0, 0] } else { [3, 0, 2] });
    }
}

#[tokio::test(start_paused = true)]
async fn who_forgets_a_retired_queue_leaves_the_one_that_took_its_place() {
    let world = World::new(Plan::quiet(), &mut Dice::new(1));
    world.start(0);
    let hub = world.hub(0).unwrap();
    let route = Route::new(Domain::parse("a0.test").unwrap(), Domain::parse("b0.test").unwrap());
    let retired = hub.outlet(&route).unwrap();
    assert!(retired.retire_if_empty());
    // Two tasks may meet the same one.
    hub.forget_outlet(&retired);
    let fresh = hub.outlet(&route).unwrap();
    hub.forget_outlet(&retired);
    assert!(hub.known_outlet(&route).is_some_and(|known| Arc::ptr_eq(&known, &fresh)));
}
