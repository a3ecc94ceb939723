use super::*;
use proptest::prelude::*;

// Made by age-keygen 1.1.1.
const SECRET: &str = "AGE-SECRET-KEY-12NF5JKY0XRZGR2T78WTTK7F32G60DJQPPCMG5J5XXZXX3NUGJ0ESL0GGRD";
const PUBLIC: &str = "age128886l35gund023wy4keuzws9ckzy9jccm3st4a2vwwp3vfqf33s2m45wg";
const OTHER: &str = "AGE-SECRET-KEY-10L3PKP95GD4YUWKKHXVQ88FXTP3ZF8LRGUXTDVX7FKXUGT2X8LRQSUH7UL";
const OTHERS: &str = "age1ydl8zxnwsjw8hqt3y7egj9we8459s3947v37cf7k9y4wsa2v0d7sw2phyy";

fn identities(text: &str) -> Identities {
    Identities::parse(text).unwrap()
}

fn written() -> Vec<u8> {
    let recipients = Recipients::parse(&format!("{OTHERS}\n{PUBLIC}")).unwrap();
    write(&FileKey::from_bytes([7; FILE_KEY]), &recipients).unwrap()
}

fn opened(header: &[u8], by: &str) -> Result<[u8; FILE_KEY], HeaderError> {
    unlock(header, &identities(by)).map(|key| *key.bytes())
}

#[test]
fn each_recipient_gets_the_key_and_nobody_else() {
    let header = written();
    for secret in [SECRET, OTHER] {
        assert_eq!(opened(&header, secret), Ok([7; FILE_KEY]));
    }
    let for_one = Recipients::parse(PUBLIC).unwrap();
    let for_one = write(&FileKey::from_bytes([7; FILE_KEY]), &for_one).unwrap();
    assert_eq!(opened(&for_one, OTHER), Err(HeaderError::OtherKeys));
    assert_eq!(
        opened(&for_one, &format!("{OTHER}\n{SECRET}")),
        Ok([7; FILE_KEY])
    );
    // What follows is no part of it.
    let length = Header::parse(&header).unwrap().length;
    let more = [&header[..], b"noise\n"].concat();
    assert_eq!(Header::parse(&more).unwrap().length, length);
    assert_eq!(length, header.len());
}

/// A header by its lines, with one of them another.
struct Changed<'a>(&'a [&'a str]);

impl Changed<'_> {
    fn without(&self, at: usize) -> String {
        let mut lines = self.0.to_vec();
        lines.remove(at);
        lines.join("\n") + "\n"
    }

    fn with(&self, at: usize, line: &str) -> String {
        let mut lines = self.0.to_vec();
        lines[at] = line;
        lines.join("\n") + "\n"
    }
}

