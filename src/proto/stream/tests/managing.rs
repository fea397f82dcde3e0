//! Stream management (XEP-0198): turned on, resumed, refused.

use super::*;
use crate::proto::stream_management::element::{ENABLE, REQUEST};

fn managed(end: &End) -> Vec<Managed> {
    let managed = end.notices.iter().filter_map(|notice| match notice {
        Notice::Management(managed) => Some(managed.clone()),
        _ => None,
    });
    managed.collect()
}

fn resuming() -> Wants {
    Wants { manage: Manage::Resume { previd: "x".to_owned(), h: 7 }, ..PLAIN }
}

/// A receiving entity with an authenticated stream.
fn authenticated() -> End {
    let mut b = End::receiving(Told::default());
    for octets in [header("a.test", "b.test"), auth("a.test"), header("a.test", "b.test")] {
        say(&mut b, &octets);
    }
    b
}

#[test]
fn initiating_entity_turns_it_on_as_soon_as_it_is_offered() {
    let (mut a, mut b) = (End::initiating(PLAIN), End::receiving(Told::default()));
    meet(&mut a, &mut b);
    assert_eq!(managed(&b), [Managed::Enable { resume: true }]);
    assert!(a.learned().sm);
    let enabled = "<enabled xmlns='urn:xmpp:sm:3' id='x' resume='true' max='300'/>";
    assert_eq!(say(&mut a, enabled), "");
    let max = Some(std::time::Duration::from_secs(300));
    assert_eq!(managed(&a), [Managed::Enabled { id: Some("x".to_owned()), max }]);
}

#[test]
fn where_it_is_not_offered_nobody_asks_for_it() {
    let told = Told { offers: Ok(Offers { sm: false, ..EXTERNAL }), ..Told::default() };
    let (mut a, mut b) = (End::initiating(PLAIN), End::receiving(told));
    meet(&mut a, &mut b);
    assert_eq!((managed(&a), managed(&b), a.learned().sm), (vec![], vec![], false));
    assert!(say(&mut b, ENABLE).contains("unexpected-request"), "and it isn't turned on unasked");
}

#[test]
fn to_a_peer_that_offered_it_before_it_goes_in_the_first_flight() {
    let wants = Wants { sm_offered: true, ..pipelined() };
    let (mut a, mut b) = (End::initiating(wants), End::receiving(Told::default()));
    a.outgoing.push_str("<message from='u@a.test' to='v@b.test'/>");
    let flight = std::mem::take(&mut a.outgoing);
    b.read(flight.as_bytes());
    assert_eq!((managed(&b), b.stanzas.len()), (vec![Managed::Enable { resume: true }], 1));
}

#[test]
fn on_the_first_stream_of_a_connection_a_stream_is_resumed_in_the_flight_and_nothing_is_sent_behind_that() {
    let wants = Wants { pipelining: Pipelining::WhenOffered, ..resuming() };
    let (mut a, mut b) = (End::initiating(wants), End::receiving(Told::default()));
    b.read(std::mem::take(&mut a.outgoing).as_bytes());
    a.read(std::mem::take(&mut b.outgoing).as_bytes());
    let Machine::Initiating(machine) = &a.machine else { unreachable!() };
    assert!(machine.is_pipelined() && !machine.may_send());
    b.read(std::mem::take(&mut a.outgoing).as_bytes());
    assert_eq!(managed(&b), [Managed::Resume { previd: "x".to_owned(), h: 7 }]);
}

#[test]
fn a_stream_is_resumed_behind_a_fresh_authentication_and_nothing_is_sent_behind_that() {
    for wants in
        [resuming(), Wants { pipelining: Pipelining::AtOnce, sm_offered: true, mux: false, ..resuming() }]
    {
        let (mut a, mut b) = (End::initiating(wants), End::receiving(Told::default()));
        meet(&mut a, &mut b);
        let Machine::Initiating(machine) = &a.machine else { unreachable!() };
        assert!(a.is_established() && !machine.may_send());
        let Machine::Receiving(machine) = &b.machine else { unreachable!() };
        assert!(machine.is_resuming());
        assert_eq!(managed(&b), [Managed::Resume { previd: "x".to_owned(), h: 7 }]);
        b.handle(Event::Resumption { h: Some(9) }).unwrap();
        meet(&mut a, &mut b);
        assert_eq!(managed(&a), [Managed::Resumed { h: 9 }]);
        let Machine::Initiating(machine) = &a.machine else { unreachable!() };
        assert!(machine.may_send());
    }
}

#[test]
fn a_stream_that_is_gone_is_followed_by_a_new_one() {
    let (mut a, mut b) = (End::initiating(resuming()), End::receiving(Told::default()));
    meet(&mut a, &mut b);
    b.handle(Event::Resumption { h: None }).unwrap();
    assert!(b.outgoing.contains("item-not-found"));
    meet(&mut a, &mut b);
    assert_eq!(managed(&a), [Managed::Lost { h: None }]);
    assert_eq!(managed(&b)[1..], [Managed::Enable { resume: true }]);
}

#[test]
fn before_authentication_and_on_a_stream_of_dialback_it_is_not_turned_on() {
    let mut b = End::receiving(Told::default());
    say(&mut b, &header("a.test", "b.test"));
    say(&mut b, ENABLE);
    assert_eq!(b.violation, Some(Reason::NotAuthorized.into()));

    let told = Told { offers: Ok(DIALBACK), dialback: |_| Ok(DialbackOffer::Believe), ..Told::default() };
    let mut b = End::receiving(told);
    say(&mut b, &header("a.test", "b.test"));
    say(&mut b, "<db:result from='a.test' to='b.test'>key</db:result>");
    assert!(b.is_established());
    assert!(say(&mut b, ENABLE).contains("unexpected-request"));
    assert_eq!((managed(&b), b.violation), (vec![], None));
}

#[test]
fn turned_on_twice_or_resumed_late_it_fails_and_the_stream_stands() {
    let mut b = authenticated();
    say(&mut b, ENABLE);
    for again in [ENABLE, "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>"] {
        assert!(say(&mut b, again).contains("unexpected-request"));
    }
    assert_eq!((managed(&b).len(), b.violation), (1, None));
}

#[test]
fn acknowledgements_mean_something_only_where_stanzas_are_counted() {
    const ANSWER: &str = "<a xmlns='urn:xmpp:sm:3' h='3'/>";
    let mut b = authenticated();
    assert_eq!((say(&mut b, REQUEST), managed(&b)), (String::new(), vec![]));
    say(&mut b, ENABLE);
    say(&mut b, REQUEST);
    say(&mut b, ANSWER);
    assert_eq!(managed(&b)[1..], [Managed::Asked, Managed::Acknowledged { h: 3 }]);
    let mut b = authenticated();
    say(&mut b, ANSWER);
    assert_eq!(b.violation, Some(Reason::BadFormat.into()));
}

#[test]
fn what_only_the_other_role_says_is_refused() {
    for text in ["<enabled xmlns='urn:xmpp:sm:3'/>", "<resumed xmlns='urn:xmpp:sm:3' h='1'/>"] {
        let mut b = authenticated();
        say(&mut b, text);
        assert_eq!(b.violation, Some(Reason::BadFormat.into()), "{text}");
    }
    let (mut a, mut b) = (End::initiating(PLAIN), End::receiving(Told::default()));
    meet(&mut a, &mut b);
    say(&mut a, ENABLE);
    assert_eq!(a.violation, Some(Reason::BadFormat.into()));
}
