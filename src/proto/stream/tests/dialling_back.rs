//! Server dialback at both ends (XEP-0220).

use super::receiving::VERIFICATIONS_MAX;
use super::*;

fn verify(_: &Domain) -> Result<DialbackOffer, Reason> {
    Ok(DialbackOffer::Verify)
}

fn asking(dialback: fn(&Domain) -> Result<DialbackOffer, Reason>) -> (End, End, Arc<KeyMaker>) {
    let (wants, keys) = dialling_back();
    let told = Told { offers: Ok(DIALBACK), dialback, ..Told::default() };
    let (mut a, mut b) = (End::initiating(wants), End::receiving(told));
    meet(&mut a, &mut b);
    (a, b, keys)
}

fn request(from: &str, to: &str, key: &str) -> String {
    let mut out = String::new();
    dialback::write_request(&mut out, &route(from, to), key);
    out
}

fn result(requested: &Route, outcome: Result<(), Reason>) -> String {
    let mut out = String::new();
    dialback::write_result(&mut out, requested, outcome);
    out
}

#[test]
fn a_key_that_its_server_made_establishes_the_stream() {
    let (mut a, mut b, keys) = asking(verify);
    let asked = b.asked();
    let [(pair, stream_id, key)] = &asked[..] else { panic!("one key is asked about: {asked:?}") };
    assert_eq!(*pair, a_to_b());
    assert_eq!(Some(stream_id), a.ids.last(), "the key is for the stream that b made");
    assert!(keys.verify(pair, stream_id, key));
    assert!(!a.is_established() && !b.is_established());
    b.key_verified(a_to_b(), Ok(()));
    meet(&mut a, &mut b);
    assert!(a.is_established() && b.is_established());
    let proven = BTreeSet::from([(a_to_b(), true)]);
    assert_eq!((a.proven(), b.proven()), (proven.clone(), proven));
    assert!(!a.learned().mux && !b.learned().mux, "dialback proves its pair alone");
}

/// As ejabberd speaks, which judges our certificate only when it is to be believed.
fn refused_beside(mechanisms_and_more: &str, wants: Wants) -> (End, String) {
    let mut a = End::initiating(wants);
    let features = format!("<stream:features>{mechanisms_and_more}</stream:features>");
    say(&mut a, &(answer("b.test", "a.test", "s1") + &features));
    let said = say(&mut a, "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>");
    (a, said)
}

const EXTERNAL_MECHANISM: &str =
    "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>";
const DIALBACK_FEATURE: &str = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>";

#[test]
fn where_external_is_refused_beside_dialback_a_key_follows_on_the_same_stream() {
    let (wants, keys) = dialling_back();
    let (mut a, said) = refused_beside(&format!("{EXTERNAL_MECHANISM}{DIALBACK_FEATURE}"), wants);
    assert_eq!(said, request("a.test", "b.test", &keys.key(&a_to_b(), "s1")));
    assert!(a.violation.is_none() && !a.is_established());
    say(&mut a, &result(&a_to_b(), Ok(())));
    assert!(a.is_established());
    assert!(!a.learned().mux, "dialback proves its pair alone");
}

#[test]
fn where_external_is_refused_no_key_follows_unless_both_ends_know_dialback_and_one_pair_was_asked_for() {
    let offered = format!("{EXTERNAL_MECHANISM}{DIALBACK_FEATURE}");
    let mux = format!("{offered}<mux xmlns='urn:xmpp:mux:0'/>");
    let keys = || dialling_back().0;
    for (features, wants) in [
        (EXTERNAL_MECHANISM, keys()),
        (offered.as_str(), PLAIN),
        (mux.as_str(), Wants { mux: true, ..keys() }),
    ] {
        let (a, said) = refused_beside(features, wants);
        assert_eq!(a.violation, Some(Reason::ExternalRefused.into()), "{features}");
        assert!(!said.contains("result"), "{said}");
    }
}

#[test]
fn a_key_that_is_not_confirmed_establishes_nothing() {
    for reason in [Reason::DialbackInvalid, Reason::DialbackTimeout] {
        let (mut a, mut b, _) = asking(verify);
        b.key_verified(a_to_b(), Err(reason));
        meet(&mut a, &mut b);
        assert!(!a.is_established() && !b.is_established());
        assert_eq!(a.violation, Some(Reason::DialbackInvalid.into()));
        assert!(a.proven().is_empty() && b.proven().is_empty());
    }
}

