use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::challenges::Challenges;
use crate::token::Secret;

fn token() -> String {
    let fill = |bytes: &mut [u8]| {
        bytes.fill(7);
        Ok::<(), std::convert::Infallible>(())
    };
    Secret::generate(&TokenPrefix::default(), fill).unwrap().expose().to_owned()
}

fn ours() -> Accepted {
    Accepted { schemes: Schemes::ALL, prefix: Some(TokenPrefix::default()), challenges: Challenges::ALL }
}

fn any_shape() -> Accepted {
    Accepted { prefix: None, ..ours() }
}

fn read_one(value: impl AsRef<[u8]>, accepted: &Accepted) -> Result<Credential, CredentialError> {
    read(Values::One(value.as_ref()), accepted)
}

fn basic_value(text: impl AsRef<[u8]>) -> String {
    format!("Basic {}", STANDARD.encode(text))
}

const MALFORMED_BEARER: CredentialError = CredentialError::Malformed(Some(Scheme::Bearer));
const MALFORMED_BASIC: CredentialError = CredentialError::Malformed(Some(Scheme::Basic));

#[test]
fn a_bearer_token_is_read_whatever_the_case_of_its_scheme_and_the_number_of_spaces() {
    let token = token();
    let expected = Credential { scheme: Scheme::Bearer, user: None, hash: TokenHash::of(token.as_bytes()) };
    for value in [
        format!("Bearer {token}"),
        format!("bearer {token}"),
        format!("BEARER {token}"),
        format!("bEaReR    {token}"),
        format!(" \tBearer {token}\t "),
    ] {
        assert_eq!(read_one(&value, &ours()).as_ref(), Ok(&expected), "{value:?}");
    }
}

#[test]
fn a_basic_credential_is_split_at_the_first_colon() {
    let read = read_one(basic_value("alice:pass:word:"), &any_shape()).unwrap();
    assert_eq!(read.user.as_deref(), Some("alice"));
    assert_eq!(read.hash, TokenHash::of(b"pass:word:"));
    assert_eq!(read.scheme, Scheme::Basic);
    let token = token();
    let read = read_one(basic_value(format!("älice:{token}")), &ours()).unwrap();
    assert_eq!(read.user.as_deref(), Some("älice"));
}

#[test]
fn a_bad_bearer_value_is_malformed() {
    let token = token();
    for value in [
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer \t{token}"),
        format!("Bearer {token} {token}"),
        format!("Bearer {token} x"),
        format!("Bearer {token};"),
        format!("Bearer \"{token}\""),
        format!("Bearer {token}="),
        format!("Bearer x{token}"),
        format!("Bearer {}", &token[1..]),
        format!("Bearer {}", &token[..token.len() - 1]),
        format!("Bearer {token}\0"),
        format!("Bearer {token}\r\n"),
        format!("Bearer {}", token.to_uppercase()),
        format!("Bearer é{token}"),
        "Bearer =".to_owned(),
        "Bearer some-other-token".to_owned(),
    ] {
        assert_eq!(read_one(&value, &ours()), Err(MALFORMED_BEARER), "{value:?}");
    }
}

#[test]
fn a_bad_basic_value_is_malformed() {
    let token = token();
    let encoded = STANDARD.encode(format!("alice:{token}"));
    assert!(encoded.ends_with('='), "the case below needs padding: {encoded}");
    for value in [
        "Basic".to_owned(),
        "Basic ".to_owned(),
        "Basic !!!".to_owned(),
        format!("Basic {encoded}="),
        format!("Basic {encoded} ="),
        format!("Basic {} {}", &encoded[..8], &encoded[8..]),
        format!("Basic {encoded}AAAA"),
        basic_value("no colon"),
        basic_value(format!(":{token}")),
        basic_value("alice:"),
        basic_value(":"),
        basic_value(""),
        basic_value(format!("al\0ice:{token}")),
        basic_value(format!("al\nice:{token}")),
        basic_value(format!("al\u{7f}ice:{token}")),
        basic_value(format!("alice:{token}\n\n")),
        basic_value(format!("alice:{token}\r")),
        basic_value(format!("alice:{token}\n\r")),
        basic_value(format!("alice:\n{token}")),
        basic_value("alice:\n"),
        basic_value([b"al\xffice:".as_slice(), token.as_bytes()].concat()),
        basic_value(format!("alice: {token}")),
        basic_value(format!("alice:x:{token}")),
        basic_value("alice:other password"),
    ] {
        assert_eq!(read_one(&value, &ours()), Err(MALFORMED_BASIC), "{value:?}");
    }
}

