use super::super::mailbox::Next;
use super::*;
use crate::proto::queue::Wait;
use crate::xmpp::domain::Domain;

const LIMIT: usize = 1 << 20;

fn outlet(total: &Arc<TotalQueued>, name: &str) -> Arc<Outlet> {
    let route = Route::new(Domain::parse(name).unwrap(), Domain::parse("b.test").unwrap());
    Arc::new(Outlet::new(route, LIMIT, Arc::clone(total)))
}

fn push(outlet: &Arc<Outlet>, len: usize) -> Pushed {
    outlet.push(&vec![b'x'; len], &[Mark::of(len)], None, Instant::now())
}

#[test]
fn an_empty_outlet_without_a_lane_is_out_of_use() {
    let outlet = outlet(&Arc::new(TotalQueued::new(LIMIT)), "a.test");
    outlet.attach(&Arc::new(Mailbox::default()));
    assert_eq!(outlet.detach(), Left::Nothing);
    assert_eq!(push(&outlet, 1), Pushed::Retired);
}

#[test]
fn a_stanza_counts_until_it_was_passed_on() {
    let total = Arc::new(TotalQueued::new(LIMIT));
    let (outlet, lane) = (outlet(&total, "a.test"), Arc::new(Mailbox::default()));
    outlet.attach(&lane);
    push(&outlet, 10);
    let (run, _) = outlet.take(&lane).unwrap();
    assert_eq!((total.bytes(), total.stanzas()), (10, 1));
    outlet.put_back(run);
    let (run, _) = outlet.take(&lane).unwrap();
    outlet.release(&run);
    assert_eq!((total.bytes(), total.stanzas()), (0, 0));
}

#[test]
fn pairs_that_are_stalled_leave_room_for_those_that_flow() {
    let total = Arc::new(TotalQueued::new(LIMIT));
    let mut stalled = Vec::new();
    while total.bytes() < LIMIT {
        let another = outlet(&total, &format!("s{}.test", stalled.len()));
        while matches!(push(&another, 1024), Pushed::Wanted) {}
        stalled.push(another);
    }
    let (flowing, lane) = (outlet(&total, "c.test"), Arc::new(Mailbox::default()));
    flowing.attach(&lane);
    for len in [LITTLE_BYTES, 100, 10 * LITTLE_BYTES] {
        assert_eq!(push(&flowing, len), Pushed::Taken);
        assert!(matches!(push(&flowing, 1), Pushed::Full(_)), "but no more than that");
        let (run, _) = flowing.take(&lane).unwrap();
        flowing.release(&run);
    }
    let marks = [Mark::of(LITTLE_BYTES); 2];
    let run = vec![b'x'; 2 * LITTLE_BYTES];
    assert!(
        matches!(flowing.push(&run, &marks, None, Instant::now()), Pushed::Full(_)),
        "and not many at once"
    );
}

#[test]
fn an_empty_queue_takes_no_more_at_once_than_it_holds() {
    let outlet = outlet(&Arc::new(TotalQueued::new(8 * LIMIT)), "a.test");
    let many = |of: usize| outlet.push(&vec![b'x'; 2 * of], &[Mark::of(of); 2], None, Instant::now());
    assert!(matches!(many(LIMIT / 2 + 1), Pushed::Full(_)));
    assert_eq!(many(LIMIT / 2), Pushed::Wanted);
}

#[test]
fn whatever_finds_no_room_has_what_is_under_way_asked_for() {
    let (total, lane) = (Arc::new(TotalQueued::new(8 * LIMIT)), Arc::new(Mailbox::default()));
    let outlet = outlet(&total, "a.test");
    let asks = || matches!(lane.next(|| true), Next::Request(When::AtOnce));
    outlet.attach(&lane);
    lane.open();
    push(&outlet, LIMIT);
    assert!(matches!(push(&outlet, 1), Pushed::Full(_)));
    let Next::Stanzas(run, _) = lane.next(|| true) else { panic!("that makes room, and nobody asked") };
    assert!(matches!(push(&outlet, 1), Pushed::Full(_)));
    assert!(asks());
    outlet.release(&run);
    assert_eq!((push(&outlet, 1), asks()), (Pushed::Taken, false));
}

#[test]
fn a_route_takes_nothing_more_while_too_many_of_its_errors_wait() {
    let total = Arc::new(TotalQueued::new(64 * LIMIT));
    let (asked, answers, lane) =
        (outlet(&total, "a.test"), outlet(&total, "c.test"), Arc::new(Mailbox::default()));
    let error = |held| {
        let octets = vec![b'x'; LIMIT / 2];
        answers.push_anyway(&octets, Mark::of(octets.len()), None, held, Instant::now())
    };
    for _ in 0..4 {
        assert_eq!(error(false), Pushed::Wanted);
        answers.chokes(&asked);
    }
    assert_eq!(push(&asked, 1), Pushed::Wanted, "as many as are always taken");
    assert!(matches!(error(false), Pushed::Full(_)));
    assert_eq!(error(true), Pushed::Wanted);
    answers.chokes(&asked);
    assert!(matches!(push(&asked, 1), Pushed::Full(_)));
    answers.attach(&lane);
    while let Some((run, _)) = answers.take(&lane) {
        assert_eq!(matches!(push(&asked, 1), Pushed::Full(_)), answers.held_bytes().0 > LIMIT);
        answers.release(&run);
    }
    assert_eq!(push(&asked, 1), Pushed::Wanted);
}

#[test]
fn what_is_kept_of_a_queue_that_is_emptied_stays_in_order_and_counted() {
    let total = Arc::new(TotalQueued::new(LIMIT));
    let outlet = outlet(&total, "a.test");
    let answer = Mark { wait: Wait::Answer, ..Mark::of(1) };
    outlet.push(b"1234", &[answer, Mark::of(1), answer, Mark::of(1)], None, Instant::now());
    let names = |stanzas: Vec<Waited>| stanzas.iter().map(|waited| waited.octets[0]).collect::<Vec<u8>>();
    assert_eq!(names(outlet.drain_all_but(|mark| mark.wait == Wait::Answer)), b"24");
    assert_eq!((total.bytes(), total.stanzas()), (2, 2));
    assert_eq!(names(outlet.drain()), b"13");
}

#[test]
fn a_full_queue_says_since_when_until_something_leaves_it() {
    let total = Arc::new(TotalQueued::new(8 * LIMIT));
    let (outlet, lane) = (outlet(&total, "a.test"), Arc::new(Mailbox::default()));
    outlet.attach(&lane);
    push(&outlet, LIMIT);
    let Pushed::Full(since) = push(&outlet, 1) else { panic!("it is full") };
    assert_eq!(push(&outlet, 1), Pushed::Full(since));
    let (run, _) = outlet.take(&lane).unwrap();
    assert_eq!(push(&outlet, 1), Pushed::Full(since), "it is on its way, and ours");
    outlet.release(&run);
    push(&outlet, LIMIT);
    let Pushed::Full(again) = push(&outlet, 1) else { panic!("it is full again") };
    assert!(again > since);
}
