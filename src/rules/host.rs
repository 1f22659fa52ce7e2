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

/// What a byte of an authority is a part of.
#[derive(Clone, Copy)]
enum Class {
    Name,
    Dot,
    Colon,
    Odd,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Odd; 256];
    let mut byte = 0;
    while byte < 128 {
        #[expect(clippy::indexing_slicing, reason = "at compile time")]
        {
            classes[byte as usize] = match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => Class::Name,
                b'.' => Class::Dot,
                b':' => Class::Colon,
                _ => Class::Odd,
            };
        }
        byte += 1_u8;
    }
    classes
};

/// The host of an authority (RFC 9110 §7.2), without the dot that ends a fully qualified name. `None`: it is not a host, or a
/// host and a port, in the one form that all servers read alike.
pub fn host_of(authority: &[u8]) -> Option<&[u8]> {
    if authority.first() == Some(&b'[') {
        return literal(authority);
    }
    let (mut port, mut label) = (authority, authority);
    while let Some((byte, after)) = port.split_first() {
        match CLASSES.get(usize::from(*byte))? {
            Class::Name => {}
            // A label is not empty, not even the last one.
            Class::Dot if label.len() > port.len() => label = after,
            Class::Colon => break,
            Class::Dot | Class::Odd => return None,
        }
        port = after;
    }
    let host = authority.get(..authority.len() - port.len())?;
    let host = host.strip_suffix(b".").unwrap_or(host);
    let sound = !host.is_empty() && is_port(port);
    // Only a name whose last label begins with a digit can be a number.
    let last = label.first().filter(|_| label.len() > port.len());
    let may_be_number = last.is_none_or(u8::is_ascii_digit);
    (sound && !(may_be_number && is_odd_number(host))).then_some(host)
}

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
    let last = host.rsplit(|byte| *byte == b'.').next().unwrap_or(host);
    if !last.first().is_some_and(u8::is_ascii_digit) {
        return false;
    }
    let hexadecimal = last.strip_prefix(b"0x").or_else(|| last.strip_prefix(b"0X"));
    let is_number = last.iter().all(u8::is_ascii_digit)
        || hexadecimal.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    is_number && std::str::from_utf8(host).map_or(true, |text| text.parse::<Ipv4Addr>().is_err())
}
