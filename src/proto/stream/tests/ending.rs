//! How streams end, in every state.

use super::*;

/// The steps by which a receiving entity comes to be established.
fn steps() -> [String; 4] {
    let requests = format!("{}{}", bidi::REQUEST, mux::REQUEST);
    [header("a.test", "b.test"), requests, auth("a.test"), header("a.test", "b.test")]
}

/// What a receiving entity says to an initiating one, step by step.
fn answers() -> [String; 5] {
    let mut features = String::new();
    crate::proto::features::Features { external: true, bidi: true, ..Default::default() }
        .write(&mut features);
    [
        answer("b.test", "a.test", "1"),
        features,
        sasl_external::SUCCESS.to_owned(),
        answer("b.test", "a.test", "2"),
        "<stream:features/>".to_owned(),
    ]
}

/// An end that has taken the first `count` of its steps.
fn receiving_after(count: usize) -> End {
    let mut b = End::receiving(Told::default());
    steps().iter().take(count).for_each(|step| drop(say(&mut b, step)));
    b
}

fn initiating_after(count: usize) -> End {
    let mut a = End::initiating(PLAIN);
    answers().iter().take(count).for_each(|step| drop(say(&mut a, step)));
    a
}

fn every_state() -> Vec<End> {
    let receiving = (0..=steps().len()).map(receiving_after);
    receiving.chain((0..=answers().len()).map(initiating_after)).collect()
}

#[test]
fn the_steps_lead_to_established() {
    assert!(receiving_after(4).is_established() && initiating_after(5).is_established());
    assert_eq!(every_state().iter().filter(|end| end.is_established()).count(), 2);
}

#[test]
fn the_end_tag_ends_the_stream_in_every_state_and_nothing_revives_it() {
    for mut end in every_state() {
        end.handle(Event::End).unwrap();
        assert_eq!(end.ended(), Some(None));
        assert!(!end.is_established());
        let header = StreamHeader::parse(header("a.test", "b.test").split_once("?>").unwrap().1.as_bytes());
        let error = Element::parse(b"<stream:error/>").unwrap();
        let silent = std::mem::take(&mut end.outgoing).len();
        end.handle(Event::Header { header: &header.unwrap(), fresh_id: "x" }).unwrap();
        end.handle(Event::Element(&error)).unwrap();
        end.handle(Event::Stanza).unwrap();
        end.handle(Event::End).unwrap();
        end.handle(Event::KeyVerified { route: a_to_b(), outcome: Ok(()) }).unwrap();
        assert_eq!(end.ended(), Some(None), "told once");
        assert!(!end.is_established() && end.outgoing.is_empty(), "{silent}");
    }
}

#[test]
fn a_stream_error_ends_the_stream_in_every_state_with_its_reason() {
    for mut end in every_state() {
        let mut octets = String::new();
        refuse(&mut octets, Reason::HostUnknown.into(), None);
        let error = Element::parse(octets.strip_suffix(STREAM_END).unwrap().as_bytes()).unwrap();
        end.handle(Event::Element(&error)).unwrap();
        assert_eq!(end.ended(), Some(Some(Reason::HostUnknown)));
        assert!(!end.is_established());
    }
    let mut b = receiving_after(4);
    say(&mut b, "<stream:error><x xmlns='urn:x'/></stream:error>");
    assert_eq!(b.ended(), Some(Some(Reason::UndefinedCondition)));
}

#[test]
fn unknown_elements_end_the_stream_in_every_state() {
    for mut end in every_state() {
        let element = Element::parse(b"<x xmlns='urn:x'/>").unwrap();
        assert!(end.handle(Event::Element(&element)).is_err());
        assert!(!end.is_established());
    }
}

#[test]
fn a_header_where_none_belongs_ends_the_stream() {
    let header = StreamHeader::new(Some(domain("a.test")), Some(domain("b.test")), Some("1".into()));
    let event = || Event::Header { header: &header, fresh_id: "x" };
    for count in [1, 2, 4] {
        assert_eq!(receiving_after(count).handle(event()), Err(Reason::BadFormat.into()));
    }
    for count in [1, 2, 4, 5] {
        let mut a = initiating_after(count);
        assert_eq!(a.handle(event()), Err(Reason::BadFormat.into()), "{count}");
        assert!(!a.is_established());
    }
}

#[test]
fn a_violation_is_refused_once_and_inside_a_stream() {
    for count in 0..=4 {
        let mut b = receiving_after(count);
        let said = say(&mut b, "<!DOCTYPE x>");
        assert!(b.violation.is_some());
        assert!(said.ends_with("</stream:error></stream:stream>"), "{said}");
        // A document that has no header yet gets one.
        let needs_header = matches!(count, 0 | 3);
        assert_eq!(said.starts_with("<?xml version='1.0'?><stream:stream"), needs_header, "{count}: {said}");
        assert!(!b.is_established());
        assert_eq!(say(&mut b, "<x xmlns='urn:x'/>"), "");
    }
}
