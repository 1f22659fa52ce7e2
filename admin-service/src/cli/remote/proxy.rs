//! The forward proxy that the environment names, as `curl` reads it: `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`.
//!
//! For `https://` a proxy is asked for a tunnel (CONNECT), which the HTTP client does by itself. For `http://` it gets the
//! request with the whole URL in its first line (RFC 9112 §3.2.2), as many proxies permit tunnels to port 443 alone; the
//! client cannot do that, so the line is written here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::http::{HeaderValue, Uri};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport,
};
use ureq::{Agent, Error, Proxy, ProxyProtocol};

/// The way from here to a service.
pub(super) enum Way {
    /// No proxy is asked.
    Direct,
    /// Through a tunnel of this proxy's.
    Tunnel(Proxy),
    /// This proxy gets the requests themselves.
    Forward(Forward),
}

/// A proxy that gets requests for the scheme and authority of one service.
#[derive(Clone, Debug)]
pub(super) struct Forward {
    proxy: Uri,
    origin: String,
    /// What it gets for its own `Proxy-Authorization`.
    pub(super) authorization: Option<HeaderValue>,
}

impl Way {
    /// The way to a URL, by these variables.
    ///
    /// # Errors
    /// The name of a variable whose value is no proxy.
    pub(super) fn to(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let Ok(uri) = url.parse::<Uri>() else { return Ok(Self::Direct) };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let first = |names: &[&'static str]| {
            names
                .iter()
                .find_map(|name| Some((*name, variable(name).filter(|value| !value.trim().is_empty())?)))
        };
        if first(&["no_proxy", "NO_PROXY"]).is_some_and(|(_, list)| excepts(&list, host)) {
            return Ok(Self::Direct);
        }
        let is_https = uri.scheme_str() == Some("https");
        let named = if is_https {
            first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
        } else {
            first(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
        };
        let Some((name, value)) = named else { return Ok(Self::Direct) };
        let proxy = Proxy::new(value.trim()).map_err(|_| name.to_owned())?;
        if is_https || proxy.protocol() != ProxyProtocol::Http {
            return Ok(Self::Tunnel(proxy));
        }
        let origin = format!("http://{}", uri.authority().map(ToString::to_string).unwrap_or_default());
        let authorization = authorization(&proxy);
        let authority = format!("http://{}:{}/", proxy.host(), proxy.port());
        let proxy = authority.parse().map_err(|_| name.to_owned())?;
        Ok(Self::Forward(Forward { proxy, origin, authorization }))
    }
}

/// Whether a list of `no_proxy` has a host: by its name, by a domain that it is in, or all of them.
fn excepts(list: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let domain = entry.trim_start_matches('*').trim_start_matches('.').trim_matches(['[', ']']);
        entry == "*" || host == domain || (!domain.is_empty() && host.ends_with(&format!(".{domain}")))
    })
}

/// What a proxy's user and password come to (RFC 7617).
fn authorization(proxy: &Proxy) -> Option<HeaderValue> {
    let user = proxy.username()?;
    let pair = STANDARD.encode(format!("{user}:{}", proxy.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {pair}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Forward {
    /// A client whose requests all go to the proxy, each on a connection of its own.
    pub(super) fn agent(&self, config: ureq::config::Config) -> Agent {
        Agent::with_parts(config, TcpConnector::default().chain(self.clone()), self.clone())
    }
}

impl Resolver for Forward {
    /// The addresses of the proxy, whatever is asked for: it resolves the service's name.
    fn resolve(
        &self,
        _: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        DefaultResolver::default().resolve(&self.proxy, config, timeout)
    }
}

impl<In: Transport> Connector<In> for Forward {
    type Out = WholeUrl<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<WholeUrl<In>>, Error> {
        Ok(chained.map(|inner| WholeUrl { inner, origin: Some(self.origin.clone()) }))
    }
}

/// A connection whose first line gets the whole URL.
#[derive(Debug)]
pub(super) struct WholeUrl<T> {
    inner: T,
    /// What goes before the path; `None` once it was written.
    origin: Option<String>,
}

impl<T: Transport> Transport for WholeUrl<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let Some(origin) = self.origin.take() else { return self.inner.transmit_output(amount, timeout) };
        let head = self.inner.buffers().output().get(..amount).unwrap_or_default().to_vec();
        let mut left = with_origin(&head, &origin);
        while !left.is_empty() {
            let space = self.inner.buffers().output();
            let count = space.len().min(left.len());
            for (place, byte) in space.iter_mut().zip(left.drain(..count)) {
                *place = byte;
            }
            self.inner.transmit_output(count, timeout)?;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

/// The head of a request with `origin` before the path of its first line.
fn with_origin(head: &[u8], origin: &str) -> Vec<u8> {
    match head.iter().position(|byte| *byte == b' ').and_then(|space| head.split_at_checked(space + 1)) {
        Some((method, rest)) if rest.starts_with(b"/") => [method, origin.as_bytes(), rest].concat(),
        _ => head.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(url: &str, variables: &[(&str, &str)]) -> &'static str {
        let variable =
            |name: &str| variables.iter().find(|(one, _)| *one == name).map(|(_, value)| (*value).to_owned());
        match Way::to(url, variable) {
            Ok(Way::Direct) => "direct",
            Ok(Way::Tunnel(_)) => "tunnel",
            Ok(Way::Forward(_)) => "forward",
            Err(_) => "refused",
        }
    }

    #[test]
    fn the_proxy_is_the_one_of_the_urls_scheme() {
        let proxies = [("http_proxy", "http://p:3128"), ("https_proxy", "http://q:3128")];
        assert_eq!(way("http://h:8100", &proxies), "forward");
        assert_eq!(way("https://h", &proxies), "tunnel");
        assert_eq!(way("http://h", &proxies[1..]), "direct");
        assert_eq!(way("https://h", &proxies[..1]), "direct");
        assert_eq!(way("http://h", &[("ALL_PROXY", "p:3128")]), "forward");
        assert_eq!(way("http://h", &[("http_proxy", "")]), "direct");
        assert_eq!(way("http://h", &[("http_proxy", "gopher://p")]), "refused");
    }

    #[test]
    fn hosts_and_domains_are_excepted() {
        let by = |list: &str, host: &str| {
            way(&format!("http://{host}:8100"), &[("http_proxy", "p"), ("no_proxy", list)])
        };
        for (list, host) in [
            ("h.example", "h.example"),
            ("a, example", "h.Example"),
            (".example", "h.example"),
            ("*", "h"),
            ("*.example", "h.example"),
            ("::1", "[::1]"),
        ] {
            assert_eq!(by(list, host), "direct", "{list} {host}");
        }
        for (list, host) in [("ample", "h.example"), ("h.example", "example"), ("", "h"), (",", "h")] {
            assert_eq!(by(list, host), "forward", "{list} {host}");
        }
    }

    #[test]
    fn the_first_line_gets_the_whole_url() {
        assert_eq!(with_origin(b"GET /a HTTP/1.1\r\n", "http://h:1"), b"GET http://h:1/a HTTP/1.1\r\n");
        assert_eq!(with_origin(b"GET http://h/a HTTP/1.1\r\n", "http://h:1"), b"GET http://h/a HTTP/1.1\r\n");
        assert_eq!(with_origin(b"", "http://h:1"), b"");
    }
}
