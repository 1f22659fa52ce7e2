//! The checker itself: it finds nothing in a record that is right, and each fault that is put into one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check::{Acknowledged, Change, Counted, Fault, Heard, Limit, Record, Token};

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn heard(after: u64, through: u64, hashes: &[&str]) -> Heard {
    let hashes = hashes.iter().map(|hash| (*hash).to_owned()).collect();
    Heard { at: at(through * 10 + 1), after, through, reset: false, hashes }
}

fn token(name: &str, ended: bool) -> (String, Token) {
    let text = |text: &str| text.to_owned();
    let token =
        Token { hash: format!("hash {name}"), user: text("u"), name: text(name), scopes: text("s"), ended };
    (format!("id {name}"), token)
}

/// Two tokens are made, `a` gets a scope and ends, its user is disabled, and another takes the place of `a`.
fn right() -> Record {
    let id = |name: &str| format!("id {name}");
    let made = |name: &str| Change::Made { token: id(name), name: name.to_owned(), scopes: "s".to_owned() };
    let changes = [
        made("a"),
        made("b"),
        Change::Scoped { token: id("a"), scopes: "s".to_owned() },
        Change::Ended { token: id("a") },
        Change::Ended { token: id("a") },
        made("c"),
        Change::User { name: "u".to_owned(), active: false },
    ];
    let counted =
        |at, name: &str, made| Counted { at, asked: at, user: "u".to_owned(), token: id(name), made };
    let hashes = |names: &[&str]| names.iter().map(|name| format!("hash {name}")).collect::<BTreeSet<_>>();
    Record {
        base: 5,
        revision: 8,
        acknowledged: changes.map(|change| Acknowledged { at: at(70), change }).into(),
        feeds: vec![
            vec![heard(5, 6, &["hash a"]), heard(6, 7, &["hash a"]), heard(7, 8, &["hash b", "hash c"])],
            vec![heard(5, 7, &["hash a"]), heard(7, 7, &[]), heard(7, 8, &["hash b", "hash c"])],
        ],
        changes: BTreeMap::from([(6, hashes(&["a"])), (7, hashes(&["a"])), (8, hashes(&["b", "c"]))]),
        tokens: BTreeMap::from([token("a", true), token("b", false), token("c", false)]),
        users: BTreeMap::from([("u".to_owned(), false)]),
        counted: vec![
            counted(1, "a", true),
            counted(2, "b", true),
            counted(3, "a", false),
            counted(3, "c", true),
        ],
        limits: vec![Limit { most: 2, from: 0, until: 9 }],
        busy: 1.0,
    }
}

fn found(damage: impl FnOnce(&mut Record)) -> Vec<Fault> {
    let mut record = right();
    damage(&mut record);
    record.faults()
}

#[test]
fn the_checker_finds_nothing_in_a_right_history() {
    assert_eq!(found(|_| {}), []);
    assert_eq!(right().delays(), [at(1), at(1), at(1), at(1)]);
}

#[test]
fn the_checker_finds_an_acknowledgement_that_was_lost() {
    let gone = found(|record| drop(record.tokens.remove("id b")));
    assert!(matches!(&gone[..], [Fault::Lost(what)] if what.starts_with("id b")), "{gone:?}");
    type Damage = fn(&mut Token);
    let damages: [(&str, Damage); 4] = [
        ("id a", |token| token.ended = false),
        ("id b", |token| token.ended = true),
        ("id b", |token| token.name = "an old name".to_owned()),
        ("id a", |token| token.scopes = "an old scope".to_owned()),
    ];
    for (id, damage) in damages {
        let lost = found(|record| damage(record.tokens.get_mut(id).unwrap()));
        assert!(matches!(&lost[..], [Fault::Lost(what)] if what.starts_with(id)), "{lost:?}");
    }
    let user = found(|record| record.users = BTreeMap::from([("u".to_owned(), true)]));
    assert!(matches!(&user[..], [Fault::Lost(what)] if what.starts_with('u')), "{user:?}");
}

#[test]
fn the_checker_finds_a_revision_that_was_missed_in_the_database_and_in_a_feed() {
    let gap = found(|record| drop(record.changes.remove(&6)));
    assert!(gap.contains(&Fault::Gap(6)), "{gap:?}");
    let short = Fault::Revisions { token: "id a".to_owned(), least: 2, most: 3, found: 1 };
    assert!(gap.contains(&short), "{gap:?}");
    let skipped = found(|record| drop(record.feeds[0].remove(1)));
    assert_eq!(skipped, [Fault::Order { reader: 0, expected: 6, found: 7 }]);
    let late = found(|record| drop(record.feeds[1].pop()));
    assert_eq!(late, [Fault::Order { reader: 1, expected: 8, found: 7 }]);
    let silent = found(|record| drop(record.feeds[1][2].hashes.pop()));
    assert_eq!(silent, [Fault::Hashes { reader: 1, after: 7, through: 8 }]);
    let reset = found(|record| record.feeds[0][2].reset = true);
    assert_eq!(reset, [Fault::Order { reader: 0, expected: 7, found: 8 }]);
}

#[test]
fn the_checker_finds_a_revision_that_was_doubled_in_the_database_and_in_a_feed() {
    let doubled = found(|record| {
        record.revision = 10;
        for again in [9, 10] {
            record.changes.insert(again, BTreeSet::from(["hash a".to_owned()]));
            for feed in &mut record.feeds {
                feed.push(heard(again - 1, again, &["hash a"]));
            }
        }
    });
    assert_eq!(doubled, [Fault::Revisions { token: "id a".to_owned(), least: 2, most: 3, found: 4 }]);
    let again = found(|record| record.feeds[0].insert(1, heard(5, 6, &["hash a"])));
    assert_eq!(again, [Fault::Order { reader: 0, expected: 6, found: 5 }]);
    let twice = found(|record| record.feeds[1][2].hashes.push("hash b".to_owned()));
    assert_eq!(twice, [Fault::Hashes { reader: 1, after: 7, through: 8 }]);
}

#[test]
fn the_checker_finds_a_limit_that_was_overrun_and_none_where_a_limit_was_lowered_below_what_is_there() {
    let together = |record: &mut Record| {
        record.counted[3].at = 2;
        record.counted[3].asked = 2;
    };
    let overrun = found(together);
    assert_eq!(overrun, [Fault::Overrun { user: "u".to_owned(), at: 2, count: 3, most: 2 }]);
    let lowered = |most, from| {
        found(|record| {
            record.limits = vec![Limit { most: 2, from: 0, until: 2 }, Limit { most, from, until: 9 }];
        })
    };
    assert_eq!(lowered(1, 2), []);
    let while_lowered = found(|record| {
        record.counted[1].asked = 1;
        record.limits = vec![Limit { most: 2, from: 0, until: 1 }, Limit { most: 1, from: 1, until: 9 }];
    });
    assert_eq!(while_lowered, []);
    let early = found(|record| record.limits = vec![Limit { most: 1, from: 0, until: 9 }]);
    assert_eq!(early, [Fault::Overrun { user: "u".to_owned(), at: 2, count: 2, most: 1 }]);
}
