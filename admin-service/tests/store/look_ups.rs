//! Many look-ups at once, which share statements: each gets its own verdict, and none waits for another's trouble.

use std::process::Command;
use std::time::Duration;

use latchkey::token::TokenHash;
use latchkey::wire::RefusalReason;
use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::token::TokenId;
use latchkey_admin::domain::user::UserPatch;
use latchkey_admin::domain::verdict::Outcome;
use latchkey_admin::store::Store;
use tokio::task::{JoinHandle, JoinSet};

use crate::postgres::Cluster;
use crate::support::{Fixture, eventually, name, on_both_databases, origin};

const PATIENCE: Duration = Duration::from_secs(60);

on_both_databases!(
    each_of_many_look_ups_at_once_gets_its_own_verdict,
    one_who_goes_away_takes_nobodys_verdict_along,
    a_look_up_sees_what_was_acknowledged_before_it_was_asked,
    a_look_up_of_several_tokens_has_each_ones_verdict_in_its_place,
    the_verdicts_of_one_look_up_are_of_one_revision_whatever_changes_meanwhile,
    large_and_small_look_ups_at_once_each_get_their_own_verdicts,
);

async fn each_of_many_look_ups_at_once_gets_its_own_verdict(db: Fixture) {
    db.user("alice").await;
    let mut expected = Vec::new();
    for number in 0..9_u32 {
        let token = db.token("alice").await;
        if number % 3 == 0 {
            db.store.revoke_token(&origin(), token.id).await.unwrap();
            expected.push((token.hash, Err(RefusalReason::Revoked)));
        } else {
            expected.push((token.hash, Ok(token.id)));
        }
        let unknown = TokenHash::of(&number.to_be_bytes());
        expected.push((unknown, Err(RefusalReason::Unknown)));
    }
    for at_once in [1, 2, 3, 7, 18, 40, 65, 300] {
        let mut asked = JoinSet::new();
        for (hash, expected) in expected.iter().copied().cycle().take(at_once) {
            let store = db.store.clone();
            asked.spawn(async move { (store.verify(hash).await.unwrap().outcome, expected) });
        }
        for (outcome, expected) in asked.join_all().await {
            let found = match outcome {
                Outcome::Valid(token) => Ok(token.id),
                Outcome::Refused(reason, _) => Err(reason),
            };
            assert_eq!(found, expected, "{at_once} at once");
        }
    }
}

/// Tokens by their hashes, and what is said of each: those that are usable, and why others are not.
type Expected = Vec<(TokenHash, Result<TokenId, RefusalReason>)>;

async fn tokens_of_all_kinds(db: &Fixture) -> Expected {
    db.user("alice").await;
    db.user("bob").await;
    let [usable, revoked, disabled] =
        [db.token("alice").await, db.token("alice").await, db.token("bob").await];
    let expired = db.token_until("alice", Period::from_days(1).after(db.now())).await;
    db.store.revoke_token(&origin(), revoked.id).await.unwrap();
    let disable = UserPatch { active: Some(false), ..UserPatch::default() };
    db.store.update_user(&origin(), &name("bob"), &disable).await.unwrap();
    db.clock.advance(Duration::from_secs(86_400));
    vec![
        (revoked.hash, Err(RefusalReason::Revoked)),
        (TokenHash::of(b"never made"), Err(RefusalReason::Unknown)),
        (usable.hash, Ok(usable.id)),
        (disabled.hash, Err(RefusalReason::UserDisabled)),
        (expired.hash, Err(RefusalReason::Expired)),
    ]
}

fn found(outcomes: Vec<Outcome>) -> Vec<Result<TokenId, RefusalReason>> {
    let found = |outcome| match outcome {
        Outcome::Valid(token) => Ok(token.id),
        Outcome::Refused(reason, _) => Err(reason),
    };
    outcomes.into_iter().map(found).collect()
}

async fn a_look_up_of_several_tokens_has_each_ones_verdict_in_its_place(db: Fixture) {
    let all = tokens_of_all_kinds(&db).await;
    let position = db.position().await;
    let before = db.everything().await;
    // From the sixth on, each is there once more.
    for count in [1, 2, 3, 5, 7, 33, 64] {
        let (hashes, expected): (Vec<_>, Vec<_>) = all.iter().copied().cycle().take(count).unzip();
        let verdicts = db.store.verify_all(hashes.try_into().unwrap()).await.unwrap();
        assert_eq!((verdicts.epoch, verdicts.revision), (position.epoch.clone(), position.revision));
        assert_eq!(found(verdicts.outcomes), expected, "{count}");
    }
    assert_eq!(db.everything().await, before, "a look-up has changed something");
}

