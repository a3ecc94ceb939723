//! The header: the file's key for each recipient, and a MAC over it by that key.
//!
//! ```text
//! age-encryption.org/v1
//! -> X25519 <share of a key that is used once>
//! <the file's key, sealed>
//! --- <MAC of all before, the three dashes included>
//! ```

use crate::crypto::{KEY, Sealing, Secret, TAG, agree, agree_once, check_mac, derive, mac, random};
use crate::keys::{Identities, Identity, Recipients};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use pitstop_imaging::image::encrypted::{ARMOR, INTRO};
use ring::error::Unspecified;
use std::fmt::{self, Write as _};
use zeroize::Zeroizing;

const VERSION: &str = "age-encryption.org/v1";
const X25519: &str = "X25519";
const SCRYPT: &str = "scrypt";
const X25519_INFO: &str = "age-encryption.org/v1/X25519";
/// Bytes of a file's key.
pub const FILE_KEY: usize = 16;
/// A full line of a stanza's body; the last one is shorter, and may be empty.
const LINE: usize = 64;
/// No header is larger: some six hundred recipients.
pub const MOST: usize = 64 << 10;

/// Why a file cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("it is not encrypted by age")]
    NotAge,
    #[error(
        "it is armored, so that nothing in it can be read alone: unpack it with age -d, or encrypt without -a"
    )]
    Armored,
    #[error("it is of a later version of age's format than {VERSION}")]
    Later,
    #[error("it is cut short, or damaged: its header does not end")]
    Cut,
    #[error("its header has more than {MOST} bytes: it is for too many, or no header")]
    Long,
    #[error("its header is damaged: {0}")]
    Malformed(&'static str),
    #[error("it is encrypted with a passphrase: only keys are taken (age -r)")]
    Passphrase,
    #[error("it is for other keys than those that were given")]
    OtherKeys,
    #[error("its header was changed: the MAC of it is wrong")]
    Altered,
    #[error("the key that was given for it is another file's, or its header was changed")]
    OtherFile,
    #[error("no random numbers, or no cipher: a fault of this system")]
    System,
}

impl From<Unspecified> for HeaderError {
    fn from(_: Unspecified) -> Self {
        Self::System
    }
}

/// A header as it is in a file.
#[derive(Debug)]
pub struct Header<'a> {
    stanzas: Vec<Stanza<'a>>,
    /// What the MAC is of.
    under_mac: &'a [u8],
    mac: Vec<u8>,
    /// Bytes of the whole.
    pub length: usize,
}

#[derive(Debug)]
struct Stanza<'a> {
    kind: &'a str,
    arguments: Vec<&'a str>,
    body: Vec<u8>,
}

/// The key of one file. Whoever has it reads that file, and no other.
#[derive(Clone, PartialEq, Eq)]
pub struct FileKey(Zeroizing<[u8; FILE_KEY]>);

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl FileKey {
    /// One that nobody has used.
    pub(crate) fn new() -> Result<Self, Unspecified> {
        random().map(Self::from_bytes)
    }

    /// One that somebody was given.
    pub fn from_bytes(bytes: [u8; FILE_KEY]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub fn bytes(&self) -> &[u8; FILE_KEY] {
        &self.0
    }

    /// The key of the chunks behind `nonce`.
    pub(crate) fn payload(&self, nonce: &[u8]) -> Result<Secret, Unspecified> {
        derive(&self.0[..], nonce, "payload")
    }

    fn mac_key(&self) -> Result<Secret, Unspecified> {
        derive(&self.0[..], &[], "header")
    }
}

/// The key of the file that begins with `head`, for the first of `identities` that it is for.
///
/// # Errors
/// It is for none of them, it was changed, or it is no header.
pub fn unlock(head: &[u8], identities: &Identities) -> Result<FileKey, HeaderError> {
    Header::parse(head)?.open(identities)
}

/// Lines of the header, each with its end counted.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a str, HeaderError> {
        let ended = if self.bytes.len() < MOST {
            HeaderError::Cut
        } else {
            HeaderError::Long
        };
        let rest = self.bytes.get(self.at..).ok_or(ended)?;
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = &rest[..end.ok_or(ended)?];
        self.at += line.len() + 1;
        let text = std::str::from_utf8(line).ok().filter(|it| it.is_ascii());
        text.ok_or(HeaderError::Malformed("it has bytes that are no ASCII"))
    }
}

fn base64(text: &str) -> Result<Vec<u8>, HeaderError> {
    STANDARD_NO_PAD
        .decode(text)
        .map_err(|_| HeaderError::Malformed("it has a line that is no base64"))
}

