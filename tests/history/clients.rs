//! Clients that change whatever there is at random, each change at a replica of its own, and note what is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::check::{Acknowledged, Change, Limit};
use crate::support::random::Random;
use crate::support::service::{Edge, Made};
use crate::support::{Admin, Answer, wait};

/// How long another replica may take to know of a change on a busy machine.
const AT_LAST: Duration = Duration::from_secs(600);
/// Each has a client that disables and enables it.
pub const USERS: usize = 8;

/// What all clients share.
pub struct Scene {
    /// One of each replica, in the same order.
    pub admins: Vec<Admin>,
    pub edges: Vec<Edge>,
    pub begun: Instant,
    book: Mutex<Book>,
}

/// What the clients have noted.
pub struct Book {
    pub acknowledged: Vec<Acknowledged>,
    pub limits: Vec<Limit>,
    /// When each token was asked for that was made, in Unix milliseconds.
    pub asked: BTreeMap<String, u64>,
    /// How long after an acknowledgement another replica's verdict was the new one.
    pub verdicts: Vec<Duration>,
    /// How long the calls took, which says how busy the machine is.
    pub calls: Vec<Duration>,
    /// How many calls were refused because of a limit, and because of what others had done.
    pub refused: [usize; 2],
    /// Tokens that live, as far as anyone knows.
    live: Vec<Mine>,
    /// Tokens whose end was asked for.
    ending: BTreeSet<String>,
}

/// A token, known to the one client that renames, patches and rotates it. Every client may revoke it.
#[derive(Clone)]
struct Mine {
    made: Made,
    name: String,
    scopes: String,
    predecessor: Option<String>,
}

impl Scene {
    /// With a limit that is in force already.
    pub fn new(admins: Vec<Admin>, edges: Vec<Edge>, most: usize) -> Self {
        let book = Book {
            acknowledged: Vec::new(),
            limits: vec![Limit { most, from: 0, until: u64::MAX }],
            asked: BTreeMap::new(),
            verdicts: Vec::new(),
            calls: Vec::new(),
            refused: [0; 2],
            live: Vec::new(),
            ending: BTreeSet::new(),
        };
        Self { admins, edges, begun: wait::now(), book: Mutex::new(book) }
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("the book")
    }

    pub fn into_book(self) -> Book {
        self.book.into_inner().expect("the book")
    }

    fn note(&self, change: Change) {
        let at = self.begun.elapsed();
        self.book().acknowledged.push(Acknowledged { at, change });
    }
}

pub fn user(number: usize) -> String {
    format!("user-{number}")
}

/// One client, with its own random choices.
pub struct Client {
    scene: Arc<Scene>,
    random: Random,
    number: usize,
    steps: usize,
    tokens: Vec<Mine>,
    active: bool,
}

impl Client {
    pub fn new(scene: &Arc<Scene>, seed: u64, number: usize) -> Self {
        let random = Random::new(seed, u64::try_from(number).expect("few clients"));
        Self { scene: Arc::clone(scene), random, number, steps: 0, tokens: Vec::new(), active: true }
    }

    /// Makes changes for so long.
    pub async fn run(mut self, time: Duration) {
        while self.scene.begun.elapsed() < time {
            self.steps += 1;
            match self.random.below(20) {
                0..=6 => self.create().await,
                7 | 8 => self.patch("name").await,
                9..=11 => self.patch("scopes").await,
                12..=14 => self.rotate().await,
                15..=17 => self.revoke_any().await,
                18 if self.number < USERS => self.toggle().await,
                _ if self.number == 0 => self.limit().await,
                _ => self.revoke_own().await,
            }
        }
    }

    /// Asks a random replica; says which one it was.
    async fn ask(&mut self, method: Method, path: &str, body: Option<Value>) -> (usize, Answer) {
        let replica = self.random.below(self.scene.admins.len());
        let admin = &self.scene.admins[replica];
        let asked = wait::now();
        let mut answer = admin.call(method.clone(), path, body.clone()).await;
        self.scene.book().calls.push(asked.elapsed());
        // What can be repeated is, where a busy machine has no time for it: whether it was done or not, the end is one.
        while answer.status == 503 && method != Method::POST && asked.elapsed() < AT_LAST {
            answer = admin.call(method.clone(), path, body.clone()).await;
        }
        (replica, answer)
    }

    async fn create(&mut self) {
        let user = user(self.random.below(USERS));
        let name = format!("{}.{}", self.number, self.steps);
        let path = format!("/users/{user}/tokens");
        let spec = json!({"name": name, "scopes": ["first"]});
        let asked = wait::unix_millis();
        let (_, answer) = self.ask(Method::POST, &path, Some(spec)).await;
        if self.was_refused(&answer, 201, &["token_limit_reached", "user_not_active"]) {
            return;
        }
        let made = Made::of(answer.json());
        self.keep(Mine { made, name, scopes: "first".to_owned(), predecessor: None }, asked);
    }

    /// Notes a token that was made.
    fn keep(&mut self, mine: Mine, asked: u64) {
        self.scene.book().asked.insert(mine.made.id.clone(), asked);
        let token = mine.made.id.clone();
        self.scene.note(Change::Made { token, name: mine.name.clone(), scopes: mine.scopes.clone() });
        self.scene.book().live.push(mine.clone());
        self.tokens.push(mine);
    }

