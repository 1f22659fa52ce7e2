//! Clients that make, rotate, revoke and import tokens and have the scheduler run, each with users of its own, until they are
//! told to end or the service is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use latchkey::token::TokenHash;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::book::{Book, Change, Known, State};
use crate::support::service::Made;
use crate::support::{Admin, Answer, secrets, wait};

const CLIENTS: usize = 4;
/// How many tokens are imported together.
const IMPORTED: usize = 3;

/// Running clients of one service.
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

struct Shared {
    admin: Admin,
    book: Arc<Book>,
    /// What each identifier of a request begins with.
    name: String,
    acknowledged: AtomicUsize,
    unavailable: AtomicUsize,
    ended: AtomicBool,
}

/// Why a client does not go on with what it was at.
enum Stop {
    /// Answered 503, or 507 for a full disk: it may have been done or not.
    Unavailable,
    /// No answer came.
    Gone,
}

impl Load {
    /// Starts clients; of all loads of a book each needs another name.
    pub fn start(admin: &Admin, book: &Arc<Book>, name: &str) -> Self {
        let shared = Arc::new(Shared {
            admin: admin.clone(),
            book: Arc::clone(book),
            name: name.to_owned(),
            acknowledged: AtomicUsize::default(),
            unavailable: AtomicUsize::default(),
            ended: AtomicBool::default(),
        });
        let clients =
            (0..CLIENTS).map(|number| Client { shared: Arc::clone(&shared), number, sent: 0 }.run());
        let clients = clients.collect();
        Self { shared, clients }
    }

    /// How many of its requests were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// How many were answered 503 or 507.
    pub fn unavailable(&self) -> usize {
        self.shared.unavailable.load(Ordering::Relaxed)
    }

    /// Waits until so many more were acknowledged.
    pub async fn gets_on(&self, more: usize) {
        let before = self.acknowledged();
        wait::until_within(wait::PATIENCE * 2, "the clients get on", async || {
            (self.acknowledged() >= before + more).then_some(())
        })
        .await;
    }

    /// Ends the clients when each has its last answer, or knows that none comes.
    pub async fn end(self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
    }
}

struct Client {
    shared: Arc<Shared>,
    number: usize,
    /// How many requests it has sent.
    sent: usize,
}

