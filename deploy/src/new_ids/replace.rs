//! Identifiers in bytes, found and replaced where they stand.

use super::Changed;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// From this length on, nothing else looks like one by chance, and names are made of them: `luks-6a7b…`.
const UNMISTAKABLE: usize = 36;
/// How much of a program is looked at once.
const WINDOW: usize = 1 << 20;
/// systemd writes a dash in the names of units so.
const ESCAPED_DASH: &[u8] = b"\\x2d";

/// A way in which an identifier is written, and the new one in the same way.
struct Written {
    from: Vec<u8>,
    to: Vec<u8>,
}

fn ways(changed: &Changed) -> [Written; 2] {
    let escaped = |text: &str| {
        text.as_bytes()
            .split(|byte| *byte == b'-')
            .collect::<Vec<_>>()
            .join(ESCAPED_DASH)
    };
    [
        Written {
            from: changed.from.clone().into_bytes(),
            to: changed.to.clone().into_bytes(),
        },
        Written {
            from: escaped(&changed.from),
            to: escaped(&changed.to),
        },
    ]
}

/// Whether `bytes` has the identifier at `at`, and not as a part of something longer.
fn stands(bytes: &[u8], at: usize, from: &[u8]) -> bool {
    let end = at + from.len();
    if !bytes
        .get(at..end)
        .is_some_and(|part| part.eq_ignore_ascii_case(from))
    {
        return false;
    }
    let apart =
        |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    from.len() >= UNMISTAKABLE
        || (apart(bytes.get(end)) && apart(at.checked_sub(1).and_then(|at| bytes.get(at))))
}

/// Where `from` begins, in order.
fn places<'a>(bytes: &'a [u8], from: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = from.first().map_or(0, u8::to_ascii_lowercase);
    let likely = bytes.iter().enumerate();
    let likely = likely.filter(move |(_, byte)| byte.to_ascii_lowercase() == first);
    likely
        .map(|(at, _)| at)
        .filter(move |at| !from.is_empty() && stands(bytes, *at, from))
}

/// The first identifier that stands in `bytes`, as it is written in a map.
pub fn first<'a>(bytes: &[u8], changed: &'a [Changed]) -> Option<&'a str> {
    let found = changed.iter().find(|one| {
        let ways = ways(one);
        ways.iter()
            .any(|way| places(bytes, &way.from).next().is_some())
    });
    found.map(|one| one.from.as_str())
}

/// The new one in the case of what it replaces: FAT's are known by capitals alone.
fn in_case_of(old: &[u8], new: &[u8]) -> Vec<u8> {
    let (lower, upper) = (
        old.iter().any(u8::is_ascii_lowercase),
        old.iter().any(u8::is_ascii_uppercase),
    );
    match (lower, upper) {
        (true, false) => new.to_ascii_lowercase(),
        (false, true) => new.to_ascii_uppercase(),
        _ => new.to_vec(),
    }
}

/// Where what is to be written, all looked up before anything is replaced: a new one may be another's old one.
fn found(bytes: &[u8], changed: &[Changed]) -> Vec<(usize, Vec<u8>)> {
    let mut found: Vec<(usize, Vec<u8>)> = Vec::new();
    for way in changed.iter().flat_map(ways) {
        for at in places(bytes, &way.from) {
            let old = &bytes[at..at + way.from.len()];
            // The escaped form has letters of its own.
            let new = if way.from.contains(&b'\\') {
                way.to.clone()
            } else {
                in_case_of(old, &way.to)
            };
            found.push((at, new));
        }
    }
    found.sort();
    found.dedup_by_key(|(at, _)| *at);
    found
}

/// Replaces all of them; whether there were any.
pub fn all(bytes: &mut [u8], changed: &[Changed]) -> bool {
    let found = found(bytes, changed);
    for (at, new) in &found {
        if let Some(place) = bytes.get_mut(*at..at + new.len()) {
            place.copy_from_slice(new);
        }
    }
    !found.is_empty()
}

/// The same in a large file.
///
/// # Errors
/// As reading and writing have them.
pub fn in_file(file: &File, changed: &[Changed]) -> io::Result<bool> {
    let size = file.metadata()?.len();
    let longest = changed
        .iter()
        .flat_map(ways)
        .map(|way| way.from.len())
        .max();
    // With what stands before and behind it.
    let overlap = longest.unwrap_or_default() + 2;
    let (mut at, mut any) = (0u64, false);
    let mut window = vec![0; WINDOW];
    while at < size {
        let length = usize::try_from(size - at).map_or(WINDOW, |left| left.min(WINDOW));
        file.read_exact_at(&mut window[..length], at)?;
        for (place, new) in found(&window[..length], changed) {
            file.write_all_at(&new, at + place as u64)?;
            any = true;
        }
        if length < WINDOW {
            break;
        }
        at += (WINDOW - overlap) as u64;
    }
    Ok(any)
}

