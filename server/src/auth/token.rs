//! The text of a token: `lvd_` and 48 characters of base64url, which hold 32 random bytes and a checksum of 4.
//!
//! The prefix and the checksum let scanners find tokens that were published by mistake, and refuse a mistyped one without
//! a look-up. The server keeps SHA-256 of the random bytes: with 256 bits there is nothing to guess.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::env::Random;

const PREFIX: &str = "lvd_";
const SECRET_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 4;

/// A token's secret.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret([u8; SECRET_BYTES]);

impl fmt::Debug for TokenSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenSecret(<redacted>)")
    }
}

impl TokenSecret {
    /// A new one.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        let mut secret = [0; SECRET_BYTES];
        random.fill(&mut secret);
        Self(secret)
    }

    /// Reads a token's text; surrounding white space is not part of it.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let body = std::str::from_utf8(text).ok()?.trim().strip_prefix(PREFIX)?;
        let bytes = URL_SAFE_NO_PAD.decode(body).ok()?;
        let (secret, checksum) = bytes.split_first_chunk::<SECRET_BYTES>()?;
        let token = Self(*secret);
        (checksum == token.checksum()).then_some(token)
    }

    /// What a client presents.
    #[must_use]
    pub fn text(&self) -> String {
        let mut bytes = self.0.to_vec();
        bytes.extend_from_slice(&self.checksum());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What the server keeps.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    fn checksum(&self) -> [u8; CHECKSUM_BYTES] {
        let digest = Sha256::new().chain_update(b"levada token checksum").chain_update(self.0).finalize();
        let mut checksum = [0; CHECKSUM_BYTES];
        checksum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
        checksum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_a_mistyped_one_does_not() {
        let token = TokenSecret([7; 32]);
        let text = token.text();
        assert!(text.starts_with("lvd_") && text.len() == 52, "{text}");
        assert_eq!(TokenSecret::parse(format!(" {text}\n").as_bytes()), Some(token));
        for at in 4..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(TokenSecret::parse(&wrong), None, "{at}");
        }
        assert_eq!(TokenSecret::parse(b""), None);
        assert_eq!(TokenSecret::parse(b"lvd_"), None);
        assert_eq!(TokenSecret::parse(&text.as_bytes()[..51]), None);
    }
}
