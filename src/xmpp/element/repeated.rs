//! Elements that are read again and again: of a hundred thousand streams with one peer nearly all that is negotiated is the same,
//! octet for octet. What is read to the same end was read before, so a few of the last ones are kept, for each thread.

use std::cell::RefCell;
use std::hash::Hasher as _;
use std::sync::Arc;

use rustc_hash::FxHasher;

use super::Element;
use crate::reason::Reason;
use crate::xmpp::namespace as ns;

/// How many are kept. With [`BYTES_MAX`], what a thread holds of them is bounded.
const KEPT: usize = 32;
/// Longest one that is kept, in octets.
const BYTES_MAX: usize = 1024;

/// One that was read.
#[derive(Debug)]
struct Known {
    frame: Box<[u8]>,
    content: &'static str,
    element: Arc<Element>,
}

thread_local! {
    static KNOWN: RefCell<[Option<Known>; KEPT]> = const { RefCell::new([const { None }; KEPT]) };
}

/// What [`Element::parse_within`] makes of `frame`.
///
/// # Errors
/// As that says.
pub fn read(frame: &[u8], content: &'static str) -> Result<Arc<Element>, Reason> {
    let parse = || Element::parse_within(frame, content).map(Arc::new);
    if frame.len() > BYTES_MAX {
        return parse();
    }
    let mut hasher = FxHasher::default();
    hasher.write(frame);
    let at = usize::try_from(hasher.finish() % KEPT as u64).unwrap_or_default();
    KNOWN.with_borrow_mut(|known| {
        if let Some(known) = known[at].as_ref().filter(|it| *it.frame == *frame && it.content == content) {
            return Ok(Arc::clone(&known.element));
        }
        let element = parse()?;
        if is_common(&element) {
            known[at] = Some(Known { frame: frame.into(), content, element: Arc::clone(&element) });
        }
        Ok(element)
    })
}

/// Whether most streams say it alike. Nobody's secret is among it, a dialback key, a mux secret, the handshake of a component or the id
/// by which a stream is resumed: what others send would be compared with it, octet by octet.
fn is_common(element: &Element) -> bool {
    let is_bare = element.attributes.is_empty() && element.nodes.is_empty();
    match (element.ns(), element.name()) {
        (ns::STREAM, "features") | (ns::SASL, "success") | (ns::STREAM_MANAGEMENT, "enable") => true,
        (ns::SASL, "auth") => element.attribute("mechanism") == Some("EXTERNAL"),
        (ns::STREAM_MANAGEMENT, "r") | (ns::BIDI, "bidi") | (ns::MUX, "mux") => is_bare,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether it is the same one when it comes again.
    fn is_kept(frame: &str) -> bool {
        let [one, again] = [(); 2].map(|()| read(frame.as_bytes(), ns::SERVER).unwrap());
        assert_eq!(one, again);
        Arc::ptr_eq(&one, &again)
    }

    #[test]
    fn what_most_streams_say_is_read_once() {
        for frame in [
            "<stream:features><sm xmlns='urn:xmpp:sm:3'/></stream:features>",
            "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>YS50ZXN0</auth>",
            "<mux xmlns='urn:xmpp:mux:0'/>",
            "<bidi xmlns='urn:xmpp:bidi'/>",
            "<enable xmlns='urn:xmpp:sm:3' resume='true'/>",
            "<r xmlns='urn:xmpp:sm:3'/>",
        ] {
            assert!(is_kept(frame), "{frame}");
        }
    }

    #[test]
    fn secrets_and_what_is_long_are_not_kept() {
        for frame in [
            "<mux xmlns='urn:xmpp:mux:0' host='a.test'>secret</mux>",
            "<mux xmlns='urn:xmpp:mux:0'>secret</mux>",
            "<db:result from='a.test' to='b.test'>key</db:result>",
            "<handshake>digest</handshake>",
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>cGFzc3dvcmQ=</auth>",
            "<enabled xmlns='urn:xmpp:sm:3' id='x' resume='true'/>",
            "<resume xmlns='urn:xmpp:sm:3' previd='x' h='1'/>",
            &format!("<stream:features>{}</stream:features>", " ".repeat(BYTES_MAX)),
        ] {
            assert!(!is_kept(frame), "{frame}");
        }
    }

    #[test]
    fn what_is_refused_is_refused_again() {
        for _ in 0..2 {
            assert_eq!(read(b"<stream:features>", ns::SERVER), Err(Reason::NotWellFormed));
        }
    }

    proptest! {
        #[test]
        fn it_is_what_is_parsed_whatever_came_before(
            frames in prop::collection::vec("<stream:features>(<[ab]( c='[0-9]')?/>){0,3}</stream:features>", 1..200),
        ) {
            for frame in frames {
                for content in [ns::SERVER, ns::COMPONENT_ACCEPT] {
                    let parsed = Element::parse_within(frame.as_bytes(), content);
                    prop_assert_eq!(read(frame.as_bytes(), content).map(|element| (*element).clone()), parsed);
                }
            }
        }
    }
}