#[test]
fn base64_with_stray_bits_or_another_alphabet_is_malformed() {
    // "YTpi" is "a:b"; "YTpiYg==" is "a:bb", "YTpiYh==" sets bits that stand for nothing.
    assert!(read_one("Basic YTpi", &any_shape()).is_ok());
    assert!(read_one("Basic YTpiYg==", &any_shape()).is_ok());
    for value in [
        "Basic YTpiYh==",
        "Basic YTpiYh",
        "Basic YTpiY",
        "Basic YTpi====",
        "Basic YTpiYg===",
        "Basic YTp-",
        "Basic YT_p",
    ] {
        assert_eq!(read_one(value, &any_shape()), Err(MALFORMED_BASIC), "{value}");
    }
}

#[test]
fn padding_that_is_left_out_and_one_line_end_do_no_harm_in_basic() {
    let token = token();
    let expected = read_one(basic_value(format!("alice:{token}")), &ours()).unwrap();
    for end in ["", "\n", "\r\n"] {
        let padded = basic_value(format!("alice:{token}{end}"));
        for value in [padded.clone(), padded.trim_end_matches('=').to_owned()] {
            assert_eq!(read_one(&value, &ours()).as_ref(), Ok(&expected), "{end:?}: {value}");
            assert_eq!(read_one(&value, &any_shape()).as_ref(), Ok(&expected), "{end:?}: {value}");
            assert!(!is_foreign(value.as_bytes(), Some(&TokenPrefix::default())), "{end:?}: {value}");
        }
    }
    // "a:bb" with one of its two padding characters.
    assert!(read_one("Basic YTpiYg=", &any_shape()).is_ok());
}

#[test]
fn where_tokens_have_any_shape_a_bearer_token_is_any_visible_ascii_but_a_comma() {
    let visible = (b'!'..=b'~').filter(|byte| *byte != b',').map(char::from).collect::<String>();
    for token in ["ATCTT3xFfGN0=1A2B", "123:ABC-def_1", "=", "\"quoted\"", "a;b", &visible] {
        let read = read_one(format!("Bearer {token}"), &any_shape());
        assert_eq!(read.map(|it| it.hash), Ok(TokenHash::of(token.as_bytes())), "{token}");
        assert_eq!(read_one(format!("Bearer {token}"), &ours()), Err(MALFORMED_BEARER), "{token}");
    }
    for token in ["a b", "a\tb", "a\u{7f}b", "é", "a\0", ""] {
        assert_eq!(read_one(format!("Bearer {token}"), &any_shape()), Err(MALFORMED_BEARER), "{token:?}");
    }
    assert_eq!(read_one("Bearer a,b", &any_shape()), Err(CredentialError::Multiple));
}

#[test]
fn secret_where_tokens_have_any_shape_only_schemes_that_carry_none_are_foreign() {
    for value in ["Negotiate YII=", "NTLM TlRMTVNTUAAB", "digest username=\"a, b\", realm=x"] {
        assert!(is_foreign(value.as_bytes(), None), "{value}");
    }
    for value in [
        "Token 123abc",
        "token ATCT=1A2B",
        "ApiKey abc",
        "123:ABC",
        "ATCTT3xFfGN0=1A2B",
        "Bearer 123:ABC",
        "Negotiate a b",
        "Digest 123:ABC",
    ] {
        assert!(!is_foreign(value.as_bytes(), None), "{value}");
    }
}

#[test]
fn a_mistyped_token_is_told_by_its_checksum() {
    let mistyped = token().replacen('7', "8", 1);
    assert_eq!(
        read_one(format!("Bearer {mistyped}"), &ours()),
        Err(CredentialError::Checksum(Scheme::Bearer))
    );
    let value = basic_value(format!("alice:{mistyped}"));
    assert_eq!(read_one(value, &ours()), Err(CredentialError::Checksum(Scheme::Basic)));
}

#[test]
fn lines_and_comma_joined_values_are_more_than_one_credential() {
    let (token, encoded) = (token(), basic_value("alice:x"));
    let one = format!("Bearer {token}");
    for first in [one.as_str(), ""] {
        let values = [first.as_bytes(), one.as_bytes()];
        assert_eq!(read(values.into_iter().collect(), &ours()), Err(CredentialError::Multiple));
    }
    for value in [
        format!("{one},{one}"),
        format!("{one}, {one}"),
        format!("{encoded},{one}"),
        format!("{one},"),
        format!(",{one}"),
        format!("Bearer,{one}"),
        format!("Bearer {token},x"),
        format!("Negotiate abc, {one}"),
        format!("Digest a=\"b\", {one}"),
        format!("Digest a=\"b, {one}"),
        ",".to_owned(),
    ] {
        assert_eq!(read_one(&value, &ours()), Err(CredentialError::Multiple), "{value:?}");
    }
}

#[test]
fn other_schemes_and_disabled_ones_are_unsupported() {
    let bearer_only = Accepted { schemes: Schemes::from_iter([Scheme::Bearer]), ..ours() };
    assert_eq!(read_one(basic_value("a:b"), &bearer_only), Err(CredentialError::UnsupportedScheme));
    for value in [
        "Negotiate",
        "Negotiate YII=",
        "Token abc",
        "Digest username=\"a, b\", realm = x,uri=\"/\\\"\"",
        "BearerX abc",
        "Bearer-Token abc",
        "lk_looks_like_a_scheme",
    ] {
        assert_eq!(read_one(value, &ours()), Err(CredentialError::UnsupportedScheme), "{value}");
    }
}

