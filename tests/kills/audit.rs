//! The audit log and the tables beside it, compared entry by entry with the book: each acknowledged change is there once, what
//! was not acknowledged is there wholly or not at all, and nothing is there that nobody asked for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::book::{Book, Change, Request, State};
use crate::support::database::Database;

/// An entry of the audit log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The identifier of the client's request; empty where there was none.
    pub ticket: String,
    pub actor: String,
    pub action: String,
    pub subject: String,
    /// The tokens that it names as deleted.
    pub deleted: Vec<String>,
}

/// What is in the database at the end.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub entries: Vec<Entry>,
    pub users: BTreeSet<String>,
    pub tokens: BTreeSet<String>,
    pub revoked: BTreeSet<String>,
    /// The counter.
    pub revision: usize,
    /// The revisions that changes are noted of.
    pub changes: BTreeSet<usize>,
}

/// What the comparison has counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    pub acknowledged: usize,
    /// Requests without an answer that were done, and that were not.
    pub unanswered_done: usize,
    pub unanswered_not_done: usize,
    pub entries: usize,
    pub deleted: usize,
}

impl Stored {
    /// Reads all of it.
    pub async fn read(url: &str) -> Self {
        let mut database = Database::open(url).await;
        let entries =
            "SELECT COALESCE(client_request_id, ''), actor, action, subject, details FROM audit ORDER BY id";
        let entries = database.rows(entries).await.into_iter().map(entry).collect();
        let number = |text: &String| text.parse().expect("a revision");
        let changes = database.column("SELECT DISTINCT CAST(revision AS TEXT) FROM changes").await;
        let revision = database.number("SELECT revision FROM history").await;
        Self {
            entries,
            users: database.set("SELECT name FROM users").await,
            tokens: database.set("SELECT id FROM tokens").await,
            revoked: database.set("SELECT id FROM tokens WHERE revoked_at IS NOT NULL").await,
            revision: usize::try_from(revision).expect("a revision"),
            changes: changes.iter().map(number).collect(),
        }
    }

    /// All that must not be, and what there is.
    pub fn compare(&self, book: &Book) -> (Vec<String>, Compared) {
        let requests = book.requests();
        let mut check = Check { of: self, faults: Vec::new(), counts: Compared::default() };
        let by_ticket = check.entries_by_ticket(&requests);
        for request in &requests {
            check.request(request, &by_ticket);
        }
        check.tables(&requests, &by_ticket);
        check.states(book);
        check.history();
        check.counts.entries = self.entries.len();
        (check.faults, check.counts)
    }
}

fn entry(row: Vec<String>) -> Entry {
    let [ticket, actor, action, subject, details] = row.try_into().expect("five columns");
    let details: Value = serde_json::from_str(&details).expect("details in JSON");
    let ids = details["token_ids"].as_array().into_iter().flatten();
    let deleted = ids.map(|id| id.as_str().expect("an id").to_owned()).collect();
    Entry { ticket, actor, action, subject, deleted }
}

/// The entries of each request.
type ByTicket<'a> = BTreeMap<&'a str, Vec<&'a Entry>>;

struct Check<'a> {
    of: &'a Stored,
    faults: Vec<String>,
    counts: Compared,
}

