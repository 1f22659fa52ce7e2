//! Which entries of the audit log: the flags that `list` and `export` share.

use crate::cli::moment::Moment;
use crate::clock::Sources;

/// Which entries: those that meet all that is given.
#[derive(clap::Args)]
pub(super) struct Filter {
    /// By this user, system:scheduler, system:bootstrap or system:local
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,

    /// Of this kind, such as token.created
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,

    /// To this: a user's name, a token's identifier, restrictions, scheduler or audit
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,

    /// Not before this time, such as 2026-01-31T00:00:00Z, or so long ago, such as 24h
    #[arg(long, value_name = "TIME|PERIOD")]
    since: Option<Moment>,

    /// Before this time, or so long ago
    #[arg(long, value_name = "TIME|PERIOD")]
    until: Option<Moment>,
}

impl Filter {
    /// The query of those that are given.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        let now = Sources::system().now();
        let time = |moment: Option<Moment>| moment.map(|moment| moment.ago(now).to_string());
        let given = [
            ("actor", self.actor.clone()),
            ("action", self.action.clone()),
            ("subject", self.subject.clone()),
            ("since", time(self.since)),
            ("until", time(self.until)),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// A query as a request takes it.
pub(super) fn borrowed<'a>(query: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    query.iter().map(|(name, value)| (*name, value.as_str())).collect()
}
