//! `POST /users`: makes a user.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{UserBody, field, path};
use crate::api::extract::{Body, NoParameters};
use crate::api::links::Links;
use crate::app::App;
use crate::auth::Admin;
use crate::domain::user::NewUser;
use crate::error::{ApiError, ErrorBody};
use crate::json::Json;

/// A user to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = NewUser, example = json!({"name": "alice", "displayName": "Alice Liddell", "emailAddress": "alice@example.com", "timeZone": "Europe/Berlin"}))]
pub(super) struct NewUserBody {
    /// The unique name: 1 to 64 of `a-z 0-9 . _ @ + -`, the first a letter or digit; capitals are folded. It cannot be changed.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$")]
    name: String,
    /// The name that people see; by default `name`.
    #[schema(min_length = 1, max_length = 200)]
    display_name: Option<String>,
    /// Where the user gets mail.
    #[schema(max_length = 254, pattern = "^[^\\s@]+@[^\\s@]+$")]
    email_address: Option<String>,
    /// A name of the IANA time zone database; by default `UTC`.
    #[schema(pattern = "^[A-Za-z][A-Za-z0-9_+/-]*$")]
    time_zone: Option<String>,
}

/// Make a user
#[utoipa::path(
    post, path = "/users", tag = "users",
    security(("bearer" = ["latchkey:admin"]), ("basic" = ["latchkey:admin"])),
    request_body = NewUserBody,
    responses(
        (status = 201, description = "The new user.", body = UserBody, headers(("Location", description = "Where the user is."))),
        (status = 409, description = "`user_exists`: another user has, or had, this name.", body = ErrorBody),
    ),
)]
pub(super) async fn create_user(
    admin: Admin,
    _: NoParameters,
    State(app): State<App>,
    links: Links,
    Body(body): Body<NewUserBody>,
) -> Result<impl IntoResponse, ApiError> {
    let new = NewUser {
        name: body.name.parse().map_err(|problem| ApiError::field("name", format!("`name` {problem}")))?,
        display_name: field("displayName", body.display_name.as_deref())?,
        email_address: field("emailAddress", body.email_address.as_deref())?,
        time_zone: field("timeZone", body.time_zone.as_deref())?,
    };
    let user = app.store.create_user(&admin.origin(), &new).await?;
    let location = app.location(&path(&user.name));
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(UserBody::of(user, &links))))
}
