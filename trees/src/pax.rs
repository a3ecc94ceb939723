//! Records of a pax header (POSIX.1-2017 pax, "pax Extended Header"): what ustar has no room for.

use crate::acl;
use crate::entry::Attributes;
use crate::header::{OCTAL_7, OCTAL_11};

/// The records of a pax header, in the order in which they are added.
#[derive(Default)]
pub struct Records {
    bytes: Vec<u8>,
    /// Whether a name is no UTF-8, which pax expects.
    binary: bool,
}

impl Records {
    /// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        self.bytes
            .extend_from_slice(format!("{length} ").as_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.push(b'=');
        self.bytes.extend_from_slice(value);
        self.bytes.push(b'\n');
    }

    pub fn text(&mut self, key: &str, value: &str) {
        self.add(key.as_bytes(), value.as_bytes());
    }

    pub fn name(&mut self, key: &[u8], value: &[u8]) {
        self.binary |= std::str::from_utf8(value).is_err();
        self.add(key, value);
    }

    pub fn attributes(&mut self, attributes: &Attributes, has_inode: bool) {
        let time = attributes.mtime;
        let fits = u64::try_from(time.seconds).is_ok_and(|seconds| seconds <= OCTAL_11);
        if time.nanos != 0 || !fits {
            self.text("mtime", &time.to_string());
        }
        for (key, id) in [("uid", attributes.uid), ("gid", attributes.gid)] {
            if u64::from(id) > OCTAL_7 {
                self.text(key, &id.to_string());
            }
        }
        // What belongs to the inode stands with its first name.
        if !has_inode {
            return;
        }
        if !attributes.flags.is_empty() {
            self.text("SCHILY.fflags", &attributes.flags.to_text());
        }
        for (name, value) in attributes.xattrs.pairs() {
            self.xattr(name, value);
        }
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) {
        let acl = acl::NAMES.iter().find(|(kernel, _)| *kernel == name);
        if let Some((_, key)) = acl
            && let Some(text) = acl::to_text(value)
        {
            self.text(key, &text);
            return;
        }
        self.add(
            &[b"SCHILY.xattr.", escaped(name).as_slice()].concat(),
            value,
        );
    }

    /// The bytes of all records; nothing where there is none.
    pub fn finish(mut self) -> Vec<u8> {
        if self.binary {
            let rest = std::mem::take(&mut self.bytes);
            self.text("hdrcharset", "BINARY");
            self.bytes.extend_from_slice(&rest);
        }
        self.bytes
    }
}

/// A key ends at the first `=`: GNU tar writes one within a name as `%3D`.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'=' => escaped.extend_from_slice(b"%3D"),
            b'%' => escaped.extend_from_slice(b"%25"),
            other => escaped.push(*other),
        }
    }
    escaped
}

/// The name of an extended attribute, of what [`escaped`] made.
pub fn unescaped(key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len());
    let mut rest = key;
    while let [first, after @ ..] = rest {
        let (byte, next) = match rest {
            [b'%', b'3', b'D', next @ ..] => (b'=', next),
            [b'%', b'2', b'5', next @ ..] => (b'%', next),
            _ => (*first, after),
        };
        name.push(byte);
        rest = next;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_counts_its_own_digits() {
        for (value, record) in [
            ("", "5 k=\n"),
            ("1234", "9 k=1234\n"),
            ("12345", "11 k=12345\n"),
        ] {
            let mut records = Records::default();
            records.text("k", value);
            assert_eq!(records.finish(), record.as_bytes());
        }
    }

    #[test]
    fn names_of_attributes_read_back() {
        for name in [&b"user.a=b%"[..], b"user.%3D", b"security.selinux"] {
            assert_eq!(unescaped(&escaped(name)), name);
        }
    }
}
