//! The management API. The folder path is the URL path, one file per operation; router and description are one.
#![allow(unused_qualifications, reason = "utoipa's macros write the types of query parameters with a path")]

mod audit;
mod complete;
mod cross_site;
mod describe;
mod examples;
pub mod extract;
mod links;
mod me;
mod page;
mod restrictions;
mod scheduler;
mod stats;
mod tokens;
mod users;

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerFile};

use crate::app::App;
use crate::server::nothing_here;

pub(crate) use users::{MAX_IMPORT, check_entry as check_import_entry};

/// Where the management API is.
pub const BASE: &str = "/api/v1";
/// Where its description is.
const DESCRIPTION: &str = "/api/v1/openapi.json";
/// What the page at `/docs` may load: its own files, and the styles and pictures inside them.
const DOCS_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The operations, and their description.
fn operations() -> (Router<App>, OpenApi) {
    let operations = OpenApiRouter::new()
        .merge(me::routes())
        .merge(users::routes())
        .merge(tokens::routes())
        .merge(restrictions::routes())
        .merge(scheduler::routes())
        .merge(audit::routes())
        .merge(stats::routes());
    let (router, mut description) =
        OpenApiRouter::with_openapi(describe::document()).nest(BASE, operations).split_for_parts();
    complete::complete(&mut description);
    (router, description)
}

/// The description of the management API.
#[must_use]
pub fn description() -> OpenApi {
    operations().1
}

/// The operations, for the management listener.
pub fn router(app: App) -> Router {
    let own_site = from_fn_with_state(app.clone(), cross_site::refuse);
    operations().0.layer(own_site).with_state(app)
}

/// The description, and the page that shows it, for everybody. All of it is in memory once, however many ask for it and take
/// nothing of the answer.
pub fn described() -> Router {
    let text = Bytes::from(format!("{}\n", description().to_json().unwrap_or_default()));
    let describe =
        get(|Extension(text): Extension<Bytes>| async move { ([(CONTENT_TYPE, "application/json")], text) });
    let page = Router::new()
        .route("/docs", get(|| async { Redirect::to("/docs/") }))
        .route("/docs/", get(page))
        .route("/docs/{*file}", get(page))
        .layer(Extension(Arc::new(Config::from(DESCRIPTION))))
        .layer(SetResponseHeaderLayer::overriding(CONTENT_SECURITY_POLICY, DOCS_POLICY));
    Router::new().route(DESCRIPTION, describe.layer(Extension(text))).merge(page).route("/", get(root))
}

/// A file of the page, as it is in the program.
async fn page(file: Option<Path<String>>, Extension(config): Extension<Arc<Config<'static>>>) -> Response {
    let name = file.map_or_else(String::new, |Path(name)| name);
    let Ok(Some(SwaggerFile { bytes, content_type, gzpipped, .. })) = utoipa_swagger_ui::serve(&name, config)
    else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let bytes = match bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    let encoding = gzpipped.then_some([(CONTENT_ENCODING, "gzip")]);
    ([(CONTENT_TYPE, content_type)], encoding, bytes).into_response()
}

/// Leads people to the page that shows the API; programs are told where its description is.
async fn root(headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/html") {
        Redirect::temporary("/docs/").into_response()
    } else {
        nothing_here().await.into_response()
    }
}
