//! The decision on one request: pass, refuse, or ask the service about a token and judge its answer. Pure.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::credential::{self, Accepted, Credential, CredentialError, Schemes, Values};
use crate::refusal::{Reason, Refusal};
use crate::rules::{Auth, Requirement};
use crate::token::TokenHash;
use crate::wire::{DeniedToken, RefusalReason, TokenFacts, VerifyResponse};

#[cfg(test)]
mod tests;

/// The longest identifier, and the longest name, that is kept of a token that may not be used, in bytes.
const MAX_KNOWN: usize = 128;

/// Who a request acts for: the proof that its credential was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    user: String,
    token_id: String,
    scopes: Vec<String>,
    /// The scopes in one text, separated by spaces, as upstreams get them.
    scope_list: String,
}

impl Identity {
    /// The user's name: visible ASCII.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The token's identifier: visible ASCII.
    #[must_use]
    pub fn token_id(&self) -> &str {
        &self.token_id
    }

    /// The token's scopes, each visible ASCII, separated by spaces.
    #[must_use]
    pub fn scope_list(&self) -> &str {
        &self.scope_list
    }

    /// The token, and whose it is.
    #[must_use]
    pub fn owner(&self) -> TokenOwner<'_> {
        TokenOwner { token_id: &self.token_id, user: &self.user }
    }

    /// Whether the token carries every one of `scopes`.
    ///
    /// # Errors
    /// The refusal that names the scopes.
    pub fn require(&self, scopes: &Arc<[String]>) -> Result<(), Refusal> {
        if scopes.iter().all(|scope| self.scopes.contains(scope)) {
            Ok(())
        } else {
            Err(Refusal::insufficient_scope(scopes))
        }
    }

    /// An identity whose parts can stand in a header; a service that says anything else is not ours.
    fn new(token: &TokenFacts) -> Option<Self> {
        let sound =
            visible(&token.user) && visible(&token.id) && token.scopes.iter().all(|scope| visible(scope));
        sound.then(|| Self {
            user: token.user.clone(),
            token_id: token.id.clone(),
            scopes: token.scopes.clone(),
            scope_list: token.scopes.join(" "),
        })
    }
}

/// Whether a text can stand in a header or a log as it is.
fn visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Which token a credential was, and whose, whether or not it may be used: for logs and counts. Proof of nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenOwner<'a> {
    /// The token's identifier: visible ASCII.
    pub token_id: &'a str,
    /// The user's name: visible ASCII.
    pub user: &'a str,
}

/// What is known of a token that may not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Why not.
    pub reason: RefusalReason,
    /// Which token it is, if the service knows it and has said so.
    pub token: Option<Arc<DeniedToken>>,
}

impl Denied {
    /// What an answer says that has no token to be used. A token's name that could not stand in a log is left out: the answer
    /// is a denial all the same.
    fn of(answer: &VerifyResponse) -> Self {
        let sound = |text: &str| visible(text) && text.len() <= MAX_KNOWN;
        let token = answer.denied_token.clone().filter(|token| sound(&token.id) && sound(&token.user));
        Self { reason: answer.reason.unwrap_or(RefusalReason::Unknown), token: token.map(Arc::new) }
    }

    /// How many bytes it holds outside of itself, about.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let held = |token: &Arc<DeniedToken>| {
            size_of::<DeniedToken>() + 2 * size_of::<usize>() + token.id.capacity() + token.user.capacity()
        };
        self.token.as_ref().map_or(0, held)
    }
}

/// What is known of a token that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usable {
    identity: Arc<Identity>,
    schemes: Schemes,
    networks: Box<[IpNet]>,
    expires_at: Option<Duration>,
}

impl Usable {
    /// When it expires, on the clock that [`Verdict::of`] was given; `None`: never.
    #[must_use]
    pub fn expires_at(&self) -> Option<Duration> {
        self.expires_at
    }

    /// How many bytes it holds outside of itself, about.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let Identity { user, token_id, scopes, scope_list } = &*self.identity;
        let texts = [user, token_id, scope_list].into_iter().chain(scopes);
        let texts = texts.map(|text| size_of::<String>() + text.capacity()).sum::<usize>();
        texts + size_of::<Identity>() + size_of_val(&*self.networks)
    }
}

/// What the service says of a token, as it is kept: cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be used, within what its facts allow.
    Usable(Arc<Usable>),
    /// It may not.
    Refused(Denied),
}

