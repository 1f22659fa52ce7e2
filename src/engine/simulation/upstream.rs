//! What an upstream sees of a request: the client's headers with what the host was told to remove and to add.

use std::collections::BTreeMap;

use super::request::{Request, is_secret};
use crate::config::Config;
use crate::engine::{Denial, Mutations};
use crate::headers::AUTHORIZATION;

/// A request at the host, as it stands.
#[derive(Debug)]
pub struct AtHost {
    pub request: Request,
    headers: Vec<(String, String)>,
}

impl AtHost {
    pub fn new(request: Request) -> Self {
        Self { request, headers: request.headers() }
    }

    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }

    /// Removes all headers of these names.
    pub fn remove(&mut self, names: &[Vec<u8>]) {
        self.headers.retain(|(name, _)| !names.iter().any(|removed| removed == name.as_bytes()));
    }

    /// Unspoofable, Secret, Accountable: what reaches the upstream, and what access logs say of it. Gives the user, if there is one.
    pub fn allow(mut self, mutations: &Mutations, config: &Config) -> Option<String> {
        for (name, value) in mutations.headers(&config.identity_headers) {
            assert!(!value.is_empty(), "{name} is empty");
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        let state: BTreeMap<&str, &str> = mutations.filter_state().collect();
        let value = |wanted: &str| {
            let mut found = self.headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value);
            let value = found.next();
            assert_eq!(found.next(), None, "two of {wanted}");
            value.map(String::as_str)
        };
        assert!(self.headers.iter().all(|(name, _)| !name.contains('_')), "{:?}", self.headers);
        let (user, token_id) = (value("x-latchkey-user"), value("x-latchkey-token-id"));
        assert_eq!(user.is_some(), token_id.is_some());
        assert_eq!(value("x-latchkey-scopes"), None, "the tokens have no scopes");
        if let Some(user) = user {
            assert_eq!(user, "alice", "the identity is the service's word");
            assert_eq!(
                (state.get("latchkey_user"), state.get("latchkey_token_id")),
                (Some(&user), token_id.as_ref())
            );
        }
        if let Some(credential) = value(AUTHORIZATION) {
            assert!(!is_secret(credential) && user.is_none(), "a credential reaches the upstream");
        }
        assert!(state.values().copied().chain(mutations.log_line()).all(|text| !is_secret(text)));
        assert!(!is_secret(&format!("{mutations:?}")));
        user.map(str::to_owned)
    }

    /// The same for a request that is denied.
    pub fn deny(self, denial: &Denial) {
        let reply = &denial.reply;
        let state: BTreeMap<&str, &str> = denial.filter_state().collect();
        assert_eq!(state["latchkey_decision"], format!("denied:{}", reply.reason.name()));
        let texts = state.values().copied().chain([reply.body.as_str()]);
        let headers = reply.headers.iter().map(|(_, value)| value.as_str());
        assert!(texts.chain(headers).all(|text| !is_secret(text)));
        assert!(!is_secret(&format!("{denial:?}")));
        assert_eq!(reply.status() == 503, reply.headers.iter().any(|(name, _)| *name == "retry-after"));
        let challenges = reply.headers.iter().filter(|(name, _)| *name == "www-authenticate").count();
        assert!(reply.status() != 401 || challenges > 0, "RFC 9110 §15.5.2");
    }
}
