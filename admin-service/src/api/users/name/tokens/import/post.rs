//! `POST /users/{name}/tokens:import`: stores tokens by their hashes.

use axum::extract::State;
use latchkey::token::TokenHash;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::extract::{Body, NoParameters, parse};
use crate::api::tokens::{TokenBody, fields};
use crate::api::users::field;
use crate::api::users::name::Named;
use crate::api::users::name::tokens::post::NewTokenBody;
use crate::app::App;
use crate::auth::Admin;
use crate::domain::import::{Import, Imported, MOST_IMPORTED};
use crate::domain::time::Timestamp;
use crate::domain::token::{Networks, NewToken, Schemes};
use crate::error::{ApiError, Code, ErrorBody};
use crate::json::Json;

/// The largest body of an import, in bytes.
pub(crate) const MAX_IMPORT: usize = 1024 * 1024;

/// Tokens to be imported.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Import)]
pub(super) struct ImportBody {
    /// 1 to 1,000 tokens, no two the same.
    #[schema(min_items = 1, max_items = 1000)]
    tokens: Vec<EntryBody>,
    /// Whether these tokens may last longer, and be more, than the restrictions allow.
    #[serde(default)]
    ignore_restrictions: bool,
}

/// One of them.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ImportEntry)]
struct EntryBody {
    /// SHA-256 of the whole token, 64 hexadecimal digits.
    #[schema(
        pattern = "^[0-9a-fA-F]{64}$",
        example = "c9f1ce8ea1d5d1ba0f2c1b7ef9a0d0c5a3f7c1d2e4b6a8907766554433221100"
    )]
    token_hash: String,
    /// What the owner knows it by; need not be unique.
    #[schema(min_length = 1, max_length = 100, example = "ci")]
    name: String,
    /// What its owner recognises it by, such as its first characters; `imported` by default.
    #[schema(min_length = 1, max_length = 32, example = "ghp_a1")]
    hint: Option<String>,
    /// How long it lives from now on. Without `expires_in` and `expires_at` it lives as long as the restrictions allow.
    #[schema(pattern = "^(0|[1-9][0-9]{0,12})[smhdw]$", example = "30d")]
    expires_in: Option<String>,
    /// When it expires, in the future; instead of `expires_in`.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// When it was made, in the past; now by default. The longest lifetime counts from then on.
    #[schema(format = DateTime, example = "2025-06-01T00:00:00Z")]
    created_at: Option<String>,
    /// What it may be presented with: `bearer`, `basic` or both, which is the default.
    #[schema(example = json!(["bearer", "basic"]), min_items = 1)]
    schemes: Option<Vec<String>>,
    /// What it permits: at most 32 scopes of RFC 6749, none by default.
    #[schema(example = json!(["read"]), max_items = 32)]
    scopes: Option<Vec<String>>,
    /// The networks that it may be used from: at most 32; none by default, which permits any.
    #[schema(example = json!(["10.0.0.0/8"]), max_items = 32)]
    allowed_cidrs: Option<Vec<String>>,
    /// A note.
    #[schema(max_length = 500)]
    description: Option<String>,
}

impl ImportBody {
    fn check(self, now: Timestamp) -> Result<Import, ApiError> {
        let count = self.tokens.len();
        if !(1..=MOST_IMPORTED).contains(&count) {
            return Err(fields::refuse(
                "tokens",
                &format!("must hold 1 to {MOST_IMPORTED} tokens, and holds {count}"),
            ));
        }
        let check =
            |(index, entry): (usize, EntryBody)| entry.check(now).map_err(|refused| refused.of_entry(index));
        let checked = self.tokens.into_iter().enumerate().map(check).collect::<Result<_, _>>()?;
        Import::new(checked, self.ignore_restrictions).map_err(|(index, earlier)| {
            let message = format!("It is the same token as `tokens[{earlier}]`; an import holds each once");
            ApiError::new(Code::TokenExists, message).with("same_as", earlier).of_entry(index)
        })
    }
}

