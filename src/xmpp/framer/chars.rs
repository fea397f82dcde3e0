//! Characters (XML 1.0 section 2.2), checked in bulk before anything looks at structure: what the scanners see is
//! valid UTF-8 of characters that XML allows, so they can work on octets.

use super::error::XmlError;

/// Octets checked at a time: a window stays in the first-level cache until the scanners have passed it.
const WINDOW_BYTES: usize = 4096;

/// How far the input has been checked.
#[derive(Debug, Default)]
pub(super) struct Chars {
    clean: usize,
    /// What is wrong with the octets at `clean`.
    fault: Option<XmlError>,
}

impl Chars {
    /// So many octets of the input are whole, allowed characters.
    pub(super) fn clean(&self) -> usize {
        self.clean
    }

    /// The caller drops so many octets of its input.
    pub(super) fn consume(&mut self, octets: usize) {
        self.clean -= octets.min(self.clean);
    }

    /// Check another window. False if `input` holds no further whole character.
    ///
    /// # Errors
    /// The scanners have come to an octet that is wrong, or need more than `limit` octets for one element.
    pub(super) fn advance(&mut self, input: &[u8], limit: usize) -> Result<bool, XmlError> {
        if self.clean >= limit {
            return Err(XmlError::TooBig);
        }
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let end = input.len().min(self.clean + WINDOW_BYTES).min(limit);
        let window = &input[self.clean..end];
        let (valid, cut_short) = match simdutf8::compat::from_utf8(window) {
            Ok(_) => (window, false),
            Err(error) => {
                self.fault = error.error_len().map(|_| XmlError::NotUtf8);
                (&window[..error.valid_up_to()], true)
            }
        };
        let clean = match first_forbidden(valid) {
            Some(at) => {
                self.fault = Some(XmlError::ForbiddenCharacter);
                at
            }
            None => valid.len(),
        };
        self.clean += clean;
        match (clean, self.fault) {
            (0, Some(fault)) => Err(fault),
            // Half a character, and the limit comes before its other half.
            (0, None) if cut_short && end == limit => Err(XmlError::TooBig),
            (0, None) => Ok(false),
            _ => Ok(true),
        }
    }
}

/// The first character of valid UTF-8 that XML forbids.
fn first_forbidden(valid: &[u8]) -> Option<usize> {
    let control = |b: u8| b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r');
    // Without an early exit the compiler checks 16 octets at once.
    let any_control = valid.iter().fold(false, |any, &b| any | control(b));
    let first_control = if any_control { valid.iter().position(|&b| control(b)) } else { None };
    let before = &valid[..first_control.unwrap_or(valid.len())];
    first_noncharacter(before).or(first_control)
}

/// U+FFFE and U+FFFF; the other noncharacters of Unicode are allowed in XML.
fn first_noncharacter(valid: &[u8]) -> Option<usize> {
    if valid.is_ascii() {
        return None;
    }
    memchr::memchr_iter(0xEF, valid).find(|&at| matches!(valid[at..], [_, 0xBF, 0xBE | 0xBF, ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(input: &[u8]) -> (usize, Option<XmlError>) {
        let mut chars = Chars::default();
        let error = loop {
            match chars.advance(input, 1 << 20) {
                Ok(true) => {}
                Ok(false) => break None,
                Err(error) => break Some(error),
            }
        };
        (chars.clean(), error)
    }

    #[test]
    fn the_first_wrong_character_is_found_wherever_it_stands() {
        for at in [0, 1, 15, 16, 17, WINDOW_BYTES - 1, WINDOW_BYTES, WINDOW_BYTES + 1] {
            let wrong: [(&[u8], XmlError); 6] = [
                (b"\0", XmlError::ForbiddenCharacter),
                (b"\x1f", XmlError::ForbiddenCharacter),
                (b"\xEF\xBF\xBE", XmlError::ForbiddenCharacter),
                (b"\xEF\xBF\xBF\0", XmlError::ForbiddenCharacter),
                (b"\xC0\x80", XmlError::NotUtf8),
                (b"\xED\xA0\x80\0", XmlError::NotUtf8),
            ];
            for (octets, error) in wrong {
                let mut input = vec![b'a'; at];
                input.extend_from_slice(octets);
                input.extend_from_slice(b"tail\0");
                assert_eq!(clean(&input), (at, Some(error)), "{octets:x?} at {at}");
            }
        }
    }

    #[test]
    fn half_a_character_waits_for_its_other_half() {
        let text = "a\u{1F600}\u{FFFD}\u{7F}\u{85}\r\n\t".as_bytes();
        for cut in 0..=text.len() {
            let mut chars = Chars::default();
            while chars.advance(&text[..cut], 1 << 20).unwrap() {}
            assert!(chars.clean() <= cut);
            while chars.advance(text, 1 << 20).unwrap() {}
            assert_eq!(chars.clean(), text.len());
        }
    }

    #[test]
    fn nothing_beyond_the_limit_is_looked_at() {
        let mut chars = Chars::default();
        assert_eq!(chars.advance(b"abc\0", 3), Ok(true));
        assert_eq!(chars.advance(b"abc\0", 3), Err(XmlError::TooBig));
        let mut chars = Chars::default();
        assert_eq!(chars.advance("ab\u{e9}".as_bytes(), 3), Ok(true));
        assert_eq!(chars.advance("ab\u{e9}".as_bytes(), 3), Err(XmlError::TooBig));
    }
}
