//! Domains that a thread has met: of one that stands in very many streams and queues there is one copy then, and what is normal
//! already isn't checked again.

use std::cell::RefCell;
use std::hash::Hasher as _;

use rustc_hash::FxHasher;

use super::Domain;

/// How many a thread remembers. Two that fall on one place take turns there.
const KEPT: usize = 4096;

thread_local! {
    /// Empty as long as nothing was met.
    static MET: RefCell<Vec<Option<Domain>>> = const { RefCell::new(Vec::new()) };
}

fn place(text: &str) -> usize {
    let mut hasher = FxHasher::default();
    hasher.write(text.as_bytes());
    usize::try_from(hasher.finish() % KEPT as u64).unwrap_or_default()
}

/// The domain whose normal form `text` is, if it was met.
pub(super) fn find(text: &str) -> Option<Domain> {
    MET.with_borrow(|met| met.get(place(text))?.as_ref().filter(|domain| domain.as_str() == text).cloned())
}

/// Remember `domain`.
pub(super) fn note(domain: &Domain) {
    MET.with_borrow_mut(|met| {
        if met.is_empty() {
            met.resize(KEPT, None);
        }
        met[place(domain.as_str())] = Some(domain.clone());
    });
}
