//! What is sent again says so, and if it can't, it comes back.

use super::dice::Dice;
use super::world::{Plan, World};
use crate::proto::limits::Limits;
use crate::proto::queue::Mark;
use crate::relay::broken::Certainty;
use crate::relay::clock;
use crate::relay::mailbox::Mailbox;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

const STANZA_BYTES: usize = 10_000;

/// A stanza of `len` octets.
fn stanza(open: &str, len: usize) -> String {
    let (before, after) = (format!("<{open} from='u@b0.test' to='u@a0.test' id='1'><x xmlns='y'>"), "</x></");
    let name = open.split(' ').next().unwrap();
    let filling = "z".repeat(len - before.len() - after.len() - name.len() - 1);
    [before.as_str(), &filling, after, name, ">"].concat()
}

/// What becomes of a stanza that was sent and not acknowledged: what is sent again, and how many errors there are.
fn again(stanza: &str) -> (Option<String>, u64) {
    let limits = Limits { stanza_bytes: STANZA_BYTES, ..Limits::default() };
    let world = World::new(Plan { limits, ..Plan::quiet() }, &mut Dice::new(1));
    world.start(0);
    let hub = world.hub(0).unwrap();
    let route = Route::new(Domain::parse("b0.test").unwrap(), Domain::parse("a0.test").unwrap());
    let (outlet, lanes) = (hub.outlet(&route).unwrap(), [0, 1].map(|_| Mailbox::default().into()));
    outlet.attach(&lanes[0]);
    outlet.push(stanza.as_bytes(), &[Mark::of(stanza.len())], None, clock::now());
    let (run, _) = outlet.take(&lanes[0]).unwrap();
    outlet.detach();
    hub.unacknowledged(
        vec![(run, Some(std::sync::Arc::clone(&outlet)))],
        Certainty::Unknown { by_the_lane: false },
    );
    outlet.attach(&lanes[1]);
    let sent = outlet.take(&lanes[1]).map(|(run, _)| String::from_utf8(run.octets.to_vec()).unwrap());
    let [_, _, bounced, _] = hub.metrics.ledger();
    (sent, bounced)
}

#[tokio::test(start_paused = true)]
async fn what_has_no_room_to_say_that_it_may_be_a_second_one_comes_back() {
    // What the time takes.
    let stamp = again(&stanza("message", 200)).0.unwrap().len() - 200;
    let fits = stanza("message", STANZA_BYTES - stamp);
    let (sent, bounced) = again(&fits);
    let sent = sent.unwrap();
    assert!(sent.contains("urn:xmpp:delay") && sent.len() == STANZA_BYTES && bounced == 0, "{}", sent.len());
    for len in [STANZA_BYTES - stamp + 1, STANZA_BYTES] {
        let (sent, bounced) = again(&stanza("message", len));
        assert_eq!((sent.map(|sent| sent.len()), bounced), (None, 1));
        // Of this one nobody can be told anything.
        let unanswerable = stanza("message type='error'", len);
        assert!(again(&unanswerable) == (Some(unanswerable), 0));
    }
}
