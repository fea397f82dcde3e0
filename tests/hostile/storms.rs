//! What has to be answered with errors, and what the relay keeps to itself: by the thousand.

use fedmux::reason::Reason;
use fedmux::xmpp::namespace as ns;

use crate::scene::{AWAY, EVIL, OURS, Scene, refused};
use crate::support::wire::{Heard, Wire};

/// Stanzas of a storm, said at once.
const STORM: usize = 1_000;

fn request(to: &str, id: usize, payload: &str) -> String {
    format!("<iq type='get' from='{EVIL}' to='{to}' id='{id}'>{payload}</iq>")
}

/// The ids of errors that came back, until there are so many.
async fn errors(wire: &mut Wire, count: usize) -> Vec<usize> {
    let mut ids = Vec::new();
    while ids.len() < count {
        match wire.hear().await {
            Heard::Stanza(stanza) => {
                assert_eq!(stanza.attribute("type"), Some("error"), "{stanza:?}");
                ids.push(stanza.attribute("id").unwrap().parse().unwrap());
            }
            Heard::Element(element) if element.ns() == ns::STREAM_MANAGEMENT => {}
            other => panic!("{other:?} instead of an error"),
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_errors_is_slow_and_complete() {
    // The host's server is away, and everything for it comes back.
    let mut scene =
        Scene::with_limits("pair_bounces_rate = 500\nrate_burst = \"1s\"\nhold_iq = \"200ms\"\n").await;
    let mut lane = scene.attacker.session.lane(EVIL, AWAY).await;
    let counted = scene
        .withstands("a storm of errors", async |_| {
            let storm: String =
                (0..STORM).map(|n| request(AWAY, n, "<ping xmlns='urn:xmpp:ping'/>")).collect();
            lane.say(storm).await;
            let ids = errors(&mut lane, STORM).await;
            assert_eq!(ids, (0..STORM).collect::<Vec<_>>(), "each is answered once, and in order");
        })
        .await;
    let limit = [("limit", "pair_bounces_rate")];
    assert!(counted.grown("fedmux_limit_hits_total", &limit) > 0.0);
    // Each storm is worth two seconds, and leaves a debt of one at the most.
    let waited = counted.grown("fedmux_limit_wait_seconds_total", &limit);
    assert!(waited >= 0.5, "the lane waited {waited} s");
    assert_eq!(counted.grown("fedmux_stanzas_bounced_total", &[]), (scene.attacker.moves * STORM) as f64);
    drop(lane);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_the_relays_own_go_no_further() {
    let mut scene = Scene::with_limits("pair_bounces_rate = 500\nrate_burst = \"1s\"\n").await;
    let mut lane = scene.attacker.session.lane(EVIL, OURS).await;
    let counted = scene
        .withstands("a flood of mux requests", async |_| {
            let mux = format!("<mux xmlns='{}'>made-up</mux>", ns::MUX);
            let flood: String =
                (0..STORM).map(|n| request(OURS, n, &mux).replace("'get'", "'set'")).collect();
            lane.say(flood).await;
            let ids = errors(&mut lane, STORM).await;
            assert_eq!(ids, (0..STORM).collect::<Vec<_>>());
        })
        .await;
    // Each is worth two seconds, as errors are.
    let waited = counted.grown("fedmux_limit_wait_seconds_total", &[("limit", "pair_bounces_rate")]);
    assert!(waited >= 0.5, "the lane waited {waited} s");
    let all = (scene.attacker.moves * STORM) as f64;
    assert_eq!(counted.grown("fedmux_stanzas_discarded_total", &[("reason", "mux-own")]), all);
    let refused = [("proof", "mux-secret"), ("reason", "mux-forged")];
    assert_eq!(counted.grown("fedmux_proofs_refused_total", &refused), all);
    assert!(scene.attacker.ours.received().is_none(), "our server hears nothing of it");
    drop(lane);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_by_the_thousand_are_counted_and_do_not_fill_the_log() {
    let mut scene = Scene::set().await;
    let counted = scene
        .withstands("refusals by the thousand", async |attacker| {
            for _ in 0..100 {
                let mut wire = attacker.session.open().await;
                wire.say("<<").await;
                attacker.is_refused(wire, "not-well-formed", Reason::NotWellFormed).await;
            }
        })
        .await;
    let all = 100 * scene.attacker.moves;
    assert_eq!(counted.grown("fedmux_refusals_total", &refused(Reason::NotWellFormed)), all as f64);
    let said = scene.attacker.relay.logged(&["stream refused"]);
    let most = 101.0 + counted.seconds();
    assert!(
        all >= 300 && said >= 50 && said as f64 <= most,
        "{said} lines of {all} refusals, {most} at the most"
    );
    scene.ends().await;
}
