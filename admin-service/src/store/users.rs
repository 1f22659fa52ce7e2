//! Users: made, read, changed and (softly) deleted.

use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::query;
use uuid::Uuid;

use super::authority::Confirmed;
use super::error::StoreError;
use super::row::{Columns, millis};
use super::transaction::{Tx, Work};
use super::{Batch, Store, audit, history, user_restrictions};
use crate::domain::audit::{Action, Origin, Subject};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;
use crate::domain::user::{
    DisplayName, EmailAddress, NewUser, TimeZoneName, User, UserId, UserName, UserPatch,
};

impl Store {
    /// Makes a user.
    ///
    /// # Errors
    /// [`StoreError::UserExists`], [`StoreError::Unavailable`].
    pub async fn create_user(&self, origin: &Origin, user: &NewUser) -> Result<User, StoreError> {
        self.write(&Create { origin, user }).await
    }

    /// The user of a name, deleted or not.
    ///
    /// # Errors
    /// [`StoreError::UserNotFound`], [`StoreError::Unavailable`].
    pub async fn user(&self, name: &UserName) -> Result<User, StoreError> {
        let row =
            self.row(query("SELECT * FROM users WHERE name = $1").bind(name.as_str().to_owned())).await?;
        row.as_ref().map(user).ok_or_else(|| StoreError::UserNotFound(name.clone()))?
    }

    /// All users, deleted ones too, in the order in which they were made.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn users(&self, page: PageRequest) -> Result<Page<User>, StoreError> {
        let after = page.cursor.map_or(Uuid::nil(), |cursor| cursor.0);
        let statement = query("SELECT * FROM users WHERE id > $1 ORDER BY id LIMIT $2");
        let rows = self.rows(statement.bind(after.to_string()).bind(i64::from(page.limit.get()) + 1)).await?;
        let users = rows.iter().map(user).collect::<Result<_, _>>()?;
        Ok(Page::of(users, page.limit, |user| user.id.0))
    }

    /// Changes a user. Disabling or enabling it alters the verdicts on its tokens at once.
    ///
    /// # Errors
    /// [`StoreError::UserNotFound`], [`StoreError::UserDeleted`], [`StoreError::Unavailable`].
    pub async fn update_user(
        &self,
        origin: &Origin,
        name: &UserName,
        patch: &UserPatch,
    ) -> Result<User, StoreError> {
        self.write(&Update { origin, name, patch }).await
    }

    /// Deletes a user: its tokens are refused from now on, and nothing brings it back. It stays known by name until the
    /// scheduler comes for it.
    /// Repeating this changes nothing.
    ///
    /// # Errors
    /// [`StoreError::UserNotFound`], [`StoreError::Unavailable`].
    pub async fn delete_user(&self, origin: &Origin, name: &UserName) -> Result<User, StoreError> {
        self.write(&Delete { origin, name }).await
    }
}

struct Create<'a> {
    origin: &'a Origin,
    user: &'a NewUser,
}

impl Work for Create<'_> {
    type Output = User;

    async fn run(&self, tx: &mut Tx<'_>) -> Result<User, StoreError> {
        let by = Confirmed::look(tx, self.origin).await?;
        insert(tx, &by, self.user).await
    }
}

/// Makes a user in a transaction.
pub(super) async fn insert(tx: &mut Tx<'_>, by: &Confirmed<'_>, new: &NewUser) -> Result<User, StoreError> {
    let now = tx.now();
    let display_name = new.display_name.clone().unwrap_or_else(|| DisplayName::from(&new.name));
    let statement = query(
        "INSERT INTO users (id, name, display_name, email_address, time_zone, active, deleted, created_at) \
         VALUES ($1, $2, $3, $4, $5, 1, 0, $6) ON CONFLICT (name) DO NOTHING RETURNING *",
    );
    let row = statement
        .bind(tx.sources.new_id(now)?.to_string())
        .bind(new.name.to_string())
        .bind(display_name.to_string())
        .bind(new.email_address.as_ref().map(ToString::to_string))
        .bind(new.time_zone.clone().unwrap_or_default().to_string())
        .bind(millis(now))
        .fetch_optional(&mut *tx.connection)
        .await?;
    let user = row.as_ref().map(user).ok_or_else(|| StoreError::UserExists(new.name.clone()))??;
    let details = json!({ "before": null, "after": facts(&user) });
    audit::record(tx, by, Action::UserCreated, Subject::from(&user.name), details, now).await?;
    Ok(user)
}

/// Locks the row of a user until the transaction ends, and reads it.
pub(super) async fn lock(tx: &mut Tx<'_>, name: &UserName) -> Result<User, StoreError> {
    let row = query("UPDATE users SET name = name WHERE name = $1 RETURNING *")
        .bind(name.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
    row.as_ref().map(user).ok_or_else(|| StoreError::UserNotFound(name.clone()))?
}

/// Refuses a user who may have no new tokens.
pub(super) fn may_have_tokens(user: &User) -> Result<(), StoreError> {
    match user {
        User { deleted: true, name, .. } => Err(StoreError::UserDeleted(name.clone())),
        User { active: false, name, .. } => Err(StoreError::UserDisabled(name.clone())),
        _ => Ok(()),
    }
}

struct Update<'a> {
    origin: &'a Origin,
    name: &'a UserName,
    patch: &'a UserPatch,
}

