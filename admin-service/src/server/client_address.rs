//! Where a client is: the one place that decides it. Networks of tokens, failed attempts, limits for each address, audit log and
//! request log all use what is decided here.
//!
//! It is the address of the connection's other end. Where that is a trusted proxy, it is the last address in `X-Forwarded-For`
//! that is no trusted proxy's: whatever stands before that one, the client may have written itself.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::domain::network::network;
use crate::telemetry::FORWARDED_IGNORED;

/// The header in which proxies name the address that they were called from, each after those before it.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Headers that show that a request came through a proxy. `Forwarded` (RFC 7239) and `X-Real-IP` are not read.
const FORWARDED: [HeaderName; 3] =
    [X_FORWARDED_FOR, HeaderName::from_static("forwarded"), HeaderName::from_static("x-real-ip")];

/// The address of the client of a request; every request has it among its extensions. IPv4 addresses are plain ones, never mapped
/// into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// The proxies whose `X-Forwarded-For` is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|part| trusted(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

/// Reads one network or address.
fn trusted(text: &str) -> Result<IpNet, String> {
    let network =
        network(text).map_err(|_| {
            "networks or addresses separated by commas are needed, without bits after their prefix, as in 10.0.0.0/8,2001:db8::1"
                .to_owned()
        })?;
    if network.prefix_len() == 0 {
        return Err(format!("{network} trusts every client to name its own address; name the proxies alone"));
    }
    Ok(network)
}

impl TrustedProxies {
    /// Whether none is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address of the client of a request that came over a connection from `peer`.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        self.first_untrusted(peer.to_canonical(), hops(headers))
    }

    /// The address of the client of a request that a gateway asks about, where the gateway says it: it has shown that it is
    /// one, so that its own word, the last address, is believed.
    #[must_use]
    pub fn client_of_gateway(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let mut hops = hops(headers);
        let last = hops.next()??;
        Some(self.first_untrusted(last, hops))
    }

    /// The first address that is no trusted proxy's. What is no address ends the search: nobody knows who wrote what is before it.
    fn first_untrusted(&self, nearest: IpAddr, mut hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut client = nearest;
        while self.contains(client) {
            let Some(Some(hop)) = hops.next() else { break };
            client = hop;
        }
        client
    }
}

/// What `X-Forwarded-For` says, the last word first: an address, or `None` where there is something else, an empty element included.
fn hops(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
    lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',').map(address))
}

/// One element: an address with or without a port, that of IPv6 in brackets where it has one.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse().map(|socket: SocketAddr| socket.ip());
    bare.parse().or_else(|_| with_port()).ok().map(|address: IpAddr| address.to_canonical())
}

/// Finds the clients' addresses of one listener's requests. Clones share what was warned of.
#[derive(Clone, Debug, Default)]
pub struct ClientAddresses {
    /// `None`: the listener's clients are the connections' other ends, whatever headers say.
    proxies: Option<TrustedProxies>,
    warned: Arc<AtomicBool>,
}

impl ClientAddresses {
    /// Those of connections.
    #[must_use]
    pub fn of_connections() -> Self {
        Self::default()
    }

    /// Those of clients that may be behind these proxies.
    #[must_use]
    pub fn behind(proxies: TrustedProxies) -> Self {
        Self { proxies: Some(proxies), warned: Arc::default() }
    }

    /// The address of a request's client. `None`: it came over no connection, as only in tests.
    #[must_use]
    pub fn of(&self, request: &Request) -> Option<ClientAddress> {
        let ConnectInfo(peer) = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
        let Some(proxies) = &self.proxies else {
            return Some(ClientAddress(peer.ip().to_canonical()));
        };
        if proxies.is_empty() && FORWARDED.iter().any(|name| request.headers().contains_key(name)) {
            self.warn(peer.ip());
        }
        Some(ClientAddress(proxies.client(peer.ip(), request.headers())))
    }

