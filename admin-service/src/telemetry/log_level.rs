//! What is logged: levels, also by part of the program. `EnvFilter` takes a word that it does not know as a part's name, and
//! then nothing is ever logged; so words are looked at before it gets them.

use std::fmt;

use tracing_subscriber::EnvFilter;

/// The levels, the most severe first; `warning` is taken for `warn`.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// What writes log lines: this program's own parts, and the libraries that say something.
const PARTS: [&str; 15] = [
    "latchkey",
    "latchkey_admin",
    "axum",
    "h2",
    "hyper",
    "hyper_util",
    "metrics_exporter_prometheus",
    "rustls",
    "sqlx",
    "tokio",
    "tower",
    "tower_http",
    "tracing",
    "ureq",
    "utoipa_axum",
];

/// A log level that is none. It is a clause of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLogLevel {
    problem: String,
}

impl fmt::Display for BadLogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; use error, warn, info, debug, trace or off, also by part as in \"info,sqlx=warn\"",
            self.problem
        )
    }
}

impl std::error::Error for BadLogLevel {}

/// Reads levels, such as `info` or `info,latchkey::request=debug`.
///
/// # Errors
/// [`BadLogLevel`] for a word that is neither a level nor a part of the program, and for none.
pub fn filter(text: &str) -> Result<EnvFilter, BadLogLevel> {
    let refuse = |problem: String| BadLogLevel { problem };
    let directives =
        text.split(',').map(str::trim).map(directive).collect::<Result<Vec<_>, _>>().map_err(refuse)?;
    let parsed = EnvFilter::builder().parse(directives.join(","));
    parsed.map_err(|_| refuse(format!("{text:?} is no log level")))
}

/// One directive as `EnvFilter` takes it: a level, a part, or `part[span]=level`.
fn directive(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("it is empty, or has an empty part".to_owned());
    }
    if let Some(level) = level(text) {
        return Ok(level.to_owned());
    }
    let (place, wanted) = match text.rsplit_once('=').filter(|(_, wanted)| !wanted.contains([']', '}'])) {
        Some((place, wanted)) => {
            (place, Some(level(wanted).ok_or_else(|| format!("{wanted:?} is no log level"))?))
        }
        None => (text, None),
    };
    let part = place.split('[').next().unwrap_or_default();
    let root = part.split("::").next().unwrap_or_default();
    let is_known = PARTS.contains(&root) || (part.is_empty() && place.starts_with('['));
    match (is_known, wanted) {
        (true, Some(level)) => Ok(format!("{place}={level}")),
        (true, None) => Ok(place.to_owned()),
        (false, Some(_)) => Err(format!("{part:?} is no part of the program")),
        (false, None) => Err(format!("{text:?} is no log level")),
    }
}

/// A level, whatever its case, by the name that `EnvFilter` knows.
fn level(text: &str) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    let text = if text == "warning" { "warn" } else { &text };
    LEVELS.into_iter().find(|level| *level == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_taken_also_by_part() {
        for (text, meant) in [
            ("info", "info"),
            ("WARNING", "warn"),
            ("off", "off"),
            ("info,sqlx=warning", "sqlx=warn,info"),
            (" info , latchkey::request=debug ", "latchkey::request=debug,info"),
            ("latchkey_admin::store", "latchkey_admin::store=trace"),
        ] {
            assert_eq!(filter(text).unwrap().to_string(), meant, "{text}");
        }
        assert!(filter("info,sqlx[query{rows=1}]=debug").is_ok());
        assert!(filter("[span]=debug").is_ok());
    }

    #[test]
    fn what_is_no_level_is_refused_with_those_that_there_are() {
        for (text, says) in [
            ("bogus", "\"bogus\" is no log level; use error, warn, info"),
            ("", "it is empty"),
            ("  ", "it is empty"),
            ("info,", "an empty part"),
            ("info,bogus=debug", "\"bogus\" is no part of the program"),
            ("sqlx=loud", "\"loud\" is no log level"),
            ("verbose=loud", "\"loud\" is no log level"),
            ("infoo", "\"infoo\" is no log level"),
            ("3", "\"3\" is no log level"),
        ] {
            let refused = filter(text).unwrap_err().to_string();
            assert!(refused.contains(says), "{text:?}: {refused}");
        }
    }
}