impl<'a> Header<'a> {
    /// Reads the header at the beginning of `bytes`, [`MOST`] at most; what follows it is passed over.
    ///
    /// # Errors
    /// It is none, or not to its end.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let bytes = bytes.get(..MOST).unwrap_or(bytes);
        if bytes.starts_with(ARMOR) {
            return Err(HeaderError::Armored);
        }
        if !bytes.starts_with(INTRO) {
            return Err(HeaderError::NotAge);
        }
        let mut lines = Lines { bytes, at: 0 };
        if lines.next()? != VERSION {
            return Err(HeaderError::Later);
        }
        let mut stanzas = Vec::new();
        loop {
            let begins = lines.at;
            let line = lines.next()?;
            if let Some(mac) = line.strip_prefix("--- ") {
                if stanzas.is_empty() {
                    return Err(HeaderError::Malformed("it is for nobody"));
                }
                return Ok(Self {
                    stanzas,
                    under_mac: &bytes[..begins + 3],
                    mac: base64(mac)?,
                    length: lines.at,
                });
            }
            stanzas.push(stanza(line, &mut lines)?);
        }
    }

    /// The file's key, for the first of `identities` that the file is for.
    ///
    /// # Errors
    /// It is for none of them, or the header was changed.
    pub fn open(&self, identities: &Identities) -> Result<FileKey, HeaderError> {
        if self.stanzas.iter().any(|it| it.kind == SCRYPT) {
            return Err(HeaderError::Passphrase);
        }
        for stanza in self.stanzas.iter().filter(|it| it.kind == X25519) {
            let share = stanza.share()?;
            for identity in &identities.0 {
                let Some(key) = stanza.unwrap(share, identity)? else {
                    continue;
                };
                self.check(&key, HeaderError::Altered)?;
                return Ok(key);
            }
        }
        Err(HeaderError::OtherKeys)
    }

    /// Whether the header is of the file with this key, as who made the file wrote it.
    ///
    /// # Errors
    /// `otherwise`, where it is not.
    pub fn check(&self, key: &FileKey, otherwise: HeaderError) -> Result<(), HeaderError> {
        check_mac(&key.mac_key()?[..], self.under_mac, &self.mac).map_err(|_| otherwise)
    }
}

fn stanza<'a>(line: &'a str, lines: &mut Lines<'a>) -> Result<Stanza<'a>, HeaderError> {
    let words = line.strip_prefix("-> ");
    let words = words.ok_or(HeaderError::Malformed(
        "a line is neither a recipient nor the end",
    ))?;
    let mut words = words.split(' ');
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|it| it.is_ascii_graphic());
    let wrong = HeaderError::Malformed("a recipient's line has an empty or strange word");
    let kind = words.next().filter(is_word).ok_or(wrong)?;
    let arguments: Vec<&str> = words.collect();
    if !arguments.iter().all(is_word) {
        return Err(wrong);
    }
    let mut text = String::new();
    loop {
        let line = lines.next()?;
        if line.len() > LINE {
            return Err(HeaderError::Malformed("a line is too long"));
        }
        text.push_str(line);
        if line.len() < LINE {
            break;
        }
    }
    Ok(Stanza {
        kind,
        arguments,
        body: base64(&text)?,
    })
}

impl Stanza<'_> {
    /// The public key that was made for this recipient alone.
    fn share(&self) -> Result<[u8; KEY], HeaderError> {
        let wrong = HeaderError::Malformed("a recipient has no key, or one of another length");
        let [share] = self.arguments[..] else {
            return Err(wrong);
        };
        if self.body.len() != FILE_KEY + TAG {
            return Err(wrong);
        }
        base64(share)?.try_into().map_err(|_| wrong)
    }

    /// `None` where the file is not for `identity` by this stanza.
    fn unwrap(
        &self,
        share: [u8; KEY],
        identity: &Identity,
    ) -> Result<Option<FileKey>, HeaderError> {
        let shared = agree(&identity.secret, share)
            .map_err(|_| HeaderError::Malformed("a recipient's key is none"))?;
        let sealing = wrapping(&shared, share, identity.public)?;
        let mut body = Zeroizing::new(self.body.clone());
        let Ok(key) = sealing.open(ONCE, &mut body) else {
            return Ok(None);
        };
        let key = <[u8; FILE_KEY]>::try_from(&*key);
        Ok(key.ok().map(FileKey::from_bytes))
    }
}

/// The key that wraps the file's is used once.
const ONCE: [u8; 12] = [0; 12];

fn wrapping(
    shared: &Secret,
    share: [u8; KEY],
    recipient: [u8; KEY],
) -> Result<Sealing, Unspecified> {
    let salt = [share, recipient].concat();
    Sealing::new(&*derive(&shared[..], &salt, X25519_INFO)?)
}

/// The header of a file with `key`, for `recipients`.
///
/// # Errors
/// The system has no random numbers; or a recipient's key is none.
pub fn write(key: &FileKey, recipients: &Recipients) -> Result<Vec<u8>, HeaderError> {
    let mut text = format!("{VERSION}\n");
    for recipient in &recipients.0 {
        let (share, shared) = agree_once(*recipient)
            .map_err(|_| HeaderError::Malformed("a recipient's key is none"))?;
        // Sealed where it stands, and with room for the tag: no copy of the key is left behind.
        let mut body = Vec::with_capacity(FILE_KEY + TAG);
        body.extend_from_slice(key.bytes());
        wrapping(&shared, share, *recipient)?.seal(ONCE, &mut body)?;
        let [share, body] = [share.to_vec(), body].map(|it| STANDARD_NO_PAD.encode(it));
        // Writing to a String cannot fail.
        let _ = write!(text, "-> {X25519} {share}\n{body}\n");
    }
    text.push_str("---");
    let mac = mac(&key.mac_key()?[..], text.as_bytes());
    let mac = STANDARD_NO_PAD.encode(mac.as_ref());
    let _ = writeln!(text, " {mac}");
    if text.len() > MOST {
        return Err(HeaderError::Malformed("too many recipients"));
    }
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests;
