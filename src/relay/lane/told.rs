//! What the other end of a stream that we opened says before it is established, for whoever wants to know why it isn't.

use super::{Lane, Machine};
use crate::relay::place::Place;
use crate::xmpp::element::Element;

impl Lane {
    /// An element of the negotiation came.
    pub(super) fn note(&self, element: &Element) {
        let (Machine::Initiating(_), None, Place::Session { session, .. }) =
            (&self.machine, &self.carry, &self.place)
        else {
            return;
        };
        // Once one of its streams is established the attempt is over.
        let Some(trace) = session.trace.as_ref().filter(|_| !session.is_up()) else { return };
        match element.name() {
            "features" => trace.step("features", features(element)),
            "success" => trace.step("authenticated", "the peer believes our certificate (SASL EXTERNAL)"),
            what @ ("failure" | "error") => {
                trace.step("refused", format!("<{what}/>: {}", children(element)))
            }
            _ => {}
        }
    }
}

/// The features by their names; of the mechanisms and the like, each.
fn features(element: &Element) -> String {
    let each = |feature: &Element| match feature.name() {
        "mechanisms" => {
            let mechanisms: Vec<String> = feature.children().map(Element::text).collect();
            format!("mechanisms {}", mechanisms.join(" "))
        }
        "mux" => match feature.children().filter(|child| child.name() == "host").count() {
            0 => "mux".to_owned(),
            hosts => format!("mux with a list of {hosts} hosts"),
        },
        name => name.to_owned(),
    };
    let all: Vec<String> = element.children().map(each).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

fn children(element: &Element) -> String {
    let each = |child: &Element| match child.text() {
        text if text.is_empty() => child.name().to_owned(),
        text => format!("{} ({text})", child.name()),
    };
    element.children().map(each).collect::<Vec<_>>().join(", ")
}
