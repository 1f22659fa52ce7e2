//! The `Authorization` field (RFC 9110 §11.6.2): header bytes to a [`Credential`], or why not.
//!
//! Parsing is strict, because two readers that understand one value differently are how checks are evaded. It is lenient
//! where people's tools are and nothing else can be meant: padding that is left out, and a line end after the token
//! (`echo user:token | base64`). A credential keeps the hash of its token and nothing else of it, so it may be printed,
//! queued and compared.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

use crate::challenges::Challenges;
use crate::token::{CHECKSUM_LENGTH, RANDOM_LENGTH, ShapeError, TokenHash, TokenPrefix, check_shape};
use crate::wire::Scheme;

#[cfg(test)]
mod tests;

/// The longest `Bearer` or `Basic` field value that is read, in bytes; a longer one is malformed.
pub const MAX_VALUE: usize = 8192;
/// The longest token that is hashed, in bytes; a longer one is malformed.
pub const MAX_TOKEN: usize = 256;

/// Base64 (RFC 4648 §4) with or without its padding; bits that stand for nothing are still refused (§3.5).
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, NO_PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Schemes in which no token of any system is sent as it is. Only where tokens have any shape does it matter which these
/// are: a word of any other scheme may be a token of ours that came with the wrong one.
const WITHOUT_TOKENS: [&str; 7] =
    ["digest", "negotiate", "ntlm", "kerberos", "hoba", "scram-sha-1", "scram-sha-256"];

/// The authentication schemes that are enabled: a set, in the order in which challenges are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schemes {
    bearer: bool,
    basic: bool,
}

impl Schemes {
    /// Bearer and Basic.
    pub const ALL: Self = Self { bearer: true, basic: true };

    /// Whether `scheme` is enabled.
    #[must_use]
    pub const fn contains(self, scheme: Scheme) -> bool {
        match scheme {
            Scheme::Bearer => self.bearer,
            Scheme::Basic => self.basic,
        }
    }

    /// The enabled schemes, Bearer first.
    pub fn iter(self) -> impl Iterator<Item = Scheme> {
        [Scheme::Bearer, Scheme::Basic].into_iter().filter(move |scheme| self.contains(*scheme))
    }
}

impl FromIterator<Scheme> for Schemes {
    fn from_iter<I: IntoIterator<Item = Scheme>>(schemes: I) -> Self {
        let mut set = Self { bearer: false, basic: false };
        for scheme in schemes {
            match scheme {
                Scheme::Bearer => set.bearer = true,
                Scheme::Basic => set.basic = true,
            }
        }
        set
    }
}

/// Which credentials are looked at, and which are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The enabled schemes.
    pub schemes: Schemes,
    /// What tokens begin with; `None`: tokens of any shape are looked up.
    pub prefix: Option<TokenPrefix>,
    /// The schemes that a client without a credential is challenged for, unless the rule says otherwise.
    pub challenges: Challenges,
}

/// The values of a request's `Authorization` lines, of which there should be one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Values<'a> {
    /// There is no such line.
    #[default]
    None,
    /// There is one.
    One(&'a [u8]),
    /// There are several.
    Several,
}

impl<'a> Values<'a> {
    /// One line more.
    pub fn add(&mut self, value: &'a [u8]) {
        *self = if *self == Self::None { Self::One(value) } else { Self::Several };
    }
}

impl<'a> FromIterator<&'a [u8]> for Values<'a> {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(lines: I) -> Self {
        let mut values = Self::None;
        lines.into_iter().for_each(|line| values.add(line));
        values
    }
}

/// What a client presented: well formed, not yet judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The scheme that it came with.
    pub scheme: Scheme,
    /// Who the client says it is (Basic alone): not empty, no control characters.
    pub user: Option<String>,
    /// The hash of the token.
    pub hash: TokenHash,
}

/// Why a field is no credential that could be judged. The scheme is the one that was used, where it is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialError {
    /// There is no field.
    Missing,
    /// There are several fields, or several credentials joined in one.
    Multiple,
    /// Another scheme than the enabled ones.
    UnsupportedScheme,
    /// It does not follow its scheme's grammar, or its token is not shaped as ours are.
    Malformed(Option<Scheme>),
    /// It is shaped as our tokens are, and the checksum is wrong.
    Checksum(Scheme),
}

