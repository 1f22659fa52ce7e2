//! Random sequences of calls against a model that knows the rules: the same outcomes, the same tokens, the same verdicts,
//! and every changed verdict among the changes.

use std::collections::BTreeSet;
use std::time::Duration;

use latchkey_admin::domain::period::Period;
use latchkey_admin::domain::time::Timestamp;
use latchkey_admin::domain::token::{Expiry, Token, TokenId};
use latchkey_admin::domain::user::UserPatch;
use latchkey_admin::domain::user_restrictions::UserRestrictions;
use latchkey_admin::domain::verdict::Outcome;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::history::changes;
use crate::rotation::rotation;
use crate::support::{Fixture, name, new_token, origin};

/// One thing that somebody does.
#[derive(Clone, Debug)]
enum Step {
    Create { hours: Option<u64> },
    Revoke(prop::sample::Index),
    Rotate { token: prop::sample::Index, overlap: u64 },
    LookUp(prop::sample::Index),
    DeleteExpired,
    SetActive(bool),
    SetMostTokens(Option<u32>),
    SetLongest { hours: Option<u64> },
    SetOwnMostTokens(Option<Option<u32>>),
    SetOwnLongest { hours: Option<Option<u64>> },
    Wait { hours: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::option::of(0..24_u64).prop_map(|hours| Step::Create { hours }),
        3 => any::<prop::sample::Index>().prop_map(Step::Revoke),
        4 => (any::<prop::sample::Index>(), 0..4_u64).prop_map(|(token, overlap)| Step::Rotate { token, overlap }),
        2 => any::<prop::sample::Index>().prop_map(Step::LookUp),
        1 => Just(Step::DeleteExpired),
        4 => prop::bool::weighted(0.6).prop_map(Step::SetActive),
        1 => prop::option::of(1..5_u32).prop_map(Step::SetMostTokens),
        1 => prop::option::of(1..24_u64).prop_map(|hours| Step::SetLongest { hours }),
        1 => prop::option::of(prop::option::of(0..5_u32)).prop_map(Step::SetOwnMostTokens),
        1 => prop::option::of(prop::option::of(1..24_u64)).prop_map(|hours| Step::SetOwnLongest { hours }),
        2 => (0..6_u64).prop_map(|hours| Step::Wait { hours }),
    ]
}

/// What should be.
struct Model {
    tokens: Vec<Token>,
    active: bool,
    most: Option<u32>,
    longest: Option<Period>,
    own: UserRestrictions,
}

fn hours(hours: u64) -> Period {
    Period::from_millis(hours * 3_600_000)
}

impl Model {
    fn live(&self, now: Timestamp) -> u32 {
        let counts = |token: &&Token| live(token, now) && token.rotated_to.is_none();
        u32::try_from(self.tokens.iter().filter(counts).count()).unwrap()
    }

    /// The longest lifetime that holds for the user.
    fn longest(&self) -> Option<Period> {
        self.own.max_lifetime.unwrap_or(self.longest)
    }

    /// The refusal of a token beyond the limit, if it is reached.
    fn full(&self, now: Timestamp) -> Option<String> {
        let live = self.live(now);
        let (most, limit) = match self.own.max_tokens_per_user {
            Some(own) => (own, "the user's own limit"),
            None => (self.most, "the limit"),
        };
        match most.filter(|most| live >= *most)? {
            0 => Some(format!("{limit} is 0 (max_tokens_per_user), and the user has {live}")),
            most => Some(format!("has {live} live tokens, and {limit} is {most}")),
        }
    }

    /// The refusal that a rotation should get, if any.
    fn rotation_refusal(&self, old: &Token, now: Timestamp) -> Option<String> {
        let successor = self.successor(old);
        if !self.active {
            Some("disabled".to_owned())
        } else if let Some(rotated) = successor.filter(|next| next.rotated_to.is_some()) {
            Some(format!("is in use: rotate {}", rotated.id))
        } else if let Some(next) = successor.filter(|next| live(next, now)) {
            (!next.is_unused_successor()).then(|| format!("is in use: rotate {}", next.id))
        } else if !live(old, now) {
            Some("stays so".to_owned())
        } else {
            self.full(now).filter(|_| old.rotated_to.is_some())
        }
    }

    /// The last successor of a token.
    fn successor(&self, old: &Token) -> Option<&Token> {
        self.tokens.iter().find(|token| Some(token.id) == old.rotated_to)
    }

