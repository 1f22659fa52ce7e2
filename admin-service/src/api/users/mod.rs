//! `/users`: who tokens act for.

mod get;
mod name;
mod post;

use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::links::Links;
use crate::app::App;
use crate::domain::user::{User, UserName};
use crate::error::ApiError;

pub(crate) use name::{MAX_IMPORT, check_entry};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get::list_users, post::create_user)).merge(name::routes())
}

/// The path of a user.
fn path(name: &UserName) -> String {
    format!("{}/users/{name}", super::BASE)
}

/// A user.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
pub(super) struct UserBody {
    /// Where this user is.
    #[serde(rename = "self")]
    #[schema(example = "https://tokens.example.com/api/v1/users/alice")]
    this: String,
    /// The identifier that never changes.
    #[schema(format = Uuid)]
    key: String,
    /// The unique name.
    #[schema(example = "alice")]
    name: String,
    /// Where the user gets mail, if known.
    #[serde(rename = "emailAddress")]
    #[schema(example = "alice@example.com")]
    email_address: Option<String>,
    /// The name that people see.
    #[serde(rename = "displayName")]
    #[schema(example = "Alice Liddell")]
    display_name: String,
    /// Whether the user's tokens work.
    active: bool,
    /// Whether the user was deleted.
    #[schema(example = false)]
    deleted: bool,
    /// A name of the IANA time zone database.
    #[serde(rename = "timeZone")]
    #[schema(example = "Europe/Berlin")]
    time_zone: String,
}

impl UserBody {
    pub(super) fn of(user: User, links: &Links) -> Self {
        Self {
            this: links.url(&path(&user.name)),
            key: user.id.to_string(),
            name: user.name.to_string(),
            email_address: user.email_address.map(|address| address.to_string()),
            display_name: user.display_name.to_string(),
            active: user.active,
            deleted: user.deleted,
            time_zone: user.time_zone.to_string(),
        }
    }
}

/// Reads a field's value, if there is one.
fn field<T: std::str::FromStr<Err: std::fmt::Display>>(
    name: &str,
    value: Option<&str>,
) -> Result<Option<T>, ApiError> {
    let parsed = value.map(str::parse).transpose();
    parsed.map_err(|problem| ApiError::field(name, format!("`{name}` {problem}")))
}
