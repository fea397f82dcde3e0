//! What is sent while the other end closes a session that carries nothing.

use std::time::Duration;

use super::dice::Dice;
use super::world::{Plan, World};
use crate::metrics::Opened;
use crate::proto::limits::Limits;
use crate::reason::Reason;
use crate::relay::hub::{Command, Hub};
use crate::relay::mailbox::lock;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

const HISTORIES: u64 = 20;

/// Do what the router wants of a session that the peer opened and has had no lane in for long. How many there are.
fn close_laneless(hub: &Hub) -> usize {
    let mut control = lock(&hub.control);
    let inbound = control.sessions.values().filter(|(_, session)| session.opened == Opened::Inbound);
    // Which is said once.
    let inbound = inbound.filter(|(_, session)| session.takes_lanes());
    let inbound: Vec<_> = inbound.map(|(commands, session)| (commands.clone(), session.id)).collect();
    let mut closed = 0;
    for (commands, session) in inbound {
        if control.router.lanes_of(session).is_empty() {
            control.router.session_retires(session, crate::relay::clock::now());
            commands.send(Command::Close(Reason::Idle)).unwrap();
            closed += 1;
        }
    }
    closed
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_as_the_other_end_closes_an_idle_session_goes_by_another_one() {
    let (mut closed, mut sent, mut bounced) = (0, 0, 0);
    for seed in 0..HISTORIES {
        let mut dice = Dice::new(seed);
        let limits = Limits { lane_idle: Duration::from_millis(200), ..Limits::default() };
        let world = World::new(Plan { limits, ..Plan::quiet() }, &mut dice);
        world.start(0);
        world.start(1);
        let domain = |side: usize| Domain::parse(&world.servers[side].domains[0]).unwrap();
        world.servers[0].start(&world, &[Route::new(domain(0), domain(1))], &mut dice);
        let hubs = [0, 1].map(|index| world.hub(index).unwrap());
        for _ in 0..30 {
            tokio::time::sleep(dice.millis(50..1_500)).await;
            closed += close_laneless(&hubs[1]);
        }
        world.hush();
        tokio::time::sleep(Duration::from_secs(60)).await;
        world.observe();
        assert_eq!((world.account.silent(), world.account.disordered()), (vec![], vec![]), "seed {seed}");
        let sums = world.account.sums();
        (sent, bounced) = (sent + sums.sent, bounced + sums.bounced);
        assert_eq!(hubs.each_ref().map(|hub| hub.queued.stanzas()), [0, 0], "seed {seed}");
        for index in 0..2 {
            world.drain(index).await;
        }
    }
    println!("{closed} sessions were closed, {bounced} of {sent} stanzas came back");
    assert!(closed > 100 && bounced == 0, "{closed} were closed, {bounced} of {sent} came back");
}
