//! Users: who a token acts for.

use latchkey::token::{CHECKSUM_LENGTH, RANDOM_LENGTH};

use crate::domain::time::Timestamp;

use super::invisible::Invisible;
use super::text::{Invalid, id_type, plain, shown_name, text_type};
use super::user_restrictions::UserRestrictions;

id_type! {
    /// A user's identifier (UUIDv7), which stays the same whatever else changes.
    UserId
}

text_type! {
    /// A user's unique name: 1 to 64 of `a-z 0-9 . _ @ + -`, the first a letter or digit; capitals of ASCII are folded. So
    /// it stands in a header, in a URL and in the user-id of Basic (RFC 7617, which forbids a colon) as it is.
    UserName,
    folded: str::to_ascii_lowercase,
    user_name
}

/// The rule of [`UserName`].
fn user_name(text: &str) -> Result<(), Invalid> {
    if is_shaped_as_a_token(text) {
        return Err(Invalid::because(
            "must be a name, and this looks like a token, which belongs nowhere but in `Authorization`",
        ));
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let stray = text.chars().find(|c| !allowed(*c) && !"._@+-".contains(*c));
    let has = match (stray, text.chars().next()) {
        (Some(_), _) if Invisible::first_in(text).is_some() => {
            Invisible::first_in(text).map(|found| format!("; it has {found}")).unwrap_or_default()
        }
        (Some(' '), _) => "; it has a space".to_owned(),
        (Some(stray), _) => format!("; it has '{stray}'"),
        (None, _) if text.len() > 64 => format!("; it has {}", text.len()),
        (None, Some(first)) if allowed(first) => return Ok(()),
        (None, _) => String::new(),
    };
    Err(Invalid(format!(
        "must be 1 to 64 characters of a-z, 0-9, '.', '_', '@', '+' and '-', beginning with a letter or digit, for it stands \
         in a header; any other name can be the `displayName`{has}"
    )))
}

/// Whether a text is what folding leaves of a token: names are stored and shown, and a secret must not be.
fn is_shaped_as_a_token(text: &str) -> bool {
    let Some((prefix, rest)) = text.split_once('_') else { return false };
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (2..=16).contains(&prefix.len())
        && rest.len() == RANDOM_LENGTH + CHECKSUM_LENGTH
        && is_plain(prefix)
        && is_plain(rest)
}

text_type! {
    /// The name that people see: 1 to 200 characters, no control characters or marks of direction, no white space at
    /// either end, neither `<` nor `>`.
    DisplayName,
    |text| shown_name(text, 1, 200)
}

text_type! {
    /// An e-mail address: something on both sides of an `@`, no white space, at most 254 characters (RFC 5321).
    EmailAddress,
    |text| {
        plain(text, 3, 254)?;
        let sides = text.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
        if sides && !text.contains(char::is_whitespace) {
            Ok(())
        } else {
            Err(Invalid::because("must be an e-mail address such as alice@example.com"))
        }
    }
}

text_type! {
    /// A name of the IANA time zone database, such as `Europe/Berlin`.
    TimeZoneName,
    |text| match jiff::tz::TimeZone::get(text) {
        Ok(zone) if zone.iana_name() == Some(text) => Ok(()),
        _ => Err(Invalid::because("must be a name of the IANA time zone database, such as Europe/Berlin or UTC")),
    }
}

impl Default for TimeZoneName {
    /// `UTC`.
    fn default() -> Self {
        Self::stored("UTC".to_owned())
    }
}

impl From<&UserName> for DisplayName {
    /// A user without another display name is shown by name.
    fn from(name: &UserName) -> Self {
        Self::stored(name.as_str().to_owned())
    }
}

/// A user as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The identifier that never changes.
    pub id: UserId,
    /// The unique name; it stays taken when the user is deleted, until the scheduler prunes the user.
    pub name: UserName,
    /// The name that people see.
    pub display_name: DisplayName,
    /// Where the user gets mail, if known.
    pub email_address: Option<EmailAddress>,
    /// The user's time zone.
    pub time_zone: TimeZoneName,
    /// Whether the user's tokens work. A deleted user is never active.
    pub active: bool,
    /// Whether the user was deleted. It cannot be undone.
    pub deleted: bool,
    /// When the user was made.
    pub created_at: Timestamp,
    /// The limits of its own, in place of the service's.
    pub restrictions: UserRestrictions,
}