impl Work for Update<'_> {
    type Output = User;

    fn is_revocation(&self) -> bool {
        self.patch.active == Some(false)
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<User, StoreError> {
        let before = lock(tx, self.name).await?;
        let by = Confirmed::look(tx, self.origin).await?;
        if before.deleted {
            return Err(StoreError::UserDeleted(self.name.clone()));
        }
        let after = self.patch.apply(before.clone());
        if after == before {
            return Ok(after);
        }
        let now = tx.now();
        save(tx, &after).await?;
        audit::record(tx, &by, Action::UserUpdated, self.name.into(), details(&before, &after), now).await?;
        activity_changed(tx, &before, &after, now).await?;
        Ok(after)
    }
}

struct Delete<'a> {
    origin: &'a Origin,
    name: &'a UserName,
}

impl Work for Delete<'_> {
    type Output = User;

    fn is_revocation(&self) -> bool {
        true
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Result<User, StoreError> {
        let before = lock(tx, self.name).await?;
        let by = Confirmed::look(tx, self.origin).await?;
        if before.deleted {
            return Ok(before);
        }
        let now = tx.now();
        let after = User { active: false, deleted: true, ..before.clone() };
        save(tx, &after).await?;
        let noted = query("UPDATE users SET deleted_at = $1 WHERE id = $2");
        noted.bind(millis(now)).bind(after.id.to_string()).execute(&mut *tx.connection).await?;
        audit::record(tx, &by, Action::UserDeleted, self.name.into(), details(&before, &after), now).await?;
        activity_changed(tx, &before, &after, now).await?;
        Ok(after)
    }
}

/// Writes all that can change of a user.
async fn save(tx: &mut Tx<'_>, user: &User) -> Result<(), StoreError> {
    query(
        "UPDATE users SET display_name = $1, email_address = $2, time_zone = $3, active = $4, deleted = $5 \
         WHERE id = $6",
    )
    .bind(user.display_name.to_string())
    .bind(user.email_address.as_ref().map(ToString::to_string))
    .bind(user.time_zone.to_string())
    .bind(i64::from(user.active))
    .bind(i64::from(user.deleted))
    .bind(user.id.to_string())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Deletes for good some of the users who were deleted up to a time and have no tokens any more, and makes one audit entry of
/// that. Nobody gets tokens who was deleted.
pub(super) async fn prune(
    tx: &mut Tx<'_>,
    by: &Confirmed<'_>,
    deleted_up_to: Timestamp,
) -> Result<Batch, StoreError> {
    let statement = query(
        "DELETE FROM users WHERE id IN (SELECT u.id FROM users u WHERE u.deleted_at <= $1 AND NOT EXISTS \
         (SELECT 1 FROM tokens t WHERE t.user_id = u.id) ORDER BY u.deleted_at, u.id LIMIT 100) RETURNING name",
    );
    let rows = statement.bind(millis(deleted_up_to)).fetch_all(&mut *tx.connection).await?;
    if rows.is_empty() {
        return Ok(Batch { deleted: 0, more: false });
    }
    let names = rows.iter().map(|row| row.text("name")).collect::<Result<Vec<_>, _>>()?;
    let details = json!({ "count": names.len(), "users": names });
    let now = tx.now();
    audit::record(tx, by, Action::UsersPruned, Subject::scheduler(), details, now).await?;
    Ok(Batch { deleted: u64::try_from(rows.len()).unwrap_or(u64::MAX), more: true })
}

/// Takes a revision if the user's tokens work from now on, or no longer do.
async fn activity_changed(
    tx: &mut Tx<'_>,
    before: &User,
    after: &User,
    now: Timestamp,
) -> Result<(), StoreError> {
    if before.active == after.active {
        return Ok(());
    }
    history::user_changed(tx, after.id, now).await
}

/// What can change of a user, for the audit log.
fn facts(user: &User) -> Value {
    json!({
        "display_name": user.display_name, "email_address": user.email_address, "time_zone": user.time_zone,
        "active": user.active, "deleted": user.deleted,
    })
}

fn details(before: &User, after: &User) -> Value {
    let (was, is) = audit::differences(&facts(before), &facts(after));
    json!({ "before": was, "after": is })
}

fn user(row: &AnyRow) -> Result<User, StoreError> {
    Ok(User {
        id: UserId(row.uuid("id")?),
        name: UserName::stored(row.text("name")?),
        display_name: DisplayName::stored(row.text("display_name")?),
        email_address: row.text_or_null("email_address")?.map(EmailAddress::stored),
        time_zone: TimeZoneName::stored(row.text("time_zone")?),
        active: row.flag("active")?,
        deleted: row.flag("deleted")?,
        created_at: row.time("created_at")?,
        restrictions: user_restrictions::own(row)?,
    })
}
