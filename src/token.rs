//! The token format: `<prefix>_<random><checksum>`, its checksum, and the hash that stands for a token everywhere
//! but in the hands of its owner.

use std::fmt;

use crc::{CRC_32_ISO_HDLC, Crc, Table};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// How many base62 characters of a token are random: 43 of them carry 256.03 bits.
pub const RANDOM_LENGTH: usize = 43;
/// How many base62 characters the checksum takes.
pub const CHECKSUM_LENGTH: usize = 6;
/// How many random characters a [`Secret::hint`] shows beside the prefix.
const HINT_LENGTH: usize = 4;
/// Base62, lowest digit first. The order is part of the format.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The checksum, with a table of 1 KiB: the one for speed has 16 KiB, and a token is some 46 bytes.
static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// What tokens of one service begin with: 2 to 16 characters of `[a-z0-9]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenPrefix(String);

/// A text that cannot be a token prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token prefix is 2 to 16 characters of a-z and 0-9")]
pub struct InvalidPrefix;

impl TokenPrefix {
    /// The prefix as it stands in a token, without the underscore.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TokenPrefix {
    /// `lk`, the contract's default.
    fn default() -> Self {
        Self("lk".to_owned())
    }
}

impl fmt::Display for TokenPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for TokenPrefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if (2..=16).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPrefix)
        }
    }
}

/// Why bytes are not a token of a given prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShapeError {
    /// It does not begin with the prefix and an underscore: some other system's credential.
    Foreign,
    /// It begins like a token of ours, and its length or an alphabet character is wrong.
    Malformed,
    /// It has the shape of a token and another checksum: mistyped, or made up.
    Checksum,
}

/// Checks prefix, length, alphabet and checksum, which needs no look-up.
///
/// # Errors
/// [`ShapeError`] says in which way the bytes are not a token of `prefix`.
pub fn check_shape(prefix: &TokenPrefix, candidate: &[u8]) -> Result<(), ShapeError> {
    let rest = candidate
        .strip_prefix(prefix.as_str().as_bytes())
        .and_then(|rest| rest.strip_prefix(b"_"))
        .ok_or(ShapeError::Foreign)?;
    if rest.len() != RANDOM_LENGTH + CHECKSUM_LENGTH || !rest.iter().all(u8::is_ascii_alphanumeric) {
        return Err(ShapeError::Malformed);
    }
    let (body, sum) = candidate.split_at(candidate.len() - CHECKSUM_LENGTH);
    if sum == checksum(body) { Ok(()) } else { Err(ShapeError::Checksum) }
}

/// CRC-32 (ISO-HDLC) of `<prefix>_<random>` in base62, most significant digit first, padded with `0`.
fn checksum(body: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut rest = CRC.checksum(body);
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        *digit = base62(rest % 62);
        rest /= 62;
    }
    digits
}

/// The base62 digit of `value`, which callers keep below 62.
fn base62(value: u32) -> u8 {
    usize::try_from(value).ok().and_then(|index| ALPHABET.get(index)).copied().unwrap_or(b'0')
}

