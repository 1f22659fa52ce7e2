//! The host that a request is for, and conditions on it.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A condition on a request's host, without its port: compared without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This host alone.
    Exact(String),
    /// Every name below this one, which is kept with its leading dot.
    Below(String),
}

/// A text that cannot be a host pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a host is a name or an address without a port, such as api.example.com, or *.example.com for all names below"
)]
pub struct InvalidHost;

impl std::str::FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let text = canonical(text).unwrap_or_else(|| text.to_ascii_lowercase());
        let below = text.strip_prefix('*').filter(|rest| rest.starts_with('.'));
        let name = below.map_or(text.as_str(), |rest| rest.trim_start_matches('.'));
        if host_of(name.as_bytes()) != Some(name.as_bytes()) {
            return Err(InvalidHost);
        }
        Ok(match below {
            Some(_) => Self::Below(format!(".{name}")),
            None => Self::Exact(text),
        })
    }
}

impl HostPattern {
    /// Whether it is about this host, which [`host_of`] read.
    pub(super) fn matches(&self, host: &[u8]) -> bool {
        match self {
            Self::Exact(name) => host.eq_ignore_ascii_case(name.as_bytes()),
            Self::Below(suffix) => host
                .len()
                .checked_sub(suffix.len())
                .filter(|label| *label > 0)
                .and_then(|label| host.get(label..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes())),
        }
    }
}

/// The one text of an IPv6 address in brackets (RFC 5952).
fn canonical(text: &str) -> Option<String> {
    let address: Ipv6Addr = text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
    Some(format!("[{address}]"))
}

/// The host of an authority (RFC 9110 §7.2), without the dot that ends a fully qualified name. `None`: it is not a host, or a
/// host and a port, in the one form that all servers read alike.
pub fn host_of(authority: &[u8]) -> Option<&[u8]> {
    if authority.first() == Some(&b'[') {
        return literal(authority);
    }
    let mut rest = authority;
    let (host, port) = loop {
        let is_in_name = |byte: &u8| *IS_IN_NAME.get(usize::from(*byte)).unwrap_or(&false);
        let end = rest.iter().position(|byte| !is_in_name(byte)).unwrap_or(rest.len());
        let (label, after) = rest.split_at_checked(end)?;
        match after.split_first() {
            // A label is not empty, but behind the dot that ends a fully qualified name.
            Some((b'.', after)) if !label.is_empty() => rest = after,
            None | Some((b':', _)) => break authority.split_at_checked(authority.len() - after.len())?,
            Some(_) => return None,
        }
    };
    let host = host.strip_suffix(b".").unwrap_or(host);
    (!host.is_empty() && is_port(port) && !is_odd_number(host)).then_some(host)
}

/// Which bytes are a part of a host's name, as names are in use (RFC 952, and `_`).
const IS_IN_NAME: [bool; 256] = {
    let mut is_in_name = [false; 256];
    let mut byte = b'-';
    while byte <= b'z' {
        #[expect(clippy::indexing_slicing, reason = "at compile time")]
        {
            is_in_name[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        }
        byte += 1;
    }
    is_in_name
};

/// The host of an authority that begins with an address in brackets.
fn literal(authority: &[u8]) -> Option<&[u8]> {
    let end = authority.iter().position(|byte| *byte == b']')? + 1;
    let (host, port) = authority.split_at_checked(end)?;
    let canonical = canonical(std::str::from_utf8(host).ok()?)?;
    (canonical.as_bytes().eq_ignore_ascii_case(host) && is_port(port)).then_some(host)
}

/// Whether this is what may follow a host: nothing, or a colon and digits.
fn is_port(text: &[u8]) -> bool {
    match text.split_first() {
        None => true,
        Some((b':', digits)) => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    }
}

/// Whether it is an IPv4 address in another form than the usual one, such as `127.1` or `0x7f.0.0.1`: browsers and what
/// follows their standard (WHATWG URL, "ends in a number") read these too.
fn is_odd_number(host: &[u8]) -> bool {
    if !host.last().is_some_and(|byte| byte.is_ascii_hexdigit() || byte.eq_ignore_ascii_case(&b'x')) {
        return false;
    }
    let last = host.rsplit(|byte| *byte == b'.').next().unwrap_or(host);
    if !last.first().is_some_and(u8::is_ascii_digit) {
        return false;
    }
    let hexadecimal = last.strip_prefix(b"0x").or_else(|| last.strip_prefix(b"0X"));
    let is_number = last.iter().all(u8::is_ascii_digit)
        || hexadecimal.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    is_number && std::str::from_utf8(host).map_or(true, |text| text.parse::<Ipv4Addr>().is_err())
}