    /// Whether the answer is one of the refusals that may come; panics if it is neither that nor the status.
    fn was_refused(&self, answer: &Answer, status: u16, codes: &[&str]) -> bool {
        if answer.status == status {
            return false;
        }
        let code = answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == 409 && codes.contains(&code.as_str()), "client {}: {answer:?}", self.number);
        self.scene.book().refused[usize::from(code != "token_limit_reached")] += 1;
        true
    }

    /// Takes one of the client's own tokens out of its hands.
    fn take(&mut self) -> Option<Mine> {
        let count = self.tokens.len();
        (count > 0).then(|| self.tokens.swap_remove(self.random.below(count)))
    }

    /// Panics unless somebody has asked for the token's end.
    fn assert_ending(&self, mine: &Mine) {
        assert!(self.scene.book().ending.contains(&mine.made.id), "{} ended by itself", mine.made.id);
    }

    async fn patch(&mut self, field: &str) {
        let Some(mut mine) = self.take() else { return };
        let (token, path) = (mine.made.id.clone(), format!("/tokens/{}", mine.made.id));
        let value = format!("{field}.{}.{}", self.number, self.steps);
        let body = if field == "name" { json!({"name": value}) } else { json!({"scopes": [value]}) };
        let (replica, answer) = self.ask(Method::PATCH, &path, Some(body)).await;
        if self.was_refused(&answer, 200, &["token_not_active"]) {
            return self.assert_ending(&mine);
        }
        if field == "name" {
            mine.name.clone_from(&value);
            self.scene.note(Change::Renamed { token, name: value });
        } else {
            mine.scopes.clone_from(&value);
            self.scene.note(Change::Scoped { token, scopes: value.clone() });
            let knows =
                |verdict: &Value| verdict["token"].is_null() || verdict["token"]["scopes"] == json!([value]);
            self.until_known(replica, &mine, knows).await;
        }
        self.tokens.push(mine);
    }

    async fn rotate(&mut self) {
        let Some(mine) = self.take() else { return };
        let overlaps = self.random.below(2) == 0;
        let (token, path) = (mine.made.id.clone(), format!("/tokens/{}/rotate", mine.made.id));
        let body = json!({"overlap": if overlaps { "1h" } else { "0s" }});
        self.scene
            .book()
            .ending
            .extend([Some(token.clone()), mine.predecessor.clone()].into_iter().flatten());
        let asked = wait::unix_millis();
        let (replica, answer) = self.ask(Method::POST, &path, Some(body)).await;
        if self.was_refused(&answer, 201, &["token_not_active", "user_not_active"]) {
            return;
        }
        self.scene.note(if overlaps { Change::Overlapped { token } } else { Change::Ended { token } });
        if let Some(token) = mine.predecessor.clone() {
            self.scene.note(Change::Ended { token });
        }
        if !overlaps {
            self.until_known(replica, &mine, |verdict| verdict["token"].is_null()).await;
        }
        let predecessor = Some(mine.made.id);
        self.keep(Mine { made: Made::of(answer.json()), predecessor, ..mine }, asked);
    }

    async fn revoke_own(&mut self) {
        if let Some(mine) = self.take() {
            self.revoke(mine).await;
        }
    }

    /// Revokes a token that is perhaps another client's, and perhaps being revoked or changed.
    async fn revoke_any(&mut self) {
        let index = self.random.below(1 << 20);
        let mine = {
            let live = &mut self.scene.book().live;
            if live.is_empty() { None } else { Some(live[index % live.len()].clone()) }
        };
        if let Some(mine) = mine {
            self.revoke(mine).await;
        }
    }

    async fn revoke(&mut self, mine: Mine) {
        let token = mine.made.id.clone();
        self.scene.book().ending.insert(token.clone());
        let (replica, answer) = self.ask(Method::DELETE, &format!("/tokens/{token}"), None).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        self.scene.note(Change::Ended { token: token.clone() });
        self.scene.book().live.retain(|it| it.made.id != token);
        self.until_known(replica, &mine, |verdict| verdict["token"].is_null()).await;
    }

    async fn toggle(&mut self) {
        let name = user(self.number);
        self.active = !self.active;
        let (path, body) = (format!("/users/{name}"), json!({"active": self.active}));
        let (_, answer) = self.ask(Method::PATCH, &path, Some(body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        self.scene.note(Change::User { name, active: self.active });
        if !self.active {
            // Briefly: most of the time there should be something to change.
            Box::pin(self.toggle()).await;
        }
    }

    /// Sets another limit for all users.
    async fn limit(&mut self) {
        let most = 3 + self.random.below(6);
        let replica = self.random.below(self.scene.admins.len());
        let from = wait::unix_millis();
        self.scene.admins[replica].restrict(json!({"max_tokens_per_user": most})).await;
        let mut book = self.scene.book();
        let last = book.limits.last_mut().expect("the limit before");
        last.until = wait::unix_millis();
        book.limits.push(Limit { most, from, until: u64::MAX });
    }

    /// Asks another replica than the one that has acknowledged a change until its verdict is the new one.
    async fn until_known(&mut self, replica: usize, mine: &Mine, knows: impl Fn(&Value) -> bool) {
        let acknowledged = wait::now();
        let replicas = self.scene.edges.len();
        let other = (replica + 1 + self.random.below(replicas - 1)) % replicas;
        loop {
            let asked = acknowledged.elapsed();
            // A service that cannot look it up now says so, and is asked again.
            let answer = self.scene.edges[other].verify(&mine.made.token).await;
            let answer = answer.ok().filter(|answer| answer.status != 503);
            if let Some(answer) = &answer {
                assert_eq!(answer.status, 200, "{answer:?}");
                if knows(&answer.json()) {
                    return self.scene.book().verdicts.push(asked);
                }
            }
            assert!(asked < AT_LAST, "replica {other} does not come to know: {answer:?}");
        }
    }
}