#[test]
fn a_value_without_a_scheme_is_malformed_and_no_value_is_missing() {
    assert_eq!(read(Values::None, &ours()), Err(CredentialError::Missing));
    for value in ["", " ", "\t", "Bearer\tx", "\"Bearer\" x", "Béarer x", "a/b", "Bearer:x", "\0"] {
        assert_eq!(read_one(value, &ours()), Err(CredentialError::Malformed(None)), "{value:?}");
    }
}

#[test]
fn very_long_values_are_malformed_and_not_hashed() {
    let fits = "x".repeat(MAX_TOKEN);
    assert!(read_one(format!("Bearer {fits}"), &any_shape()).is_ok());
    assert_eq!(read_one(format!("Bearer {fits}x"), &any_shape()), Err(MALFORMED_BEARER));
    assert!(read_one(basic_value(format!("a:{fits}")), &any_shape()).is_ok());
    assert_eq!(read_one(basic_value(format!("a:{fits}x")), &any_shape()), Err(MALFORMED_BASIC));
    let spaces = " ".repeat(MAX_VALUE);
    assert_eq!(read_one(format!("Bearer{spaces}x"), &any_shape()), Err(MALFORMED_BEARER));
}

#[test]
fn only_what_is_provably_another_systems_credential_is_foreign() {
    let (token, prefix) = (token(), TokenPrefix::default());
    let mistyped = token.replacen('7', "8", 1);
    for value in [
        "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x".to_owned(),
        "Negotiate YII=".to_owned(),
        "Digest username=\"a, b\", realm=x".to_owned(),
        basic_value("alice:password"),
        format!("Bearer {}", "x".repeat(2 * MAX_VALUE)),
    ] {
        assert!(is_foreign(value.as_bytes(), Some(&prefix)), "{value}");
    }
    for value in [
        format!("Bearer {token}"),
        format!("Bearer {mistyped}"),
        "Bearer lk_".to_owned(),
        format!("Bearer x{token}"),
        token.clone(),
        mistyped.clone(),
        format!("{token} x"),
        "Negotiate".to_owned(),
        format!("Token {token}"),
        format!("Digest username=\"{token}\""),
        basic_value(format!("alice:{token}")),
        basic_value(format!("{token}:")),
        basic_value(format!("alice:x:{token}")),
        basic_value("lk_x:"),
        format!("Bearer abc, Bearer {token}"),
        format!("Bearer abc, Bearer {}", "def"),
        format!("Digest a=\"b\", Bearer {token}"),
        "Negotiate a b".to_owned(),
        "Basic !!!".to_owned(),
        "Basic".to_owned(),
        "Bearer".to_owned(),
        "".to_owned(),
        "Bearer\tabc".to_owned(),
    ] {
        assert!(!is_foreign(value.as_bytes(), Some(&prefix)), "{value}");
    }
    assert!(!is_foreign(b"Bearer abc", None), "without a prefix every token may be ours");
    assert!(!is_foreign(basic_value("a:b").as_bytes(), None));
    assert!(!is_foreign(b"abc", None), "a token without its scheme");
    assert!(is_foreign(b"Negotiate abc", None));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic_and_nothing_is_both_ours_and_foreign(
        head in "(?i:bearer|basic|digest|)[ \t,]{0,2}",
        tail in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let value = [head.as_bytes(), &tail].concat();
        for accepted in [ours(), any_shape()] {
            if read_one(&value, &accepted).is_ok() {
                prop_assert!(!is_foreign(&value, accepted.prefix.as_ref()));
            }
        }
    }

    #[test]
    fn every_well_formed_bearer_token_is_read_as_it_stands(token in "[!-+\\--~]{1,256}") {
        let read = read_one(format!("Bearer {token}"), &any_shape());
        prop_assert_eq!(read.map(|credential| credential.hash), Ok(TokenHash::of(token.as_bytes())));
    }

    #[test]
    fn every_well_formed_basic_pair_is_read_as_it_stands(user in "[^:\\p{Cc}]{1,40}", token in "[^\\p{Cc}]{1,60}") {
        let read = read_one(basic_value(format!("{user}:{token}")), &any_shape()).unwrap();
        prop_assert_eq!(read.user, Some(user));
        prop_assert_eq!(read.hash, TokenHash::of(token.as_bytes()));
    }

    #[test]
    fn two_joined_values_are_never_one_credential(one in "(Bearer|Basic|Foo) [a-z=]{0,9}", other in "(Bearer|Basic) [a-z]{0,9}") {
        let joined = format!("{one},{other}");
        prop_assert!(read_one(joined, &any_shape()).is_err());
    }
}