/// Reads the values of a request's `Authorization` lines.
///
/// # Errors
/// [`CredentialError`] says why there is no credential to be judged.
pub fn read(values: Values<'_>, accepted: &Accepted) -> Result<Credential, CredentialError> {
    let value = match values {
        Values::None => return Err(CredentialError::Missing),
        Values::One(value) => value,
        Values::Several => return Err(CredentialError::Multiple),
    };
    // Neither scheme's grammar has a comma, so where one is, lines were joined (RFC 9110 §5.3). Another scheme's
    // parameters may be separated by commas (`Digest`); then the scheme is what is wrong.
    let joined = value.contains(&b',');
    let Some((name, rest)) = split(value) else {
        return Err(if joined { CredentialError::Multiple } else { CredentialError::Malformed(None) });
    };
    match known_scheme(name).filter(|scheme| accepted.schemes.contains(*scheme)) {
        None if joined && !is_parameters(rest) => Err(CredentialError::Multiple),
        None => Err(CredentialError::UnsupportedScheme),
        Some(_) if joined => Err(CredentialError::Multiple),
        Some(scheme) if value.len() > MAX_VALUE => Err(CredentialError::Malformed(Some(scheme))),
        Some(Scheme::Bearer) => bearer(rest, accepted.prefix.as_ref()),
        Some(Scheme::Basic) => basic(rest, accepted.prefix.as_ref()),
    }
}

/// Whether a field value is provably another system's credential, so that it may be handed on where a request passes
/// without one of ours. When in doubt it is ours, and a token of ours is not handed on.
#[must_use]
pub fn is_foreign(value: &[u8], prefix: Option<&TokenPrefix>) -> bool {
    let Some((name, rest)) = split(value) else { return false };
    let other_token = |token: &[u8]| prefix.is_some_and(|prefix| !holds_token(prefix, token));
    match known_scheme(name) {
        // A word alone may be a token that was sent without its scheme.
        None if is_token68(rest) || is_parameters(rest) => match prefix {
            Some(prefix) => ![name, rest].into_iter().any(|part| holds_token(prefix, part)),
            None => WITHOUT_TOKENS.iter().any(|scheme| name.eq_ignore_ascii_case(scheme.as_bytes())),
        },
        None => false,
        Some(Scheme::Bearer) => is_token68(rest) && other_token(rest),
        Some(Scheme::Basic) => {
            decode_basic(rest).is_some_and(|text| text.contains(&b':') && other_token(&text))
        }
    }
}

/// The text of a `Basic` credential, `user-id ":" password`: base64 without stray bits or blanks, whose padding may be left
/// out, and without the one line end (LF or CRLF) that `echo` leaves at the end of it. `None`: it is no base64.
#[must_use]
pub fn decode_basic(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut text = BASE64.decode(encoded).ok()?;
    if text.ends_with(b"\n") {
        text.pop();
        if text.ends_with(b"\r") {
            text.pop();
        }
    }
    Some(text)
}

/// `credentials = auth-scheme [ 1*SP ( token68 / #auth-param ) ]` (RFC 9110 §11.4): the scheme, and what follows the
/// spaces. Blanks around a field value are no part of it (§5.5). A tab does not separate: the grammar says SP alone.
fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let value = trim(value);
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (name, mut rest) = value.split_at_checked(end)?;
    while let [b' ', after @ ..] = rest {
        rest = after;
    }
    is_name(name).then_some((name, rest))
}

/// Without the optional whitespace (RFC 9110 §5.6.3) around it.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', inner @ ..] | [inner @ .., b' ' | b'\t'] = text {
        text = inner;
    }
    text
}

/// A scheme's name is matched without case (RFC 9110 §11.1).
fn known_scheme(name: &[u8]) -> Option<Scheme> {
    if name.eq_ignore_ascii_case(b"bearer") {
        Some(Scheme::Bearer)
    } else if name.eq_ignore_ascii_case(b"basic") {
        Some(Scheme::Basic)
    } else {
        None
    }
}

/// `"Bearer" 1*SP` and a token. RFC 6750 §2.1 has a `b64token`; tokens of other systems are any visible ASCII, and [`read`]
/// has seen to it that there is no comma.
fn bearer(token: &[u8], prefix: Option<&TokenPrefix>) -> Result<Credential, CredentialError> {
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(CredentialError::Malformed(Some(Scheme::Bearer)));
    }
    Ok(Credential { scheme: Scheme::Bearer, user: None, hash: hash(Scheme::Bearer, token, prefix)? })
}

