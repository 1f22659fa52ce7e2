//! What limits would do, as `PUT /restrictions?dry_run=true` tells it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::restrictions::Restrictions;
use crate::domain::time::Timestamp;
use crate::store::{Shortened, Touched, TouchedToken, TouchedUser, WouldShorten};

/// What exceeds limits. All of it stays as it is when the limits are set, for they hold for what is made afterwards, unless
/// `apply_to_existing=true` is given. Users with a limit of their own do not exceed the one that it takes the place of.
#[derive(Serialize, ToSchema)]
#[schema(as = DryRun)]
pub(super) struct DryRunBody {
    /// Always true: nothing was changed.
    dry_run: bool,
    /// What the limits mean for existing tokens, in sentences.
    #[schema(example = "Longer lifetime than 10d: 1002 active tokens, which would keep the expiry.")]
    message: String,
    would_exceed: ExceedingBody,
    /// What `apply_to_existing=true` would do, where that is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_shorten: Option<ShortenedBody>,
    examples: ExamplesBody,
}

/// How much exceeds each limit.
#[derive(Serialize, ToSchema)]
#[schema(as = Exceeding)]
struct ExceedingBody {
    /// Active tokens that last longer than `max_lifetime`.
    #[schema(example = 2)]
    max_lifetime: u64,
    /// Active tokens that users have beyond `max_tokens_per_user`.
    #[schema(example = 4)]
    max_tokens_per_user: u64,
    /// The users who have them.
    #[schema(example = 1)]
    users: u64,
}

/// Active tokens that expire sooner by `apply_to_existing=true`.
#[derive(Serialize, ToSchema)]
#[schema(as = Shortened)]
pub(super) struct ShortenedBody {
    /// How many they are.
    #[schema(example = 2)]
    tokens: u64,
    /// How many of them expire at once, for they were made longer ago than they may last.
    #[schema(example = 1)]
    at_once: u64,
}

/// Up to 10 examples of what exceeds each limit.
#[derive(Serialize, ToSchema)]
#[schema(as = ExceedingExamples)]
struct ExamplesBody {
    /// Tokens that live longer than `max_lifetime`.
    #[schema(max_items = 10)]
    max_lifetime: Vec<TouchedTokenBody>,
    /// Users with more live tokens than `max_tokens_per_user`, those with the most first.
    #[schema(max_items = 10)]
    max_tokens_per_user: Vec<TouchedUserBody>,
    /// Tokens that would expire sooner, where `apply_to_existing=true` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 10)]
    would_shorten: Option<Vec<ShortenedTokenBody>>,
}

/// A token that exceeds a limit.
#[derive(Serialize, ToSchema)]
#[schema(as = ExceedingToken)]
struct TouchedTokenBody {
    #[schema(format = Uuid)]
    id: String,
    /// What its owner knows it by.
    #[schema(example = "ci")]
    name: String,
    /// The name of the user that it acts for.
    #[schema(example = "alice")]
    user: String,
    /// Its first characters, by which an owner recognises it.
    #[schema(example = "lk_a1B2")]
    hint: String,
    /// From when on it is expired; null: never.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-12-31T00:00:00Z")]
    expires_at: Option<Timestamp>,
}

/// A token that would expire sooner.
#[derive(Serialize, ToSchema)]
#[schema(as = ShortenedToken)]
struct ShortenedTokenBody {
    #[serde(flatten)]
    token: TouchedTokenBody,
    /// From when on it would be expired.
    #[schema(value_type = String, format = DateTime, example = "2026-06-30T00:00:00Z")]
    new_expires_at: Timestamp,
}

/// A user who exceeds a limit.
#[derive(Serialize, ToSchema)]
#[schema(as = ExceedingUser)]
struct TouchedUserBody {
    #[schema(example = "alice")]
    user: String,
    /// How many active tokens it has that count.
    #[schema(example = 9)]
    live_tokens: u64,
}

impl DryRunBody {
    /// What `wanted` would do, where `exceeding` exceeds it, and `shortened` is what would expire sooner.
    pub(super) fn of(wanted: &Restrictions, exceeding: Touched, shortened: Option<WouldShorten>) -> Self {
        let counts = shortened.as_ref().map(|would| would.counts);
        let message = sentences(wanted, &exceeding, counts);
        let (lifetime, tokens) = (exceeding.over_max_lifetime, exceeding.over_max_tokens);
        Self {
            dry_run: true,
            message,
            would_exceed: ExceedingBody {
                max_lifetime: lifetime.tokens,
                max_tokens_per_user: tokens.tokens,
                users: tokens.users,
            },
            would_shorten: counts.map(ShortenedBody::from),
            examples: ExamplesBody {
                max_lifetime: lifetime.examples.into_iter().map(TouchedTokenBody::from).collect(),
                max_tokens_per_user: tokens.examples.into_iter().map(TouchedUserBody::from).collect(),
                would_shorten: shortened.map(|would| {
                    let body = |(token, end): (TouchedToken, _)| ShortenedTokenBody {
                        token: token.into(),
                        new_expires_at: end,
                    };
                    would.examples.into_iter().map(body).collect()
                }),
            },
        }
    }
}

/// What limits mean for what exists.
fn sentences(wanted: &Restrictions, exceeding: &Touched, shortened: Option<Shortened>) -> String {
    let (lifetime, tokens) = (&exceeding.over_max_lifetime, &exceeding.over_max_tokens);
    let mut sentences = Vec::new();
    match (shortened, wanted.max_lifetime) {
        (Some(Shortened { tokens, at_once }), _) => sentences.push(format!(
            "{} would expire sooner, as late as is allowed from when they were made; {at_once} of them at once.",
            counted(tokens, "active token")
        )),
        (None, Some(longest)) => sentences.push(format!(
            "Longer lifetime than {longest}: {}, which would keep the expiry.",
            counted(lifetime.tokens, "active token")
        )),
        (None, None) => {}
    }
    if let Some(most) = wanted.max_tokens_per_user {
        sentences.push(format!(
            "More than {}: {}, by {} in all, which would stay active.",
            counted(most.into(), "active token"),
            counted(tokens.users, "user"),
            counted(tokens.tokens, "token")
        ));
    }
    if sentences.is_empty() { "Nothing changes for existing tokens.".to_owned() } else { sentences.join(" ") }
}

/// A number of things, such as `1 token` or `2 tokens`.
fn counted(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

impl From<Shortened> for ShortenedBody {
    fn from(Shortened { tokens, at_once }: Shortened) -> Self {
        Self { tokens, at_once }
    }
}

impl From<TouchedToken> for TouchedTokenBody {
    fn from(token: TouchedToken) -> Self {
        Self {
            id: token.id.to_string(),
            name: token.name.to_string(),
            user: token.user.to_string(),
            hint: token.hint,
            expires_at: token.expires_at,
        }
    }
}

impl From<TouchedUser> for TouchedUserBody {
    fn from(user: TouchedUser) -> Self {
        Self { user: user.name.to_string(), live_tokens: user.live_tokens }
    }
}
