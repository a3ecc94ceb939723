use super::*;
use crate::header::unlock;
use crate::{Encrypted, Recipients};
use pitstop_imaging::image::FileSource;
use proptest::prelude::*;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A key of age-keygen's, and a folder for files.
struct Lab {
    folder: tempfile::TempDir,
    identities: Identities,
    recipient: String,
}

fn age(command: &mut Command) -> Vec<u8> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("the package age is installed");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output.stdout
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.txt");
        age(Command::new("age-keygen").arg("-o").arg(&key));
        let public = age(Command::new("age-keygen").arg("-y").arg(&key));
        Self {
            identities: Identities::parse(&fs::read_to_string(&key).unwrap()).unwrap(),
            recipient: String::from_utf8(public).unwrap(),
            folder,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn encrypt(&self, text: &[u8]) -> Vec<u8> {
        let recipients = Recipients::parse(&self.recipient).unwrap();
        let mut out = Encrypted::new(Vec::new(), &recipients).unwrap();
        // In pieces that fit no chunk.
        for piece in text.chunks(40_000) {
            out.write_all(piece).unwrap();
        }
        out.finish().unwrap()
    }

    fn open(&self, file: &Path) -> anyhow::Result<Decrypted<'static>> {
        Decrypted::open(Box::new(FileSource::open(file).unwrap()), &self.identities)
    }

    fn open_bytes(&self, bytes: &[u8]) -> anyhow::Result<Decrypted<'static>> {
        let file = self.at("bytes");
        fs::write(&file, bytes).unwrap();
        self.open(&file)
    }
}

fn text(length: usize) -> Vec<u8> {
    let numbers = (0u32..).flat_map(u32::to_le_bytes);
    numbers.take(length).collect()
}

