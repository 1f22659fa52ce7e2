//! What every handler may use: the store, time and randomness, and the settings that stay as they are.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use latchkey::token::TokenPrefix;

use crate::attempts::Attempts;
use crate::census::Census;
use crate::changes::ChangeLimit;
use crate::clock::Sources;
use crate::config::Config;
use crate::edge::secret::EdgeSecrets;
use crate::edge::used::Used;
use crate::feed::{Feed, Follower};
use crate::jobs::{Runner, RunnerHandle, holder};
use crate::server::TrustedProxies;
use crate::store::{OpenError, Store, StoreOptions};
use crate::timekeeper::Timekeeper;

/// The service as its handlers see it. Cheap to clone, which is done several times for each request.
#[derive(Clone)]
pub struct App(Arc<Parts>);

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// What an [`App`] consists of.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Time and randomness.
    pub sources: Sources,
    /// What deletes expired tokens.
    pub scheduler: RunnerHandle,
    /// What tells edges of changes.
    pub feed: Feed,
    /// What the service itself has let through and refused, for gateways that ask it.
    pub used: Used,
    /// What counts users and tokens.
    pub census: Census,
    /// What limits failed authentications.
    pub attempts: Attempts,
    /// What limits changes.
    pub changes: ChangeLimit,
    /// What was configured.
    pub settings: Settings,
}

/// What the service does beside answering, for [`crate::server::run`].
pub struct Tasks {
    /// Runs the jobs.
    pub runner: Runner,
    /// Follows the history for the feed.
    pub follower: Follower,
    /// Watches the clock.
    pub timekeeper: Timekeeper,
}

/// What was configured, as handlers need it.
pub struct Settings {
    /// What new tokens begin with.
    pub token_prefix: TokenPrefix,
    /// How users reach the management API, without a final slash; `None`: as each request does.
    pub public_url: Option<String>,
    /// Where the management API listens.
    pub listen: SocketAddr,
    /// What edges must present; `None`: nothing.
    pub edge_secrets: Option<EdgeSecrets>,
    /// Which proxies are believed.
    pub trusted_proxies: TrustedProxies,
}

impl App {
    /// Opens and migrates the database. The tasks are for [`crate::server::run`].
    ///
    /// # Errors
    /// [`OpenError`] when it cannot be used.
    pub async fn open(
        config: &Config,
        api: SocketAddr,
        sources: Sources,
    ) -> Result<(Self, Tasks), OpenError> {
        let options = StoreOptions {
            must_exist: config.database_must_exist,
            patience: config.database_timeout,
            ..StoreOptions::default()
        };
        let (url, wait) = (&config.database_url, config.database_wait);
        let store = Store::open_within(url, options, sources.clone(), wait).await?;
        let timekeeper = Timekeeper::begin(store.clone()).await;
        let (runner, scheduler) = Runner::new(store.clone(), holder(&sources)?);
        let runner = runner.keeping_audit_for(config.audit_retention);
        let census = Census::new(store.clone());
        let (feed, follower) = Feed::new(store.clone());
        let used = Used::new(store.clone())?;
        let attempts = Attempts::new(config.max_failed_attempts, sources.clone());
        let changes = ChangeLimit::new(config.max_changes, sources.clone());
        let settings = Settings {
            token_prefix: config.token_prefix.clone(),
            public_url: config.public_url.clone(),
            listen: api,
            edge_secrets: config.edge_secrets.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
        };
        let parts = Parts { store, sources, scheduler, feed, used, census, attempts, changes, settings };
        Ok((Self(Arc::new(parts)), Tasks { runner, follower, timekeeper }))
    }

    /// A path such as `/api/v1/users/alice` as callers reach it, without scheme and host, for `Location`: whatever name the caller
    /// reached the service by stays in use.
    #[must_use]
    pub fn location(&self, path: &str) -> String {
        let public_url = self.settings.public_url.as_deref().unwrap_or_default();
        let rest = public_url.split_once("://").map_or("", |(_, rest)| rest);
        let base = rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or_default();
        format!("{base}{path}")
    }
}
