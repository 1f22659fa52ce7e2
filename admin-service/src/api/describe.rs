//! The description's head.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContactBuilder, InfoBuilder, License, OpenApi, OpenApiBuilder, tag::TagBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use crate::error::{Code, ErrorBody};

const ABOUT: &str = "\
API tokens for Envoy: users, their tokens, and the restrictions on them.

Callers send a token of their own, as `Authorization: Bearer <token>` or `Authorization: Basic base64(<user>:<token>)`. \
What it may do depends on its scopes: `latchkey:admin` permits everything, `latchkey:tokens` permits a user to manage \
its own tokens, and any token permits `GET /me`. Times are RFC 3339 in UTC, lengths of time are written as in `30d`, \
`12h` or `90m`. Unknown fields and query parameters are refused. Every error has the same body; programs go by its `code`.";

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
