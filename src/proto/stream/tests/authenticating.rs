//! SASL EXTERNAL, with mux and bidi, in turns and in one flight.

use proptest::prelude::*;

use super::*;
use crate::proto::stream_management::element::ENABLE;

const STANZA: &str = "<message from='u@a.test' to='v@b.test'><body>hi</body></message>";

fn proven_a_to_b(bidi: bool) -> BTreeSet<(Route, bool)> {
    BTreeSet::from([(a_to_b(), bidi)])
}

#[test]
fn two_relays_agree_on_external_mux_and_bidi() {
    let (mut a, mut b) = (End::initiating(PLAIN), End::receiving(Told::default()));
    meet(&mut a, &mut b);
    assert!(a.is_established() && b.is_established());
    assert_eq!((a.proven(), b.proven()), (proven_a_to_b(true), proven_a_to_b(true)));
    assert!(a.learned().mux && b.learned().mux);
    assert!(a.learned().pipelining, "the peer said so in its first features");
    assert_eq!(a.learned().listed, [domain("b.test"), domain("rooms.b.test")]);
    assert_eq!(a.ids.len(), 2);
    assert_ne!(a.ids[0], a.ids[1], "each header of the receiving entity has a fresh id");
}

#[test]
fn what_two_relays_say_is_what_the_profile_of_mux_shows() {
    let mut a = End::initiating_for(route("montague.example", "capulet.example"), PLAIN);
    let hosts = ["capulet.example", "rooms.capulet.example"].map(domain).to_vec();
    let mut b = End::receiving(Told { hosts, ..Told::default() });
    let mut said = Vec::new();
    while !a.outgoing.is_empty() {
        let there = std::mem::take(&mut a.outgoing);
        let back = say(&mut b, &there);
        a.read(back.as_bytes());
        said.extend([format!("I: {there}"), format!("R: {back}")]);
    }
    // The relay makes up ids at random.
    let [first, second] = &a.ids[..] else { panic!("{:?}", a.ids) };
    let ids = |line: &String| line.replace(first, "s0").replace(second, "s1");
    let said: Vec<String> = said.iter().map(ids).filter(|line| line != "R: ").collect();
    assert_eq!(mux::example_tests::of_a_first_stream().concat(), said);
}

#[test]
fn what_is_not_offered_is_not_asked_for() {
    for (mux, bidi) in [(true, false), (false, true), (false, false)] {
        let told = Told { offers: Ok(Offers { mux, bidi, ..EXTERNAL }), ..Told::default() };
        let (mut a, mut b) = (End::initiating(PLAIN), End::receiving(told));
        meet(&mut a, &mut b);
        assert_eq!((a.proven(), b.proven()), (proven_a_to_b(bidi), proven_a_to_b(bidi)));
        assert_eq!((a.learned().mux, b.learned().mux), (mux, mux));
    }
}

#[test]
fn what_is_not_wanted_is_not_agreed_though_offered() {
    let wants = Wants { mux: false, bidi: Bidi::Never, ..PLAIN };
    let (mut a, mut b) = (End::initiating(wants), End::receiving(Told::default()));
    meet(&mut a, &mut b);
    assert_eq!((a.proven(), b.proven()), (proven_a_to_b(false), proven_a_to_b(false)));
    assert!(!a.learned().mux && !b.learned().mux);
}

#[test]
fn receiving_entity_takes_mux_and_bidi_in_any_order_before_authentication() {
    for requests in [[bidi::REQUEST, mux::REQUEST], [mux::REQUEST, bidi::REQUEST]] {
        let mut b = End::receiving(Told::default());
        say(&mut b, &header("a.test", "b.test"));
        say(&mut b, &requests.concat());
        say(&mut b, &auth("a.test"));
        say(&mut b, &header("a.test", "b.test"));
        assert_eq!(b.proven(), proven_a_to_b(true));
        assert!(b.learned().mux);
    }
}

