//! A stream that ends while a stanza of it waits for room, and there is none, not even for the error that says so.

use std::sync::Arc;

use super::dice::Dice;
use super::world::{Plan, World};
use crate::proto::limits::Limits;
use crate::proto::queue::Mark;
use crate::reason::Reason;
use crate::relay::clock;
use crate::relay::inbound::Inbound;
use crate::relay::mailbox::Mailbox;
use crate::xmpp::domain::Domain;
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
    let bounce = |origin| hub.bounce_run(&route, STANZA, &mark, &origin, Reason::QueueFull);
    let inbound = Inbound::new(&hub.acknowledger, &Arc::new(Mailbox::default()), hub.acknowledger.patience);
    let receive = || Some((inbound.clone(), inbound.receive(1, clock::now())));
    while bounce(receive()).is_ok() {}
    let waiting = receive();
    assert_eq!(bounce(waiting.clone()), Err(Reason::QueueFull), "its sender isn't told that it is handled");
    inbound.tell_finally();
    assert_eq!(bounce(waiting), Ok(()));
}