#[test]
fn damage_of_each_kind_is_told() {
    let header = String::from_utf8(written()).unwrap();
    let lines: Vec<&str> = header.lines().collect();
    let changed = Changed(&lines);
    let without = |at| changed.without(at);
    let with = |at, line: &str| changed.with(at, line);
    let share = lines[3].rsplit(' ').next().unwrap();
    let malformed = |what| HeaderError::Malformed(what);
    let key = malformed("a recipient has no key, or one of another length");
    let zeros = format!("-> X25519 {}", STANDARD_NO_PAD.encode([0; KEY]));
    for (header, why) in [
        (String::new(), HeaderError::NotAge),
        (header.replacen("v1", "v2", 1), HeaderError::Later),
        (header.replacen("age-", "egg-", 1), HeaderError::NotAge),
        (
            "-----BEGIN AGE ENCRYPTED FILE-----\n".into(),
            HeaderError::Armored,
        ),
        (header[..header.len() - 1].to_owned(), HeaderError::Cut),
        (
            format!("{}\n{}\n", lines[0], lines[5]),
            malformed("it is for nobody"),
        ),
        // Another's stanza is gone, or another one is in front: the key is right, and the MAC tells.
        (
            without(1).replace(&format!("{}\n", lines[2]), ""),
            HeaderError::Altered,
        ),
        (
            with(1, &format!("-> grease a\n\n{}", lines[1])),
            HeaderError::Altered,
        ),
        (
            with(5, &format!("--- {}", STANDARD_NO_PAD.encode([0; 32]))),
            HeaderError::Altered,
        ),
        (with(5, "--- AAAA"), HeaderError::Altered),
        (
            with(5, "--- ="),
            malformed("it has a line that is no base64"),
        ),
        (
            with(5, "---"),
            malformed("a line is neither a recipient nor the end"),
        ),
        (with(3, "-> X25519"), key),
        (with(3, &format!("{} {share}", lines[3])), key),
        (with(3, "-> X25519 AAAA"), key),
        (with(4, "AAAA"), key),
        (
            with(3, "-> X25519  a"),
            malformed("a recipient's line has an empty or strange word"),
        ),
        (
            with(3, "-> "),
            malformed("a recipient's line has an empty or strange word"),
        ),
        (with(3, &zeros), malformed("a recipient's key is none")),
        (
            with(4, &format!("{}==", lines[4])),
            malformed("it has a line that is no base64"),
        ),
        (with(4, &"A".repeat(65)), malformed("a line is too long")),
        (
            with(2, "\u{e9}"),
            malformed("it has bytes that are no ASCII"),
        ),
        (with(1, "-> scrypt AAAA 18"), HeaderError::Passphrase),
        (header.replace('\n', "\r\n"), HeaderError::Later),
    ] {
        assert_eq!(opened(header.as_bytes(), SECRET), Err(why), "{header}");
    }
    // Bits behind the last byte of a base64 text have one way to be written.
    let body = lines[4];
    let last = body.chars().last().unwrap();
    let other = if last == 'A' {
        'B'
    } else {
        char::from(last as u8 ^ 1)
    };
    let odd = with(4, &format!("{}{other}", &body[..body.len() - 1]));
    assert!(opened(odd.as_bytes(), SECRET).is_err());
}

#[test]
fn what_ages_own_vectors_find_wrong_is_wrong_here() {
    let header = String::from_utf8(written()).unwrap();
    let lines: Vec<&str> = header.lines().collect();
    let changed = Changed(&lines);
    let share = lines[3].rsplit(' ').next().unwrap();
    let malformed = HeaderError::Malformed;
    let key = malformed("a recipient has no key, or one of another length");
    for (header, why) in [
        (
            header.replacen("---", " ---", 1),
            malformed("a line is neither a recipient nor the end"),
        ),
        (
            header.replacen("--- ", "---  ", 1),
            malformed("it has a line that is no base64"),
        ),
        (
            format!("{} \n", header.trim_end()),
            malformed("it has a line that is no base64"),
        ),
        // A MAC of another length; one whose last bits are no byte's.
        (
            changed.with(5, &format!("--- {}", "A".repeat(42))),
            HeaderError::Altered,
        ),
        (
            changed.with(5, &format!("--- {}B", "A".repeat(41))),
            malformed("it has a line that is no base64"),
        ),
        (
            changed.with(5, &lines[5][..lines[5].len() - 3]),
            HeaderError::Altered,
        ),
        (
            header.replace("-> X25519", "-> x25519"),
            HeaderError::OtherKeys,
        ),
        // A stanza without the line that ends it, one whose full line has nothing behind it, and short lines in a row.
        (
            changed.without(4),
            malformed("it has a line that is no base64"),
        ),
        (
            changed.with(4, &"A".repeat(64)),
            malformed("it has a line that is no base64"),
        ),
        (
            changed.with(4, &format!("{}\n{}", &lines[4][..20], &lines[4][20..])),
            malformed("a line is neither a recipient nor the end"),
        ),
        // Of this length it is the key of no version.
        (
            changed.with(4, &STANDARD_NO_PAD.encode([0; FILE_KEY + TAG + 1])),
            key,
        ),
        (
            changed.with(
                3,
                &format!("-> X25519 {}", STANDARD_NO_PAD.encode([1; KEY + 1])),
            ),
            key,
        ),
        (
            changed.with(3, &format!("-> X25519 {share}=")),
            malformed("it has a line that is no base64"),
        ),
        (
            changed.with(3, &format!("{}\t", lines[3])),
            malformed("a recipient's line has an empty or strange word"),
        ),
    ] {
        assert_eq!(opened(header.as_bytes(), SECRET), Err(why), "{header}");
    }
}