impl EntryBody {
    fn check(self, now: Timestamp) -> Result<NewToken, ApiError> {
        let hash = self.token_hash.parse();
        let hash = hash.map_err(|_| {
            fields::refuse("token_hash", &"must be the SHA-256 of a token, 64 hexadecimal digits")
        })?;
        let hint = field("hint", self.hint.as_deref())?.unwrap_or_default();
        let created_at = self.created_at.map(|text| fields::time("created_at", &text)).transpose()?;
        if created_at.is_some_and(|made| made > now) {
            return Err(fields::refuse("created_at", &format!("must be in the past: it is {now}")));
        }
        let spec = NewTokenBody {
            name: self.name,
            expires_in: self.expires_in,
            expires_at: self.expires_at,
            schemes: self.schemes,
            scopes: self.scopes,
            allowed_cidrs: self.allowed_cidrs,
            description: self.description,
        };
        let spec = spec.check(Networks::default(), Schemes::default())?;
        NewToken::imported(spec, hash, &hint, created_at)
            .map_err(|(field, problem)| fields::refuse(field, &problem))
    }
}

/// Checks one entry of an import as far as that can be done without the service, and gives the token's hash.
///
/// # Errors
/// What the service would answer.
pub(crate) fn check_entry(json: &[u8]) -> Result<TokenHash, ApiError> {
    Ok(parse::<EntryBody>(json)?.check(Timestamp::MAX)?.hash)
}

/// What an import has done.
#[derive(Serialize, ToSchema)]
#[schema(as = ImportResult)]
pub(super) struct ImportedBody {
    /// How many tokens are stored now.
    #[schema(example = 1)]
    imported: usize,
    /// How many the user had already; these stay as they are.
    #[schema(example = 0)]
    already_stored: usize,
    /// All of them, in the order of the request.
    items: Vec<TokenBody>,
}

/// Import tokens by their hashes
///
/// For tokens that another system has made: their holders need no others. Either all are imported or none, and they work at
/// once at every edge. A token that the user has already stays as it is, so this can be repeated. A token that does
/// not begin with the service's prefix, or whose checksum is another's, is only looked up by filters with `token_prefix: null`.
#[utoipa::path(
    post, path = "/users/{name}/tokens:import", tag = "tokens",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    params(("name" = String, Path, description = "The user's name.")),
    request_body = ImportBody,
    responses(
        (status = 200, description = "The user has all of them now.", body = ImportedBody),
        (status = 404, description = "`user_not_found`: there is no such user.", body = ErrorBody),
        (status = 409, description = "`token_exists`: another user has this token, or it is there twice; `entry` says which, counted from 0, and `token_id` or `same_as` whose it is. \
            `token_limit_reached`: the user would have more live tokens than are allowed; `limit`, `count` and `new` say how many. \
            `user_not_active`: the user is disabled or deleted.", body = ErrorBody),
        (status = 422, description = "`expiry_too_long`: one would live longer than is allowed; `entry` says which, `max_lifetime` how long that is, `latest_expires_at` until when, and `asked_for` what was asked for.", body = ErrorBody),
    ),
)]
pub(super) async fn import_tokens(
    admin: Admin,
    Named(user): Named,
    _: NoParameters,
    State(app): State<App>,
    Body(body): Body<ImportBody, MAX_IMPORT>,
) -> Result<Json<ImportedBody>, ApiError> {
    let import = body.check(app.sources.now())?;
    let imported = app.store.import_tokens(&admin.origin(), &user, &import).await?;
    let count = imported.iter().filter(|one| matches!(one, Imported::New(_))).count();
    let (now, already_stored) = (app.sources.now(), imported.len() - count);
    let items = imported
        .into_iter()
        .map(|(Imported::New(token) | Imported::Stored(token))| TokenBody::of(token, now));
    Ok(Json(ImportedBody { imported: count, already_stored, items: items.collect() }))
}
