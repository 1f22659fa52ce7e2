//! The decision on one request: pass, refuse, or ask the service about a token and judge its answer. Pure.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::credential::{self, Accepted, Credential, CredentialError, Schemes};
use crate::refusal::{Reason, Refusal};
use crate::rules::{Auth, Requirement};
use crate::token::TokenHash;
use crate::wire::{RefusalReason, TokenFacts, VerifyResponse};

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
        let visible = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let sound = visible(&token.user) && visible(&token.id) && token.scopes.iter().all(visible);
        sound.then(|| Self {
            user: token.user.clone(),
            token_id: token.id.clone(),
            scopes: token.scopes.clone(),
            scope_list: token.scopes.join(" "),
        })
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
    Refused(RefusalReason),
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
            (None, reason) => return Some(Self::Refused(reason.unwrap_or(RefusalReason::Unknown))),
            (Some(_), Some(_)) => return None,
        };
        Some(Self::Usable(Arc::new(Usable {
            identity: Arc::new(Identity::new(token)?),
            schemes: token.schemes.iter().copied().collect(),
            networks: token.allowed_cidrs.as_slice().into(),
            expires_at: token.expires_in_ms.map(|left| now.saturating_add(Duration::from_millis(left))),
        })))
    }

    /// The identifier of the token that it is on; `None`: there is none, or none that may be used.
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        match self {
            Self::Usable(token) => Some(token.identity.token_id()),
            Self::Refused(_) => None,
        }
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
pub fn decide<'a>(
    requirement: &Requirement,
    accepted: &Accepted,
    authorization: impl IntoIterator<Item = &'a [u8]>,
) -> Decision {
    if requirement.auth == Auth::None {
        return Decision::Pass;
    }
    match credential::read(authorization, accepted) {
        Ok(credential) => Decision::Ask(credential),
        Err(CredentialError::Missing) if requirement.auth == Auth::Optional => Decision::Pass,
        Err(error) => Decision::Refuse(error.into()),
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
        Verdict::Refused(reason) => return Err(refuse(Reason::from(*reason))),
    };
    if token.expires_at.is_some_and(|end| end <= now) {
        return Err(refuse(Reason::Expired));
    }
    if !token.schemes.contains(credential.scheme) {
        return Err(refuse(Reason::WrongScheme));
    }
    if credential.user.as_ref().is_some_and(|user| *user != token.identity.user) {
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
fn permits(networks: &[IpNet], address: Option<IpAddr>) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Schemes;
    use crate::token::TokenHash;
    use crate::wire::{RefusalReason, Scheme};

    const NOW: Duration = Duration::from_secs(1000);

    fn verdict(answer: &VerifyResponse) -> Option<Verdict> {
        Verdict::of(answer, TokenHash::of(b"x"), NOW)
    }

    fn bearer() -> Credential {
        Credential { scheme: Scheme::Bearer, user: None, hash: TokenHash::of(b"x") }
    }

    fn basic(user: &str) -> Credential {
        Credential { scheme: Scheme::Basic, user: Some(user.to_owned()), ..bearer() }
    }

    fn facts() -> TokenFacts {
        TokenFacts {
            id: "0198".to_owned(),
            name: "ci".to_owned(),
            user: "alice".to_owned(),
            schemes: vec![Scheme::Bearer, Scheme::Basic],
            scopes: vec!["read".to_owned(), "write".to_owned()],
            allowed_cidrs: Vec::new(),
            expires_in_ms: Some(1),
        }
    }

    fn answer(token: Option<TokenFacts>, reason: Option<RefusalReason>) -> VerifyResponse {
        VerifyResponse { epoch: "e".to_owned(), revision: 1, token_hash: TokenHash::of(b"x"), token, reason }
    }

    fn scopes(list: &[&str]) -> Arc<[String]> {
        list.iter().map(|scope| (*scope).to_owned()).collect()
    }

    fn judged(
        credential: &Credential,
        needed: &[&str],
        address: Option<&str>,
        facts: TokenFacts,
    ) -> Result<Arc<Identity>, Reason> {
        let address = address.map(|text| text.parse().unwrap());
        let verdict = verdict(&answer(Some(facts), None)).unwrap();
        judge(credential, &scopes(needed), address, &verdict, NOW).map_err(|refusal| refusal.reason())
    }

    fn decided(auth: Auth, values: &[&str]) -> Decision {
        let accepted = Accepted { schemes: Schemes::ALL, prefix: None };
        let requirement = Requirement { auth, scopes: scopes(&[]) };
        decide(&requirement, &accepted, values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn where_no_credential_is_needed_none_is_looked_at() {
        for values in [&[][..], &["Bearer x"], &["Bearer x", "Bearer y"], &["\0"]] {
            assert_eq!(decided(Auth::None, values), Decision::Pass, "{values:?}");
        }
    }

    #[test]
    fn where_a_credential_is_optional_only_its_absence_passes() {
        assert_eq!(decided(Auth::Optional, &[]), Decision::Pass);
        assert_eq!(decided(Auth::Optional, &["Bearer x"]), Decision::Ask(bearer()));
        let malformed = Refusal::new(Reason::Malformed, Some(Scheme::Bearer));
        assert_eq!(decided(Auth::Optional, &["Bearer"]), Decision::Refuse(malformed));
        let unreadable = Refusal::new(Reason::Malformed, None);
        assert_eq!(decided(Auth::Optional, &[""]), Decision::Refuse(unreadable));
    }

    #[test]
    fn where_a_credential_is_required_its_absence_is_refused() {
        assert_eq!(decided(Auth::Required, &[]), Decision::Refuse(Refusal::new(Reason::Missing, None)));
        assert_eq!(decided(Auth::Required, &["Bearer x"]), Decision::Ask(bearer()));
    }

    #[test]
    fn a_usable_token_gives_its_identity() {
        for credential in [bearer(), basic("alice")] {
            let identity = judged(&credential, &["write", "read"], None, facts()).unwrap();
            assert_eq!((identity.user(), identity.token_id()), ("alice", "0198"));
            assert_eq!(identity.scope_list(), "read write");
        }
    }

    #[test]
    fn the_service_s_no_is_given_with_its_reason() {
        for (said, reason) in [
            (Some(RefusalReason::Unknown), Reason::Unknown),
            (Some(RefusalReason::Expired), Reason::Expired),
            (Some(RefusalReason::Revoked), Reason::Revoked),
            (Some(RefusalReason::UserDisabled), Reason::UserDisabled),
            (None, Reason::Unknown),
        ] {
            let verdict = verdict(&answer(None, said)).unwrap();
            let refusal = judge(&bearer(), &scopes(&[]), None, &verdict, NOW).unwrap_err();
            assert_eq!(refusal, Refusal::new(reason, Some(Scheme::Bearer)));
        }
    }

    #[test]
    fn an_answer_to_another_question_or_a_contradiction_is_no_verdict() {
        let mut other = answer(Some(facts()), None);
        other.token_hash = TokenHash::of(b"y");
        let both = answer(Some(facts()), Some(RefusalReason::Revoked));
        let unsafe_user = answer(Some(TokenFacts { user: "a\r\nb".to_owned(), ..facts() }), None);
        let empty_user = answer(Some(TokenFacts { user: String::new(), ..facts() }), None);
        let two_in_one = answer(Some(TokenFacts { scopes: vec!["a b".to_owned()], ..facts() }), None);
        for answer in [other, both, unsafe_user, empty_user, two_in_one] {
            assert_eq!(verdict(&answer), None, "{answer:?}");
        }
    }

    #[test]
    fn a_token_with_no_time_left_is_expired_and_one_without_end_is_not() {
        let with = |expires_in_ms| TokenFacts { expires_in_ms, ..facts() };
        assert_eq!(judged(&bearer(), &[], None, with(Some(0))), Err(Reason::Expired));
        assert!(judged(&bearer(), &[], None, with(Some(1))).is_ok());
        assert!(judged(&bearer(), &[], None, with(None)).is_ok());
    }

    #[test]
    fn a_verdict_that_is_kept_says_no_from_the_very_millisecond_of_the_token_s_expiry() {
        let short = TokenFacts { expires_in_ms: Some(500), ..facts() };
        let verdict = verdict(&answer(Some(short), None)).unwrap();
        let at = |later: u64| {
            judge(&bearer(), &scopes(&[]), None, &verdict, NOW + Duration::from_millis(later)).map(|_| ())
        };
        assert_eq!(at(499), Ok(()));
        assert_eq!(at(500).unwrap_err().reason(), Reason::Expired);
    }

    #[test]
    fn a_token_made_for_one_scheme_is_invalid_with_the_other() {
        let only = |scheme| TokenFacts { schemes: vec![scheme], ..facts() };
        assert_eq!(judged(&bearer(), &[], None, only(Scheme::Basic)), Err(Reason::WrongScheme));
        assert_eq!(judged(&basic("alice"), &[], None, only(Scheme::Bearer)), Err(Reason::WrongScheme));
        assert!(judged(&bearer(), &[], None, only(Scheme::Bearer)).is_ok());
    }

    #[test]
    fn the_basic_user_is_the_token_s_owner_to_the_letter() {
        for user in ["bob", "Alice", "alice ", "alic"] {
            assert_eq!(judged(&basic(user), &[], None, facts()), Err(Reason::WrongUser), "{user}");
        }
    }

    #[test]
    fn every_scope_of_the_rule_is_needed() {
        assert!(judged(&bearer(), &["read"], None, facts()).is_ok());
        for needed in [&["admin"][..], &["read", "admin"], &["Read"], &["rea"]] {
            let verdict = verdict(&answer(Some(facts()), None)).unwrap();
            let refusal = judge(&bearer(), &scopes(needed), None, &verdict, NOW).unwrap_err();
            assert_eq!(refusal, Refusal::insufficient_scope(&scopes(needed)));
        }
    }

    #[test]
    fn addresses_are_held_against_the_networks_in_their_canonical_form() {
        let bound = |network: &str, address: Option<&str>| {
            let facts = TokenFacts { allowed_cidrs: vec![network.parse().unwrap()], ..facts() };
            judged(&bearer(), &[], address, facts).map(|_| ())
        };
        for (network, address) in [
            ("10.0.0.0/8", "10.1.2.3"),
            ("10.0.0.0/8", "::ffff:10.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.1.2.3"),
            ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3"),
            ("2001:db8::/32", "2001:db8::1"),
            ("0.0.0.0/0", "192.0.2.1"),
            ("192.0.2.1/32", "192.0.2.1"),
        ] {
            assert_eq!(bound(network, Some(address)), Ok(()), "{address} in {network}");
        }
        for (network, address) in [
            ("10.0.0.0/8", Some("11.1.2.3")),
            ("10.0.0.0/8", Some("::10.1.2.3")),
            ("10.0.0.0/8", Some("2001:db8::1")),
            ("2001:db8::/32", Some("2001:db9::1")),
            ("::/0", Some("10.1.2.3")),
            ("0.0.0.0/0", Some("2001:db8::1")),
            ("0.0.0.0/0", None),
        ] {
            assert_eq!(bound(network, address), Err(Reason::Address), "{address:?} in {network}");
        }
    }
}