#[test]
fn a_trusted_source_is_believed_at_once_and_another_host_on_the_same_stream_is_not() {
    let (mut a, mut b, _) = asking(|from| {
        if *from == domain("a.test") { Ok(DialbackOffer::Believe) } else { Err(Reason::SourceNotTrusted) }
    });
    assert!(a.is_established() && b.is_established());
    let said = say(&mut b, &request("other.test", "b.test", "k"));
    assert!(said.contains("type='error'") && said.contains("<not-authorized"), "{said}");
    assert!(b.is_established() && b.violation.is_none());
    assert_eq!(b.proven(), BTreeSet::from([(a_to_b(), true)]));
    a.read(said.as_bytes());
    assert!(a.is_established() && a.violation.is_none());
}

#[test]
fn a_refused_source_is_told_why_and_stays_unestablished() {
    let (a, b, _) = asking(|_| Err(Reason::PolicyDenied));
    assert!(!a.is_established() && !b.is_established());
    assert_eq!(a.violation, Some(Reason::DialbackInvalid.into()));
}

#[test]
fn further_pairs_are_proven_one_by_one_and_a_failing_one_leaves_the_others() {
    let (mut a, mut b, _) = asking(verify);
    b.key_verified(a_to_b(), Ok(()));
    meet(&mut a, &mut b);
    say(&mut b, &(request("a2.test", "b.test", "k2") + &request("a3.test", "b2.test", "k3")));
    let said = {
        b.key_verified(route("a3.test", "b2.test"), Err(Reason::DialbackInvalid));
        b.key_verified(route("a2.test", "b.test"), Ok(()));
        std::mem::take(&mut b.outgoing)
    };
    assert!(said.contains("from='b2.test' to='a3.test' type='invalid'"), "{said}");
    assert!(said.contains("from='b.test' to='a2.test' type='valid'"), "{said}");
    assert_eq!(b.proven(), BTreeSet::from([(a_to_b(), true), (route("a2.test", "b.test"), true)]));
    assert!(b.is_established() && b.violation.is_none());
}

#[test]
fn requests_under_way_are_bounded_and_a_repeated_one_counts_once() {
    let mut b = End::receiving(Told { offers: Ok(DIALBACK), dialback: verify, ..Told::default() });
    say(&mut b, &header("h0.test", "b.test"));
    for _ in 0..2 {
        for n in 0..VERIFICATIONS_MAX {
            assert_eq!(say(&mut b, &request(&format!("h{n}.test"), "b.test", "k")), "");
        }
    }
    assert_eq!(b.asked().len(), VERIFICATIONS_MAX);
    let said = say(&mut b, &request("more.test", "b.test", "k"));
    assert!(said.contains("<resource-constraint"), "{said}");
    b.key_verified(route("h3.test", "b.test"), Ok(()));
    say(&mut b, &request("more.test", "b.test", "k"));
    assert_eq!(b.asked().len(), VERIFICATIONS_MAX + 1, "there is room again");
}

#[test]
fn who_brings_keys_that_are_not_valid_makes_us_ask_no_more_than_so_often() {
    let mut b = End::receiving(Told { offers: Ok(DIALBACK), dialback: verify, ..Told::default() });
    say(&mut b, &header("h.test", "b.test"));
    for _ in 0..VERIFICATIONS_MAX {
        say(&mut b, &request("h.test", "b.test", "k"));
        b.key_verified(route("h.test", "b.test"), Err(Reason::DialbackInvalid));
    }
    let said = say(&mut b, &request("h.test", "b.test", "k"));
    assert!(said.contains("<resource-constraint"), "{said}");
    assert_eq!(b.asked().len(), VERIFICATIONS_MAX);
}

#[test]
fn whose_keys_are_valid_now_and_then_is_asked_about_however_many_are_not() {
    let mut b = End::receiving(Told { offers: Ok(DIALBACK), dialback: verify, ..Told::default() });
    say(&mut b, &header("h.test", "b.test"));
    for n in 0..4 * VERIFICATIONS_MAX {
        let outcome = if n % 10 == 9 { Ok(()) } else { Err(Reason::DialbackTimeout) };
        say(&mut b, &request(&format!("h{n}.test"), "b.test", "k"));
        b.key_verified(route(&format!("h{n}.test"), "b.test"), outcome);
    }
    assert_eq!(b.asked().len(), 4 * VERIFICATIONS_MAX);
}

