//! The four primitives of the format, each by a library: HKDF, HMAC, ChaCha20-Poly1305 and X25519 with keys that are used once are
//! ring's; X25519 with keys that stay is dalek's, and whoever only encrypts has none of it.
//!
//! Keys that pass through here are overwritten when they go. What ring keeps within is its own: it overwrites nothing.

use curve25519_dalek::montgomery::MontgomeryPoint;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

pub const KEY: usize = 32;

/// A key that nobody else is to have.
pub type Secret = Zeroizing<[u8; KEY]>;

/// Bytes that a sealed text is longer.
pub const TAG: usize = 16;

/// Bytes that nobody can guess.
pub fn random<const N: usize>() -> Result<[u8; N], Unspecified> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes)?;
    Ok(bytes)
}

/// HKDF-SHA-256 (RFC 5869).
pub fn derive(secret: &[u8], salt: &[u8], info: &str) -> Result<Secret, Unspecified> {
    let info = [info.as_bytes()];
    let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let mut key = Secret::default();
    secret
        .expand(&info, hkdf::HKDF_SHA256)?
        .fill(&mut key[..])?;
    Ok(key)
}

/// HMAC-SHA-256 (RFC 2104).
pub fn mac(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}

/// Compares in a time that tells nothing.
pub fn check_mac(key: &[u8], text: &[u8], mac: &[u8]) -> Result<(), Unspecified> {
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), text, mac)
}

/// X25519 (RFC 7748 5): the public half of a secret.
pub fn public(secret: &Secret) -> [u8; KEY] {
    MontgomeryPoint::mul_base_clamped(**secret).to_bytes()
}

/// X25519: what the two sides share.
///
/// # Errors
/// `theirs` is a point that leads every secret to zero (RFC 7748 6.1).
pub fn agree(secret: &Secret, theirs: [u8; KEY]) -> Result<Secret, Unspecified> {
    let shared = MontgomeryPoint(theirs).mul_clamped(**secret).to_bytes();
    if shared.iter().all(|byte| *byte == 0) {
        return Err(Unspecified);
    }
    Ok(Zeroizing::new(shared))
}

/// X25519 with a secret that is made for this and forgotten: its public half, and what the two sides share.
///
/// # Errors
/// As [`agree`]; or the system has no random numbers.
pub fn agree_once(theirs: [u8; KEY]) -> Result<([u8; KEY], Secret), Unspecified> {
    let secret = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new())?;
    let share = secret.compute_public_key()?;
    let share = share.as_ref().try_into().map_err(|_| Unspecified)?;
    let theirs = UnparsedPublicKey::new(&X25519, theirs);
    let shared = agree_ephemeral(secret, &theirs, |shared| {
        shared.try_into().map(Zeroizing::new)
    })?;
    Ok((share, shared.map_err(|_| Unspecified)?))
}

/// ChaCha20-Poly1305 (RFC 8439) with nonces that the format counts.
pub struct Sealing(LessSafeKey);

impl Sealing {
    pub fn new(key: &[u8; KEY]) -> Result<Self, Unspecified> {
        UnboundKey::new(&CHACHA20_POLY1305, key).map(|key| Self(LessSafeKey::new(key)))
    }

    /// Encrypts `text` in place and adds the tag.
    pub fn seal(&self, nonce: [u8; NONCE_LEN], text: &mut Vec<u8>) -> Result<(), Unspecified> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(nonce, Aad::empty(), text)
    }

    /// Decrypts in place; what comes back is `sealed` without its tag.
    pub fn open<'a>(
        &self,
        nonce: [u8; NONCE_LEN],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], Unspecified> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place(nonce, Aad::empty(), sealed)
    }
}