/// Whether a program has a signature (PE Format, "The Attribute Certificate Table").
pub fn is_signed(program: &[u8]) -> bool {
    certificates(program).is_some_and(|size| size > 0)
}

/// Which of a program's directories they are.
const CERTIFICATES: usize = 4;

/// The size of its certificates; `None` of what is no such program.
fn certificates(program: &[u8]) -> Option<u32> {
    let word = |at: usize| {
        Some(u16::from_le_bytes(
            program.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    let long = |at: usize| {
        Some(u32::from_le_bytes(
            program.get(at..at + 4)?.try_into().ok()?,
        ))
    };
    if !program.starts_with(b"MZ") {
        return None;
    }
    let header = usize::try_from(long(0x3c)?).ok()?;
    if program.get(header..header.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let optional = header + 24;
    // Behind the fields of PE32, and of PE32+, which has longer ones.
    let directories = match word(optional)? {
        0x10b => optional + 96,
        0x20b => optional + 112,
        _ => return None,
    };
    let count = long(directories - 4)?;
    if usize::try_from(count).ok()? <= CERTIFICATES {
        return Some(0);
    }
    long(directories + CERTIFICATES * 8 + 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn changed(from: &str, to: &str) -> Changed {
        Changed {
            from: from.into(),
            to: to.into(),
        }
    }

    const OLD: &str = "6a7b8c9d-0000-4111-8222-333344445555";
    const NEW: &str = "0f0f0f0f-1111-4222-8333-abcdefabcdef";

    fn replaced(text: &str, map: &[Changed]) -> String {
        let mut bytes = text.as_bytes().to_vec();
        all(&mut bytes, map);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn every_way_of_writing_one_is_found() {
        let map = [changed(OLD, NEW), changed("ABCD-1234", "EF01-5678")];
        for (before, after) in [
            (format!("UUID={OLD} / ext4"), format!("UUID={NEW} / ext4")),
            (format!("luks-{OLD}x"), format!("luks-{NEW}x")),
            (OLD.to_uppercase(), NEW.to_uppercase()),
            (
                format!("dev-disk-by\\x2duuid-{}.swap", OLD.replace('-', "\\x2d")),
                format!("dev-disk-by\\x2duuid-{}.swap", NEW.replace('-', "\\x2d")),
            ),
            (
                "UUID=ABCD-1234 /boot/efi".into(),
                "UUID=EF01-5678 /boot/efi".into(),
            ),
            ("--fs-uuid abcd-1234".into(), "--fs-uuid ef01-5678".into()),
            // Parts of something longer.
            (
                "0ABCD-1234 ABCD-12345 x-ABCD-1234".into(),
                "0ABCD-1234 ABCD-12345 x-ABCD-1234".into(),
            ),
        ] {
            assert_eq!(replaced(&before, &map), after);
        }
        assert_eq!(first(b"x ABCD-1234", &map), Some("ABCD-1234"));
        assert_eq!(first(b"nothing", &map), None);
    }

    #[test]
    fn two_that_change_places_do() {
        let map = [
            changed("AAAA-0001", "AAAA-0002"),
            changed("AAAA-0002", "AAAA-0001"),
        ];
        assert_eq!(replaced("AAAA-0001 AAAA-0002", &map), "AAAA-0002 AAAA-0001");
    }

    #[test]
    fn one_across_windows_of_a_file_is_found() {
        let map = [changed(OLD, NEW)];
        for before in [
            WINDOW - 100,
            WINDOW - 50,
            WINDOW - 20,
            WINDOW,
            2 * WINDOW - 60,
        ] {
            let mut bytes = vec![b'.'; before];
            bytes.extend(OLD.bytes());
            bytes.extend(b"....");
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            assert!(in_file(&file, &map).unwrap());
            let mut after = vec![0; bytes.len()];
            file.read_exact_at(&mut after, 0).unwrap();
            assert_eq!(&after[before..before + 36], NEW.as_bytes(), "{before}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_keep_their_length_and_no_old_one(text in "([a-f0-9 =-]{0,20}(ABCD-1234)?){0,4}") {
            let map = [changed("ABCD-1234", "0000-FFFF")];
            let after = replaced(&text, &map);
            prop_assert_eq!(after.len(), text.len());
            prop_assert_eq!(first(after.as_bytes(), &map), None);
        }

        #[test]
        fn any_bytes_are_signed_or_not(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = is_signed(&bytes);
            if bytes.len() > 0x48 {
                bytes[..2].copy_from_slice(b"MZ");
                bytes[0x3c..0x40].copy_from_slice(&0x40u32.to_le_bytes());
                bytes[0x40..0x44].copy_from_slice(b"PE\0\0");
                let _ = is_signed(&bytes);
            }
        }
    }
}
