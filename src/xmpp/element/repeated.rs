//! Elements that are read again and again: of a hundred thousand streams with one peer nearly all that is negotiated is the same,
//! octet for octet. What is read to the same end was read before, so a few of the last ones are kept, for each thread.

use std::cell::RefCell;
use std::hash::Hasher as _;
use std::sync::Arc;

use rustc_hash::FxHasher;

use super::Element;
use crate::reason::Reason;

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
        known[at] = Some(Known { frame: frame.into(), content, element: Arc::clone(&element) });
        Ok(element)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::xmpp::namespace as ns;

    #[test]
    fn what_comes_again_is_not_read_again() {
        let [one, again] = [(); 2].map(|()| read(b"<r xmlns='urn:xmpp:sm:3'/>", ns::SERVER).unwrap());
        assert!(Arc::ptr_eq(&one, &again));
        let long = format!("<a>{}</a>", "x".repeat(BYTES_MAX));
        let [one, again] = [(); 2].map(|()| read(long.as_bytes(), ns::SERVER).unwrap());
        assert!(one == again && !Arc::ptr_eq(&one, &again));
    }

    #[test]
    fn what_is_refused_is_refused_again() {
        for _ in 0..2 {
            assert_eq!(read(b"<a>", ns::SERVER), Err(Reason::NotWellFormed));
        }
    }

    proptest! {
        #[test]
        fn it_is_what_is_parsed_whatever_came_before(frames in prop::collection::vec("<[ab]( c='[0-9]{1,2}')?>[x-z]{0,2}</[ab]>", 1..200)) {
            for frame in frames {
                for content in [ns::SERVER, ns::COMPONENT_ACCEPT] {
                    let parsed = Element::parse_within(frame.as_bytes(), content);
                    prop_assert_eq!(read(frame.as_bytes(), content).map(|element| (*element).clone()), parsed);
                }
            }
        }
    }
}
