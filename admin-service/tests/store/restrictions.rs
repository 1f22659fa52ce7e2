//! The restrictions: their defaults, their change, and what a change would touch.

use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::restrictions::{DeleteExpired, Restrictions};
use latchkey_admin::domain::token::{Expiry, Token};
use latchkey_admin::store::{EXAMPLES, StoreError, Touched, TouchedToken, TouchedUser};

use crate::plans::{reads_no_table_from_end_to_end, statements};
use crate::search::insert_many;
use crate::support::{Fixture, admin_token, name, new_token, on_both_databases, origin};

on_both_databases![
    the_defaults_are_those_of_the_contract,
    restrictions_are_read_as_they_were_put,
    restrictions_that_nobody_could_keep_to_are_refused,
    where_the_making_of_tokens_is_stopped_nobody_makes_one_but_a_first_administrator,
    putting_the_same_again_leaves_no_trace,
    a_change_is_heard_by_those_who_wait_for_it,
    what_a_limit_would_touch_is_counted_and_shown_and_not_changed,
    no_more_than_ten_examples_are_given_those_with_the_most_first,
    a_dry_run_reads_what_an_index_has_of_each_live_token_and_its_examples,
];

async fn the_defaults_are_those_of_the_contract(db: Fixture) {
    let defaults = db.store.restrictions().await.unwrap();
    assert_eq!(
        serde_json::to_value(defaults).unwrap(),
        serde_json::json!({
            "max_lifetime": "365d", "max_tokens_per_user": 10, "outlive_maker": false,
            "delete_expired": {"enabled": true, "after": "30d", "every": "1h"},
        })
    );
}

fn others() -> Restrictions {
    Restrictions {
        max_lifetime: None,
        max_tokens_per_user: None,
        outlive_maker: true,
        delete_expired: DeleteExpired {
            enabled: false,
            after: Period::from_millis(0),
            every: Period::from_millis(1500),
        },
    }
}

async fn restrictions_are_read_as_they_were_put(db: Fixture) {
    assert_eq!(db.store.put_restrictions(&origin(), &others()).await.unwrap(), others());
    assert_eq!(db.store.restrictions().await.unwrap(), others());
}

async fn restrictions_that_nobody_could_keep_to_are_refused(db: Fixture) {
    let wrong = Restrictions { max_lifetime: Some(Period::from_millis(999)), ..others() };
    let put = db.refused(db.store.put_restrictions(&origin(), &wrong)).await;
    assert!(matches!(put, StoreError::InvalidRestriction(invalid) if invalid.field == "max_lifetime"));
    let tried = db.refused(db.store.touched_by(&wrong)).await;
    assert!(matches!(tried, StoreError::InvalidRestriction(_)));
}

