//! The share that is a folder.

use super::*;
use crate::share::TakenOver;

fn share() -> (tempfile::TempDir, DirectoryShare) {
    let folder = tempfile::tempdir().unwrap();
    let share = DirectoryShare::open(folder.path()).unwrap();
    (folder, share)
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let (folder, share) = share();
    let mut pending = share.create("10.0.2.15/sda.raw.gz").unwrap();
    pending.write_all(b"content").unwrap();
    assert_eq!(share.stat("10.0.2.15/sda.raw.gz").unwrap(), None);
    pending.finish().unwrap();
    assert_eq!(
        share.stat("10.0.2.15/sda.raw.gz").unwrap(),
        Some(Stat { size: 7 })
    );
    let mut again = share.create("10.0.2.15/sda.raw.gz").unwrap();
    again.write_all(b"half").unwrap();
    drop(again);
    let names: Vec<_> = fs::read_dir(folder.path().join("10.0.2.15"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["sda.raw.gz"]);
    let mut text = String::new();
    share
        .open("10.0.2.15/sda.raw.gz")
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "content");
}

#[test]
fn files_are_moved_removed_and_added_to() {
    let (_folder, share) = share();
    share.append("a/log", "one\n").unwrap();
    share.append("a/log", "two\n").unwrap();
    share.rename("a/log", "b/log.old").unwrap();
    let image = share.image("b/log.old").unwrap();
    let mut part = [0; 3];
    image.read_exact_at(&mut part, 4).unwrap();
    assert_eq!(&part, b"two");
    assert_eq!(image.size(), 8);
    let mut rest = String::new();
    image
        .stream_from(6)
        .unwrap()
        .read_to_string(&mut rest)
        .unwrap();
    assert_eq!(rest, "o\n");
    share.remove("b/log.old").unwrap();
    share.remove("b/log.old").unwrap();
    assert_eq!(share.stat("b/log.old").unwrap(), None);
    assert_eq!(share.stat("b/log.old/below").unwrap(), None);
}

#[test]
fn nothing_outside_is_reached() {
    let (_folder, share) = share();
    for path in ["../x", "/etc/passwd", "a/../../x", ""] {
        let error = share.stat(path).unwrap_err().to_string();
        assert!(
            error.contains("is not a folder on the share"),
            "{path}: {error}"
        );
    }
}

#[test]
fn a_missing_share_is_named() {
    let error = DirectoryShare::open(Path::new("/nonexistent/share")).unwrap_err();
    assert!(
        error.to_string().contains("opening /nonexistent/share"),
        "{error}"
    );
}

#[test]
fn each_error_of_the_share_is_a_sentence_that_says_what_to_do() {
    let place = Place::new("nfs://s/x/a".to_owned(), Keeper::Server);
    for (errno, part) in [
        (Errno::ENOSPC, "the share is full: make room"),
        (Errno::EDQUOT, "quota on the share is used up: raise it"),
        (Errno::EROFS, "read-only: export it for writing"),
        (Errno::ESTALE, "a new try mounts it anew"),
        (Errno::EACCES, "root may be squashed"),
        (Errno::EPERM, "root may be squashed"),
        (Errno::ENOENT, "no such file"),
        (Errno::EFBIG, "no file of this size"),
        (Errno::ETIMEDOUT, "is it up"),
        (Errno::EIO, "the server's log and disks"),
    ] {
        let error = io::Error::from(errno);
        let text = explain("writing", &place, &error).to_string();
        assert!(text.starts_with("writing nfs://s/x/a: "), "{text}");
        assert!(text.contains(part), "{text}");
        assert!(text.ends_with(&format!("({error})")), "{text}");
    }
}

