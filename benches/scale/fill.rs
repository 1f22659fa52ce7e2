//! Filling the database of a service by SQL that makes the rows where they are kept.

use latchkey::token::TokenHash;

use crate::support::Service;
use crate::support::database::Database;

/// How many tokens are due for deletion, at most, of a fifth of them all.
pub const MOST_DUE: u64 = 20_000;
/// How many rows one statement makes.
const CHUNK: u64 = 200_000;
/// How many tokens a user has.
pub const EACH: u64 = 10;
const DAY: i64 = 86_400_000;

/// How many of so many tokens are due for deletion.
pub fn due(tokens: u64) -> u64 {
    (tokens / 5).min(MOST_DUE)
}

/// The hash of a stored token, by its number.
pub fn hash(number: u64) -> TokenHash {
    let word = u32::try_from(number * 2_654_435_761 % (1 << 32)).expect("32 bits").to_be_bytes();
    TokenHash::from_bytes([word; 8].concat().try_into().expect("32 bytes"))
}

/// Fills the database of a service that has made its tables, and leaves the service stopped. Gives an administrator's token.
pub async fn fill(service: &mut Service, tokens: u64) -> String {
    let token = service.bootstrap().token;
    service.signal("TERM");
    service.process().wait().await;
    let mut database = Database::open(service.database_url()).await;
    database.run("UPDATE restrictions SET delete_expired_enabled = 0, max_tokens_per_user = NULL").await;
    let sqlite = service.database_url().starts_with("sqlite");
    let indexes = indexes(&mut database, sqlite).await;
    for (name, _) in &indexes {
        database.run(&format!("DROP INDEX {name}")).await;
    }
    rows(&mut database, tokens / EACH, &users()).await;
    rows(&mut database, tokens, &self::tokens(sqlite, tokens)).await;
    for (_, definition) in &indexes {
        database.run(definition).await;
    }
    database.run(if sqlite { "ANALYZE" } else { "VACUUM ANALYZE" }).await;
    database.close().await;
    token
}

/// The indexes of the tokens, by name, with the statements that make them: making them once for all rows is faster.
async fn indexes(database: &mut Database, sqlite: bool) -> Vec<(String, String)> {
    let sql = if sqlite {
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'tokens' AND sql IS NOT NULL"
    } else {
        "SELECT CAST(indexname AS TEXT), indexdef FROM pg_indexes WHERE tablename = 'tokens' AND indexname LIKE 'tokens\\__%' \
         AND indexname NOT LIKE '%\\_key' AND indexname NOT LIKE '%\\_pkey'"
    };
    let rows = database.rows(sql).await;
    rows.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
}

/// Inserts so many rows, chunk by chunk, each made from its number `i`.
async fn rows(database: &mut Database, count: u64, insert: &str) {
    for first in (0..count).step_by(usize::try_from(CHUNK).expect("a small number")) {
        let end = (first + CHUNK).min(count);
        let numbers = format!(
            "WITH RECURSIVE n(i) AS (SELECT CAST({first} AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {end})"
        );
        database.run(&format!("{numbers} {insert}")).await;
    }
}

fn id(kind: u8, number: &str) -> String {
    format!("'00000000-0000-7000-8000-' || CAST({kind}00000000000 + {number} AS TEXT)")
}

fn users() -> String {
    format!(
        "INSERT INTO users (id, name, display_name, time_zone, active, deleted, created_at) \
         SELECT {}, 'user' || CAST(i AS TEXT), 'One of many', 'UTC', 1, 0, 0 FROM n",
        id(1, "i")
    )
}

/// Those that are due come first; of the others, the last in twenty never expires, and the one before is revoked.
fn tokens(sqlite: bool, count: u64) -> String {
    let word = "i * 2654435761 % 4294967296";
    let hash = if sqlite {
        format!("unhex(printf('{}', {}))", "%08x".repeat(8), [word; 8].join(", "))
    } else {
        format!("decode(repeat(lpad(to_hex({word}), 8, '0'), 8), 'hex')")
    };
    let now =
        if sqlite { "unixepoch('now') * 1000" } else { "CAST(EXTRACT(EPOCH FROM now()) * 1000 AS BIGINT)" };
    let (past, soon) = (format!("{now} - {}", 50 * DAY), format!("{now} + {DAY}"));
    let year = 365 * DAY;
    format!(
        "INSERT INTO tokens (id, user_id, hash, name, hint, schemes, scopes, allowed_cidrs, created_at, expires_at, revoked_at) \
         SELECT {}, {}, {hash}, 'token number ' || CAST(i AS TEXT), 'lk_abcd', 'bearer basic', '', '', {past}, \
         CASE WHEN i < {due} THEN {past} + i WHEN i % 20 = 19 THEN NULL ELSE {soon} + i * 7919 % {year} END, \
         CASE WHEN i >= {due} AND i % 20 = 18 THEN {now} END FROM n",
        id(2, "i"),
        id(1, &format!("i / {EACH}")),
        due = due(count),
    )
}
