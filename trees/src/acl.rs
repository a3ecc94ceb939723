//! POSIX ACLs: the binary form that the kernel takes as an extended attribute, and the text that tars have.
//!
//! The text is libarchive's for `SCHILY.acl.*`: entries joined by commas, `user:1000:rwx:1000`, the number once more at the
//! end. GNU tar leaves that last field out when it reads, so that both read it.

/// `struct posix_acl_xattr_header` and `posix_acl_xattr_entry` (linux/posix_acl_xattr.h), version 2.
const VERSION: u32 = 2;
const ENTRY: usize = 8;
/// Whose a tag without a number is.
const NOBODY: u32 = u32::MAX;

/// Tags (linux/posix_acl.h), and the words of acl(5).
const TAGS: [(u16, &str, bool); 6] = [
    (0x01, "user", false),
    (0x02, "user", true),
    (0x04, "group", false),
    (0x08, "group", true),
    (0x10, "mask", false),
    (0x20, "other", false),
];

/// The kernel's names of the two, and the tar's.
pub const NAMES: [(&[u8], &str); 2] = [
    (b"system.posix_acl_access", "SCHILY.acl.access"),
    (b"system.posix_acl_default", "SCHILY.acl.default"),
];

/// The text of what the kernel gave; `None` when that is no ACL of this version.
pub fn to_text(value: &[u8]) -> Option<String> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % ENTRY != 0 {
        return None;
    }
    let mut texts = Vec::new();
    for entry in entries.chunks_exact(ENTRY) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let permissions = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let (_, word, has_id) = TAGS.iter().find(|(known, ..)| *known == tag)?;
        let letters: String = [(4, 'r'), (2, 'w'), (1, 'x')]
            .map(|(bit, letter)| if permissions & bit == 0 { '-' } else { letter })
            .iter()
            .collect();
        texts.push(if *has_id {
            format!("{word}:{id}:{letters}:{id}")
        } else {
            format!("{word}::{letters}")
        });
    }
    Some(texts.join(","))
}

/// The permissions of the mask, which the kernel shows as those of the group.
pub fn mask(value: &[u8]) -> Option<u32> {
    const MASK: [u8; 2] = [0x10, 0];
    let entries = value.get(4..)?.chunks_exact(ENTRY);
    let mut masks = entries.filter(|entry| entry[..2] == MASK);
    masks.next().map(|entry| u32::from(entry[2] & 7))
}

/// Whom an entry names, where it has a name and no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    User,
    Group,
}

/// What the kernel takes, of a text by libarchive, star or GNU tar; `None` when it names somebody by a name that `number` does
/// not know, or is no ACL.
pub fn from_text(text: &[u8], number: impl Fn(Named, &str) -> Option<u32>) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut entries = Vec::new();
    for entry in text.split([',', '\n']).map(str::trim) {
        if entry.is_empty() || entry.starts_with('#') {
            continue;
        }
        entries.push(parse_entry(entry, &number)?);
    }
    // The kernel wants them in the order of the tags, and of the numbers within.
    entries.sort_unstable();
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    Some(value)
}

fn parse_entry(
    entry: &str,
    number: &impl Fn(Named, &str) -> Option<u32>,
) -> Option<(u16, u32, u16)> {
    let fields: Vec<&str> = entry.split(':').collect();
    // Some write `mask:rwx` and `other:r--`.
    let (word, who, letters) = match fields.as_slice() {
        [word, letters] => (*word, "", *letters),
        [word, who, letters, ..] => (*word, *who, *letters),
        _ => return None,
    };
    let word = match word {
        "u" => "user",
        "g" => "group",
        "m" => "mask",
        "o" => "other",
        word => word,
    };
    let named = !who.is_empty();
    let (tag, ..) = TAGS
        .iter()
        .find(|(_, known, has_id)| *known == word && *has_id == named)?;
    let id = if named {
        let id = fields.get(3).filter(|id| !id.is_empty()).unwrap_or(&who);
        let named = if word == "user" {
            Named::User
        } else {
            Named::Group
        };
        id.parse().ok().or_else(|| number(named, who))?
    } else {
        NOBODY
    };
    let permissions = letters.bytes().try_fold(0, |bits, letter| {
        Some(match letter {
            b'r' => bits | 4,
            b'w' => bits | 2,
            b'x' => bits | 1,
            b'-' => bits,
            _ => return None,
        })
    })?;
    Some((*tag, id, permissions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn binary(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut value = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            value.extend_from_slice(&tag.to_le_bytes());
            value.extend_from_slice(&permissions.to_le_bytes());
            value.extend_from_slice(&id.to_le_bytes());
        }
        value
    }

    fn nobody(_: Named, _: &str) -> Option<u32> {
        None
    }

    #[test]
    fn an_acl_has_the_text_that_others_read() {
        let acl = binary(&[
            (0x01, 7, NOBODY),
            (0x02, 6, 1000),
            (0x04, 5, NOBODY),
            (0x10, 7, NOBODY),
            (0x20, 0, NOBODY),
        ]);
        let text = "user::rwx,user:1000:rw-:1000,group::r-x,mask::rwx,other::---";
        assert_eq!(to_text(&acl).unwrap(), text);
        assert_eq!(from_text(text.as_bytes(), nobody).unwrap(), acl);
        let others = "user::rwx\nuser:joe:rw-:1000\ngroup::r-x\nmask:rwx\nother:---\n";
        assert_eq!(from_text(others.as_bytes(), nobody).unwrap(), acl);
        assert_eq!(from_text(b"user:joe:rw-", nobody), None);
        let named = b"user::rwx\nuser:joe:rw-\ngroup::r-x\nmask::rwx\nother::---";
        let joe = |named, name: &str| (named == Named::User && name == "joe").then_some(1000);
        assert_eq!(from_text(named, joe).unwrap(), acl);
        assert_eq!(mask(&acl), Some(7));
        assert_eq!(mask(&acl[..20]), None);
        assert_eq!(to_text(&acl[..acl.len() - 1]), None);
        assert_eq!(to_text(&binary(&[(0x40, 7, 0)])), None);
    }

    proptest! {
        #[test]
        fn any_bytes_make_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), text in "[ugmo:,rwx0-9-]{0,40}") {
            if let Some(text) = to_text(&bytes) {
                prop_assert!(from_text(text.as_bytes(), nobody).is_some() || text.is_empty());
            }
            let _ = from_text(&bytes, nobody);
            if let Some(value) = from_text(text.as_bytes(), nobody) {
                prop_assert!(to_text(&value).is_some());
            }
        }
    }
}