#[test]
fn a_key_that_was_given_is_believed_of_its_own_file_alone() {
    let header = written();
    let parsed = Header::parse(&header).unwrap();
    let check = |header: &Header<'_>, byte: u8| {
        header.check(
            &FileKey::from_bytes([byte; FILE_KEY]),
            HeaderError::OtherFile,
        )
    };
    assert_eq!(check(&parsed, 7), Ok(()));
    assert_eq!(check(&parsed, 8), Err(HeaderError::OtherFile));
    let mut changed = header.clone();
    let at = changed.iter().position(|byte| *byte == b'>').unwrap() + 12;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    let changed = Header::parse(&changed).unwrap();
    assert_eq!(check(&changed, 7), Err(HeaderError::OtherFile));
}

#[test]
fn a_header_for_too_many_is_refused_as_that() {
    let header = String::from_utf8(written()).unwrap();
    let lines: Vec<&str> = header.lines().collect();
    let stanza = format!("{}\n{}\n", lines[1], lines[2]);
    // As who reads a file gets it: so much and no more.
    let read = |stanzas: usize| {
        let all = stanza.repeat(stanzas);
        let text = format!("{}\n{all}{}\n", lines[0], lines[5]);
        text.into_bytes()[..]
            .iter()
            .copied()
            .take(MOST)
            .collect::<Vec<u8>>()
    };
    assert_eq!(opened(&read(1_000), SECRET), Err(HeaderError::Long));
    // And as somebody shows it who wants its key.
    let shown = format!("{}\n{}{}\n", lines[0], stanza.repeat(1_000), lines[5]);
    assert_eq!(opened(shown.as_bytes(), SECRET), Err(HeaderError::Long));
    // Each is looked at, and none is for this key.
    assert_eq!(opened(&read(600), SECRET), Err(HeaderError::OtherKeys));
    // One endless line.
    let line = [VERSION.as_bytes(), b"\n-> ", &vec![b'a'; MOST][..]].concat();
    assert_eq!(opened(&line[..MOST], SECRET), Err(HeaderError::Long));
    let recipients = Recipients::parse(&format!("{PUBLIC}\n").repeat(1_000)).unwrap();
    let many = write(&FileKey::from_bytes([7; FILE_KEY]), &recipients);
    assert_eq!(many, Err(HeaderError::Malformed("too many recipients")));
}

#[test]
fn no_key_shows_in_a_message() {
    let key = FileKey::from_bytes([7; FILE_KEY]);
    assert_eq!(format!("{key:?}"), "(secret)");
    assert_eq!(format!("{:?}", identities(SECRET)), "(secret)");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_without_panic(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Header::parse(&noise);
        let _ = opened(&[VERSION.as_bytes(), b"\n-> ", &noise].concat(), SECRET);
    }

    #[test]
    fn lines_in_any_order_are_read_without_panic(
        lines in prop::collection::vec("(-> |--- )?(X25519|scrypt)?[ A-Za-z0-9+/=]{0,70}", 0..8)
    ) {
        let text = format!("{VERSION}\n{}\n", lines.join("\n"));
        let _ = opened(text.as_bytes(), SECRET);
    }

    #[test]
    fn no_changed_byte_gives_a_key(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut header = written();
        let at = at.index(header.len());
        header[at] ^= 1 << bit;
        prop_assert!(opened(&header, SECRET).is_err());
    }
}
