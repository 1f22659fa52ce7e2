//! Tables of many rows.

use latchkey_admin::domain::token::{Token, TokenId};

use crate::support::{Fixture, admin_token, name, origin};

const USERS: u32 = 1_000;
const ROWS: u32 = 50_000;

/// What operations are run with.
pub struct Seeded {
    /// An administrator's.
    pub admin: Token,
}

/// Fills a new database with tokens of every kind, audit entries, changes and edges, and gathers statistics of them.
pub async fn fill(db: &Fixture) -> Seeded {
    let bytes = if db.url.to_string().starts_with("sqlite") { "BLOB" } else { "BYTEA" };
    let now = db.now().as_millisecond();
    let days = |count: i64| now + count * 86_400_000;
    let (made, past, recent, old, older, tomorrow) =
        (days(-100), days(-50), days(-5), days(-2), days(-8), days(1));
    let id = |kind: u32, number: &str| {
        format!("'00000000-0000-7000-8000-' || CAST({kind}00000000000 + {number} AS TEXT)")
    };
    let (user, owner, token, entry) = (id(1, "i"), id(1, &format!("(i % {USERS})")), id(2, "i"), id(3, "i"));
    let hash = |of: &str| format!("CAST('{of} of the many ones: ' || CAST(10000000 + i AS TEXT) AS {bytes})");
    // Five were deleted long ago.
    db.sql(&format!(
        "{} INSERT INTO users (id, name, display_name, time_zone, active, deleted, created_at, deleted_at) SELECT {user}, \
         'user' || CAST(i AS TEXT), 'Many', 'UTC', CASE WHEN i BETWEEN 990 AND 994 THEN 0 ELSE 1 END, \
         CASE WHEN i BETWEEN 990 AND 994 THEN 1 ELSE 0 END, 0, CASE WHEN i BETWEEN 990 AND 994 THEN {past} END FROM n",
        numbers(USERS)
    ))
    .await;
    // Of ten, one never expires, three are due for deletion but for those of user1, one is revoked, and five are live. Half of
    // those that never expire were revoked long ago. Each has made a hundred others, as far as there are some.
    db.sql(&format!(
        "{} INSERT INTO tokens (id, user_id, hash, name, hint, schemes, scopes, allowed_cidrs, created_at, expires_at, \
         revoked_at, made_by) SELECT {token}, {owner}, {}, 'many ' || CAST(i AS TEXT), 'lk_abcd', 'bearer', '', '', \
         {made}, CASE WHEN i % 10 = 0 THEN NULL WHEN i % 1000 = 1 THEN {recent} + i WHEN i % 10 < 4 THEN {past} + i \
         ELSE {tomorrow} + i END, CASE WHEN i % 10 = 4 THEN {now} WHEN i % 20 = 0 THEN {past} + i END, \
         CASE WHEN i >= 100 THEN {maker} END FROM n",
        numbers(ROWS),
        hash("token"),
        maker = id(2, "i / 100"),
    ))
    .await;
    db.sql(&format!(
        "{} INSERT INTO audit (id, at, actor, action, subject, details) SELECT {entry}, i, 'user' || CAST(i % {USERS} AS TEXT), \
         'token.created', CAST(i AS TEXT), '{{}}' FROM n",
        numbers(ROWS)
    ))
    .await;
    let changes = format!(
        "INSERT INTO changes (revision, token_hash, at) SELECT i + 1, {}, {old} + i FROM n",
        hash("token")
    );
    db.sql(&format!("{} {changes}", numbers(ROWS))).await;
    db.sql(&format!("UPDATE history SET revision = {ROWS}")).await;
    let edges = format!("INSERT INTO edges SELECT 'edge' || CAST(i AS TEXT), 1, {older} + i * 100 FROM n");
    db.sql(&format!("{} {edges}", numbers(ROWS))).await;
    db.sql("UPDATE restrictions SET max_tokens_per_user = 1000").await;
    db.store
        .create_user(&origin(), &latchkey_admin::domain::user::NewUser::named(name("root")))
        .await
        .unwrap();
    let admin = db.store.create_token(&origin(), &name("root"), &admin_token()).await.unwrap();
    db.store.close().await;
    db.settle().await;
    Seeded { admin }
}

/// The id of a live token, other ones for other numbers.
pub fn live(number: u32) -> TokenId {
    format!("00000000-0000-7000-8000-2000000{:05}", 10 * number + 7).parse().unwrap()
}

fn numbers(count: u32) -> String {
    format!("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})")
}
