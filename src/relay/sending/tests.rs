use std::task::{Context, Waker};

use bytes::Bytes;

use super::super::outlet::TotalQueued;
use super::super::row::{PLACES, Row};
use super::*;
use crate::proto::queue::Mark;
use crate::transport::quic::Code;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// A transport that takes everything.
struct Taken(Vec<u8>);

impl Transmit for Taken {
    async fn write(&mut self, octets: Bytes) -> Result<(), Reason> {
        self.0.extend_from_slice(&octets);
        Ok(())
    }
    async fn finish(&mut self, _: Duration) {}
    fn reset(&mut self, _: Code) {}
}

fn outlet(total: &Arc<TotalQueued>, name: &str, lane: &Arc<Mailbox>, stanzas: &[&[u8]]) -> Arc<Outlet> {
    let route = Route::new(Domain::parse(name).unwrap(), Domain::parse("b.test").unwrap());
    let outlet = Arc::new(Outlet::new(route, 1 << 20, Arc::clone(total)));
    outlet.attach(lane);
    for stanza in stanzas {
        outlet.push(stanza, &[Mark::of(stanza.len())], None, Instant::now());
    }
    outlet
}

#[tokio::test]
async fn what_was_sent_behind_a_refused_flight_goes_back_to_its_own_queue_in_order() {
    let (total, lane) = (Arc::new(TotalQueued::new(1 << 20)), Arc::new(Mailbox::default()));
    let large = [b'2'; 20_000];
    let one = outlet(&total, "a.test", &lane, &[b"1", &large, b"3"]);
    let other = outlet(&total, "c.test", &lane, &[b"x", b"y"]);
    let delivered = IntCounter::new("delivered", "x").unwrap();
    let sending = Sending::new(delivered.clone(), &acknowledger(), Side::Remote, true, false);
    lane.open();
    let mut taken = Taken(Vec::new());
    let writing = sending.write(&lane, &mut taken, None);
    let _for_ever = tokio::time::timeout(Duration::from_millis(1), writing).await;
    assert_eq!((taken.0.len(), total.stanzas(), delivered.get()), (20_004, 5, 0));
    let Remainder::PutBack(runs) = sending.end(true) else { panic!("it was refused") };
    runs.into_iter().for_each(|(run, outlet)| assert!(outlet.unwrap().put_back(run).is_none()));
    let waiting = |outlet: &Outlet| outlet.drain().iter().map(|w| w.octets[0]).collect::<Vec<u8>>();
    assert_eq!((waiting(&one), waiting(&other)), (b"123".to_vec(), b"xy".to_vec()));
    assert_eq!((total.bytes(), total.stanzas()), (0, 0));
}

#[tokio::test]
async fn what_was_sent_behind_a_confirmed_flight_is_delivered() {
    let (total, lane) = (Arc::new(TotalQueued::new(1 << 20)), Arc::new(Mailbox::default()));
    let _outlet = outlet(&total, "a.test", &lane, &[b"1", b"2"]);
    let delivered = IntCounter::new("delivered", "x").unwrap();
    let sending = Sending::new(delivered.clone(), &acknowledger(), Side::Remote, true, false);
    lane.open();
    let mut taken = Taken(Vec::new());
    let writing = sending.write(&lane, &mut taken, None);
    let _for_ever = tokio::time::timeout(Duration::from_millis(1), writing).await;
    sending.confirm();
    assert_eq!((delivered.get(), total.stanzas()), (2, 0));
    assert!(matches!(sending.end(true), Remainder::Unknown(sent) if sent.is_empty()));
}

#[tokio::test]
async fn large_stanzas_are_asked_for_before_they_fill_a_queue() {
    let (total, lane) = (Arc::new(TotalQueued::new(1 << 20)), Arc::new(Mailbox::default()));
    let large = [b'1'; 60_000];
    let _outlet = outlet(&total, "a.test", &lane, &[&large[..]; 11]);
    let delivered = IntCounter::new("delivered", "x").unwrap();
    let sending = Sending::new(delivered, &acknowledger(), Side::Remote, false, true);
    lane.open();
    let mut taken = Taken(Vec::new());
    let writing = sending.write(&lane, &mut taken, None);
    let _for_ever = tokio::time::timeout(Duration::from_millis(100), writing).await;
    // At once, and then after each five: 256 KiB are a quarter of what a pair may have waiting.
    let asked = taken.0.windows(REQUEST.len()).filter(|octets| *octets == REQUEST.as_bytes()).count();
    assert_eq!(asked, 3);
}