    /// Says, once, that everyone behind a proxy seems to be the proxy.
    fn warn(&self, peer: IpAddr) {
        metrics::counter!(FORWARDED_IGNORED).increment(1);
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %peer,
                "a request came through a proxy and no proxy is trusted, so that all its clients count as one and have its address: \
                 name it by --trusted-proxies if it is yours"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (X_FORWARDED_FOR, HeaderValue::from_str(line).unwrap())).collect()
    }

    fn client(peer: &str, lines: &[&str]) -> String {
        let proxies: TrustedProxies = "10.0.0.0/8, 2001:db8:a::/48,192.0.2.7".parse().unwrap();
        proxies.client(peer.parse().unwrap(), &headers(lines)).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_asked_who_its_client_is() {
        assert_eq!(client("198.51.100.1", &["203.0.113.9"]), "198.51.100.1");
        assert_eq!(client("10.1.1.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("::ffff:10.1.1.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("10.1.1.1", &[]), "10.1.1.1");
        let none = TrustedProxies::default();
        assert_eq!(
            none.client("10.1.1.1".parse().unwrap(), &headers(&["203.0.113.9"])).to_string(),
            "10.1.1.1"
        );
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxys_is_the_clients() {
        for (lines, expected) in [
            (&["127.0.0.1, 203.0.113.9"][..], "203.0.113.9"),
            (&["127.0.0.1, 203.0.113.9, 10.2.2.2,192.0.2.7"], "203.0.113.9"),
            (&["127.0.0.1", "203.0.113.9", "10.2.2.2"], "203.0.113.9"),
            (&["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            (&["127.0.0.1,::ffff:203.0.113.9"], "203.0.113.9"),
            (&["2001:db8::1, 2001:db8:a::1"], "2001:db8::1"),
        ] {
            assert_eq!(client("10.1.1.1", lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn ports_and_brackets_do_no_harm() {
        for (line, expected) in [
            ("203.0.113.9:4711", "203.0.113.9"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            (" 2001:db8::1\t", "2001:db8::1"),
            ("203.0.113.9, 10.2.2.2:80, [2001:db8:a::5]:80", "203.0.113.9"),
        ] {
            assert_eq!(client("10.1.1.1", &[line]), expected, "{line}");
        }
    }

    #[test]
    fn behind_what_is_no_address_nobody_is_believed() {
        for (lines, expected) in [
            (&["203.0.113.9, unknown, 10.2.2.2"][..], "10.2.2.2"),
            (&["203.0.113.9,, 10.2.2.2"], "10.2.2.2"),
            (&["203.0.113.9", "", "10.2.2.2"], "10.2.2.2"),
            (&["203.0.113.9,"], "10.1.1.1"),
            (&["203.0.113.9, 10.2.2.2:99999"], "10.1.1.1"),
            (&["203.0.113.9, fe80::1%eth0"], "10.1.1.1"),
            (&["203.0.113.9, \"10.2.2.2\""], "10.1.1.1"),
            (&["203.0.113.9, 010.2.2.2"], "10.1.1.1"),
            (&["203.0.113.9;10.2.2.2"], "10.1.1.1"),
        ] {
            assert_eq!(client("10.1.1.1", lines), expected, "{lines:?}");
        }
        let latin =
            HeaderMap::from_iter([(X_FORWARDED_FOR, HeaderValue::from_bytes(b"203.0.113.9 \xe9").unwrap())]);
        let proxies: TrustedProxies = "10.0.0.0/8".parse().unwrap();
        assert_eq!(proxies.client("10.1.1.1".parse().unwrap(), &latin).to_string(), "10.1.1.1");
    }

    #[test]
    fn a_gateways_own_word_is_believed_and_that_of_proxies_before_it_where_they_are_trusted() {
        let proxies: TrustedProxies = "10.0.0.0/8".parse().unwrap();
        let client = |proxies: &TrustedProxies, lines: &[&str]| {
            proxies.client_of_gateway(&headers(lines)).map(|address| address.to_string())
        };
        for (lines, expected) in [
            (&[][..], None),
            (&["192.0.2.1"], Some("192.0.2.1")),
            (&["203.0.113.9, 192.0.2.1"], Some("192.0.2.1")),
            (&["203.0.113.9, 10.0.0.1"], Some("203.0.113.9")),
            (&["10.0.0.1"], Some("10.0.0.1")),
            (&["192.0.2.1, unknown"], None),
            (&["192.0.2.1,"], None),
            (&["192.0.2.1", ""], None),
        ] {
            assert_eq!(client(&proxies, lines).as_deref(), expected, "{lines:?}");
        }
        let none = TrustedProxies::default();
        assert_eq!(client(&none, &["203.0.113.9, 10.0.0.1"]).as_deref(), Some("10.0.0.1"));
    }

    #[test]
    fn a_list_of_proxies_that_cannot_be_is_refused() {
        for bad in ["", "10.0.0.0/8,", "proxy.example.com", "10.0.0.1/8", "10.0.0.0/33", "010.0.0.1"] {
            assert!(bad.parse::<TrustedProxies>().unwrap_err().contains("separated by commas"), "{bad}");
        }
        for everyone in ["0.0.0.0/0", "::/0", "10.0.0.0/8,0.0.0.0/0"] {
            assert!(everyone.parse::<TrustedProxies>().unwrap_err().contains("every client"), "{everyone}");
        }
    }
}
