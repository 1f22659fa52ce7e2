//! What a token's text says of itself: whose it is, and by which characters its owner recognises it.

use latchkey::token::{TokenPrefix, check_shape};

/// The most characters of a token that are shown.
const MAX_HINT: usize = 6;

/// Whether a token is shaped as those of a Latchkey, whatever its prefix.
pub(super) fn is_own(token: &str) -> bool {
    let prefix = token.split_once('_').and_then(|(prefix, _)| prefix.parse::<TokenPrefix>().ok());
    prefix.is_some_and(|prefix| check_shape(&prefix, token.as_bytes()).is_ok())
}

/// The first characters of a token, at most a quarter of it; `None` where that is too little to recognise it by.
pub(super) fn hint(token: &str) -> Option<&str> {
    let hint = token.get(..MAX_HINT.min(token.len() / 4))?;
    let shown = hint.len() >= 3 && hint.bytes().all(|b| b.is_ascii_graphic() && !b"<>".contains(&b));
    shown.then_some(hint)
}

#[cfg(test)]
mod tests {
    use latchkey::token::Secret;

    use super::*;

    #[test]
    fn a_hint_is_a_small_part_of_the_token() {
        for (token, shown) in [
            ("ghp_81abcdefghijklmnopqrstuvwxyz0123456789", Some("ghp_81")),
            ("Zm9vOmJhcg==", Some("Zm9")),
            ("opaque-0", None),
            ("<b>-0123456789", None),
            ("", None),
            ("ééééééééé", None),
        ] {
            assert_eq!(hint(token), shown);
        }
    }

    #[test]
    fn a_token_of_latchkeys_is_known_by_its_shape() {
        let prefix: TokenPrefix = "acme".parse().unwrap();
        let secret = Secret::generate(&prefix, |bytes| -> Result<(), ()> {
            bytes.fill(7);
            Ok(())
        });
        assert!(is_own(secret.unwrap().expose()));
        for other in ["ghp_81abcdefghijklmnopqrstuvwxyz0123456789", "opaque", "_", "lk_"] {
            assert!(!is_own(other), "{other}");
        }
    }
}