#[test]
fn receiving_entity_takes_no_request_that_it_did_not_offer_or_that_comes_late() {
    let offers = Offers { mux: false, bidi: false, ..EXTERNAL };
    for request in [bidi::REQUEST, mux::REQUEST] {
        let mut b = End::receiving(Told { offers: Ok(offers), ..Told::default() });
        say(&mut b, &header("a.test", "b.test"));
        say(&mut b, request);
        assert_eq!(b.violation, Some(Reason::NotAuthorized.into()));

        let mut b = End::receiving(Told::default());
        for octets in [header("a.test", "b.test"), auth("a.test"), header("a.test", "b.test")] {
            say(&mut b, &octets);
        }
        assert_eq!(b.proven(), proven_a_to_b(false));
        say(&mut b, request);
        assert_eq!(b.violation, Some(Reason::UnsupportedStanzaType.into()));
    }
}

#[test]
fn a_pipelined_flight_with_stanzas_behind_it_is_taken_whole() {
    let (mut a, mut b) = (End::initiating(pipelined()), End::receiving(Told::default()));
    a.outgoing.push_str(&STANZA.repeat(3));
    b.read(std::mem::take(&mut a.outgoing).as_bytes());
    assert!(b.is_established(), "before the initiating entity has read a single octet");
    assert_eq!(b.stanzas, [STANZA; 3]);
    meet(&mut a, &mut b);
    assert_eq!((a.proven(), b.proven()), (proven_a_to_b(true), proven_a_to_b(true)));
    assert!(a.violation.is_none() && b.violation.is_none());
}

/// Both ends up to the first features, which the initiating entity has not read.
fn offered(wants: Wants, offers: Offers) -> (End, End) {
    let told = Told { offers: Ok(offers), ..Told::default() };
    let (mut a, mut b) = (End::initiating(wants), End::receiving(told));
    b.read(std::mem::take(&mut a.outgoing).as_bytes());
    (a, b)
}

fn may_send(end: &End) -> bool {
    matches!(&end.machine, Machine::Initiating(machine) if machine.may_send())
}

#[test]
fn the_first_stream_of_a_connection_is_up_a_round_trip_after_its_header() {
    let (mut a, mut b) = offered(first(), EXTERNAL);
    assert!(!may_send(&a) && a.notices.is_empty());
    a.read(std::mem::take(&mut b.outgoing).as_bytes());
    assert!(
        may_send(&a) && a.notices == [Notice::Ahead],
        "all that is left goes with the answer to the features"
    );
    a.outgoing.push_str(&STANZA.repeat(3));
    b.read(std::mem::take(&mut a.outgoing).as_bytes());
    assert_eq!((b.is_established(), b.stanzas.len()), (true, 3));
    assert!(!a.is_established(), "and it has read nothing but the features");
    meet(&mut a, &mut b);
    assert_eq!((a.proven(), b.proven()), (proven_a_to_b(true), proven_a_to_b(true)));
    assert!(a.learned().mux && b.learned().mux && a.learned().sm && a.learned().pipelining);
    assert_eq!(a.learned().listed, b.told.hosts);
    assert!(a.violation.is_none() && b.violation.is_none());
}

#[test]
fn stanzas_wait_for_the_last_features_where_nobody_has_offered_stream_management() {
    let features = "<stream:features><pipelining xmlns='urn:xmpp:features:pipelining'/>\
        <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>\
        </stream:features>";
    let mut a = End::initiating(first());
    a.outgoing.clear();
    let said = say(&mut a, &(answer("b.test", "a.test", "1") + features));
    assert!(said.contains("<auth") && said.ends_with(&header("a.test", "b.test")), "{said}");
    assert!(!may_send(&a) && a.notices.is_empty());
    let rest = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>".to_owned();
    let sm = "<stream:features><sm xmlns='urn:xmpp:sm:3'/></stream:features>";
    let said = say(&mut a, &(rest + &answer("b.test", "a.test", "2") + sm));
    assert_eq!(said, ENABLE);
    assert!(may_send(&a) && a.is_established());
}

#[test]
fn what_is_not_offered_is_not_sent_ahead_and_nor_is_anything_that_may_have_to_be_taken_back() {
    let (dialback, _) = dialling_back();
    let falls_back = Wants { pipelining: Pipelining::WhenOffered, ..dialback };
    let beside_dialback = Offers { dialback: true, mux: false, ..EXTERNAL };
    let refused = Wants { pipelining: Pipelining::Never, ..first() };
    let no_pipelining = Offers { pipelining: false, ..EXTERNAL };
    for (wants, offers) in [(first(), no_pipelining), (refused, EXTERNAL), (falls_back, beside_dialback)] {
        let (mut a, mut b) = offered(wants, offers);
        let said = say(&mut a, &std::mem::take(&mut b.outgoing));
        assert!(said.contains("</auth>") && !said.contains("<stream:stream"), "{said}");
        assert!(!may_send(&a) && a.notices.is_empty());
        a.outgoing = said;
        meet(&mut a, &mut b);
        assert!(a.is_established() && b.is_established());
    }
}