async fn where_the_making_of_tokens_is_stopped_nobody_makes_one_but_a_first_administrator(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    let stopped = Restrictions { max_tokens_per_user: Some(0), ..others() };
    db.store.put_restrictions(&origin(), &stopped).await.unwrap();
    let (origin, alice, another) = (origin(), name("alice"), new_token(Expiry::Latest));
    let refused = db.refused(db.store.create_token(&origin, &alice, &another)).await;
    assert!(matches!(refused, StoreError::TokenLimitReached { limit: 0, count: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("max_tokens_per_user"), "{refused}");
    assert!(db.is_valid(&token).await);
    db.store.bootstrap(&name("admin"), &admin_token()).await.unwrap();
}

async fn putting_the_same_again_leaves_no_trace(db: Fixture) {
    db.store.put_restrictions(&origin(), &others()).await.unwrap();
    let before = db.everything().await;
    db.store.put_restrictions(&origin(), &others()).await.unwrap();
    assert_eq!(db.everything().await, before);
}

async fn a_change_is_heard_by_those_who_wait_for_it(db: Fixture) {
    let mut changes = db.store.restrictions_changes();
    assert!(!changes.has_changed().unwrap());
    db.store.put_restrictions(&origin(), &others()).await.unwrap();
    changes.changed().await.unwrap();
}

async fn what_a_limit_would_touch_is_counted_and_shown_and_not_changed(db: Fixture) {
    db.store.put_restrictions(&origin(), &others()).await.unwrap();
    for user in ["alice", "bob", "carol"] {
        db.user(user).await;
    }
    let day = Period::from_days(1);
    // Alice: one for ever, one for ten days, one for a day, one revoked. Bob: one for a day. Carol: one that is over.
    let eternal = db.token("alice").await;
    let long = db.token_until("alice", Period::from_days(10).after(db.now())).await;
    db.token_until("alice", day.after(db.now())).await;
    let revoked = db.token("alice").await;
    db.store.revoke_token(&origin(), revoked.id).await.unwrap();
    db.token_until("bob", day.after(db.now())).await;
    let brief = new_token(Expiry::In(Period::from_millis(10)));
    db.store.create_token(&origin(), &name("carol"), &brief).await.unwrap();
    db.clock.advance(std::time::Duration::from_millis(10));
    let before = db.everything().await;
    let strict = Restrictions { max_lifetime: Some(day), max_tokens_per_user: Some(1), ..others() };
    let touched = db.store.touched_by(&strict).await.unwrap();
    assert_eq!((touched.over_max_lifetime.tokens, touched.over_max_tokens.tokens), (2, 2));
    assert_eq!((touched.over_max_tokens.users, touched.tokens_due_for_deletion), (1, 1));
    let example = |token: &Token| TouchedToken {
        id: token.id,
        name: token.name.clone(),
        user: token.user.clone(),
        hint: token.hint.clone(),
        expires_at: token.expires_at,
    };
    assert_eq!(touched.over_max_lifetime.examples, [example(&eternal), example(&long)]);
    assert_eq!(touched.over_max_tokens.examples, [TouchedUser { name: name("alice"), live_tokens: 3 }]);
    let none = Touched { tokens_due_for_deletion: 1, ..Touched::default() };
    assert_eq!(db.store.touched_by(&others()).await.unwrap(), none);
    assert_eq!(db.everything().await, before);
}

async fn no_more_than_ten_examples_are_given_those_with_the_most_first(db: Fixture) {
    db.store.put_restrictions(&origin(), &others()).await.unwrap();
    for user in 0..12 {
        let user = format!("user{user}");
        db.user(&user).await;
        db.token(&user).await;
    }
    db.token("user7").await;
    db.token("user7").await;
    let eleventh = db.token("user11").await;
    let day = Period::from_days(1);
    let none = Restrictions { max_lifetime: Some(day), max_tokens_per_user: Some(0), ..others() };
    let touched = db.store.touched_by(&none).await.unwrap();
    assert_eq!((touched.over_max_lifetime.tokens, touched.over_max_tokens.users), (15, 12));
    assert_eq!(touched.over_max_tokens.tokens, 15);
    let (tokens, users) = (touched.over_max_lifetime.examples, touched.over_max_tokens.examples);
    assert_eq!((tokens.len(), users.len()), (EXAMPLES, EXAMPLES));
    assert!(tokens.iter().all(|token| token.id != eleventh.id), "the last user's come last");
    let counts: Vec<_> = users.iter().map(|user| (user.name.as_str(), user.live_tokens)).collect();
    assert_eq!(counts[..3], [("user7", 3), ("user11", 2), ("user0", 1)]);
}

async fn a_dry_run_reads_what_an_index_has_of_each_live_token_and_its_examples(db: Fixture) {
    insert_many(&db, 50_000, 5_000).await;
    db.settle().await;
    let statements = statements();
    let strict =
        Restrictions { max_lifetime: Some(Period::from_days(1)), max_tokens_per_user: Some(5), ..others() };
    let touched = db.store.touched_by(&strict).await.unwrap();
    assert_eq!((touched.over_max_lifetime.tokens, touched.over_max_tokens.tokens), (49_999, 25_000));
    let ours = |text: &&String| text.starts_with("SELECT") && text.contains("user_id NOT IN");
    let texts: Vec<String> = statements.lock().unwrap().keys().filter(ours).cloned().collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    // Those that count read every live token whatever they do; PostgreSQL may hold that it is done sooner without an index.
    let counts = |text: &&String| text.contains("COUNT(*)") && db.url.to_string().starts_with("postgres");
    for text in texts.iter().filter(|text| !counts(text)) {
        reads_no_table_from_end_to_end(&db, text).await;
    }
}