impl Client {
    async fn run(mut self) {
        while !self.shared.ended.load(Ordering::Relaxed) {
            match self.work().await {
                Ok(()) => {}
                Err(Stop::Unavailable) => {
                    self.shared.unavailable.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                Err(Stop::Gone) => return,
            }
        }
    }

    /// One user, and some of everything for it.
    async fn work(&mut self) -> Result<(), Stop> {
        let user = self.ticket();
        self.ask(
            Change::CreateUser { name: user.clone() },
            201,
            Method::POST,
            "/users",
            Some(json!({"name": user})),
        )
        .await?;
        self.create(&user, true).await?;
        for round in 0..4 {
            if self.shared.ended.load(Ordering::Relaxed) {
                return Ok(());
            }
            let revoked = self.create(&user, false).await?;
            let rotated = self.create(&user, false).await?;
            self.revoke(&revoked).await?;
            self.import(&user).await?;
            self.rotate(&rotated).await?;
            if round == 2 {
                self.run_scheduler().await?;
            }
        }
        Ok(())
    }

    async fn create(&mut self, user: &str, short: bool) -> Result<Known, Stop> {
        let spec =
            if short { json!({"name": "short", "expires_in": "1s"}) } else { json!({"name": "token"}) };
        let path = format!("/users/{user}/tokens");
        let (number, answer) =
            self.ask(Change::CreateToken { short }, 201, Method::POST, &path, Some(spec)).await?;
        Ok(self.made(number, answer))
    }

    async fn revoke(&mut self, token: &Known) -> Result<(), Stop> {
        let change = Change::Revoke { id: token.id.clone() };
        let path = format!("/tokens/{}", token.id);
        self.ask(change, 204, Method::DELETE, &path, None).await.map(drop)
    }

    async fn rotate(&mut self, token: &Known) -> Result<(), Stop> {
        let change = Change::Rotate { id: token.id.clone() };
        let path = format!("/tokens/{}/rotate", token.id);
        let (number, answer) = self.ask(change, 201, Method::POST, &path, Some(json!({}))).await?;
        self.made(number, answer);
        Ok(())
    }

    /// Notes a token that was made.
    fn made(&self, number: usize, answer: Value) -> Known {
        let made = Made::of(answer);
        let known = Known { secret: made.token, id: made.id, state: State::Live };
        self.shared.book.acknowledged(number, vec![known.clone()]);
        known
    }

    async fn import(&mut self, user: &str) -> Result<(), Stop> {
        let secrets = imported(&self.next_ticket());
        let (path, body) = import_of(user, &secrets);
        let change = Change::Import { user: user.to_owned(), secrets: secrets.clone() };
        let (number, answer) = self.ask(change, 200, Method::POST, &path, Some(body)).await?;
        assert_eq!(answer["imported"], json!(IMPORTED), "{answer}");
        self.shared.book.acknowledged(number, stored(&answer, &secrets));
        Ok(())
    }

    async fn run_scheduler(&mut self) -> Result<(), Stop> {
        let ticket = self.ticket();
        let number = self.shared.book.asks(Change::RunScheduler, &ticket);
        let request = self.shared.admin.request(Method::POST, "/scheduler/run", None);
        let answer = Answer::try_to(request.header("x-request-id", &ticket)).await.map_err(|_| Stop::Gone)?;
        match answer.status {
            // Another run is under way, which does it too.
            409 => Ok(()),
            503 | 507 => Err(Stop::Unavailable),
            200 | 202 => {
                self.shared.book.acknowledged(number, Vec::new());
                Ok(())
            }
            _ => panic!("POST /scheduler/run: {answer:?}"),
        }
    }

    /// Sends a request, in the book before that and after it; says its number there, and the answer.
    async fn ask(
        &mut self,
        change: Change,
        status: u16,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(usize, Value), Stop> {
        let ticket = self.ticket();
        let makes =
            matches!(change, Change::CreateToken { .. } | Change::Rotate { .. } | Change::Import { .. });
        let number = self.shared.book.asks(change, &ticket);
        let request = self.shared.admin.request(method.clone(), path, body);
        let answer = Answer::try_to(request.header("x-request-id", &ticket)).await.map_err(|_| Stop::Gone)?;
        if matches!(answer.status, 503 | 507) {
            return Err(Stop::Unavailable);
        }
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        if !makes {
            self.shared.book.acknowledged(number, Vec::new());
        }
        self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        Ok((number, if answer.body.is_empty() { Value::Null } else { answer.json() }))
    }

    fn next_ticket(&self) -> String {
        format!("{}-{}-{}", self.shared.name, self.number, self.sent + 1)
    }

    fn ticket(&mut self) -> String {
        self.sent += 1;
        format!("{}-{}-{}", self.shared.name, self.number, self.sent)
    }
}

/// The tokens of another system that a request imports.
fn imported(ticket: &str) -> Vec<String> {
    let secrets: Vec<String> = (0..IMPORTED).map(|number| format!("moved-{ticket}-{number}")).collect();
    secrets.iter().for_each(|secret| secrets::note(secret));
    secrets
}

/// The path and body of their import.
pub fn import_of(user: &str, secrets: &[String]) -> (String, Value) {
    let entry = |secret: &String| json!({"token_hash": TokenHash::of(secret.as_bytes()), "name": "moved"});
    let tokens: Vec<Value> = secrets.iter().map(entry).collect();
    (format!("/users/{user}/tokens:import"), json!({"tokens": tokens}))
}

/// What an import has stored, by its answer.
pub fn stored(answer: &Value, secrets: &[String]) -> Vec<Known> {
    let items = answer["items"].as_array().expect("the tokens");
    assert_eq!(items.len(), secrets.len(), "half an import: {answer}");
    let id = |item: &Value| item["id"].as_str().expect("an id").to_owned();
    let known = items.iter().zip(secrets);
    known.map(|(item, secret)| Known { secret: secret.clone(), id: id(item), state: State::Live }).collect()
}