impl<'a> Check<'a> {
    fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// Sorts the entries, and finds those that are of no request in the book.
    fn entries_by_ticket(&mut self, requests: &[Request]) -> ByTicket<'a> {
        let known: BTreeSet<&str> =
            requests.iter().flat_map(|request| request.tickets.iter().map(String::as_str)).collect();
        let mut by_ticket = ByTicket::new();
        for entry in &self.of.entries {
            if known.contains(entry.ticket.as_str()) {
                by_ticket.entry(&entry.ticket).or_default().push(entry);
            } else if !(entry.actor.starts_with("system:") || entry.action == "restrictions.updated") {
                self.fault(format!("nobody asked for {entry:?}"));
            }
        }
        by_ticket
    }

    /// A request has all its entries once, however often it was sent; or none, if it was never acknowledged.
    fn request(&mut self, request: &Request, by_ticket: &ByTicket<'_>) {
        if request.change == Change::RunScheduler {
            return;
        }
        let done: Vec<&Vec<&Entry>> =
            request.tickets.iter().filter_map(|ticket| by_ticket.get(ticket.as_str())).collect();
        let expected = actions(&request.change);
        let found = done.first().map_or_else(Vec::new, |entries| {
            let mut actions: Vec<_> = entries.iter().map(|entry| entry.action.as_str()).collect();
            actions.sort_unstable();
            actions
        });
        match (done.len(), request.acknowledged) {
            (0, true) => self.fault(format!("lost: {request:?}")),
            (0, false) => self.counts.unanswered_not_done += 1,
            (1, _) if found != expected => {
                self.fault(format!("half done or done twice: {request:?} has {found:?}"));
            }
            (1, acknowledged) => {
                let counter = if acknowledged {
                    &mut self.counts.acknowledged
                } else {
                    &mut self.counts.unanswered_done
                };
                *counter += 1;
                self.subjects(request, done[0]);
            }
            _ => self.fault(format!("done more than once: {request:?}")),
        }
    }

    /// The entries are about what the request was about.
    fn subjects(&mut self, request: &Request, entries: &[&Entry]) {
        let about = |actions: &[&str]| -> BTreeSet<&str> {
            let of = entries.iter().filter(|entry| actions.contains(&entry.action.as_str()));
            of.map(|entry| entry.subject.as_str()).collect()
        };
        let named = match &request.change {
            Change::CreateUser { name } => about(&["user.created"]) == BTreeSet::from([name.as_str()]),
            Change::Revoke { id } => about(&["token.revoked"]) == BTreeSet::from([id.as_str()]),
            Change::Rotate { id } => about(&["token.rotated"]) == BTreeSet::from([id.as_str()]),
            _ => true,
        };
        let made: BTreeSet<&str> = request.made.iter().map(String::as_str).collect();
        if !named || (request.acknowledged && about(&["token.created", "token.imported"]) != made) {
            self.fault(format!("{request:?} has entries about something else: {entries:?}"));
        }
    }

    /// The tables hold what the audit log says, and nothing else.
    fn tables(&mut self, requests: &[Request], by_ticket: &ByTicket<'_>) {
        let subjects = |actions: &[&str]| -> BTreeSet<String> {
            let of = self.of.entries.iter().filter(|entry| actions.contains(&entry.action.as_str()));
            of.map(|entry| entry.subject.clone()).collect()
        };
        let made = subjects(&["token.created", "token.imported"]);
        let ended = subjects(&["token.revoked", "token.rotated"]);
        let users = subjects(&["user.created"]);
        let mut deleted = BTreeSet::new();
        let ids = self.of.entries.iter().flat_map(|entry| &entry.deleted);
        let twice: Vec<_> = ids.filter(|id| !deleted.insert((*id).clone())).cloned().collect();
        let short = requests.iter().filter(|request| request.change == (Change::CreateToken { short: true }));
        let short: BTreeSet<String> = short
            .flat_map(|request| &request.tickets)
            .filter_map(|ticket| by_ticket.get(ticket.as_str()))
            .flatten()
            .map(|entry| entry.subject.clone())
            .collect();
        self.counts.deleted = deleted.len();
        let left = |all: &BTreeSet<String>| all.difference(&deleted).cloned().collect::<BTreeSet<_>>();
        let checks = [
            (twice.is_empty(), format!("deleted twice: {twice:?}")),
            (deleted.is_subset(&short), "tokens were deleted that were not due".to_owned()),
            (self.of.users == users, "the users are not those of the audit log".to_owned()),
            (self.of.tokens == left(&made), "the tokens are not those of the audit log".to_owned()),
            (self.of.revoked == left(&ended), "the revoked tokens are not those of the audit log".to_owned()),
        ];
        self.faults.extend(checks.into_iter().filter(|(holds, _)| !holds).map(|(_, fault)| fault));
    }

    /// What was acknowledged of tokens is so.
    fn states(&mut self, book: &Book) {
        let live = book.ids(|state| state == State::Live);
        let ended = book.ids(|state| matches!(state, State::Ended(_)));
        let known = book.ids(|_| true);
        let missing: Vec<_> = known.difference(&self.of.tokens).collect();
        let revived: Vec<_> = ended.difference(&self.of.revoked).collect();
        let surplus: Vec<_> = live.intersection(&self.of.revoked).collect();
        for (what, ids) in
            [("lost", missing), ("revived", revived), ("revoked though nobody asked for it", surplus)]
        {
            if !ids.is_empty() {
                self.faults.push(format!("{what}: {ids:?}"));
            }
        }
    }

    /// The revisions have no gaps, and each request that alters verdicts has one.
    fn history(&mut self) {
        let alter = ["token.revoked", "token.rotated", "token.imported"];
        let of = self.of.entries.iter().filter(|entry| alter.contains(&entry.action.as_str()));
        let requests = of.map(|entry| entry.ticket.as_str()).collect::<BTreeSet<_>>().len();
        let all: BTreeSet<usize> = (1..=self.of.revision).collect();
        if self.of.changes != all || requests != self.of.revision {
            let (revision, changes) = (self.of.revision, self.of.changes.len());
            self.fault(format!(
                "{requests} requests have altered verdicts, the revision is {revision}, {changes} are noted"
            ));
        }
    }
}

/// The entries that a request makes, by their actions, in order.
fn actions(change: &Change) -> Vec<&'static str> {
    match change {
        Change::CreateUser { .. } => vec!["user.created"],
        Change::CreateToken { .. } => vec!["token.created"],
        Change::Revoke { .. } => vec!["token.revoked"],
        Change::Rotate { .. } => vec!["token.created", "token.rotated"],
        Change::Import { secrets, .. } => vec!["token.imported"; secrets.len()],
        Change::RunScheduler => Vec::new(),
    }
}
