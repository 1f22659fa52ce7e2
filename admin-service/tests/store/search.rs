//! Looking for tokens: what is found, in which order, in pages that hold together, and by which statements.

use std::collections::BTreeSet;
use std::time::Duration;

use latchkey_admin::domain::page::{Limit, PageRequest};
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::token::{Expiry, Token, TokenSpec, TokenStatus};
use latchkey_admin::domain::token_patch::TokenPatch;
use latchkey_admin::domain::token_search::{TokenFilter, TokenPlace};

use crate::plans::{reads_no_table_from_end_to_end, statements};
use crate::support::{Fixture, name, on_both_databases, origin, token_of};

on_both_databases![
    tokens_are_found_by_their_user_and_status,
    texts_are_found_in_whatever_case_and_as_they_are,
    tokens_are_found_by_when_they_expire_soonest_first,
    tokens_are_found_by_when_they_were_last_used,
    pages_hold_each_token_once_in_every_order,
    a_page_ends_where_many_tokens_were_looked_at_in_vain,
    no_search_reads_a_table_from_end_to_end,
];

/// The names of the tokens that a filter finds, page by page.
async fn found(db: &Fixture, filter: &TokenFilter, size: u64) -> Vec<String> {
    let mut page = PageRequest { limit: Limit::new(size).unwrap(), cursor: None };
    let mut names = Vec::new();
    loop {
        let next = db.store.search_tokens(filter, page).await.unwrap();
        assert!(next.items.len() <= usize::try_from(size).unwrap());
        names.extend(next.items.iter().map(|token| token.name.to_string()));
        match next.next_cursor {
            Some(cursor) => page.cursor = Some(cursor.to_string().parse().unwrap()),
            None => return names,
        }
    }
}

async fn make(db: &Fixture, user: &str, text: &str, expiry: Expiry) -> Token {
    let spec = TokenSpec { expiry, ..TokenSpec::named(text.parse().unwrap()) };
    db.clock.advance(Duration::from_millis(1));
    db.store.create_token(&origin(), &name(user), &token_of(spec)).await.unwrap()
}

fn days(days: u32) -> Expiry {
    Expiry::In(Period::from_days(days))
}

fn with_status(status: TokenStatus) -> TokenFilter {
    TokenFilter { status: Some(status), ..TokenFilter::default() }
}

/// Tokens of alice and bob, of every status; as of the second day.
async fn assorted(db: &Fixture) {
    db.user("alice").await;
    db.user("bob").await;
    make(db, "alice", "a-expired-later", Expiry::In(Period::from_millis(86_000_000))).await;
    make(db, "bob", "b-expired", Expiry::In(Period::from_millis(80_000_000))).await;
    make(db, "bob", "b-active", days(9)).await;
    make(db, "alice", "a-active", days(5)).await;
    let revoked = make(db, "alice", "a-revoked", days(7)).await;
    db.store.revoke_token(&origin(), revoked.id).await.unwrap();
    let mut restrictions = db.store.restrictions().await.unwrap();
    restrictions.max_lifetime = None;
    db.store.put_restrictions(&origin(), &restrictions).await.unwrap();
    make(db, "bob", "b-eternal", Expiry::Latest).await;
    db.clock.advance(Duration::from_secs(86_400));
}

async fn tokens_are_found_by_their_user_and_status(db: Fixture) {
    assorted(&db).await;
    let all = ["a-expired-later", "b-expired", "b-active", "a-active", "a-revoked", "b-eternal"];
    assert_eq!(found(&db, &TokenFilter::default(), 50).await, all);
    assert_eq!(
        found(&db, &with_status(TokenStatus::Active), 50).await,
        ["b-active", "a-active", "b-eternal"]
    );
    assert_eq!(found(&db, &with_status(TokenStatus::Expired), 50).await, ["b-expired", "a-expired-later"]);
    assert_eq!(found(&db, &with_status(TokenStatus::Revoked), 50).await, ["a-revoked"]);
    let of = |user: &str| TokenFilter { user: Some(name(user)), ..TokenFilter::default() };
    assert_eq!(found(&db, &of("bob"), 50).await, ["b-expired", "b-active", "b-eternal"]);
    let active = TokenFilter { status: Some(TokenStatus::Active), ..of("bob") };
    assert_eq!(found(&db, &active, 50).await, ["b-active", "b-eternal"]);
    db.user("carol").await;
    assert_eq!(found(&db, &of("carol"), 50).await, [""; 0]);
}