#[test]
fn behind_a_refusal_nothing_of_what_went_ahead_is_handled() {
    let (mut a, mut b) = offered(first(), EXTERNAL);
    a.read(std::mem::take(&mut b.outgoing).as_bytes());
    a.outgoing.push_str(STANZA);
    // Between the features and the flight the host has gone from what is believed.
    let mut b =
        End::receiving(Told { offers: Ok(Offers { external: false, ..EXTERNAL }), ..Told::default() });
    b.read(header("a.test", "b.test").as_bytes());
    b.outgoing.clear();
    meet(&mut a, &mut b);
    assert!(b.stanzas.is_empty() && b.proven().is_empty() && a.proven().is_empty());
    assert_eq!(a.violation, Some(Reason::ExternalRefused.into()));
}

#[test]
fn nothing_behind_a_refused_pipelined_flight_is_handled() {
    for offers in [Offers { external: false, ..EXTERNAL }, Offers { bidi: false, ..EXTERNAL }] {
        let told = Told { offers: Ok(offers), ..Told::default() };
        let (mut a, mut b) = (End::initiating(pipelined()), End::receiving(told));
        a.outgoing.push_str(STANZA);
        meet(&mut a, &mut b);
        assert!(!a.is_established() && !b.is_established());
        assert!(b.stanzas.is_empty() && b.proven().is_empty() && a.proven().is_empty());
        assert!(b.violation.is_some());
    }
}

#[test]
fn initiating_entity_learns_that_external_was_refused_in_turns_and_pipelined() {
    for wants in [PLAIN, pipelined()] {
        let mut a = End::initiating(wants);
        let features = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
            <mechanism>EXTERNAL</mechanism></mechanisms></stream:features>";
        say(&mut a, &(answer("b.test", "a.test", "1") + features));
        let mut failure = String::new();
        refuse(&mut failure, Violation { reason: Reason::NotAuthorized, sasl: true }, None);
        say(&mut a, &failure);
        assert_eq!(a.violation, Some(Reason::ExternalRefused.into()));
        assert!(a.proven().is_empty());
    }
}

#[test]
fn receiving_entity_refuses_another_authorization_identity_and_says_so() {
    let mut b = End::receiving(Told::default());
    say(&mut b, &header("a.test", "b.test"));
    let said = say(&mut b, &auth("other.test"));
    assert_eq!(b.violation, Some(Violation { reason: Reason::InvalidAuthzid, sasl: true }));
    assert_eq!(
        said,
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><invalid-authzid/></failure></stream:stream>"
    );
}

#[test]
fn receiving_entity_refuses_a_restart_for_another_pair_inside_a_stream_that_can_be_read() {
    for (from, to) in [("other.test", "b.test"), ("a.test", "other.test"), ("b.test", "a.test")] {
        let (mut a, mut b) = (End::initiating(PLAIN), End::receiving(Told::default()));
        b.read(std::mem::take(&mut a.outgoing).as_bytes());
        say(&mut b, &auth("a.test"));
        let said = say(&mut b, &header(from, to));
        assert_eq!(b.violation, Some(Reason::ImproperAddressing.into()));
        assert!(b.proven().is_empty());
        // RFC 6120 section 4.9.1.2: behind <success/> a new document begins, and the error stands inside it.
        let mut reader = Framer::new(LIMITS);
        let mut rest = said.as_bytes();
        let mut kinds = Vec::new();
        while !rest.is_empty() {
            match reader.next(rest).unwrap() {
                Progress::Frame(frame) => {
                    kinds.push(frame.kind);
                    rest = &rest[frame.len..];
                }
                Progress::Skip(len) => rest = &rest[len..],
                Progress::More => panic!("incomplete: {said}"),
            }
        }
        assert_eq!(kinds, [FrameKind::Header, FrameKind::Element, FrameKind::End], "{said}");
    }
}

