//! The values of flags that are no plain types.

use std::net::SocketAddr;

use super::Retention;
use crate::domain::period::Period;

/// An address and a port, as `127.0.0.1:8100` or `[::1]:8100`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an address and a port are needed, as in 127.0.0.1:8100 or [::1]:8100".to_owned())
}

/// A number, or none.
pub(super) fn max_changes(text: &str) -> Result<u32, String> {
    match text {
        "off" => Ok(0),
        _ => {
            text.parse().map_err(|_| "a whole number of changes is needed, as in 120, or \"off\"".to_owned())
        }
    }
}

/// A length of time, or for ever.
pub(super) fn retention(text: &str) -> Result<Retention, String> {
    if text == "forever" {
        return Ok(Retention(None));
    }
    match text.parse::<Period>() {
        Ok(period) if period.as_millis() >= 1000 => Ok(Retention(Some(period))),
        _ => Err("a length of time of at least 1s is needed, as in 400d, or \"forever\"".to_owned()),
    }
}

/// A base URL, without its final slash.
pub(crate) fn public_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |rest: &str| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && rest.bytes().all(|b| b.is_ascii_graphic() && !b"?#@\"<>\\".contains(&b))
    };
    match rest {
        Some(rest) if plain(rest) => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("an http or https URL without user, query and fragment is needed, as in https://tokens.example.com".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_urls_are_plain_http_urls() {
        assert_eq!(public_url("https://tokens.example.com/").as_deref(), Ok("https://tokens.example.com"));
        assert_eq!(public_url("http://[::1]:8100/base").as_deref(), Ok("http://[::1]:8100/base"));
        for bad in [
            "",
            "tokens.example.com",
            "ftp://x",
            "https://",
            "https:///x",
            "https://u@h",
            "https://h/?q",
            "http://a b",
        ] {
            assert!(public_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_audit_log_is_kept_for_a_while_or_for_ever() {
        let kept = |text| retention(text).unwrap().0;
        assert_eq!((kept("90d"), kept("forever")), (Some(Period::from_days(90)), None));
        for bad in ["", "0s", "999ms", "-1d", "90", "never"] {
            assert!(retention(bad).is_err(), "{bad}");
        }
    }
}