async fn texts_are_found_in_whatever_case_and_as_they_are(db: Fixture) {
    db.user("alice").await;
    db.user("percy_50").await;
    let described = TokenSpec {
        description: Some("Makes RELEASES of 50%_off\\now".parse().unwrap()),
        ..TokenSpec::named("Deploy of «ÖDEGÅRD»".parse().unwrap())
    };
    let token = db.store.create_token(&origin(), &name("alice"), &token_of(described)).await.unwrap();
    make(&db, "percy_50", "CI", Expiry::Latest).await;
    let search = async |text: &str| {
        let filter = TokenFilter { text: Some(text.parse().unwrap()), ..TokenFilter::default() };
        found(&db, &filter, 50).await
    };
    let deploy = ["Deploy of «ÖDEGÅRD»"];
    for text in ["deploy", "DEPLOY OF", "ödegård", "ÖDEG", "releases", "50%_off", "%", "\\n", "«"] {
        assert_eq!(search(text).await, deploy, "{text}");
    }
    for text in [&token.hint, &token.hint.to_uppercase(), "ALICE"] {
        assert_eq!(search(text).await, deploy, "{text}");
    }
    for text in ["ci", "PERCY_50", "percy"] {
        assert_eq!(search(text).await, ["CI"], "{text}");
    }
    for text in ["c%i", "percy%", "deploy_of", "ÖDEGÅRD» Makes", "nothing", "' OR 1=1 --"] {
        assert_eq!(search(text).await, [""; 0], "{text}");
    }
    // Not by what it was called before.
    let patch = TokenPatch { name: Some("Æ".parse().unwrap()), ..TokenPatch::default() };
    db.store.update_token(&origin(), token.id, &patch).await.unwrap();
    assert_eq!((search("ödegård").await, search("æ").await), (vec![], vec!["Æ".to_owned()]));
}

async fn tokens_are_found_by_when_they_expire_soonest_first(db: Fixture) {
    assorted(&db).await;
    let before = |days: u32| TokenFilter {
        expires_before: Some(Period::from_days(days).after(db.now())),
        ..TokenFilter::default()
    };
    let soon = ["b-expired", "a-expired-later", "a-active", "a-revoked"];
    assert_eq!(found(&db, &before(7), 50).await, soon);
    let active = TokenFilter { status: Some(TokenStatus::Active), ..before(7) };
    assert_eq!(found(&db, &active, 50).await, ["a-active"]);
    let revoked = TokenFilter { status: Some(TokenStatus::Revoked), ..before(7) };
    assert_eq!(found(&db, &revoked, 50).await, ["a-revoked"]);
    let of_bob = TokenFilter { user: Some(name("bob")), ..before(9_000) };
    assert_eq!(found(&db, &of_bob, 50).await, ["b-expired", "b-active"]);
    // Before, not at.
    let end = db
        .tokens_of("alice")
        .await
        .iter()
        .find(|token| token.name.as_str() == "a-active")
        .unwrap()
        .expires_at;
    let exactly = TokenFilter { expires_before: end, ..TokenFilter::default() };
    assert_eq!(found(&db, &exactly, 50).await, ["b-expired", "a-expired-later"]);
}

async fn tokens_are_found_by_when_they_were_last_used(db: Fixture) {
    db.user("alice").await;
    for (text, used) in [("never", None), ("long-ago", Some(60)), ("lately", Some(3_600))] {
        let token = make(&db, "alice", text, Expiry::Latest).await;
        if let Some(seconds) = used {
            let at = token.created_at.as_millisecond() + seconds * 1_000;
            db.sql(&format!("UPDATE tokens SET last_used_at = {at} WHERE id = '{}'", token.id)).await;
        }
    }
    let made = db.now();
    db.clock.advance(Duration::from_secs(7_200));
    make(&db, "alice", "new", Expiry::Latest).await;
    let before = |minutes: u64| TokenFilter {
        last_used_before: Some(Period::from_millis(minutes * 60_000).after(made)),
        ..TokenFilter::default()
    };
    assert_eq!(found(&db, &before(0), 50).await, ["never"], "unused since it was made");
    assert_eq!(found(&db, &before(30), 50).await, ["never", "long-ago"]);
    assert_eq!(found(&db, &before(90), 50).await, ["never", "long-ago", "lately"]);
}

async fn pages_hold_each_token_once_in_every_order(db: Fixture) {
    assorted(&db).await;
    for filter in [
        TokenFilter::default(),
        with_status(TokenStatus::Active),
        with_status(TokenStatus::Expired),
        TokenFilter { user: Some(name("bob")), ..TokenFilter::default() },
        TokenFilter { text: Some("a".parse().unwrap()), ..TokenFilter::default() },
        TokenFilter { expires_before: Some(Period::from_days(99).after(db.now())), ..TokenFilter::default() },
    ] {
        let whole = found(&db, &filter, 200).await;
        for size in 1..=7 {
            assert_eq!(found(&db, &filter, size).await, whole, "{filter:?}");
        }
    }
}

