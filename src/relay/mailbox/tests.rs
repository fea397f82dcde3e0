use std::time::Instant;

use super::super::outlet::{Left, Pushed, TURN_BYTES, TotalQueued};
use super::*;
use crate::proto::queue::Mark;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

fn outlet(name: &str) -> Arc<Outlet> {
    let route = Route::new(Domain::parse(name).unwrap(), Domain::parse("b.test").unwrap());
    Arc::new(Outlet::new(route, 1 << 20, Arc::new(TotalQueued::new(1 << 20))))
}

fn push(outlet: &Arc<Outlet>, stanza: &[u8]) -> Pushed {
    outlet.push(stanza, &[Mark::of(stanza.len())], None, Instant::now())
}

fn written(mailbox: &Arc<Mailbox>) -> String {
    let mut text = String::new();
    loop {
        match mailbox.next(|| true) {
            Next::Octets(octets) | Next::Own(octets) | Next::Close(octets) => text.push_str(&octets),
            Next::Stanzas(run, _) => text.push_str(std::str::from_utf8(&run.octets).unwrap()),
            Next::Again(octets) => text.push_str(std::str::from_utf8(&octets).unwrap()),
            Next::Acknowledge => text.push_str("<a/>"),
            Next::Request(_) => text.push_str("<r/>"),
            Next::Settle => text.push('?'),
            Next::Finish => return text + "|",
            Next::Wait => return text,
        }
    }
}

#[test]
fn negotiation_goes_first_and_stanzas_wait_until_the_lane_is_open() {
    let (mailbox, outlet) = (Arc::new(Mailbox::default()), outlet("a.test"));
    assert_eq!(push(&outlet, b"1"), Pushed::Wanted);
    outlet.attach(&mailbox);
    assert_eq!(push(&outlet, b"2"), Pushed::Taken);
    mailbox.post("<h>".to_owned());
    assert_eq!(written(&mailbox), "<h>");
    mailbox.open();
    assert_eq!(written(&mailbox), "12");
    assert_eq!(push(&outlet, b"3"), Pushed::Taken);
    assert_eq!(written(&mailbox), "3");
}

#[test]
fn a_lane_takes_from_its_outlets_in_turn() {
    let (mailbox, busy, quiet) = (Arc::new(Mailbox::default()), outlet("a.test"), outlet("c.test"));
    busy.attach(&mailbox);
    quiet.attach(&mailbox);
    let large = vec![b'x'; TURN_BYTES];
    for _ in 0..3 {
        push(&busy, &large);
    }
    push(&quiet, b"q");
    mailbox.open();
    let turns: Vec<usize> = std::iter::from_fn(|| match mailbox.next(|| true) {
        Next::Stanzas(run, _) => Some(run.octets.len()),
        _ => None,
    })
    .collect();
    assert_eq!(turns, [TURN_BYTES, 1, TURN_BYTES, TURN_BYTES]);
}

#[test]
fn nothing_of_our_own_overtakes_a_stream_that_is_being_resumed() {
    let mailbox = Arc::new(Mailbox::default());
    mailbox.resumes();
    mailbox.post_own("<iq/>".to_owned());
    mailbox.post("<resume/>".to_owned());
    assert_eq!(written(&mailbox), "<resume/>");
    mailbox.send_again([Bytes::from_static(b"1")].into_iter());
    mailbox.open();
    assert_eq!(written(&mailbox), "1<iq/>");
}

#[test]
fn a_lane_that_closes_after_its_queue_sends_what_was_there_and_no_more() {
    let (mailbox, outlet) = (Arc::new(Mailbox::default()), outlet("a.test"));
    outlet.attach(&mailbox);
    mailbox.open();
    push(&outlet, b"1");
    mailbox.close(Close::AfterQueue, Reason::Draining);
    assert_eq!(written(&mailbox), "1</stream:stream>|");
    push(&outlet, b"2");
    assert_eq!(written(&mailbox), "");
    assert_eq!(outlet.detach(), Left::Waiting, "for another lane");
}

#[test]
fn a_lane_that_closes_during_its_negotiation_waits_for_what_is_queued() {
    let (mailbox, outlet) = (Arc::new(Mailbox::default()), outlet("a.test"));
    outlet.attach(&mailbox);
    push(&outlet, b"1");
    mailbox.close(Close::AfterQueue, Reason::Draining);
    assert_eq!(written(&mailbox), "");
    mailbox.open();
    assert_eq!(written(&mailbox), "1</stream:stream>|");
}

#[test]
fn stanzas_go_along_with_others_unless_something_goes_before_them() {
    let (mailbox, one, other) = (Arc::new(Mailbox::default()), outlet("a.test"), outlet("c.test"));
    one.attach(&mailbox);
    other.attach(&mailbox);
    let before: [fn(&Mailbox); 7] = [
        |_| {},
        |mailbox| mailbox.post("<h>".to_owned()),
        |mailbox| mailbox.post_own("<iq/>".to_owned()),
        |mailbox| mailbox.send_again([Bytes::from_static(b"0")].into_iter()),
        Mailbox::acknowledge,
        |mailbox| mailbox.request(When::Due),
        |mailbox| mailbox.close(Close::AfterQueue, Reason::Draining),
    ];
    let along = || mailbox.next_stanzas().map(|(run, _)| run.octets);
    for (at, before) in before.into_iter().enumerate() {
        push(&one, b"1");
        push(&other, b"2");
        before(&mailbox);
        assert_eq!(along(), None, "{at}");
        mailbox.open();
        if at == 0 {
            assert_eq!([along(), along(), along()], [Some("1".into()), Some("2".into()), None]);
            continue;
        }
        assert_eq!(along(), None, "{at}");
        assert!(written(&mailbox).contains("12"), "{at}");
    }
}

#[tokio::test]
async fn who_takes_nothing_and_asks_for_ever_more_is_broken_off() {
    let mailbox = Mailbox::default();
    for said in ["<success/>", &"x".repeat(5 * UNSAID_BYTES_MAX), "<enabled/>"] {
        mailbox.post(said.to_owned());
    }
    let is_broken_off = || {
        let polled = std::pin::pin!(mailbox.broken_off()).poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(reason) = polled { Some(reason) } else { None }
    };
    assert_eq!(is_broken_off(), None, "a long list of hosts");
    let answer = "y".repeat(1000);
    let mut answers = 0;
    while is_broken_off().is_none() {
        mailbox.post(answer.clone());
        answers += 1;
    }
    assert_eq!(answers, UNSAID_BYTES_MAX / answer.len() + 2);
    assert!(lock(&mailbox.state).octets.len() < 6 * UNSAID_BYTES_MAX + 1100);
}

#[tokio::test]
async fn who_has_us_answer_ever_more_requests_and_takes_no_answer_is_broken_off() {
    let mailbox = Mailbox::default();
    let answer = format!("<iq id='{}'/>", "x".repeat(1_000));
    let posted = (1..=1_000).find(|_| {
        mailbox.post_own(answer.clone());
        let polled = std::pin::pin!(mailbox.broken_off()).poll(&mut Context::from_waker(Waker::noop()));
        polled.is_ready()
    });
    assert_eq!(posted, Some(OWN_BYTES_MAX / answer.len() + 2));
}
