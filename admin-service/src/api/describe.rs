//! The description's head, and what is true of every operation, written once.

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContactBuilder, Content, InfoBuilder, License, OpenApi, OpenApiBuilder, Ref, RefOr, Response,
    ResponseBuilder, tag::TagBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use crate::error::{Code, ErrorBody};

const ABOUT: &str = "\
API tokens for Envoy: users, their tokens, and the restrictions on them.

Callers send a token of their own, as `Authorization: Bearer <token>` or `Authorization: Basic base64(<user>:<token>)`. \
What it may do depends on its scopes: `latchkey:admin` permits everything, `latchkey:tokens` permits a user to manage \
its own tokens, and any token permits `GET /me`. Times are RFC 3339 in UTC, lengths of time are written as in `30d`, \
`12h` or `90m`. Unknown fields and query parameters are refused. Every error has the same body; programs go by its `code`.";

/// The errors that an operation can always answer with, by what it takes.
const ALWAYS: [(u16, &str); 6] = [
    (
        400,
        "`invalid_query`: a query parameter is unknown or impossible. `invalid_cursor`: the cursor is of no earlier page. \
           `multiple_credentials`: more than one credential was sent.",
    ),
    (
        401,
        "`api_key_missing`: no credential was sent. `api_key_invalid`: the credential is not valid; why is not told.",
    ),
    (
        403,
        "`insufficient_scope`: the token lacks the scope. `address_not_permitted`: the token may not be used from here.",
    ),
    (
        429,
        "`too_many_failures`: too many authentications from this address have failed. A valid credential still passes.",
    ),
    (500, "`internal_error`: something failed in the service."),
    (503, "`unavailable`, `overloaded`: the service cannot do this now; try again."),
];
/// The same for operations that change something.
const CHANGING: [(u16, &str); 1] =
    [(507, "`insufficient_storage`: the disk of the database is full, so nothing was changed.")];
/// The same for operations with a body.
const WITH_BODY: [(u16, &str); 5] = [
    (
        400,
        "`malformed_json`: the body is no JSON. `invalid_body`: a field is unknown, missing or of the wrong type. \
           `invalid_query`: a query parameter is unknown or impossible. `multiple_credentials`: more than one credential was sent.",
    ),
    (408, "`request_timeout`: the body did not arrive in time."),
    (413, "`body_too_large`: the body is larger than 64 KiB."),
    (415, "`unsupported_media_type`: the body is not declared as JSON."),
    (422, "`invalid_value`: a field has a value that cannot be; `field` names it."),
];

/// The description before any operation is in it.
pub(super) fn document() -> OpenApi {
    let contact = ContactBuilder::new().name(Some("Latchkey")).build();
    let mut license = License::new("Apache-2.0");
    license.identifier = Some("Apache-2.0".to_owned());
    let info = InfoBuilder::new()
        .title("Latchkey management API")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .contact(Some(contact))
        .license(Some(license));
    let tags = [
        ("me", "The caller"),
        ("users", "Who tokens act for"),
        ("tokens", "Making, listing and revoking tokens"),
        ("restrictions", "The administrator's limits"),
        ("scheduler", "The deletion of expired tokens"),
        ("audit", "Who did what"),
        ("stats", "How the service is used"),
    ];
    let tags = tags.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build());
    let mut components = Components::new();
    let scheme = |scheme, about| {
        SecurityScheme::Http(HttpBuilder::new().scheme(scheme).description(Some(about)).build())
    };
    components.add_security_scheme("bearer", scheme(HttpAuthScheme::Bearer, "A token (RFC 6750)."));
    components.add_security_scheme(
        "basic",
        scheme(HttpAuthScheme::Basic, "The user's name, and a token as the password (RFC 7617)."),
    );
    components.schemas.insert(ErrorBody::name().into_owned(), ErrorBody::schema());
    components.schemas.insert(Code::name().into_owned(), Code::schema());
    OpenApiBuilder::new().info(info).tags(Some(tags)).components(Some(components)).build()
}

/// Adds to every operation what is true of all, unless it says something of its own for the same status.
pub(super) fn complete(description: &mut OpenApi) {
    for item in description.paths.paths.values_mut() {
        let reading = item.get.iter_mut().map(|operation| (operation, &CHANGING[..0]));
        let changing =
            [&mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten();
        for (operation, changing) in reading.chain(changing.map(|operation| (operation, &CHANGING[..]))) {
            let body: &[(u16, &str)] = if operation.request_body.is_some() { &WITH_BODY } else { &[] };
            for (status, about) in body.iter().chain(&ALWAYS).chain(changing) {
                add(operation, *status, about);
            }
        }
    }
}

/// Adds an error answer; where the operation has one of that status, its text comes first.
fn add(operation: &mut Operation, status: u16, about: &str) {
    let responses = &mut operation.responses.responses;
    let key = status.to_string();
    match responses.get_mut(&key) {
        None => {
            responses.insert(key, RefOr::T(error(about)));
        }
        Some(RefOr::T(own)) if (status == 422 || status == 403) && !own.description.contains(about) => {
            own.description = format!("{} {about}", own.description);
        }
        Some(_) => {}
    }
}

fn error(about: &str) -> Response {
    let schema = Ref::from_schema_name(ErrorBody::name());
    ResponseBuilder::new().description(about).content("application/json", Content::new(Some(schema))).build()
}
