//! The comparison finds each kind of fault, or its silence would say nothing.

use std::collections::BTreeSet;

use super::audit::{Entry, Stored};
use super::book::{Book, Change, Known, State};

fn entry(ticket: &str, action: &str, subject: &str) -> Entry {
    Entry {
        ticket: ticket.to_owned(),
        actor: "admin".to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        deleted: Vec::new(),
    }
}

fn known(id: &str) -> Known {
    Known { secret: String::new(), id: id.to_owned(), state: State::Live }
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(ToString::to_string).collect()
}

/// A user with two tokens of its own, of which one is revoked, and two that were imported.
fn run() -> (Book, Stored) {
    let book = Book::default();
    let user = book.asks(Change::CreateUser { name: "u".to_owned() }, "1");
    book.acknowledged(user, Vec::new());
    for (ticket, id) in [("2", "a"), ("3", "b")] {
        let made = book.asks(Change::CreateToken { short: false }, ticket);
        book.acknowledged(made, vec![known(id)]);
    }
    let revoked = book.asks(Change::Revoke { id: "a".to_owned() }, "4");
    book.acknowledged(revoked, Vec::new());
    let secrets = vec![String::new(), String::new()];
    book.asks(Change::Import { user: "u".to_owned(), secrets }, "5");
    let entries = vec![
        entry("1", "user.created", "u"),
        entry("2", "token.created", "a"),
        entry("3", "token.created", "b"),
        entry("4", "token.revoked", "a"),
        entry("5", "token.imported", "c"),
        entry("5", "token.imported", "d"),
    ];
    let stored = Stored {
        entries,
        users: set(&["u"]),
        tokens: set(&["a", "b", "c", "d"]),
        revoked: set(&["a"]),
        revision: 2,
        changes: BTreeSet::from([1, 2]),
    };
    (book, stored)
}

#[test]
fn durable_a_run_without_faults_has_none() {
    let (book, stored) = run();
    let (faults, counts) = stored.compare(&book);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!((counts.acknowledged, counts.unanswered_done), (4, 1));
}

#[test]
fn durable_each_fault_is_found() {
    type Spoil = fn(&mut Stored);
    let spoils: [(&str, Spoil); 10] = [
        ("lost: Request", |stored| drop(stored.entries.remove(3))),
        ("lost: [", |stored| assert!(stored.tokens.remove("b"))),
        ("revived", |stored| assert!(stored.revoked.remove("a"))),
        ("nobody asked for it", |stored| assert!(stored.revoked.insert("b".to_owned()))),
        ("half done", |stored| drop(stored.entries.pop())),
        ("half done", |stored| stored.entries.push(entry("2", "token.created", "e"))),
        ("nobody asked for Entry", |stored| stored.entries.push(entry("9", "token.created", "e"))),
        ("not those of the audit log", |stored| assert!(stored.users.insert("v".to_owned()))),
        ("not due", |stored| stored.entries[0].deleted.push("b".to_owned())),
        ("the revision is", |stored| stored.revision = 3),
    ];
    for (expected, spoil) in spoils {
        let (book, mut stored) = run();
        spoil(&mut stored);
        let (faults, _) = stored.compare(&book);
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{expected}: {faults:?}");
    }
}

#[test]
fn durable_what_was_sent_twice_and_done_twice_is_found() {
    let (book, mut stored) = run();
    book.asks_again(4, "5-again");
    let again: Vec<_> =
        stored.entries[4..].iter().map(|it| Entry { ticket: "5-again".to_owned(), ..it.clone() }).collect();
    stored.entries.extend(again);
    let (faults, _) = stored.compare(&book);
    assert!(faults.iter().any(|fault| fault.contains("done more than once")), "{faults:?}");
}