/// A user to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// The unique name.
    pub name: UserName,
    /// The name that people see; by default the unique name.
    pub display_name: Option<DisplayName>,
    /// Where the user gets mail.
    pub email_address: Option<EmailAddress>,
    /// The user's time zone; by default UTC.
    pub time_zone: Option<TimeZoneName>,
}

impl NewUser {
    /// A user of whom only the name is known.
    #[must_use]
    pub fn named(name: UserName) -> Self {
        Self { name, display_name: None, email_address: None, time_zone: None }
    }
}

/// A change of a user: `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserPatch {
    /// The new display name.
    pub display_name: Option<DisplayName>,
    /// The new e-mail address; `Some(None)` removes it.
    pub email_address: Option<Option<EmailAddress>>,
    /// The new time zone.
    pub time_zone: Option<TimeZoneName>,
    /// Whether the user's tokens work from now on.
    pub active: Option<bool>,
}

impl UserPatch {
    /// The user with the change made.
    #[must_use]
    pub fn apply(&self, user: User) -> User {
        User {
            display_name: self.display_name.clone().unwrap_or(user.display_name),
            email_address: self.email_address.clone().unwrap_or(user.email_address),
            time_zone: self.time_zone.clone().unwrap_or(user.time_zone),
            active: self.active.unwrap_or(user.active),
            ..user
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_fit_in_urls_and_basic_credentials() {
        for good in ["a", "alice", "a.b_c@d-e", "0", "a+b", "Bob", "John.Doe", &"a".repeat(64)] {
            assert!(good.parse::<UserName>().is_ok(), "{good}");
        }
        for bad in ["", "a:b", ".a", "-a", "@a", "a/b", "a b", "é", "a\0", &"a".repeat(65)] {
            assert!(bad.parse::<UserName>().is_err(), "{bad:?}");
        }
        assert_eq!(
            "John.Doe+CI@Example.com".parse::<UserName>().unwrap().as_str(),
            "john.doe+ci@example.com"
        );
        for (name, is_token) in
            [("a".repeat(49), true), ("A1b".repeat(16) + "c", true), ("a".repeat(48), false)]
        {
            let refused = format!("lk_{name}").parse::<UserName>().map_err(|error| error.to_string());
            assert_eq!(refused.is_err_and(|error| error.contains("looks like a token")), is_token, "{name}");
        }
        for (name, has) in
            [("a b", "it has a space"), ("é", "it has 'é'"), ("a\u{200b}", "it has U+200B ZERO WIDTH SPACE")]
        {
            let refused = name.parse::<UserName>().unwrap_err().to_string();
            assert!(
                refused.contains(has) && refused.contains("in a header") && refused.contains("`displayName`"),
                "{refused}"
            );
        }
    }

    #[test]
    fn time_zones_are_known_to_the_iana_database() {
        for good in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"] {
            assert!(good.parse::<TimeZoneName>().is_ok(), "{good}");
        }
        for bad in ["", "Mars/Olympus", "europe/berlin", "+02:00", "Europe/Berlin "] {
            assert!(bad.parse::<TimeZoneName>().is_err(), "{bad:?}");
        }
        assert_eq!(TimeZoneName::default().as_str().parse(), Ok(TimeZoneName::default()));
    }

    #[test]
    fn e_mail_addresses_have_two_sides() {
        assert!("alice@example.com".parse::<EmailAddress>().is_ok());
        for bad in ["", "alice", "@example.com", "alice@", "a lice@example.com", "a@b\n"] {
            assert!(bad.parse::<EmailAddress>().is_err(), "{bad:?}");
        }
    }
}