    /// What a rotation does to the tokens that were there.
    fn rotate(&mut self, old: &Token, successor: TokenId, overlap: u64, now: Timestamp) {
        let ends_at = hours(overlap).after(now);
        for token in self.tokens.iter_mut().filter(|token| live(token, now)) {
            let replaced = token.rotated_from == Some(old.id) || old.rotated_from == Some(token.id);
            if replaced || (token.id == old.id && overlap == 0) {
                token.revoked_at = Some(now);
            } else if token.id == old.id {
                token.expires_at = Some(token.expires_at.map_or(ends_at, |end| end.min(ends_at)));
            }
        }
        for token in self.tokens.iter_mut().filter(|token| token.id == old.id) {
            token.rotated_to = Some(successor);
        }
    }

    /// The refusal that a create should get, if any.
    fn refusal(&self, asked: Option<u64>, now: Timestamp) -> Option<String> {
        let longest = self.longest();
        if !self.active {
            return Some("disabled".to_owned());
        }
        match (asked, longest) {
            (Some(0), _) => return Some("must expire in the future".to_owned()),
            (Some(asked), Some(longest)) if hours(asked) > longest => {
                let own =
                    if self.own.max_lifetime.is_some() { ", which is the user's own limit" } else { "" };
                let latest = longest.after(now);
                return Some(format!("for at most {longest}{own}: until {latest}; {}", hours(asked)));
            }
            _ => {}
        }
        self.full(now)
    }
}

fn live(token: &Token, now: Timestamp) -> bool {
    token.revoked_at.is_none() && token.expires_at.is_none_or(|end| end > now)
}

async fn valid_hashes(db: &Fixture, model: &Model) -> BTreeSet<Vec<u8>> {
    let mut valid = BTreeSet::new();
    for token in &model.tokens {
        // Judged beside the store, for looking a successor up is a step of its own.
        let stored = db.store.token(token.id).await.unwrap();
        if matches!(Outcome::of(stored, model.active, db.now()), Outcome::Valid(_)) {
            valid.insert(token.hash.as_bytes().to_vec());
        }
    }
    valid
}

/// Takes one step in the store and in the model, and compares.
async fn take(db: &Fixture, model: &mut Model, step: Step) {
    let alice = name("alice");
    match step {
        Step::Create { hours: asked } => {
            let expiry = asked.map_or(Expiry::Latest, |asked| Expiry::In(hours(asked)));
            let expected = model.refusal(asked, db.now());
            match db.store.create_token(&origin(), &alice, &new_token(expiry)).await {
                Ok(token) => {
                    assert_eq!(expected, None);
                    let lifetime = asked.map(hours).or(model.longest());
                    assert_eq!(token.expires_at, lifetime.map(|lifetime| lifetime.after(db.now())));
                    model.tokens.push(token);
                }
                Err(error) => {
                    let expected = expected.expect("no refusal was due");
                    assert!(error.to_string().contains(&expected), "{error} instead of {expected}");
                }
            }
        }
        Step::Revoke(index) if !model.tokens.is_empty() => {
            let token = index.get(&model.tokens).clone();
            let revoked = db.store.revoke_token(&origin(), token.id).await.unwrap().token;
            let known = model.tokens.iter_mut().find(|known| known.id == token.id).unwrap();
            known.revoked_at = known.revoked_at.or(Some(db.now()));
            assert_eq!(revoked, *known);
        }
        Step::Rotate { token, overlap } if !model.tokens.is_empty() => {
            let old = token.get(&model.tokens).clone();
            rotate(db, model, &old, overlap).await;
        }
        Step::LookUp(index) if !model.tokens.is_empty() => {
            look_up(db, model, index).await;
        }
        Step::Revoke(_) | Step::Rotate { .. } | Step::LookUp(_) => {}
        Step::DeleteExpired => {
            let now = db.now();
            let expired =
                |token: &Token| token.revoked_at.is_none() && token.expires_at.is_some_and(|end| end <= now);
            let before = model.tokens.len();
            model.tokens.retain(|token| !expired(token));
            let deleted = db.delete_expired("alice").await;
            assert_eq!(usize::try_from(deleted).unwrap(), before - model.tokens.len());
        }
        Step::SetActive(active) => {
            let patch = UserPatch { active: Some(active), ..UserPatch::default() };
            db.store.update_user(&origin(), &alice, &patch).await.unwrap();
            model.active = active;
        }
        Step::SetMostTokens(_) | Step::SetLongest { .. } => restrict(db, model, &step).await,
        Step::SetOwnMostTokens(most) => {
            model.own.max_tokens_per_user = most;
            db.store.put_user_restrictions(&origin(), &alice, &model.own).await.unwrap();
        }
        Step::SetOwnLongest { hours: longest } => {
            model.own.max_lifetime = longest.map(|longest| longest.map(hours));
            db.store.put_user_restrictions(&origin(), &alice, &model.own).await.unwrap();
        }
        Step::Wait { hours: waited } => db.clock.advance(Duration::from(hours(waited))),
    }
}

