//! Which token made which: what one has made in all, and who takes the place of a maker that is deleted.

use std::collections::{BTreeSet, HashMap};

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, query};

use super::error::StoreError;
use super::row::{Columns, MANY, list, places};
use super::transaction::Tx;
use crate::domain::token::TokenId;

/// Those of the tokens that a token has made, that those have made, and so on, which are not revoked: all of them, or the first
/// `most`.
///
/// It goes from maker to maker by lists of identifiers: the databases would read the whole table for a recursive statement.
pub(super) async fn unrevoked(
    tx: &mut Tx<'_>,
    root: TokenId,
    most: usize,
) -> Result<Vec<TokenId>, StoreError> {
    let (mut known, mut makers, mut found) = (BTreeSet::from([root]), vec![root], Vec::new());
    while !makers.is_empty() && found.len() < most {
        let some = makers.split_off(makers.len().saturating_sub(MANY));
        let text = format!("SELECT id, revoked_at FROM tokens WHERE made_by IN {}", list(1, some.len()));
        let statement =
            some.iter().fold(query(AssertSqlSafe(text)), |statement, id| statement.bind(id.to_string()));
        for row in statement.fetch_all(&mut *tx.connection).await? {
            let id = TokenId(row.uuid("id")?);
            if known.insert(id) {
                makers.push(id);
                found.extend(row.time_or_null("revoked_at")?.is_none().then_some(id));
            }
        }
    }
    found.truncate(most);
    Ok(found)
}

/// Gives what deleted tokens have made to the nearest of their own makers that is left, or to none. The rows are those
/// that a `DELETE` returned, with `id` and `made_by`.
pub(super) async fn bequeath(tx: &mut Tx<'_>, deleted: &[AnyRow]) -> Result<(), StoreError> {
    let mut makers = HashMap::new();
    for row in deleted {
        makers.insert(row.text("id")?, row.text_or_null("made_by")?);
    }
    let heirs: Vec<(&String, &str)> = makers.keys().map(|id| (id, heir(id, &makers))).collect();
    for some in heirs.chunks(MANY) {
        let text = format!(
            "WITH gone (id, heir) AS (VALUES {}) UPDATE tokens SET made_by = NULLIF(gone.heir, '') FROM gone \
             WHERE tokens.made_by = gone.id",
            places(some.len(), 2)
        );
        let statement = some.iter().fold(query(AssertSqlSafe(text)), |statement, (id, heir)| {
            statement.bind((*id).clone()).bind((*heir).to_owned())
        });
        statement.execute(&mut *tx.connection).await?;
    }
    Ok(())
}

/// The nearest maker of a deleted token that is not among the deleted; empty: none.
fn heir<'a>(id: &str, makers: &'a HashMap<String, Option<String>>) -> &'a str {
    let mut next = makers.get(id);
    // No chain is longer than there are links.
    for _ in 0..makers.len() {
        match next {
            Some(Some(maker)) if makers.contains_key(maker) => next = makers.get(maker),
            Some(Some(maker)) => return maker,
            _ => break,
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_maker_that_is_left_inherits() {
        let link = |id: &str, maker: Option<&str>| (id.to_owned(), maker.map(str::to_owned));
        let makers = HashMap::from([link("c", Some("b")), link("b", Some("a")), link("x", None)]);
        assert_eq!(["c", "b", "x"].map(|id| heir(id, &makers)), ["a", "a", ""]);
        let ring = HashMap::from([link("a", Some("b")), link("b", Some("a"))]);
        assert_eq!(heir("a", &ring), "", "what cannot be ends all the same");
    }
}