#[test]
fn an_error_of_a_folder_here_names_the_folder() {
    let place = Place::new("/backups/a".to_owned(), Keeper::Here);
    for (errno, part) in [
        (Errno::ENOSPC, "/backups is full: make room there"),
        (Errno::EROFS, "/backups is read-only"),
        (Errno::EIO, "nput/output error"),
    ] {
        let error = io::Error::from(errno);
        let text = explain("writing", &place, &error).to_string();
        assert!(!text.contains("server"), "{text}");
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn what_an_nfs_server_has_done_whose_answer_was_lost_is_done() {
    let (folder, share) = share();
    let at = |name: &str| folder.path().join(name);
    let write = |bytes: &[u8]| {
        let mut pending = share.create("x").unwrap();
        pending.write_all(bytes).unwrap();
        pending
    };
    // LINK, done and asked once more.
    let pending = write(b"one");
    fs::hard_link(at("x.part"), at("x")).unwrap();
    pending.finish_new().unwrap();
    assert_eq!(fs::read(at("x")).unwrap(), b"one");
    assert!(!at("x.part").exists());
    // RENAME.
    let pending = write(b"two");
    fs::rename(at("x.part"), at("x")).unwrap();
    pending.finish().unwrap();
    assert_eq!(fs::read(at("x")).unwrap(), b"two");
    // Somebody else's is theirs.
    let told = write(b"three").finish_new().unwrap_err().to_string();
    assert!(told.contains("is there by now"), "{told}");
    assert_eq!(fs::read(at("x")).unwrap(), b"two");
    assert!(!at("x.part").exists());
}

#[test]
fn a_file_that_is_whole_is_not_emptied_by_its_second_name() {
    let (folder, share) = share();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("x"), "whole").unwrap();
    // As a run leaves it that died after LINK.
    fs::hard_link(at("x"), at("x.part")).unwrap();
    let mut pending = share.create("x").unwrap();
    assert_eq!(fs::read(at("x")).unwrap(), b"whole");
    pending.write_all(b"another").unwrap();
    assert_eq!(fs::read(at("x")).unwrap(), b"whole");
    drop(pending);
    assert_eq!(fs::read(at("x")).unwrap(), b"whole");
    assert!(!at("x.part").exists());
}

#[test]
fn a_part_that_is_anothers_by_now_is_neither_removed_nor_named() {
    let (folder, share) = share();
    let part = folder.path().join("x.part");
    for is_new in [None, Some(false), Some(true)] {
        let mut pending = share.create("x").unwrap();
        pending.write_all(b"ours").unwrap();
        // Without locks another one may begin.
        fs::remove_file(&part).unwrap();
        fs::write(&part, "theirs").unwrap();
        let outcome = match is_new {
            None => None,
            Some(false) => Some(pending.finish()),
            Some(true) => Some(pending.finish_new()),
        };
        let told = outcome.map(|outcome| outcome.unwrap_err());
        assert!(
            told.is_none_or(|told| TakenOver::behind(&told).is_some()),
            "{is_new:?}"
        );
        assert_eq!(fs::read(&part).unwrap(), b"theirs");
        assert_eq!(share.stat("x").unwrap(), None);
    }
}

#[test]
fn two_writers_of_one_name_never_make_one_file() {
    let (folder, share) = share();
    let mut first = share.create("sda.raw.gz").unwrap();
    first.write_all(b"first").unwrap();
    let second = share.create("sda.raw.gz").map(|_| ()).unwrap_err();
    let second = second.to_string();
    assert!(
        second.contains("another backup is writing it now"),
        "{second}"
    );
    first.finish().unwrap();
    assert_eq!(
        fs::read(folder.path().join("sda.raw.gz")).unwrap(),
        b"first"
    );
    // What a run that was killed left behind is in nobody's way.
    fs::write(
        folder.path().join("sda.raw.gz.part"),
        "left by a longer run",
    )
    .unwrap();
    let mut third = share.create("sda.raw.gz").unwrap();
    third.write_all(b"third").unwrap();
    third.finish().unwrap();
    assert_eq!(
        fs::read(folder.path().join("sda.raw.gz")).unwrap(),
        b"third"
    );
}