/// A transport that takes nothing; whether it was asked to.
#[derive(Default)]
struct Stuck(bool);

impl Transmit for Stuck {
    async fn write(&mut self, _: Bytes) -> Result<(), Reason> {
        self.0 = true;
        std::future::pending().await
    }
    async fn finish(&mut self, _: Duration) {}
    fn reset(&mut self, _: Code) {}
}

#[tokio::test]
async fn lanes_of_one_session_wait_in_its_row_but_those_that_may_have_filled_their_own_window() {
    let (row, total) = (Row::default(), Arc::new(TotalQueued::new(1 << 30)));
    let little = vec![b'1'; 1_000];
    let much = vec![b'1'; 2 * MUCH_BYTES];
    let mut lanes: Vec<_> = [(&little, PLACES), (&little, 1), (&much, 3)]
        .into_iter()
        .flat_map(|(stanza, lanes)| std::iter::repeat_n(stanza, lanes))
        .map(|stanza| {
            let lane = Arc::new(Mailbox::default());
            let delivered = IntCounter::new("delivered", "x").unwrap();
            let sending = Sending::new(delivered, &acknowledger(), Side::Remote, false, true);
            lane.open();
            (outlet(&total, "a.test", &lane, &[stanza]), lane, sending, Stuck::default())
        })
        .collect();
    let writing: Vec<_> = lanes
        .iter_mut()
        .map(|(_, lane, sending, transmit)| {
            let writing = sending.write(lane, transmit, Some(&row));
            let mut writing = Box::pin(writing);
            let mut context = Context::from_waker(Waker::noop());
            assert!(writing.as_mut().poll(&mut context).is_pending());
            writing
        })
        .collect();
    drop(writing);
    let asked: Vec<bool> = lanes.iter().map(|(.., transmit)| transmit.0).collect();
    assert_eq!(asked.iter().filter(|asked| **asked).count(), PLACES + 3);
    assert!(!asked[PLACES], "it comes after those that wait already");
}

fn acknowledger() -> Arc<Acknowledger> {
    let count = || IntCounter::new("count", "x").unwrap();
    Acknowledger::new(&crate::proto::limits::Limits::default(), count(), count())
}

