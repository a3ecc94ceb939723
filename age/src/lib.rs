//! Files that [age](https://age-encryption.org/v1) encrypts, for X25519 keys: what `age -r` and `age -d` write and read.
//!
//! A header has the file's key, encrypted for each recipient. What follows are chunks of 64 KiB, each sealed by itself, so that
//! any place can be read alone. A file is only called whole when its last chunk says that it is the last.
//!
//! Nothing here knows what is in the file. Who made it is not said by the format: whoever knows a recipient can write one.

mod bech32;
mod crypto;
mod header;
mod keys;
mod read;
mod stream;
mod write;

pub use header::{FILE_KEY, FileKey, HeaderError, MOST, unlock};
pub use keys::{Identities, NotAKey, Recipients};
pub use read::{Decrypted, head, is_encrypted};
pub use write::{Encrypted, encrypting};