/// A whole token in the clear. It has no `Debug` or `Display` that would show it; [`Secret::expose`] does, by name.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Makes a new token. `fill` fills a buffer with bytes of the operating system's generator.
    ///
    /// # Errors
    /// Whatever `fill` returns when it cannot.
    pub fn generate<E>(
        prefix: &TokenPrefix,
        mut fill: impl FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut text = format!("{prefix}_");
        let wanted = text.len() + RANDOM_LENGTH;
        let mut bytes = [0_u8; 64];
        while text.len() < wanted {
            fill(&mut bytes)?;
            // 248 = 4 * 62: bytes from there on would make the first digits of the alphabet likelier.
            let fair = bytes.iter().filter(|byte| **byte < 248).map(|byte| base62(u32::from(*byte) % 62));
            text.extend(fair.take(wanted - text.len()).map(char::from));
        }
        let sum = checksum(text.as_bytes());
        text.extend(sum.iter().copied().map(char::from));
        Ok(Self(text))
    }

    /// The token itself, for the one answer that may show it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What may be stored of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.0.as_bytes())
    }

    /// The prefix and the first four random characters, by which an owner recognises a token: `lk_a1B2`.
    #[must_use]
    pub fn hint(&self) -> String {
        let shown = self.0.find('_').map_or(0, |underscore| underscore + 1 + HINT_LENGTH);
        self.0.chars().take(shown).collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// SHA-256 of a whole token: all that leaves Envoy, and all that the service stores.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenHash([u8; 32]);

/// A text that is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token hash is SHA-256 in 64 hexadecimal digits")]
pub struct InvalidHash;

impl TokenHash {
    /// The hash of a token's bytes.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// A hash that was read from where hashes are stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The first bytes, by which the change feed names it.
    #[must_use]
    pub const fn prefix(&self) -> HashPrefix {
        let [a, b, c, d, e, f, ..] = self.0;
        HashPrefix::from_bytes([a, b, c, d, e, f])
    }

    /// The 32 bytes, as they are stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The first [`HashPrefix::LENGTH`] bytes of a [`TokenHash`]: enough to say which verdicts may have changed. Should two tokens ever
/// share one, a verdict too many is forgotten, and nobody is let in by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HashPrefix(u64);

impl HashPrefix {
    /// How many bytes of a hash make a prefix: of a million cached tokens, two share one with a probability of 1 in 500.
    pub const LENGTH: usize = 6;

    /// A prefix that was read from where prefixes are.
    #[must_use]
    pub const fn from_bytes([a, b, c, d, e, f]: [u8; Self::LENGTH]) -> Self {
        Self(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// The bytes, as they are sent.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::LENGTH] {
        let [_, _, a, b, c, d, e, f] = self.0.to_be_bytes();
        [a, b, c, d, e, f]
    }
}

impl fmt::Debug for HashPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashPrefix({:012x})", self.0)
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TokenHash {
    /// The first four bytes: enough to tell hashes apart in a trace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "TokenHash({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

impl std::str::FromStr for TokenHash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidHash)?;
        Ok(Self(bytes))
    }
}

impl Serialize for TokenHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A generator whose bytes a test chooses.
    fn token_of(bytes: &[u8]) -> Secret {
        let mut source = bytes.iter().copied().cycle();
        let fill = |buffer: &mut [u8]| {
            buffer.fill_with(|| source.next().unwrap_or(0));
            Ok::<(), std::convert::Infallible>(())
        };
        Secret::generate(&TokenPrefix::default(), fill).unwrap()
    }

    #[test]
    fn the_checksum_is_crc_32_iso_hdlc_in_base62() {
        // The check value of CRC-32/ISO-HDLC: CRC("123456789") = 0xCBF43926 = 3421780262.
        assert_eq!(CRC.checksum(b"123456789"), 0xCBF4_3926);
        assert_eq!(&checksum(b"123456789"), b"3jZRME");
        assert_eq!(&checksum(b""), b"000000");
    }

    #[test]
    fn a_known_token_has_a_known_shape_hint_and_hash() {
        let token = token_of(&[0, 10, 36, 61]);
        assert_eq!(token.expose().len(), "lk_".len() + 49);
        assert!(token.expose().starts_with("lk_0Aaz0Aaz"), "{}", token.expose());
        assert_eq!(token.hint(), "lk_0Aaz");
        assert_eq!(token.hash(), TokenHash::of(token.expose().as_bytes()));
        assert_eq!(check_shape(&TokenPrefix::default(), token.expose().as_bytes()), Ok(()));
    }

    #[test]
    fn bytes_that_would_bias_the_alphabet_are_not_used() {
        let token = token_of(&[248, 255, 61]);
        assert!(token.expose().starts_with("lk_zzzz"), "{}", token.expose());
    }

    #[test]
    fn debug_output_shows_no_secret_and_only_the_start_of_a_hash() {
        let token = token_of(&[1, 2, 3]);
        assert_eq!(format!("{token:?}"), "Secret(…)");
        assert!(format!("{:?}", token.hash()).len() < 25);
    }

    #[test]
    fn a_failing_generator_makes_no_token() {
        assert_eq!(Secret::generate(&TokenPrefix::default(), |_| Err("no entropy")), Err("no entropy"));
    }

    #[test]
    fn prefixes_are_two_to_sixteen_lower_case_letters_and_digits() {
        for good in ["lk", "a1", "0123456789abcdef"] {
            assert!(good.parse::<TokenPrefix>().is_ok(), "{good}");
        }
        for bad in ["", "l", "LK", "l_k", "l k", "lké", "0123456789abcdefg"] {
            assert_eq!(bad.parse::<TokenPrefix>(), Err(InvalidPrefix), "{bad}");
        }
    }

    #[test]
    fn shapes_are_told_apart() {
        let prefix = TokenPrefix::default();
        let token = token_of(&[7]).expose().to_owned();
        let shape = |text: &str| check_shape(&prefix, text.as_bytes());
        assert_eq!(shape("ghp_something"), Err(ShapeError::Foreign));
        assert_eq!(shape("lk"), Err(ShapeError::Foreign));
        assert_eq!(shape("lk_"), Err(ShapeError::Malformed));
        assert_eq!(shape(&token[..token.len() - 1]), Err(ShapeError::Malformed));
        assert_eq!(shape(&format!("{token}0")), Err(ShapeError::Malformed));
        assert_eq!(shape(&token.replace('7', "-")), Err(ShapeError::Malformed));
        assert_eq!(shape(&token.replacen('7', "8", 1)), Err(ShapeError::Checksum));
        assert_eq!(shape(&token.to_uppercase()), Err(ShapeError::Foreign));
    }

    proptest! {
        #[test]
        fn every_generated_token_passes_and_every_single_change_is_noticed(
            bytes in proptest::collection::vec(0_u8..248, 64),
            at in 0_usize..52,
            other in "[0-9A-Za-z]",
        ) {
            let token = token_of(&bytes);
            let prefix = TokenPrefix::default();
            prop_assert_eq!(check_shape(&prefix, token.expose().as_bytes()), Ok(()));
            let mut changed = token.expose().to_owned();
            changed.replace_range(at..=at, &other);
            let same = changed == token.expose();
            prop_assert_eq!(check_shape(&prefix, changed.as_bytes()).is_ok(), same);
        }

        #[test]
        fn no_bytes_make_the_check_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = check_shape(&TokenPrefix::default(), &bytes);
        }

        #[test]
        fn a_hash_survives_its_text(bytes in any::<[u8; 32]>()) {
            let hash = TokenHash::from_bytes(bytes);
            prop_assert_eq!(hash.to_string().parse(), Ok(hash));
            prop_assert_eq!(hash.prefix().to_bytes(), bytes.first_chunk().copied().unwrap());
            prop_assert_eq!(HashPrefix::from_bytes(hash.prefix().to_bytes()), hash.prefix());
        }
    }
}