async fn the_verdicts_of_one_look_up_are_of_one_revision_whatever_changes_meanwhile(db: Fixture) {
    db.user("alice").await;
    let mut tokens = Vec::new();
    for _ in 0..10 {
        tokens.push(db.token("alice").await);
    }
    let hashes: Vec<_> = tokens.iter().map(|token| token.hash).collect();
    let first = db.revision().await;
    let revoking = async {
        for token in &tokens {
            db.store.revoke_token(&origin(), token.id).await.unwrap();
        }
    };
    let looking = async {
        loop {
            let acknowledged = db.revision().await;
            let verdicts = db.store.verify_all(hashes.clone().try_into().unwrap()).await.unwrap();
            let revision = verdicts.revision.0;
            assert!(revision >= acknowledged);
            let revoked = usize::try_from(revision - first).unwrap();
            for (number, verdict) in found(verdicts.outcomes).into_iter().enumerate() {
                assert_eq!(verdict.is_err(), number < revoked, "token {number} at revision {revision}");
            }
            if revoked == tokens.len() {
                break;
            }
        }
    };
    tokio::join!(revoking, looking);
}

async fn large_and_small_look_ups_at_once_each_get_their_own_verdicts(db: Fixture) {
    let all = tokens_of_all_kinds(&db).await;
    let mut looked_up = JoinSet::new();
    for number in 0..300 {
        let count = [1, 64, 1, 3, 40, 1][number % 6];
        let (store, all) = (db.store.clone(), all.clone());
        looked_up.spawn(async move {
            let (hashes, expected): (Vec<_>, Vec<_>) =
                all.into_iter().cycle().skip(number).take(count).unzip();
            let outcomes = match hashes[..] {
                [hash] => vec![store.verify(hash).await.unwrap().outcome],
                _ => store.verify_all(hashes.try_into().unwrap()).await.unwrap().outcomes,
            };
            assert_eq!(found(outcomes), expected);
        });
    }
    looked_up.join_all().await;
}

async fn one_who_goes_away_takes_nobodys_verdict_along(db: Fixture) {
    db.user("alice").await;
    let token = db.token("alice").await;
    let mut asked = JoinSet::new();
    for number in 0..200 {
        let store = db.store.clone();
        let look_up = async move { store.verify(token.hash).await.unwrap().outcome };
        asked.spawn(async move {
            match number % 2 {
                0 => tokio::time::timeout(Duration::ZERO, look_up).await.ok(),
                _ => Some(look_up.await),
            }
        });
    }
    let answered = asked.join_all().await.into_iter().flatten();
    let valid = answered.filter(|outcome| matches!(outcome, Outcome::Valid(_))).count();
    assert!(valid >= 100, "{valid} answered");
}

async fn a_look_up_sees_what_was_acknowledged_before_it_was_asked(db: Fixture) {
    db.user("alice").await;
    for _ in 0..20 {
        let token = db.token("alice").await;
        let mut others = JoinSet::new();
        for _ in 0..20 {
            let store = db.store.clone();
            others.spawn(async move { store.verify(token.hash).await.map(|_| ()) });
        }
        db.store.revoke_token(&origin(), token.id).await.unwrap();
        assert_eq!(db.denial(&token).await, RefusalReason::Revoked);
        others.join_all().await.into_iter().for_each(Result::unwrap);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_hangs_holds_up_no_look_up_but_its_own() {
    let cluster = Cluster::start(false);
    let url = cluster.database();
    let db = Fixture::on(url.parse().unwrap(), url, None).await;
    db.user("alice").await;
    let token = db.token("alice").await;
    db.store.close().await;
    let store = db.impatient_store(PATIENCE).await;
    store.verify(token.hash).await.unwrap();
    let others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let count = format!("SELECT COUNT(*) {others}");
    eventually("that one look-up has one connection", async || db.number(&count).await == 1).await;
    let backend = db.number(&format!("SELECT CAST(MIN(pid) AS BIGINT) {others}")).await;
    let signal = |name: &str| {
        let sent = Command::new("kill").args([format!("-{name}"), backend.to_string()]).status();
        assert!(sent.unwrap().success());
    };
    // Where the pool was still taking its connection back, that is what hangs, and no look-up does.
    let hanging = loop {
        signal("STOP");
        if let Some(hanging) = one_that_hangs(&store, token.hash).await {
            break hanging;
        }
        signal("CONT");
    };
    signal("CONT");
    assert!(matches!(hanging.await.unwrap(), Outcome::Valid(_)));
    store.close().await;
}

/// Asks for a token again and again: gives the look-up that hangs, once a later one is answered.
async fn one_that_hangs(store: &Store, hash: TokenHash) -> Option<JoinHandle<Outcome>> {
    let mut hanging = None;
    for _ in 0..4 {
        let store = store.clone();
        let mut asked = tokio::spawn(async move { store.verify(hash).await.unwrap().outcome });
        match tokio::time::timeout(Duration::from_secs(1), &mut asked).await {
            Ok(outcome) if hanging.is_some() => {
                assert!(matches!(outcome.unwrap(), Outcome::Valid(_)));
                return hanging;
            }
            Ok(_) => {}
            Err(_) => hanging = Some(asked),
        }
    }
    assert!(hanging.is_none(), "one that hangs holds up those that come later");
    None
}