/// Inserts many tokens of many users, in the order of their names, expiring one after the other from tomorrow on.
pub async fn insert_many(db: &Fixture, count: u32, users: u32) {
    let bytes = if db.url.to_string().starts_with("sqlite") { "BLOB" } else { "BYTEA" };
    let now = db.now().as_millisecond();
    let numbers = |count: u32| {
        format!("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count}) ")
    };
    db.sql(&format!(
        "{} INSERT INTO users (id, name, display_name, time_zone, active, deleted, created_at) \
         SELECT '00000000-0000-7000-8000-' || CAST(200000000000 + i AS TEXT), 'many' || CAST(i AS TEXT), 'x', 'UTC', 1, 0, 0 \
         FROM n",
        numbers(users)
    ))
    .await;
    db.sql(&format!(
        "{} INSERT INTO tokens (id, user_id, hash, name, hint, schemes, scopes, allowed_cidrs, created_at, expires_at) \
         SELECT '00000000-0000-7000-8000-' || CAST(300000000000 + i AS TEXT), \
         '00000000-0000-7000-8000-' || CAST(200000000000 + i % {users} AS TEXT), \
         CAST('one of many tokens: ' || CAST(300000000000 + i AS TEXT) AS {bytes}), 'many ' || CAST(i AS TEXT), 'lk_abcd', \
         'bearer', '', '', {now}, {now} + 86400000 + i FROM n",
        numbers(count)
    ))
    .await;
    db.sql("ANALYZE").await;
}

async fn a_page_ends_where_many_tokens_were_looked_at_in_vain(db: Fixture) {
    insert_many(&db, 110_000, 1_000).await;
    let last = TokenFilter { text: Some("MANY 109999".parse().unwrap()), ..TokenFilter::default() };
    let first = db.store.search_tokens(&last, PageRequest::default()).await.unwrap();
    let cursor = first.next_cursor.expect("there are more to look at");
    assert_eq!(first.items, []);
    assert!(matches!(cursor, TokenPlace::Made(_)));
    assert_eq!(found(&db, &last, 50).await, ["many 109999"]);
    // And in the order of expiry.
    let end = Period::from_days(365).after(db.now());
    let soonest = TokenFilter { expires_before: Some(end), ..last.clone() };
    let first = db.store.search_tokens(&soonest, PageRequest::default()).await.unwrap();
    assert!(matches!(first.next_cursor, Some(TokenPlace::Expiry(..))) && first.items.is_empty());
    assert_eq!(found(&db, &soonest, 50).await, ["many 109999"]);
    // A page that is filled begins the next one where it ended, and not where the slice did.
    let some = TokenFilter { text: Some("many 1999".parse().unwrap()), ..TokenFilter::default() };
    let expected: Vec<String> = (0..110_000)
        .map(|number| format!("many {number}"))
        .filter(|text| text.contains("many 1999"))
        .collect();
    assert_eq!(found(&db, &some, 3).await, expected);
}

/// Every filter by itself, and some together.
fn filters(db: &Fixture) -> Vec<TokenFilter> {
    let soon = Some(Period::from_days(2).after(db.now()));
    let none = TokenFilter::default;
    let mut filters = vec![
        none(),
        TokenFilter { user: Some(name("many7")), ..none() },
        TokenFilter { text: Some("zzz".parse().unwrap()), ..none() },
        TokenFilter { expires_before: soon, ..none() },
        TokenFilter { last_used_before: soon, ..none() },
        TokenFilter { user: Some(name("many7")), expires_before: soon, ..none() },
        TokenFilter { text: Some("zzz".parse().unwrap()), expires_before: soon, ..none() },
    ];
    for status in [TokenStatus::Active, TokenStatus::Expired, TokenStatus::Revoked] {
        filters.push(with_status(status));
        filters.push(TokenFilter { expires_before: soon, ..with_status(status) });
        filters.push(TokenFilter { user: Some(name("many7")), ..with_status(status) });
    }
    filters
}

async fn no_search_reads_a_table_from_end_to_end(db: Fixture) {
    insert_many(&db, 50_000, 50_000).await;
    let statements = statements();
    for filter in filters(&db) {
        let page = db.store.search_tokens(&filter, PageRequest::default()).await.unwrap();
        let next = PageRequest { cursor: page.next_cursor, ..PageRequest::default() };
        db.store.search_tokens(&filter, next).await.unwrap();
    }
    let searches: BTreeSet<String> = statements
        .lock()
        .unwrap()
        .keys()
        .filter(|text| {
            let searches = text.contains("FROM tokens WHERE") && text.contains("ORDER BY");
            text.starts_with("SELECT") && searches && !text.contains("NOT IN")
        })
        .cloned()
        .collect();
    assert!(searches.len() >= 15, "only {} statements were seen", searches.len());
    for text in searches {
        reads_no_table_from_end_to_end(&db, &text).await;
    }
}