#[test]
fn an_answer_to_no_open_question_changes_nothing() {
    // XEP-0220 section 2.6.1: unsolicited dialback.
    let mut b = End::receiving(Told { offers: Ok(DIALBACK), dialback: verify, ..Told::default() });
    say(&mut b, &header("a.test", "b.test"));
    let verified = "<db:verify from='b.test' to='a.test' id='id-0' type='valid'/>";
    let said = say(&mut b, &(result(&a_to_b(), Ok(())) + &result(&a_to_b().reversed(), Ok(())) + verified));
    assert_eq!(said, "");
    b.key_verified(a_to_b(), Ok(()));
    assert!(!b.is_established() && b.proven().is_empty() && b.outgoing.is_empty());

    let (mut a, mut b, _) = asking(verify);
    say(&mut a, &result(&route("other.test", "b.test"), Ok(())));
    say(&mut a, &result(&route("a.test", "other.test"), Ok(())));
    say(&mut a, &result(&a_to_b().reversed(), Ok(())));
    assert!(!a.is_established() && a.proven().is_empty());
    b.key_verified(a_to_b(), Ok(()));
    meet(&mut a, &mut b);
    assert!(a.is_established(), "what was unsolicited did no harm either");
}

#[test]
fn an_answer_that_comes_after_external_grants_nothing_of_the_stream_before() {
    let offers = Offers { dialback: true, ..EXTERNAL };
    let further = route("a2.test", "b.test");
    for late in [false, true] {
        let mut b = End::receiving(Told { offers: Ok(offers), dialback: verify, ..Told::default() });
        say(&mut b, &header("a.test", "b.test"));
        say(&mut b, &(request("a2.test", "b.test", "k") + &auth("a.test")));
        if !late {
            b.key_verified(further.clone(), Ok(()));
        }
        say(&mut b, &header("a.test", "b.test"));
        b.key_verified(further.clone(), Ok(()));
        assert_eq!(b.proven(), BTreeSet::from([(a_to_b(), false)]));
        say(&mut b, &request("a2.test", "b.test", "k"));
        assert_eq!(b.asked().len(), 2, "asked again, it is looked at again");
    }
}

#[test]
fn the_question_about_our_own_key_is_answered_before_any_authentication() {
    let (_, keys) = dialling_back();
    let told = Told { offers: Ok(DIALBACK), keys: Some(Arc::clone(&keys)), ..Told::default() };
    let mut b = End::receiving(told);
    say(&mut b, &header("a.test", "b.test"));
    // a.test asks b.test about the key that came with b.test's request on a's stream s1.
    let ours = a_to_b().reversed();
    for (id, kind) in [("s1", "valid"), ("s2", "invalid")] {
        let mut question = String::new();
        dialback::write_verify(&mut question, &ours, id, &keys.key(&ours, "s1"));
        let said = say(&mut b, &question);
        assert!(said.contains(&format!("type='{kind}' id='{id}'")), "{said}");
    }
    assert!(!b.is_established());
}

#[test]
fn initiating_entity_takes_no_further_pairs_on_a_stream_of_its_own() {
    let (mut a, mut b, _) = asking(verify);
    b.key_verified(a_to_b(), Ok(()));
    meet(&mut a, &mut b);
    let said = say(&mut a, &request("b2.test", "a.test", "k"));
    assert!(said.contains("type='error'"), "{said}");
    assert!(a.is_established());
    assert_eq!(a.proven().len(), 1);
}

#[test]
fn dialback_without_proper_addresses_ends_the_stream() {
    for (octets, reason) in [
        ("<db:result from='a.test'>k</db:result>", Reason::ImproperAddressing),
        ("<db:result from='a@b' to='b.test'>k</db:result>", Reason::ImproperAddressing),
        ("<db:result from='a.test' to='b.test'/>", Reason::BadFormat),
        ("<db:verify from='a.test' to='b.test'>k</db:verify>", Reason::BadFormat),
        ("<db:other from='a.test' to='b.test'/>", Reason::UnsupportedStanzaType),
    ] {
        let mut b = End::receiving(Told { offers: Ok(DIALBACK), dialback: verify, ..Told::default() });
        say(&mut b, &header("a.test", "b.test"));
        say(&mut b, octets);
        assert_eq!(b.violation, Some(reason.into()), "{octets}");
    }
}