/// `"Basic" 1*SP token68`, which is base64 of `user-id ":" password` in UTF-8 without control characters, split at the
/// first colon (RFC 7617 §2); see [`decode_basic`].
fn basic(encoded: &[u8], prefix: Option<&TokenPrefix>) -> Result<Credential, CredentialError> {
    let malformed = CredentialError::Malformed(Some(Scheme::Basic));
    let decoded = decode_basic(encoded).ok_or(malformed)?;
    let text = std::str::from_utf8(&decoded).map_err(|_| malformed)?;
    let (user, token) = text.split_once(':').ok_or(malformed)?;
    // No user has the empty name, so there is nothing to ask.
    if user.is_empty() || text.contains(char::is_control) {
        return Err(malformed);
    }
    let hash = hash(Scheme::Basic, token.as_bytes(), prefix)?;
    Ok(Credential { scheme: Scheme::Basic, user: Some(user.to_owned()), hash })
}

/// The hash of a token whose length and shape are right.
fn hash(scheme: Scheme, token: &[u8], prefix: Option<&TokenPrefix>) -> Result<TokenHash, CredentialError> {
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Err(CredentialError::Malformed(Some(scheme)));
    }
    match prefix.map_or(Ok(()), |prefix| check_shape(prefix, token)) {
        Ok(()) => Ok(TokenHash::of(token)),
        Err(ShapeError::Checksum) => Err(CredentialError::Checksum(scheme)),
        Err(ShapeError::Foreign | ShapeError::Malformed) => Err(CredentialError::Malformed(Some(scheme))),
    }
}

/// Whether `text` begins like a token of ours, or has a whole one anywhere in it.
fn holds_token(prefix: &TokenPrefix, text: &[u8]) -> bool {
    let length = prefix.as_str().len() + 1 + RANDOM_LENGTH + CHECKSUM_LENGTH;
    let begins = |part: &[u8]| check_shape(prefix, part) != Err(ShapeError::Foreign);
    let password = text.splitn(2, |byte| *byte == b':').nth(1);
    begins(text)
        || password.is_some_and(begins)
        || text.windows(length).any(|part| check_shape(prefix, part).is_ok())
}

/// `token68`, which RFC 6750 calls `b64token`.
fn is_token68(text: &[u8]) -> bool {
    let unpadded = text.iter().rposition(|byte| *byte != b'=').and_then(|last| text.get(..=last));
    unpadded
        .is_some_and(|text| text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte)))
}

/// `#auth-param` (RFC 9110 §11.2), at least one: `name = token` or `name = "quoted"`, separated by commas.
fn is_parameters(mut text: &[u8]) -> bool {
    loop {
        let Some(rest) = parameter(text) else { return false };
        match rest.split_first() {
            None => return true,
            Some((b',', next)) => text = next,
            Some(_) => return false,
        }
    }
}

/// What follows one parameter and the blanks around it, if one is there.
fn parameter(text: &[u8]) -> Option<&[u8]> {
    let equals = text.iter().position(|byte| *byte == b'=')?;
    let (name, value) = text.split_at_checked(equals)?;
    let value = trim(value.get(1..)?);
    if !is_name(trim(name)) {
        return None;
    }
    let rest = match value.strip_prefix(b"\"") {
        Some(quoted) => after_quote(quoted)?,
        None => {
            let end = value.iter().position(|byte| !is_name_byte(*byte)).unwrap_or(value.len());
            value.split_at_checked(end).filter(|(token, _)| !token.is_empty())?.1
        }
    };
    Some(trim(rest))
}

/// What follows the closing quote of a `quoted-string` (RFC 9110 §5.6.4) whose opening quote was read.
fn after_quote(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = match text.split_first()? {
            (b'"', rest) => return Some(rest),
            (b'\\', rest) => rest.get(1..)?,
            (_, rest) => rest,
        };
    }
}

/// `token = 1*tchar` (RFC 9110 §5.6.2).
fn is_name(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_name_byte)
}

/// `tchar` (RFC 9110 §5.6.2).
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