/// The first look-up of a successor takes it into use, if it is valid.
async fn look_up(db: &Fixture, model: &mut Model, index: prop::sample::Index) {
    let token = index.get(&model.tokens).clone();
    let valid = model.active && live(&token, db.now());
    assert_eq!(db.is_valid(&token).await, valid);
    let unused = valid && token.is_unused_successor();
    for known in model.tokens.iter_mut().filter(|known| unused && known.id == token.id) {
        known.in_use_since = Some(db.now());
    }
}

async fn rotate(db: &Fixture, model: &mut Model, old: &Token, overlap: u64) {
    let expected = model.rotation_refusal(old, db.now());
    let asked = rotation(&format!("{overlap}h"), None);
    match db.store.rotate_token(&origin(), old.id, &asked).await {
        Ok(token) => {
            assert_eq!(expected, None);
            let latest = model.longest().map(|longest| longest.after(db.now()));
            assert!(latest.is_none_or(|latest| token.expires_at.is_some_and(|end| end <= latest)));
            model.rotate(old, token.id, overlap, db.now());
            model.tokens.push(token);
        }
        Err(error) => {
            let expected = expected.expect("no refusal was due");
            assert!(error.to_string().contains(&expected), "{error} instead of {expected}");
        }
    }
}

async fn restrict(db: &Fixture, model: &mut Model, step: &Step) {
    match step {
        Step::SetMostTokens(most) => model.most = *most,
        Step::SetLongest { hours: longest } => model.longest = longest.map(hours),
        _ => unreachable!("not a restriction"),
    }
    let mut restrictions = db.store.restrictions().await.unwrap();
    restrictions.max_tokens_per_user = model.most;
    restrictions.max_lifetime = model.longest;
    db.store.put_restrictions(&origin(), &restrictions).await.unwrap();
}

/// Every verdict that a step changed is in the changes that it added; time alone adds none.
async fn follow(db: &Fixture, steps: Vec<Step>) {
    db.user("alice").await;
    let longest = db.store.restrictions().await.unwrap().max_lifetime;
    let mut model =
        Model { tokens: Vec::new(), active: true, most: Some(10), longest, own: UserRestrictions::default() };
    for step in steps {
        let (before, revision) = (valid_hashes(db, &model).await, db.revision().await);
        let (known, waits) = (model.tokens.len(), matches!(step, Step::Wait { .. } | Step::DeleteExpired));
        take(db, &mut model, step).await;
        let after = valid_hashes(db, &model).await;
        let noted: BTreeSet<Vec<u8>> = changes(db)
            .await
            .into_iter()
            .filter(|(number, _)| *number > i64::try_from(revision).unwrap())
            .flat_map(|(_, hashes)| hashes)
            .collect();
        let made = model.tokens.iter().skip(known).map(|token| token.hash.as_bytes().to_vec()).collect();
        let changed: BTreeSet<_> = before.symmetric_difference(&after).cloned().collect();
        let expected: BTreeSet<_> = changed.difference(&made).cloned().collect();
        assert!(waits || expected.is_subset(&noted), "a verdict changed that no revision names");
        assert!(!waits || noted.is_empty(), "a revision was taken for nothing");
        let kept = db.number("SELECT COUNT(*) FROM tokens").await;
        assert_eq!(usize::try_from(kept).unwrap(), model.tokens.len());
    }
}

fn check(cases: u32, fixture: impl AsyncFn() -> Fixture) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 100,
        ..Config::default()
    });
    let outcome = runner.run(&prop::collection::vec(step(), 10..40), |steps| {
        runtime.block_on(async { follow(&fixture().await, steps).await });
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn random_steps_on_sqlite_have_the_outcomes_of_the_rules() {
    check(24, async || Fixture::sqlite().await);
}

#[test]
fn random_steps_on_postgres_have_the_outcomes_of_the_rules() {
    check(12, async || Fixture::postgres().await);
}