#[test]
fn stanzas_before_authentication_end_the_stream_at_either_end() {
    let mut b = End::receiving(Told::default());
    say(&mut b, &header("a.test", "b.test"));
    say(&mut b, STANZA);
    assert_eq!(b.violation, Some(Reason::NotAuthorized.into()));

    let mut a = End::initiating(PLAIN);
    say(&mut a, &(answer("b.test", "a.test", "1") + STANZA));
    assert_eq!(a.violation, Some(Reason::NotAuthorized.into()));
}

#[test]
fn a_header_that_says_too_little_or_the_wrong_thing_is_refused_inside_a_stream() {
    let without = |from: Option<&str>, to: Option<&str>| {
        StreamHeader::new(from.map(domain), to.map(domain), None).to_xml()
    };
    let old = header("a.test", "b.test").replace("' version='1.0'>", "'>");
    let cases = [
        (without(None, Some("b.test")), Reason::ImproperAddressing),
        (without(Some("a.test"), None), Reason::ImproperAddressing),
        (old, Reason::UnsupportedVersion),
    ];
    for (octets, reason) in cases {
        let mut b = End::receiving(Told::default());
        let said = say(&mut b, &octets);
        assert_eq!(b.violation, Some(reason.into()));
        assert!(said.starts_with("<?xml version='1.0'?><stream:stream") && said.contains("<stream:error>"));
    }
    let mut b = End::receiving(Told { offers: Err(Reason::HostUnknown), ..Told::default() });
    let said = say(&mut b, &header("a.test", "nowhere.test"));
    assert_eq!(b.violation, Some(Reason::HostUnknown.into()));
    assert_eq!(said.matches("<stream:stream").count(), 1);
    assert!(said.contains("from='nowhere.test' to='a.test'"), "{said}");
}

#[test]
fn initiating_entity_checks_who_answers() {
    for (octets, reason) in [
        (answer("other.test", "a.test", "1"), Reason::ImproperAddressing),
        (header("b.test", "a.test"), Reason::BadFormat),
        (answer("b.test", "a.test", "1").replace("'1.0'>", "'0.9'>"), Reason::UnsupportedVersion),
    ] {
        let mut a = End::initiating(PLAIN);
        say(&mut a, &octets);
        assert_eq!(a.violation.map(|violation| violation.reason), Some(reason), "{octets}");
    }
}

#[test]
fn initiating_entity_goes_no_further_without_external_or_behind_required_starttls() {
    for (features, reason) in [
        ("<stream:features/>", Reason::ExternalNotOffered),
        (
            "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></stream:features>",
            Reason::ExternalNotOffered,
        ),
        (
            "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>",
            Reason::UnsupportedFeature,
        ),
    ] {
        let mut a = End::initiating(PLAIN);
        let said = say(&mut a, &(answer("b.test", "a.test", "1") + features));
        assert_eq!(a.violation, Some(reason.into()), "{features}");
        assert!(!said.contains("<auth"), "{said}");
    }
}

#[test]
fn external_is_preferred_to_dialback() {
    let (wants, _) = dialling_back();
    let told = Told { offers: Ok(Offers { dialback: true, ..EXTERNAL }), ..Told::default() };
    let (mut a, mut b) = (End::initiating(wants), End::receiving(told));
    meet(&mut a, &mut b);
    assert_eq!((a.proven(), b.proven()), (proven_a_to_b(true), proven_a_to_b(true)));
    assert!(b.asked().is_empty());
}

proptest! {
    /// However the network cuts what both ends say, they agree on the same.
    #[test]
    fn cuts_change_nothing(cuts in prop::collection::vec(1_usize..90, 1..12), flight: bool) {
        let wants = if flight { pipelined() } else { first() };
        let (mut a, mut b) = (End::initiating(wants), End::receiving(Told::default()));
        if flight {
            a.outgoing.push_str(STANZA);
        }
        talk(&mut a, &mut b, &cuts);
        if !flight {
            a.outgoing.push_str(STANZA);
        }
        b.outgoing.push_str(STANZA);
        talk(&mut a, &mut b, &cuts);
        prop_assert_eq!((a.proven(), b.proven()), (proven_a_to_b(true), proven_a_to_b(true)));
        prop_assert_eq!((a.stanzas.len(), b.stanzas.len()), (1, 1));
        prop_assert!(a.violation.is_none() && b.violation.is_none());
    }
}
