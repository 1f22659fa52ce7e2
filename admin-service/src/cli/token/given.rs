//! What a token is given when it is made or changed, by the API's names.

use serde_json::{Map, Value};

use crate::domain::time::Timestamp;
use crate::domain::token::Description;

/// What a token permits and is noted for.
#[derive(clap::Args)]
pub(super) struct Given {
    /// A scope that it permits; once for each
    #[arg(long = "scope", visible_alias = "scopes", value_name = "SCOPE", value_delimiter = ' ')]
    scopes: Vec<String>,

    /// A network or an address that it may be used from; once for each
    #[arg(
        long = "allowed-cidr",
        visible_alias = "allowed-cidrs",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    allowed_cidrs: Vec<String>,

    /// It may be used from anywhere
    #[arg(long, conflicts_with = "allowed_cidrs")]
    from_anywhere: bool,

    /// When it expires, such as 2030-12-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,

    /// A note
    #[arg(long, value_name = "TEXT")]
    description: Option<Description>,
}

impl Given {
    /// Writes what is given.
    pub fn write_to(&self, body: &mut Map<String, Value>) {
        let mut give = |name: &str, value: Value| body.insert(name.to_owned(), value);
        if !self.scopes.is_empty() {
            give("scopes", self.scopes.clone().into());
        }
        if !self.allowed_cidrs.is_empty() || self.from_anywhere {
            give("allowed_cidrs", self.allowed_cidrs.clone().into());
        }
        if let Some(time) = self.expires_at {
            give("expires_at", time.to_string().into());
        }
        if let Some(text) = &self.description {
            give("description", text.as_str().into());
        }
    }
}