impl Verdict {
    /// What an answer to the question about `hash`, received at `now`, says. `None`: it cannot be one to this question.
    #[must_use]
    pub fn of(answer: &VerifyResponse, hash: TokenHash, now: Duration) -> Option<Self> {
        if answer.token_hash != hash {
            return None;
        }
        let token = match (&answer.token, answer.reason) {
            (Some(token), None) => token,
            (None, _) => return Some(Self::Refused(Denied::of(answer))),
            (Some(_), Some(_)) => return None,
        };
        Some(Self::Usable(Arc::new(Usable {
            identity: Arc::new(Identity::new(token)?),
            schemes: token.schemes.iter().copied().collect(),
            networks: token.allowed_cidrs.as_slice().into(),
            expires_at: token.expires_in_ms.map(|left| now.saturating_add(Duration::from_millis(left))),
        })))
    }

    /// Which token it is on, and whose; `None`: there is none, or the service did not say.
    #[must_use]
    pub fn owner(&self) -> Option<TokenOwner<'_>> {
        match self {
            Self::Usable(token) => Some(token.identity.owner()),
            Self::Refused(denied) => {
                let DeniedToken { id, user } = denied.token.as_deref()?;
                Some(TokenOwner { token_id: id, user })
            }
        }
    }

    /// When the token expires, if that is in less than `period` from `now` on; `None` too for one that may not be used.
    #[must_use]
    pub fn expires_within(&self, period: Duration, now: Duration) -> Option<Duration> {
        let Self::Usable(token) = self else { return None };
        token.expires_at.filter(|end| end.saturating_sub(now) < period)
    }

    /// Whether the client's address matters to the judgement.
    #[must_use]
    pub fn is_bound_to_networks(&self) -> bool {
        matches!(self, Self::Usable(token) if !token.networks.is_empty())
    }
}

/// What becomes of a request before anything is known of its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It passes, with no identity.
    Pass,
    /// It is refused.
    Refuse(Refusal),
    /// What is known of the credential's token decides: [`judge`].
    Ask(Credential),
}

/// Decides on a request that needs `requirement` and came with these `Authorization` values.
#[must_use]
pub fn decide(requirement: &Requirement, accepted: &Accepted, authorization: Values<'_>) -> Decision {
    if requirement.auth == Auth::None {
        return Decision::Pass;
    }
    match credential::read(authorization, accepted) {
        Ok(credential) => Decision::Ask(credential),
        Err(CredentialError::Missing) if requirement.auth == Auth::Optional => Decision::Pass,
        Err(error) => {
            let challenges = requirement.challenges.unwrap_or(accepted.challenges);
            Decision::Refuse(Refusal::from(error).challenging(challenges))
        }
    }
}

/// Judges a credential by what is known of its token, for a request from `address` that needs every one of `scopes`.
///
/// An `address` of `None` is one that is not known: a token that is bound to networks does not pass from there.
///
/// # Errors
/// The refusal.
pub fn judge(
    credential: &Credential,
    scopes: &Arc<[String]>,
    address: Option<IpAddr>,
    verdict: &Verdict,
    now: Duration,
) -> Result<Arc<Identity>, Refusal> {
    let refuse = |reason| Refusal::new(reason, Some(credential.scheme));
    let token = match verdict {
        Verdict::Usable(token) => token,
        Verdict::Refused(denied) => return Err(refuse(Reason::from(denied.reason))),
    };
    if token.expires_at.is_some_and(|end| end <= now) {
        return Err(refuse(Reason::Expired));
    }
    if !token.schemes.contains(credential.scheme) {
        return Err(refuse(Reason::WrongScheme));
    }
    // People write their names as they please; whose token it is, the service says.
    if credential.user.as_ref().is_some_and(|user| !user.eq_ignore_ascii_case(&token.identity.user)) {
        return Err(refuse(Reason::WrongUser));
    }
    if !permits(&token.networks, address) {
        return Err(refuse(Reason::Address));
    }
    token.identity.require(scopes)?;
    Ok(Arc::clone(&token.identity))
}

/// Whether a token that is bound to `networks` may come from `address`. An IPv4-mapped IPv6 address is the IPv4 address,
/// and a network of such addresses the IPv4 network (RFC 4291 §2.5.5.2).
#[must_use]
pub fn permits(networks: &[IpNet], address: Option<IpAddr>) -> bool {
    let holds = |network: &IpNet, address: IpAddr| match (network, address) {
        (IpNet::V6(network), IpAddr::V4(address)) => {
            network.prefix_len() >= 96 && network.contains(&address.to_ipv6_mapped())
        }
        _ => network.contains(&address),
    };
    networks.is_empty()
        || address
            .is_some_and(|address| networks.iter().any(|network| holds(network, address.to_canonical())))
}
