//! XML that isn't what it seems: cut so that each piece looks harmless, and meant for the parser of the server behind us,
//! where the streams of others would break with it.

use fedmux::reason::Reason;

use crate::scene::{EVIL, OURS, Scene};
use crate::support::wire::message;

/// A message whose inside is `content`.
fn around(content: &str) -> String {
    format!("<message from='{EVIL}' to='{OURS}' id='broken'>{content}</message>")
}

/// Each of these, in pieces of so many octets, ends its stream with `condition`, and nothing of it arrives.
async fn ends_with(name: &str, condition: &str, reason: Reason, documents: &[String]) {
    let mut scene = Scene::set().await;
    let counted = scene
        .withstands(name, async |attacker| {
            // Shorter pieces at each turn: the cuts are everywhere once.
            let piece = 1 + attacker.moves % 7;
            for document in documents {
                let mut wire = attacker.established().await;
                for part in document.as_bytes().chunks(piece) {
                    // It ends somewhere in the middle, and the rest isn't wanted.
                    if wire.mouth.try_say(part).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                attacker.is_refused(wire, condition, reason).await;
            }
            // The stream behind us that all of them would have broken still stands, and carries.
            let mut wire = attacker.established().await;
            wire.say(message(EVIL, OURS, "whole")).await;
            assert_eq!(attacker.ours.receive().await.attribute("id"), Some("whole"));
        })
        .await;
    scene.has_refused(&counted, &[(reason, documents.len())]);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unbalanced_elements_end_the_stream_wherever_they_are_cut() {
    let documents = [
        "</message>".to_owned() + &around(""),
        around("<body>x</bod></y>"),
        around("<a><b></a></b>"),
        around("<body>x</body></stream:stream><stream:stream>"),
        around("<body><![CDATA[</message>]]></body></body>"),
        around("<body a='></message>'></a>"),
    ];
    ends_with("unbalanced elements", "not-well-formed", Reason::NotWellFormed, &documents).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn octets_that_only_some_parsers_take_end_the_stream() {
    let documents = [
        around("<body>&#0;</body>"),
        around("<body>\u{1}</body>"),
        around("<body>\u{ffff}</body>"),
        around("<body>]]></body>"),
        around("<body a='1' a='2'/>"),
        around("<body a='<'/>"),
        around("<body>& amp;</body>"),
    ];
    ends_with("octets for other parsers", "not-well-formed", Reason::NotWellFormed, &documents).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_that_mean_something_else_behind_us_end_the_stream() {
    let documents = [
        around("<x:y/>"),
        // The header of this stream declares it; that of the stream behind us may not, or otherwise.
        around("<stream:error/>"),
        around("<y x:z='1'/>"),
        around("<x:y xmlns:z='u'/>"),
        // Prefixes that nobody may declare, or not so.
        around("<y xmlns:xml='u'/>"),
        around("<y xmlns:xmlns='u'/>"),
        around("<y xmlns:a=''/>"),
        around("<y xmlns:a='http://www.w3.org/XML/1998/namespace'/>"),
    ];
    ends_with("undeclared prefixes", "bad-namespace-prefix", Reason::BadNamespacePrefix, &documents).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_that_are_one_by_their_namespace_end_the_stream() {
    let documents =
        [around("<y xmlns:a='u' xmlns:b='u' a:c='1' b:c='2'/>"), around("<y xmlns:a='u' xmlns:a='v'/>")];
    ends_with(
        "attributes that are one by their namespace",
        "not-well-formed",
        Reason::NotWellFormed,
        &documents,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stanza_of_another_namespace_ends_the_stream() {
    let stanza = |name: &str| format!("<message xmlns='{name}' from='{EVIL}' to='{OURS}'/>");
    let documents = [stanza("jabber:client"), stanza("jabber:component:accept"), stanza("")];
    let reason = Reason::UnsupportedStanzaType;
    ends_with("stanzas of another namespace", "unsupported-stanza-type", reason, &documents).await;
}
