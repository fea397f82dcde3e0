use bytes::Bytes;

use super::super::outlet::TotalQueued;
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
    let writing = sending.write(&lane, &mut taken, Duration::ZERO, (Duration::ZERO, Duration::ZERO));
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
    let writing = sending.write(&lane, &mut taken, Duration::ZERO, (Duration::ZERO, Duration::ZERO));
    let _for_ever = tokio::time::timeout(Duration::from_millis(1), writing).await;
    sending.confirm();
    assert_eq!((delivered.get(), total.stanzas()), (2, 0));
    assert!(matches!(sending.end(true), Remainder::Unknown(sent) if sent.is_empty()));
}

fn acknowledger() -> Arc<Acknowledger> {
    let count = || IntCounter::new("count", "x").unwrap();
    Acknowledger::new(&crate::proto::limits::Limits::default(), count(), count())
}
