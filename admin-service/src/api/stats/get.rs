//! `GET /stats`: how many users and tokens there are, and how many requests each hour had.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::extract::{Parameters, bad_parameter};
use crate::app::App;
use crate::auth::Admin;
use crate::census::CensusError;
use crate::domain::period::Period;
use crate::domain::stats::{Counts, HourOfRequests};
use crate::domain::time::Timestamp;
use crate::error::ApiError;
use crate::json::Json;
use crate::store::HOURS_RETAINED;

const HOUR: Period = Period::from_millis(3_600_000);
/// The most hours that are listed: all that are kept.
const MOST_HOURS: u64 = HOURS_RETAINED.as_millis() / HOUR.as_millis();
/// The hours of a day.
const DEFAULT_HOURS: u64 = 24;

/// How far back to look.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatsQuery {
    /// How many hours of requests to list; the last one is the one that is not over yet.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 2160, default = 24)]
    hours: Option<String>,
}

impl StatsQuery {
    fn check(&self) -> Result<u64, ApiError> {
        let hours = self.hours.as_deref().map_or(Ok(DEFAULT_HOURS), str::parse);
        let no_number = |_| bad_parameter("hours", &format!("must be a number, 1 to {MOST_HOURS}"));
        match hours.map_err(no_number)? {
            hours if (1..=MOST_HOURS).contains(&hours) => Ok(hours),
            hours => Err(bad_parameter("hours", &format!("must be 1 to {MOST_HOURS}, and is {hours}"))),
        }
    }
}

/// How the service is used.
#[derive(Serialize, ToSchema)]
#[schema(as = Stats)]
pub(super) struct StatsBody {
    /// When users and tokens were counted. With more than 100,000 of them a count serves for up to a minute.
    #[schema(value_type = String, format = DateTime)]
    as_of: Timestamp,
    users: UsersBody,
    tokens: TokensBody,
    /// Active tokens that expire within 7 days.
    #[schema(example = 2)]
    expiring_in_7_days: u64,
    /// What edges have reported, hour by hour, the first hour first. Hours without requests are listed too.
    requests_by_hour: Vec<HourBody>,
}

/// How many users there are.
#[derive(Serialize, ToSchema)]
#[schema(as = UserCounts)]
struct UsersBody {
    /// All of them.
    #[schema(example = 12)]
    total: u64,
    /// Those whose tokens work.
    #[schema(example = 10)]
    active: u64,
    /// Those that are disabled and not deleted.
    #[schema(example = 1)]
    disabled: u64,
    /// Those that were deleted.
    #[schema(example = 1)]
    deleted: u64,
}

/// How many tokens there are. Each has one status; the tokens of disabled users count as what they would be otherwise.
#[derive(Serialize, ToSchema)]
#[schema(as = TokenCounts)]
struct TokensBody {
    /// All of them.
    #[schema(example = 37)]
    total: u64,
    #[schema(example = 30)]
    active: u64,
    /// Those that are expired, and were neither revoked nor deleted.
    #[schema(example = 4)]
    expired: u64,
    #[schema(example = 3)]
    revoked: u64,
}

/// The requests of one hour, of all tokens together.
#[derive(Serialize, ToSchema)]
#[schema(as = HourOfRequests)]
struct HourBody {
    /// When the hour begins.
    #[schema(value_type = String, format = DateTime)]
    hour: Timestamp,
    /// Requests that passed.
    #[schema(example = 5120)]
    allowed: u64,
    /// Requests that were refused with a token that the service knows.
    #[schema(example = 17)]
    denied: u64,
}

impl StatsBody {
    fn of(counts: Counts, requests_by_hour: Vec<HourBody>) -> Self {
        let (users, tokens) = (counts.users, counts.tokens);
        let total = users.total();
        Self {
            as_of: counts.as_of,
            users: UsersBody {
                total,
                active: users.active,
                disabled: users.disabled,
                deleted: users.deleted,
            },
            tokens: TokensBody {
                total: tokens.total(),
                active: tokens.active,
                expired: tokens.expired,
                revoked: tokens.revoked,
            },
            expiring_in_7_days: tokens.expiring,
            requests_by_hour,
        }
    }
}

/// The beginnings of so many hours, up to the one that `now` is in.
fn hours(now: Timestamp, most: u64) -> impl Iterator<Item = Timestamp> {
    let since_it_began = Period::from_millis(now.as_millisecond().rem_euclid(3_600_000).unsigned_abs());
    let current = since_it_began.before(now);
    (0..most).rev().map(move |ago| Period::from_millis(ago * HOUR.as_millis()).before(current))
}

/// What is known of each hour.
fn filled(hours: impl Iterator<Item = Timestamp>, found: &[HourOfRequests]) -> Vec<HourBody> {
    let found: BTreeMap<Timestamp, (u64, u64)> =
        found.iter().map(|one| (one.hour, (one.allowed, one.denied))).collect();
    let body = |hour| {
        let (allowed, denied) = found.get(&hour).copied().unwrap_or_default();
        HourBody { hour, allowed, denied }
    };
    hours.map(body).collect()
}

/// How the service is used
///
/// Users by what they are, tokens by status, and requests by hour as edges report them. Counting takes longer the more
/// there are: with more than 100,000 users and tokens the counts may be up to a minute old, and `as_of` tells their age.
#[utoipa::path(
    get, path = "/stats", tag = "stats",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    params(StatsQuery),
    responses((status = 200, description = "The figures.", body = StatsBody)),
)]
pub(super) async fn get_stats(
    _: Admin,
    Parameters(query): Parameters<StatsQuery>,
    State(app): State<App>,
) -> Result<Json<StatsBody>, ApiError> {
    let most = query.check()?;
    let counts = app.census.counts().await.map_err(|error| match error {
        CensusError::Store(error) => ApiError::from(error),
        CensusError::Counting => ApiError::unavailable(
            "Users and tokens are being counted for the first time; try again in some seconds",
        ),
    })?;
    let hours: Vec<Timestamp> = hours(app.sources.now(), most).collect();
    let found = app.store.requests_by_hour(hours.first().copied().unwrap_or(Timestamp::MIN)).await?;
    Ok(Json(StatsBody::of(counts, filled(hours.into_iter(), &found))))
}
