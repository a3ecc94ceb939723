//! A file that says that age encrypted it, and the messages about its key: whoever writes the share, or answers for the server, chooses
//! every byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_age::{Decrypted, Encrypted, FileKey, Identities, Recipients, head, unlock};
use pitstop_fuzz::Bytes;
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::source::ReadAt;
use pitstop_protocol::unlock::{Locked, Unlocked};
use std::io::{Read, Write};
use std::sync::OnceLock;

/// Made by age-keygen; it opens nothing.
const SECRET: &str = "AGE-SECRET-KEY-12NF5JKY0XRZGR2T78WTTK7F32G60DJQPPCMG5J5XXZXX3NUGJ0ESL0GGRD";
const PUBLIC: &str = "age128886l35gund023wy4keuzws9ckzy9jccm3st4a2vwwp3vfqf33s2m45wg";
/// Two chunks and some more.
const LENGTH: usize = 2 * 65_536 + 100;

struct Lab {
    identities: Identities,
    key: FileKey,
    whole: Vec<u8>,
    text: Vec<u8>,
}

fn lab() -> Option<Lab> {
    let text: Vec<u8> = (0u32..).flat_map(u32::to_le_bytes).take(LENGTH).collect();
    let mut out = Encrypted::new(Vec::new(), &Recipients::parse(PUBLIC).ok()?).ok()?;
    out.write_all(&text).ok()?;
    let whole = out.finish().ok()?;
    let identities = Identities::parse(SECRET).ok()?;
    let key = unlock(&head(&Bytes(whole.clone())).ok()?, &identities).ok()?;
    Some(Lab {
        identities,
        key,
        whole,
        text,
    })
}

/// What comes out of an opened file is what went in, from any place, or an error.
fn is_true(opened: &Decrypted<'_>, text: &[u8], from: usize) {
    assert_eq!(opened.size(), text.len() as u64);
    let mut rest = Vec::new();
    if let Ok(mut stream) = opened.stream_from(from as u64) {
        let read = stream.read_to_end(&mut rest);
        assert!(text[from..].starts_with(&rest));
        assert!(read.is_err() || rest == text[from..]);
    }
    if let Ok(bytes) = opened.bytes_at(from as u64, (text.len() - from).min(70_000)) {
        assert!(text[from..].starts_with(&bytes));
    }
}

fuzz_target!(|bytes: &[u8]| {
    static LAB: OnceLock<Option<Lab>> = OnceLock::new();
    let Some(lab) = LAB.get_or_init(lab) else {
        panic!("a file is encrypted, and opened by its key");
    };
    // As it is.
    let file = Bytes(bytes.to_vec());
    if let Ok(opened) = Decrypted::open(Box::new(&file), &lab.identities) {
        let _ = opened.bytes_at(0, usize::try_from(opened.size()).unwrap_or(0));
    }
    let _ = unlock(bytes, &lab.identities);
    let text = String::from_utf8_lossy(bytes);
    let _ = Identities::parse(&text);
    let _ = Recipients::parse(&text);
    let _ = Locked::parse(bytes);
    let _ = Unlocked::parse(bytes);
    // As changes to a file that is whole: four bytes each, where and what; the last of them cut it short.
    let mut changed = lab.whole.clone();
    let places = bytes.chunks_exact(4).map(|four| {
        let at = u32::from_le_bytes([four[0], four[1], four[2], 0]) as usize;
        (at, four[3])
    });
    let mut last = 0;
    for (at, what) in places {
        let length = changed.len();
        changed[at % length] ^= what;
        last = at;
    }
    if last % 5 == 4 {
        changed.truncate(last % changed.len());
    }
    let same = changed == lab.whole;
    let file = Bytes(changed);
    let opened = [
        Decrypted::open(Box::new(&file), &lab.identities),
        Decrypted::with_key(Box::new(&file), &lab.key),
    ];
    for opened in opened {
        assert!(opened.is_ok() || !same);
        if let Ok(opened) = opened {
            is_true(&opened, &lab.text, last % LENGTH);
        }
    }
});
