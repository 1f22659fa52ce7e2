//! Tokens that no service made, in the right shape and with the right checksum: for stand-ins that believe in any.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};

use latchkey::token::{Secret, TokenHash, TokenPrefix};

use super::secrets;

/// A token that no other call of this run gives.
pub fn token() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let seed = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let fill = |bytes: &mut [u8]| {
        for (index, part) in bytes.chunks_mut(32).enumerate() {
            let digest = TokenHash::of(format!("{seed:?} {index}").as_bytes());
            part.copy_from_slice(&digest.as_bytes()[..part.len()]);
        }
        Ok::<_, Infallible>(())
    };
    let Ok(secret) = Secret::generate(&TokenPrefix::default(), fill);
    secrets::note(secret.expose());
    secret.expose().to_owned()
}

/// So many of them.
pub fn tokens(count: usize) -> Vec<String> {
    (0..count).map(|_| token()).collect()
}
