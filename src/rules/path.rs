//! Conditions on a request's path.

use regex_lite::{Regex, RegexBuilder};

use super::Match;
use super::readings::{self, MAX_PATH, Spelling};

/// How large a compiled path pattern may be, in bytes: bounds the time that a path can take.
const REGEX_SIZE_LIMIT: usize = 1 << 16;

/// Whether the case of ASCII letters counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// It does.
    Counts,
    /// It does not.
    Ignored,
}

/// A condition on one reading of a request's path, without its query.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// Every path, and none.
    Any,
    /// This path alone.
    Exact(String, Case),
    /// Every path that begins so.
    Prefix(String, Case),
    /// This path, and every path below it.
    SeparatedPrefix(String, Case),
    /// Every path that the expression matches from start to end.
    Regex(Regex),
}

/// A text that cannot be a path pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// It would match no path.
    #[error("a path begins with / and has no query")]
    NotAPath,
    /// What is below it would begin with `//`.
    #[error("this is a path and all paths below it, so it ends without a /, such as /rest/admin")]
    EndsInSlash,
    /// It would match only paths that never match a rule that asks for less than a token.
    #[error(
        "a path that is exempt from a token has no //, /./, /../, \\, ; or control character, no %2f, %5c, %2e, %3b or %25, \
         only escapes of valid UTF-8, and at most 8192 bytes, because no other request is exempt"
    )]
    NotPlain,
    /// It is no regular expression.
    #[error("this is no regular expression that can be used: {0}")]
    NotARegex(String),
}

impl PathPattern {
    /// This path alone.
    ///
    /// # Errors
    /// When no request has such a path.
    pub fn exact(path: String, case: Case) -> Result<Self, InvalidPattern> {
        check_path(&path)?;
        Ok(Self::Exact(path, case))
    }

    /// Every path that begins with `path`.
    ///
    /// # Errors
    /// When no request has such a path.
    pub fn prefix(path: String, case: Case) -> Result<Self, InvalidPattern> {
        check_path(&path)?;
        Ok(Self::Prefix(path, case))
    }

    /// `path`, and every path below it: what follows begins with `/`.
    ///
    /// # Errors
    /// When no request has such a path, or it ends in `/`.
    pub fn separated_prefix(path: String, case: Case) -> Result<Self, InvalidPattern> {
        check_path(&path)?;
        if path.ends_with('/') {
            return Err(InvalidPattern::EndsInSlash);
        }
        Ok(Self::SeparatedPrefix(path, case))
    }

    /// Every path that the regular expression matches from its start to its end.
    ///
    /// # Errors
    /// When it is no regular expression, or one that is too large.
    pub fn regex(expression: &str, case: Case) -> Result<Self, InvalidPattern> {
        let compile = |text: &str| {
            RegexBuilder::new(text)
                .dot_matches_new_line(true)
                .case_insensitive(case == Case::Ignored)
                .size_limit(REGEX_SIZE_LIMIT)
                .build()
                .map_err(|error| InvalidPattern::NotARegex(error.to_string()))
        };
        // By itself first, so that `a)|(b` is not made whole by the group around it.
        compile(expression)?;
        compile(&format!(r"\A(?:{expression})\z")).map(Self::Regex)
    }

    /// Checks that requests whose path is plain can match, which a rule that asks for less than a token is about.
    ///
    /// # Errors
    /// When no such request can.
    pub fn check_reachable_without_token(&self) -> Result<(), InvalidPattern> {
        match self {
            Self::Exact(path, _) | Self::SeparatedPrefix(path, _) => check_unambiguous(path),
            // A prefix may end in `/.` as in `/.well-known`, so what follows decides.
            Self::Prefix(path, _) => check_unambiguous(&format!("{path}x")),
            Self::Any | Self::Regex(_) => Ok(()),
        }
    }

    /// Whether it is about this path. About one that differs by the final slash alone it may be: servers do not all tell
    /// these apart; and about one that is too long for a regular expression.
    pub(super) fn matches(&self, path: Option<&[u8]>) -> Match {
        match (self, path) {
            (Self::Any, _) => Match::Yes,
            (_, None) => Match::No,
            (Self::Exact(exact, case), Some(path)) => matches_exactly(exact.as_bytes(), path, *case),
            (Self::Prefix(prefix, case), Some(path)) => match begins(path, prefix.as_bytes(), *case) {
                true => Match::Yes,
                false => lacks_final_slash(path, prefix.as_bytes(), *case),
            },
            (Self::SeparatedPrefix(prefix, case), Some(path)) => {
                let ends = matches!(path.get(prefix.len()), None | Some(b'/'));
                Match::from(ends && begins(path, prefix.as_bytes(), *case))
            }
            (Self::Regex(_), Some(path)) if path.len() > MAX_PATH => Match::Maybe,
            // Bytes that are not UTF-8 are some character: `/admin/.*` matches whatever follows.
            (Self::Regex(regex), Some(path)) => Match::from(regex.is_match(&String::from_utf8_lossy(path))),
        }
    }
}

fn begins(path: &[u8], prefix: &[u8], case: Case) -> bool {
    let Some(start) = path.get(..prefix.len()) else { return false };
    match case {
        // Paths differ in their ends more often than in their beginnings.
        Case::Counts => start.last() == prefix.last() && start == prefix,
        Case::Ignored => start.eq_ignore_ascii_case(prefix),
    }
}

fn matches_exactly(exact: &[u8], path: &[u8], case: Case) -> Match {
    if path.len() == exact.len() {
        return Match::from(begins(path, exact, case));
    }
    lacks_final_slash(path, exact, case).max(lacks_final_slash(exact, path, case))
}

/// Whether `path` is `pattern` but for the slash at its end.
fn lacks_final_slash(path: &[u8], pattern: &[u8], case: Case) -> Match {
    let lacks = path.len() + 1 == pattern.len() && pattern.ends_with(b"/") && begins(pattern, path, case);
    if lacks { Match::Maybe } else { Match::No }
}

fn check_path(path: &str) -> Result<(), InvalidPattern> {
    if path.starts_with('/') && !path.contains('?') { Ok(()) } else { Err(InvalidPattern::NotAPath) }
}

fn check_unambiguous(path: &str) -> Result<(), InvalidPattern> {
    match readings::look(path.as_bytes()).1 {
        Spelling::Ambiguous => Err(InvalidPattern::NotPlain),
        Spelling::Plain | Spelling::Odd => Ok(()),
    }
}
