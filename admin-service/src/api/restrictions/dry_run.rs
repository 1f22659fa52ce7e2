//! What limits would touch, as `PUT /restrictions?dry_run=true` tells it.

use crate::domain::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::{Touched, TouchedToken, TouchedUser};

/// What limits would touch. All of it stays as it is even when the limits are set: they hold for what is made afterwards.
/// Users with a limit of their own are not touched by the one that it takes the place of.
#[derive(Serialize, ToSchema)]
#[schema(as = DryRun)]
pub(super) struct DryRunBody {
    /// Always true: nothing was changed.
    dry_run: bool,
    would_touch: TouchedBody,
    examples: ExamplesBody,
}

/// How much each limit would touch.
#[derive(Serialize, ToSchema)]
#[schema(as = Touched)]
struct TouchedBody {
    /// Live tokens that live longer than `max_lifetime`.
    #[schema(example = 2)]
    max_lifetime: u64,
    /// Live tokens that users have beyond `max_tokens_per_user`.
    #[schema(example = 4)]
    max_tokens_per_user: u64,
    /// The users who have them.
    #[schema(example = 1)]
    users: u64,
}

/// Up to 10 examples of what each limit would touch.
#[derive(Serialize, ToSchema)]
#[schema(as = TouchedExamples)]
struct ExamplesBody {
    /// Tokens that live longer than `max_lifetime`.
    #[schema(max_items = 10)]
    max_lifetime: Vec<TouchedTokenBody>,
    /// Users with more live tokens than `max_tokens_per_user`, those with the most first.
    #[schema(max_items = 10)]
    max_tokens_per_user: Vec<TouchedUserBody>,
}

/// A token that a limit would touch.
#[derive(Serialize, ToSchema)]
#[schema(as = TouchedToken)]
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

/// A user whom a limit would touch.
#[derive(Serialize, ToSchema)]
#[schema(as = TouchedUser)]
struct TouchedUserBody {
    #[schema(example = "alice")]
    user: String,
    /// How many live tokens it has that count.
    #[schema(example = 9)]
    live_tokens: u64,
}

impl From<Touched> for DryRunBody {
    fn from(touched: Touched) -> Self {
        let (lifetime, tokens) = (touched.over_max_lifetime, touched.over_max_tokens);
        Self {
            dry_run: true,
            would_touch: TouchedBody {
                max_lifetime: lifetime.tokens,
                max_tokens_per_user: tokens.tokens,
                users: tokens.users,
            },
            examples: ExamplesBody {
                max_lifetime: lifetime.examples.into_iter().map(TouchedTokenBody::from).collect(),
                max_tokens_per_user: tokens.examples.into_iter().map(TouchedUserBody::from).collect(),
            },
        }
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
