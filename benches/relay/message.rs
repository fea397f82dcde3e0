//! The stanzas of the bench: numbered within their pair, and dated.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What every stanza ends with.
pub(crate) const END: &[u8] = b"</body></message>";
/// Digits of the number, and of the date.
const NUMBER_DIGITS: usize = 12;
const DATE_DIGITS: usize = 19;
/// The shortest stanza of the bench: between domains alone, without a type.
pub(crate) const BYTES_MIN: usize = 100;
/// Between the number and the date.
const MIDDLE: &[u8] = b"'><body>";
const PADDING: &[u8] = b"So shaken as we are, so wan with care, find we a time for frighted peace to pant, ";

/// The host of the pair `at`, behind the relay `side`, of so many hosts behind each.
pub(crate) fn host(side: char, at: usize) -> String {
    format!("{side}{at}.test")
}

/// Hosts behind each relay for so many pairs: each speaks to each.
pub(crate) fn hosts(pairs: usize) -> usize {
    (1..=pairs).find(|hosts| hosts * hosts >= pairs).unwrap_or(1)
}

/// Which hosts the pair `at` joins.
pub(crate) fn pair(at: usize, pairs: usize) -> (String, String) {
    let hosts = hosts(pairs);
    (host('a', at / hosts), host('b', at % hosts))
}

/// A stanza that is written again and again with another number and date in it.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    octets: Vec<u8>,
    number: usize,
    date: usize,
}

impl Template {
    pub(crate) fn new((from, to): &(String, String), bytes: usize) -> Self {
        let head = format!("<message type='chat' from='romeo@{from}/bench' to='juliet@{to}' id='");
        let behind = NUMBER_DIGITS + MIDDLE.len() + DATE_DIGITS + END.len();
        let is_short = bytes < head.len() + behind;
        let head = if is_short { format!("<message from='{from}' to='{to}' id='") } else { head };
        let mut octets = head.into_bytes();
        let number = octets.len();
        octets.extend([b'0'; NUMBER_DIGITS]);
        octets.extend(MIDDLE);
        let date = octets.len();
        octets.extend([b'0'; DATE_DIGITS]);
        let padding = bytes.saturating_sub(octets.len() + END.len());
        octets.extend(PADDING.iter().cycle().take(padding));
        octets.extend(END);
        Self { octets, number, date }
    }

    /// Write it behind what stands in `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>, number: u64, date: Duration) {
        let begin = out.len();
        out.extend_from_slice(&self.octets);
        let nanos = u64::try_from(date.as_nanos()).unwrap_or(u64::MAX);
        digits(&mut out[begin + self.number..][..NUMBER_DIGITS], number);
        digits(&mut out[begin + self.date..][..DATE_DIGITS], nanos);
    }

    pub(crate) fn len(&self) -> usize {
        self.octets.len()
    }

    /// The number and date of a stanza; `None` if it isn't this one.
    pub(crate) fn read(&self, stanza: &[u8]) -> Option<(u64, Duration)> {
        let fixed = |at: std::ops::Range<usize>| stanza.get(at.clone()) == self.octets.get(at);
        let (number, date) = (self.number + NUMBER_DIGITS, self.date + DATE_DIGITS);
        if stanza.len() != self.octets.len() || !fixed(0..self.number) || !fixed(date..self.octets.len()) {
            return None;
        }
        let [number, date] = [&stanza[self.number..number], &stanza[self.date..date]].map(value);
        Some((number?, Duration::from_nanos(date?)))
    }
}

/// The time of day, which all processes of a machine share.
pub(crate) fn date() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn digits(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
    }
}

fn value(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}