fn all(source: &Decrypted<'_>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(source.size()).unwrap()];
    source.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[test]
fn age_itself_reads_what_is_written_and_writes_what_is_read() {
    let lab = Lab::new();
    for length in [0, 1, 65_535, 65_536, 65_537, 131_072, 1_200_000] {
        let text = text(length);
        fs::write(lab.at("ours"), lab.encrypt(&text)).unwrap();
        let decrypt = |name: &str| {
            age(Command::new("age")
                .arg("-d")
                .arg("-i")
                .arg(lab.at("key.txt"))
                .arg(lab.at(name)))
        };
        assert!(decrypt("ours") == text, "{length}");
        fs::write(lab.at("plain"), &text).unwrap();
        let mut encrypt = Command::new("age");
        encrypt.args(["-r", lab.recipient.trim(), "-o"]);
        age(encrypt.arg(lab.at("theirs")).arg(lab.at("plain")));
        for name in ["ours", "theirs"] {
            let source = lab.open(&lab.at(name)).unwrap();
            assert_eq!(source.size(), length as u64);
            assert!(all(&source).unwrap() == text, "{name} {length}");
            for from in [0, length / 3, length] {
                let mut rest = Vec::new();
                let mut stream = source.stream_from(from as u64).unwrap();
                stream.read_to_end(&mut rest).unwrap();
                assert!(rest == text[from..], "{name} {length} {from}");
            }
            let mut beyond = [0; 2];
            assert!(
                source
                    .read_exact_at(&mut beyond, (length as u64).saturating_sub(1))
                    .is_err()
            );
        }
    }
    assert!(is_encrypted(&FileSource::open(&lab.at("ours")).unwrap()).unwrap());
    assert!(!is_encrypted(&FileSource::open(&lab.at("plain")).unwrap()).unwrap());
}

#[test]
fn a_file_that_is_cut_or_has_more_or_other_chunks_is_not_whole() {
    let lab = Lab::new();
    let whole = lab.encrypt(&text(3 * CHUNK - 100));
    let start = Header::parse(&whole).unwrap().length + NONCE;
    let chunk = |number: usize| {
        let end = whole.len().min(start + (number + 1) * SEALED);
        &whole[start + number * SEALED..end]
    };
    let file = |chunks: &[&[u8]]| [&[&whole[..start]], chunks].concat().concat();
    let refused = |bytes: &[u8], why: &str| {
        let error = format!("{:#}", lab.open_bytes(bytes).map(drop).unwrap_err());
        assert!(error.contains(why), "{why:?} is not in {error:?}");
    };
    assert!(
        lab.open_bytes(&file(&[chunk(0), chunk(1), chunk(2)]))
            .is_ok()
    );
    // The last chunk is missing, or a part of it; the one that is last then does not say that it is.
    refused(&file(&[chunk(0), chunk(1)]), "is not whole");
    refused(&whole[..whole.len() - 1], "is not whole");
    refused(&[&whole[..], b"x"].concat(), "is not whole");
    refused(
        &file(&[chunk(0), chunk(1), chunk(2), chunk(2)]),
        "is not whole",
    );
    refused(&file(&[]), "cut short");
    refused(&whole[..start - 1], "does not end");
    refused(&whole[..start - NONCE - 1], "does not end");
    // A last chunk with nothing in it, behind a full one.
    refused(&file(&[chunk(0), &[0; 16]]), "cut short");
    let empty = lab.encrypt(&[]);
    assert!(lab.open_bytes(&empty).is_ok());
    // In another order, twice, or a byte is another: the place is told, and no byte comes out.
    let mut changed = whole.clone();
    changed[start + SEALED + 5] ^= 1;
    for bytes in [
        file(&[chunk(1), chunk(0), chunk(2)]),
        file(&[chunk(0), chunk(0), chunk(2)]),
        changed,
    ] {
        let source = lab.open_bytes(&bytes).unwrap();
        let error = all(&source).unwrap_err().to_string();
        assert!(error.contains("is damaged or was changed"), "{error}");
        let mut rest = Vec::new();
        let read = source
            .stream_from(0)
            .and_then(|mut stream| stream.read_to_end(&mut rest));
        assert!(read.is_err());
        assert!(text(3 * CHUNK).starts_with(&rest));
    }
}

#[test]
fn the_key_of_a_file_opens_that_file_and_no_other() {
    let lab = Lab::new();
    let text = text(100_000);
    let key_of = |bytes: &[u8]| {
        fs::write(lab.at("one"), bytes).unwrap();
        let head = head(&FileSource::open(&lab.at("one")).unwrap()).unwrap();
        assert!(bytes.starts_with(&head) && head.ends_with(b"\n"));
        unlock(&head, &lab.identities).unwrap()
    };
    let (one, other) = (lab.encrypt(&text), lab.encrypt(&text));
    let (key, others) = (key_of(&one), key_of(&other));
    let open = |bytes: &[u8], key: &FileKey| {
        fs::write(lab.at("two"), bytes).unwrap();
        Decrypted::with_key(Box::new(FileSource::open(&lab.at("two")).unwrap()), key)
    };
    assert!(all(&open(&one, &key).unwrap()).unwrap() == text);
    let error = format!("{:#}", open(&one, &others).map(drop).unwrap_err());
    assert!(error.contains("is another file's"), "{error}");
    // The header of the one before the chunks of the other: the nonce is another, and so is each chunk's key.
    let header = Header::parse(&one).unwrap().length;
    let mixed = [&one[..header], &other[header..]].concat();
    let error = format!("{:#}", open(&mixed, &key).map(drop).unwrap_err());
    assert!(error.contains("is not whole"), "{error}");
    for cut in [
        0,
        10,
        header - 1,
        header,
        header + 15,
        header + 16,
        one.len() - 1,
    ] {
        assert!(open(&one[..cut], &key).is_err(), "{cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_damage_is_found_before_a_byte_of_it_is_handed_out(
        at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()
    ) {
        use std::sync::OnceLock;
        static LAB: OnceLock<(Lab, Vec<u8>, Vec<u8>)> = OnceLock::new();
        let (lab, text, whole) = LAB.get_or_init(|| {
            let (lab, text) = (Lab::new(), text(150_000));
            let whole = lab.encrypt(&text);
            (lab, text, whole)
        });
        let mut changed = whole.clone();
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        for bytes in [&changed[..], &whole[..cut.index(whole.len())]] {
            let file = tempfile::NamedTempFile::new_in(lab.folder.path()).unwrap();
            fs::write(file.path(), bytes).unwrap();
            if let Ok(source) = lab.open(file.path()) {
                prop_assert!(all(&source).is_err());
                let mut rest = Vec::new();
                let read = source.stream_from(0).and_then(|mut it| it.read_to_end(&mut rest));
                prop_assert!(read.is_err() && text.starts_with(&rest));
            }
        }
    }

    #[test]
    fn any_place_reads_as_the_whole_does(from in 0usize..400_000, length in 0usize..400_000) {
        use std::sync::OnceLock;
        static LAB: OnceLock<(Lab, Vec<u8>)> = OnceLock::new();
        let (lab, text) = LAB.get_or_init(|| {
            let (lab, text) = (Lab::new(), text(400_000));
            fs::write(lab.at("file"), lab.encrypt(&text)).unwrap();
            (lab, text)
        });
        let source = lab.open(&lab.at("file")).unwrap();
        let length = length.min(text.len() - from);
        let mut bytes = vec![0; length];
        source.read_exact_at(&mut bytes, from as u64).unwrap();
        prop_assert!(bytes == text[from..from + length]);
    }
}
