//! How long a call may take: what its `grpc-timeout` says, and never longer than the configuration allows.

use std::time::Duration;

use http::HeaderMap;
use mayfly_domain::{Deadline, Reason, Refusal};

/// The header of a call's time-out (gRPC over HTTP/2, "Timeout").
pub const GRPC_TIMEOUT: &str = "grpc-timeout";

/// The deadline of a call, as request extension: whoever works for the call ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallDeadline(pub Deadline);

/// The time that a call has: the header's, at most `longest`.
///
/// # Errors
/// `INPUT_INVALID` for a header that is given twice or not of its form.
pub fn allowed(headers: &HeaderMap, longest: Duration) -> Result<Duration, Refusal> {
    let mut all = headers.get_all(GRPC_TIMEOUT).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(longest),
        (Some(value), None) => match parse(value.as_bytes()) {
            Some(asked) => Ok(asked.min(longest)),
            None => Err(malformed()),
        },
        (Some(_), Some(_)) => Err(malformed()),
    }
}

fn malformed() -> Refusal {
    let problem = "`grpc-timeout` must be 1 to 8 digits and one of `H`, `M`, `S`, `m`, `u`, `n`";
    Refusal::new(Reason::InputInvalid, problem).fact("problem", problem)
}

fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(n * 3_600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(GRPC_TIMEOUT, http::HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn the_header_counts_up_to_the_longest() {
        let longest = Duration::from_secs(30);
        for (value, expected) in [
            ("1S", Duration::from_secs(1)),
            ("250m", Duration::from_millis(250)),
            ("99999999u", Duration::from_secs(30)),
            ("7n", Duration::from_nanos(7)),
            ("99999999H", longest),
            ("1M", longest),
            ("0S", Duration::ZERO),
        ] {
            assert_eq!(allowed(&headers(&[value]), longest).unwrap(), expected, "{value}");
        }
        assert_eq!(allowed(&headers(&[]), longest).unwrap(), longest);
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", "S", "1", "1s", "-1S", "1.5S", "100000000S", " 1S", "+1S", "1 S"] {
            let refusal = allowed(&headers(&[bad]), Duration::from_secs(1)).unwrap_err();
            assert_eq!(refusal.reason, Reason::InputInvalid, "{bad}");
        }
        assert!(allowed(&headers(&["1S", "1S"]), Duration::from_secs(1)).is_err());
    }
}
