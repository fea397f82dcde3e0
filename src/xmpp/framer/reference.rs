//! References in text and attribute values (XML 1.0 section 4.1).

use super::error::XmlError;
use super::names::{self, Kinds};
use crate::xmpp::escape;

/// `&#x`, eight digits and `;`: no reference that we accept is longer.
const REFERENCE_BYTES_MAX: usize = 12;

/// The length of the reference that `bytes` begin with, `&` and `;` included; nothing if they end within it.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, XmlError> {
    let bytes = &bytes[..bytes.len().min(REFERENCE_BYTES_MAX)];
    let is_name = bytes.get(1).is_some_and(|&octet| names::may_begin(octet));
    let unknown = Err(if is_name { XmlError::UnknownEntity } else { XmlError::BadReference });
    let end = names::end(bytes, if bytes.get(1) == Some(&b'#') { 2 } else { 1 }, &mut Kinds::default());
    match bytes.get(end) {
        Some(b';') if escape::resolve(&bytes[1..end]).is_some() => Ok(Some(end + 1)),
        Some(b';') => unknown,
        Some(_) => Err(XmlError::BadReference),
        None if bytes.len() == REFERENCE_BYTES_MAX => unknown,
        None => Ok(None),
    }
}