#[tokio::test(start_paused = true)]
async fn what_comes_alone_leaves_at_once_and_what_follows_several_waits_for_more() {
    let (total, lane) = (Arc::new(TotalQueued::new(1 << 20)), Arc::new(Mailbox::default()));
    let outlet = outlet(&total, "a.test", &lane, &[b"1"]);
    let push = |stanza: &[u8]| outlet.push(stanza, &[Mark::of(stanza.len())], None, clock::now());
    let sending =
        Sending::new(IntCounter::new("delivered", "x").unwrap(), &acknowledger(), Side::Remote, false, false);
    lane.open();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let mut transmit = Noted(Arc::clone(&taken));
    let writing = sending.write(&lane, &mut transmit, None);
    let mut writing = std::pin::pin!(writing);
    // In each step stanzas come, and some time passes; what the transport is given meanwhile.
    for (stanzas, passes, given) in [
        (&[][..], Duration::ZERO, "1|"),
        (&[b"2"], Duration::ZERO, "2|"),
        (&[b"3", b"4"], Duration::ZERO, "34|"),
        (&[b"5"], Duration::ZERO, ""),
        (&[b"6"], Duration::from_millis(2), "56|"),
        (&[], Duration::from_secs(1), ""),
        // It was busy, but that is long ago.
        (&[b"7"], Duration::ZERO, "7|"),
    ] {
        for stanza in stanzas {
            push(&stanza[..]);
        }
        // Time stands still but for this.
        tokio::time::advance(passes).await;
        assert!(writing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(std::mem::take(&mut *lock(&taken)), given.as_bytes(), "{stanzas:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_is_asked_for_along_with_stanzas_and_alone_where_none_follow() {
    const STEP: Duration = Duration::from_millis(100);
    let (total, lane, acknowledger) =
        (Arc::new(TotalQueued::new(1 << 20)), Arc::new(Mailbox::default()), acknowledger());
    let outlet = outlet(&total, "a.test", &lane, &[]);
    let delivered = IntCounter::new("delivered", "x").unwrap();
    let sending = Sending::new(delivered.clone(), &acknowledger, Side::Remote, false, true);
    lane.open();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let mut transmit = Noted(Arc::clone(&taken));
    let mut writing = Box::pin(sending.write(&lane, &mut transmit, None));
    let (mut along, mut alone) = (Vec::new(), Vec::new());
    // Five seconds with a stanza every 100 ms, five in which nothing comes, and a last one that nobody ever answers. Twice somebody is in
    // a hurry, the second time when there is nothing left to ask for.
    for step in 0..=220 {
        if step < 50 || step == 100 {
            outlet.push(b"1", &[Mark::of(1)], None, clock::now());
        }
        if step == 33 || step == 101 {
            lane.request(When::AtOnce);
        }
        acknowledger.ask(clock::now());
        assert!(writing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let wrote = String::from_utf8(std::mem::take(&mut *lock(&taken))).unwrap();
        for call in wrote.split_terminator('|') {
            match call.strip_suffix(REQUEST) {
                Some("") => alone.push(step),
                Some(_) => along.push(step),
                None => continue,
            }
            if step < 100 {
                sending.acknowledged(50.min(step + 1), &lane).unwrap();
            }
        }
        tokio::time::advance(STEP).await;
    }
    assert_eq!(along, [0, 10, 20, 30, 43, 100]);
    // A second and a half after the last one, and every five seconds (`limits.ack_wait`) as long as there is no answer.
    assert_eq!(alone, [33, 58, 150, 200]);
    assert_eq!((delivered.get(), sending.unacknowledged()), (50, 1));
}

#[tokio::test]
async fn a_relay_that_ends_lets_nobody_take_what_it_said_before_for_its_last_word() {
    for (ends, last) in [(false, "<a xmlns='urn:xmpp:sm:3' h='2'/>"), (true, REQUEST)] {
        let (acknowledger, lane) = (acknowledger(), Arc::new(Mailbox::default()));
        let delivered = IntCounter::new("delivered", "x").unwrap();
        let sending = Sending::new(delivered, &acknowledger, Side::Remote, false, true);
        let inbound = Inbound::new(&acknowledger, &lane, acknowledger.patience);
        sending.answer_for(&inbound);
        let ticket = inbound.receive(2, clock::now());
        inbound.settle(ticket, 1);
        if ends {
            acknowledger.end();
        }
        // It says how much is handled, and has nothing more to say until it closes.
        lane.acknowledge();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let mut transmit = Noted(Arc::clone(&taken));
        let mut writing = Box::pin(sending.write(&lane, &mut transmit, None));
        let mut context = Context::from_waker(Waker::noop());
        assert!(writing.as_mut().poll(&mut context).is_pending());
        lane.close(super::super::mailbox::Close::Now, Reason::Draining);
        assert!(writing.as_mut().poll(&mut context).is_ready());
        let said = String::from_utf8(std::mem::take(&mut *lock(&taken))).unwrap();
        assert_eq!(said, format!("<a xmlns='urn:xmpp:sm:3' h='1'/>|{last}</stream:stream>|"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_several_queues_have_for_a_stream_goes_in_one_call_as_long_as_it_is_little() {
    let (total, lane) = (Arc::new(TotalQueued::new(1 << 20)), Arc::new(Mailbox::default()));
    let large = [b'x'; JOINED_BYTES];
    let names = ["a.test", "c.test", "d.test", "e.test"];
    let outlets = names.map(|name| outlet(&total, name, &lane, &[]));
    let push = |at: usize, stanza: &[u8]| {
        outlets[at].push(stanza, &[Mark::of(stanza.len())], None, clock::now());
    };
    let delivered = IntCounter::new("delivered", "x").unwrap();
    let sending = Sending::new(delivered.clone(), &acknowledger(), Side::Local, false, true);
    lane.open();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let mut transmit = Noted(Arc::clone(&taken));
    let mut writing = Box::pin(sending.write(&lane, &mut transmit, None));
    let mut write = async || {
        let _for_ever = tokio::time::timeout(Duration::from_millis(10), writing.as_mut()).await;
        String::from_utf8(std::mem::take(&mut *lock(&taken))).unwrap()
    };
    for (at, stanza) in [b"1", b"2", b"3"].into_iter().enumerate() {
        push(at, stanza);
    }
    assert_eq!(write().await, format!("123{REQUEST}|"));
    sending.acknowledged(3, &lane).unwrap();
    assert_eq!((delivered.get(), total.stanzas()), (3, 0));
    for (at, stanza) in [&b"4"[..], &large, b"5", b"6"].into_iter().enumerate() {
        push(at, stanza);
    }
    let large = String::from_utf8(large.to_vec()).unwrap();
    assert_eq!(write().await, format!("4{large}|56|"));
    // What isn't acknowledged goes back to its own queue.
    let Remainder::Unknown(sent) = sending.end(false) else { panic!("it may have been handled") };
    let of =
        |(run, outlet): (&Run, &Option<Arc<Outlet>>)| (run.octets[0], outlet.clone().unwrap().route.clone());
    let sent: Vec<_> = sent.queues().map(of).collect();
    assert_eq!(
        sent,
        [b'4', b'x', b'5', b'6']
            .into_iter()
            .zip(outlets.map(|outlet| outlet.route.clone()))
            .collect::<Vec<_>>()
    );
}

/// A transport that takes everything, and notes by which priorities.
struct Ranked(Arc<Mutex<Vec<i32>>>);

impl Transmit for Ranked {
    async fn write(&mut self, _: Bytes) -> Result<(), Reason> {
        Ok(())
    }
    fn set_priority(&mut self, priority: i32) {
        lock(&self.0).push(priority);
    }
    async fn finish(&mut self, _: Duration) {}
    fn reset(&mut self, _: Code) {}
}

#[tokio::test(start_paused = true)]
async fn a_lane_goes_behind_others_while_it_has_much_under_way_and_no_longer() {
    let (row, total, lane) =
        (Row::default(), Arc::new(TotalQueued::new(1 << 20)), Arc::new(Mailbox::default()));
    let outlet = outlet(&total, "a.test", &lane, &[]);
    let sending =
        Sending::new(IntCounter::new("delivered", "x").unwrap(), &acknowledger(), Side::Remote, false, true);
    lane.open();
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut transmit = Ranked(Arc::clone(&told));
    let mut writing = std::pin::pin!(sending.write(&lane, &mut transmit, Some(&row)));
    let mut write = async |octets: usize, passes: u64| {
        outlet.push(&vec![b'1'; octets], &[Mark::of(octets)], None, clock::now());
        let _for_ever = tokio::time::timeout(Duration::from_millis(passes), writing.as_mut()).await;
        std::mem::take(&mut *lock(&told))
    };
    assert!(write(10_000, 10).await.is_empty(), "as all lanes begin");
    let [busy] = write(10_000, 10).await[..] else { panic!("it has much under way") };
    let [busier] = write(20_000, 10).await[..] else { panic!("it still has") };
    assert!(busier < busy && busy < 0);
    sending.acknowledged(3, &lane).unwrap();
    assert_eq!((write(10, 10).await, write(10, 10).await), (vec![0], vec![]));
    let [busy] = write(20_000, 1_000).await[..] else { panic!("it has much again") };
    assert_eq!((busy < 0, write(10, 10).await), (true, vec![0]), "nothing was acknowledged meanwhile");
}

/// A transport that notes each call.
struct Noted(Arc<Mutex<Vec<u8>>>);

impl Transmit for Noted {
    async fn write(&mut self, octets: Bytes) -> Result<(), Reason> {
        lock(&self.0).extend(octets.iter().chain(b"|"));
        Ok(())
    }
    async fn finish(&mut self, _: Duration) {}
    fn reset(&mut self, _: Code) {}
}
