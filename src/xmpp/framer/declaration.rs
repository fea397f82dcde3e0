//! The XML declaration before a stream header (XML 1.0 section 2.8, RFC 6120 section 11.5).

use super::error::XmlError;
use super::tag::is_space;

/// Check what stands between `<?` and the first `>` behind it.
///
/// # Errors
/// Anything but version 1.0 in UTF-8.
pub(super) fn check(body: &[u8]) -> Result<(), XmlError> {
    let Some(rest) =
        body.strip_prefix(b"xml").filter(|rest| rest.first().is_some_and(|&octet| is_space(octet)))
    else {
        return Err(XmlError::ProcessingInstruction);
    };
    let mut rest = rest.strip_suffix(b"?").ok_or(XmlError::BrokenDeclaration)?;
    if take(&mut rest, b"version") != Some(b"1.0".as_slice()) {
        return Err(XmlError::BrokenDeclaration);
    }
    if take(&mut rest, b"encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"UTF-8")) {
        return Err(XmlError::UnsupportedEncoding);
    }
    let standalone = take(&mut rest, b"standalone");
    if !matches!(standalone, None | Some(b"yes" | b"no")) || !rest.trim_ascii().is_empty() {
        return Err(XmlError::BrokenDeclaration);
    }
    Ok(())
}

/// Take `S name Eq quoted` off the front of `rest`, if it stands there.
fn take<'a>(rest: &mut &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = rest.trim_ascii_start();
    if value.len() == rest.len() {
        return None;
    }
    let value = value.strip_prefix(name)?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let (&quote, value) = value.split_first().filter(|(quote, _)| matches!(quote, b'"' | b'\''))?;
    let end = memchr::memchr(quote, value)?;
    *rest = &value[end + 1..];
    Some(&value[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_0_in_utf_8_is_accepted() {
        for body in [
            "xml version='1.0'?",
            "xml version=\"1.0\" encoding='utf-8'?",
            "xml\tversion = '1.0'\r\nencoding= \"UTF-8\" standalone='yes' ?",
            "xml version='1.0' standalone='no'?",
        ] {
            assert_eq!(check(body.as_bytes()), Ok(()), "{body}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let cases = [
            ("xml version='1.1'?", XmlError::BrokenDeclaration),
            ("xml version='1.0'", XmlError::BrokenDeclaration),
            ("xml?", XmlError::ProcessingInstruction),
            ("xml ?", XmlError::BrokenDeclaration),
            ("xml encoding='UTF-8'?", XmlError::BrokenDeclaration),
            ("xml version='1.0'encoding='UTF-8'?", XmlError::BrokenDeclaration),
            ("xml version='1.0' encoding='UTF-8' x?", XmlError::BrokenDeclaration),
            ("xml version='1.0' standalone='maybe'?", XmlError::BrokenDeclaration),
            ("xml version='1.0' standalone='yes' encoding='UTF-8'?", XmlError::BrokenDeclaration),
            ("xml version='1.0' encoding='UTF-16'?", XmlError::UnsupportedEncoding),
            ("xml version='1.0' encoding='ISO-8859-1'?", XmlError::UnsupportedEncoding),
            ("xml-stylesheet href='x'?", XmlError::ProcessingInstruction),
            ("php?", XmlError::ProcessingInstruction),
            ("", XmlError::ProcessingInstruction),
        ];
        for (body, error) in cases {
            assert_eq!(check(body.as_bytes()), Err(error), "{body}");
        }
    }
}
