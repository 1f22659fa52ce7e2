//! Any bytes as an `Authorization` value: the reader never panics, what it accepts is exactly what was written, and nothing
//! is a credential of ours and another system's at once. Run it with `cargo +nightly fuzz run credential`.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use latchkey::challenges::Challenges;
use latchkey::credential::{
    Accepted, Credential, MAX_TOKEN, MAX_VALUE, Schemes, Values, decode_basic, is_foreign, read,
};
use latchkey::token::{TokenHash, TokenPrefix, check_shape};
use latchkey::wire::Scheme;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    let challenges = Challenges::ALL;
    let ours = Accepted { schemes: Schemes::ALL, prefix: Some(TokenPrefix::default()), challenges };
    let any_shape = Accepted { prefix: None, ..ours.clone() };
    let read_by = |accepted: &Accepted| read(Values::One(value), accepted);
    for accepted in [&ours, &any_shape] {
        if let Ok(credential) = read_by(accepted) {
            check(value, &credential, accepted.prefix.as_ref());
            assert!(!is_foreign(value, accepted.prefix.as_ref()), "ours and another system's at once");
        }
        assert!(read([value, value].into_iter().collect(), accepted).is_err(), "two lines are never one credential");
    }
    if read_by(&ours).is_ok() {
        assert_eq!(read_by(&ours), read_by(&any_shape), "a token of our shape is a token of any shape");
    }
    for scheme in [Scheme::Bearer, Scheme::Basic] {
        let schemes = Schemes::ALL.iter().filter(|it| *it != scheme).collect();
        let other = Accepted { schemes, prefix: None, challenges };
        let accepted = read_by(&other);
        assert!(accepted.is_ok_and(|credential| credential.scheme != scheme) || read_by(&other).is_err());
    }
});

/// What was accepted says the same as the bytes do, when they are written anew.
fn check(value: &[u8], credential: &Credential, prefix: Option<&TokenPrefix>) {
    assert!(value.len() <= MAX_VALUE && !value.contains(&b','));
    let text = std::str::from_utf8(value).expect("both grammars are ASCII").trim_matches([' ', '\t']);
    let (name, rest) = text.split_once(' ').expect("a scheme and a space");
    let rest = rest.trim_start_matches(' ');
    let token = match (credential.scheme, &credential.user) {
        (Scheme::Bearer, None) => {
            assert!(name.eq_ignore_ascii_case("bearer"));
            rest.to_owned()
        }
        (Scheme::Basic, Some(user)) => {
            assert!(name.eq_ignore_ascii_case("basic"));
            assert!(!user.is_empty() && !user.contains(':') && !user.contains(char::is_control));
            let decoded = String::from_utf8(decode_basic(rest.as_bytes()).expect("base64")).expect("UTF-8");
            let token = decoded.strip_prefix(user).and_then(|rest| rest.strip_prefix(':')).expect("the user");
            let written = |end: &str| STANDARD.encode(format!("{user}:{token}{end}"));
            let unpadded = |text: &str| text.trim_end_matches('=').to_owned();
            let same = |end| unpadded(&written(end)) == unpadded(rest) && written(end).starts_with(rest);
            assert!(["", "\n", "\r\n"].into_iter().any(same), "one text, one encoding, but for padding and one line end");
            token.to_owned()
        }
        other => panic!("a scheme with another's parts: {other:?}"),
    };
    assert!((1..=MAX_TOKEN).contains(&token.len()) && !token.contains(char::is_control));
    assert_eq!(TokenHash::of(token.as_bytes()), credential.hash);
    assert!(prefix.is_none_or(|prefix| check_shape(prefix, token.as_bytes()).is_ok()));
}
