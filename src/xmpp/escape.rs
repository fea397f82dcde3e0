//! Escaping of characters in text and attribute values (XML 1.0 sections 2.4, 3.3.3, 4.1, 4.6).

use std::borrow::Cow;

/// Most digits in a character reference. More could only be leading zeros, and with a bound a reference that
/// arrives in pieces is looked at in constant time.
const REFERENCE_DIGITS_MAX: usize = 8;

/// Append `text` to `out` so that it stands for itself in element content and in attribute values.
///
/// White space but the space itself is written as character references, or an attribute value would be read back with spaces in its
/// place (XML 1.0 section 3.3.3), and an answer would have another id than its question. Characters that XML can't carry at all
/// become U+FFFD.
pub fn escape_into(out: &mut String, text: &str) {
    // Nearly all that is written is plain, and then it is so to its end.
    let plain = |b: &u8| matches!(b, b' '..=b'~') && !matches!(b, b'&' | b'<' | b'>' | b'\'' | b'"');
    let (plain, rest) = text.split_at(text.bytes().take_while(|b| plain(b)).count());
    out.push_str(plain);
    for c in rest.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            c if is_xml_char(c) => out.push(c),
            _ => out.push('\u{FFFD}'),
        }
    }
}

/// The text that an attribute's raw value stands for: references resolved, white space made spaces.
///
/// A reference that isn't one is kept as it stands; the framer lets none through.
#[must_use]
pub fn unescape_attribute(raw: &str) -> Cow<'_, str> {
    if !raw.bytes().any(|b| matches!(b, b'&' | b'\t' | b'\n' | b'\r')) {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find(['&', '\t', '\n', '\r']) {
        text.push_str(&rest[..at]);
        let special = &rest[at..];
        if special.starts_with('&') {
            rest = take_reference(special, &mut text);
        } else {
            // A line break is one character, however it is written (section 2.11).
            text.push(' ');
            rest = special.strip_prefix("\r\n").unwrap_or(&special[1..]);
        }
    }
    text.push_str(rest);
    Cow::Owned(text)
}

fn take_reference<'a>(special: &'a str, text: &mut String) -> &'a str {
    let resolved = special.find(';').and_then(|end| Some((resolve(&special.as_bytes()[1..end])?, end)));
    match resolved {
        Some((c, end)) => {
            text.push(c);
            &special[end + 1..]
        }
        None => {
            text.push('&');
            &special[1..]
        }
    }
}

/// The character that a reference stands for, given what is between `&` and `;`: one of the five entities that XML
/// predefines, or a character reference to a character that XML allows.
#[must_use]
pub fn resolve(body: &[u8]) -> Option<char> {
    match body {
        b"amp" => Some('&'),
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"apos" => Some('\''),
        b"quot" => Some('"'),
        [b'#', b'x', digits @ ..] => character(digits, 16),
        [b'#', digits @ ..] => character(digits, 10),
        _ => None,
    }
}

fn character(digits: &[u8], radix: u32) -> Option<char> {
    if digits.is_empty() || digits.len() > REFERENCE_DIGITS_MAX {
        return None;
    }
    let mut code = 0_u32;
    for &digit in digits {
        code = code.checked_mul(radix)?.checked_add(char::from(digit).to_digit(radix)?)?;
    }
    char::from_u32(code).filter(|&c| is_xml_char(c))
}

/// `Char` of XML 1.0 section 2.2.
fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{FFFD}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_comes_back() {
        let text = "a<b>&\"c' \u{e9}\u{1F600}]]>\t\r\n";
        let mut raw = String::new();
        escape_into(&mut raw, text);
        assert!(!raw.contains(['<', '>', '"', '\'']));
        assert_eq!(unescape_attribute(&raw), text);
    }

    #[test]
    fn what_xml_cannot_carry_is_replaced() {
        let mut raw = String::new();
        escape_into(&mut raw, "a\0\u{1b}\u{FFFE}b");
        assert_eq!(raw, "a\u{FFFD}\u{FFFD}\u{FFFD}b");
    }

    #[test]
    fn attribute_values_are_normalised() {
        assert_eq!(unescape_attribute("a\r\nb\tc&#10;d&#x41;&apos;"), "a b c\nd\u{41}'");
        assert!(matches!(unescape_attribute("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn references_to_no_character_resolve_to_nothing() {
        for body in [
            "",
            "#",
            "#x",
            "#0",
            "#xD800",
            "#xFFFE",
            "#x110000",
            "#X41",
            "#x000000041",
            "#+1",
            "nbsp",
            "# 65",
        ] {
            assert_eq!(resolve(body.as_bytes()), None, "{body}");
        }
        assert_eq!(resolve(b"#x0010FFFF"), Some('\u{10FFFF}'));
        assert_eq!(resolve(b"#00000065"), Some('A'));
    }
}
