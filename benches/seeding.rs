//! Many tokens at once, written into a service's database directly: the API would take hours over a million.

use std::convert::Infallible;

use latchkey::token::{Secret, TokenHash, TokenPrefix};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};

/// How many rows a statement writes, with three values each: SQLite takes 32,766 of them.
const ROWS: usize = 1000;
/// How many users share the tokens.
const USERS: usize = 1000;

/// So many well-formed tokens, other ones for each `seed`, that no service knows yet.
pub fn tokens(seed: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| token(seed, number)).collect()
}

/// One of them.
pub fn token(seed: &str, number: usize) -> String {
    let mut part = 0;
    let fill = |bytes: &mut [u8]| {
        for chunk in bytes.chunks_mut(32) {
            let digest = TokenHash::of(format!("{seed} {number} {part}").as_bytes());
            chunk.copy_from_slice(&digest.as_bytes()[..chunk.len()]);
            part += 1;
        }
        Ok::<_, Infallible>(())
    };
    let Ok(secret) = Secret::generate(&TokenPrefix::default(), fill);
    secret.expose().to_owned()
}

/// The id of a token that [`store`] wrote, by its place.
pub fn id(number: usize) -> String {
    format!("00000000-0000-7000-8000-{number:012x}")
}

/// Stores tokens in the database of a service that has made its tables.
pub async fn store_tokens(database_url: &str, tokens: &[String]) {
    let hashes: Vec<TokenHash> = tokens.iter().map(|token| TokenHash::of(token.as_bytes())).collect();
    store(database_url, &hashes).await;
}

/// Stores tokens, by their hashes, in the database of a service that has made its tables.
pub async fn store(database_url: &str, hashes: &[TokenHash]) {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(database_url).await.expect("the database");
    let mut run =
        async |sql: String| connection.execute(AssertSqlSafe(sql)).await.map(|_| ()).expect("a statement");
    run("BEGIN".to_owned()).await;
    for user in 0..USERS {
        let name = format!("'{}', 'seed-{user}', 'seed-{user}', 'UTC', 1, 0, 0", id(user));
        let columns = "id, name, display_name, time_zone, active, deleted, created_at";
        run(format!("INSERT INTO users ({columns}) VALUES ({name})")).await;
    }
    for (page, hashes) in hashes.chunks(ROWS).enumerate() {
        insert(&mut connection, page * ROWS, hashes).await;
    }
    // As if somebody had made an administrator: until then a service says nothing of any token.
    connection.execute("UPDATE history SET bootstrapped = 1").await.expect("a service that answers");
    connection.execute("COMMIT").await.expect("the end of the transaction");
    connection.close().await.expect("the end of the connection");
}

async fn insert(connection: &mut AnyConnection, first: usize, hashes: &[TokenHash]) {
    let rows: Vec<String> = (0..hashes.len())
        .map(|row| {
            let [id, user, hash] = [1, 2, 3].map(|value| 3 * row + value);
            format!("(${id}, ${user}, ${hash}, 'seeded', 'lk_seed', 'bearer basic', '', '', 0)")
        })
        .collect();
    let columns = "id, user_id, hash, name, hint, schemes, scopes, allowed_cidrs, created_at";
    let sql = format!("INSERT INTO tokens ({columns}) VALUES {}", rows.join(", "));
    let mut statement = sqlx::query(AssertSqlSafe(sql));
    for (row, hash) in hashes.iter().enumerate() {
        let number = first + row;
        statement = statement.bind(id(number)).bind(id(number % USERS)).bind(hash.as_bytes().to_vec());
    }
    statement.execute(connection).await.expect("tokens are stored");
}
