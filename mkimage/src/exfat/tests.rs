//! Checked by the tools of others.

use super::*;
use pitstop_imaging::{source, used};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const NAMES: Names = Names {
    label: "PITSTOPDATA",
    serial: 0x1234_5678,
    time: 1_700_000_000,
};

fn fsck(volume: &Path) -> String {
    let done = Command::new("fsck.exfat")
        .arg("-n")
        .arg(volume)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    said
}

fn volume(
    folder: &TempDir,
    from: &Path,
    size: Option<u64>,
    spare: u64,
) -> Result<std::path::PathBuf> {
    let path = folder.path().join("volume");
    let file = File::create(&path).unwrap();
    let mut root = Folder::read(from, &capitals())?;
    root.file("pitstop-share", b"", &capitals())?;
    root.folder("hosts", &capitals())?;
    write(&file, &mut root, size, spare, &NAMES)?;
    Ok(path)
}

#[test]
fn others_find_a_sound_filesystem_with_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    std::fs::create_dir_all(from.join("golden/deep/er")).unwrap();
    std::fs::create_dir(from.join("empty")).unwrap();
    let noise: Vec<u8> = (0..3_000_001u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(from.join("golden/sda.raw.gz"), &noise).unwrap();
    std::fs::write(from.join("golden/deep/er/nothing"), b"").unwrap();
    std::fs::write(
        from.join("grün und ein Name, der über mehrere Einträge geht.txt"),
        b"x",
    )
    .unwrap();
    // A folder that takes more than one cluster.
    std::fs::create_dir(from.join("many")).unwrap();
    for number in 0..60 {
        std::fs::write(from.join(format!("many/{number}.toml")), number.to_string()).unwrap();
    }
    let path = volume(&folder, &from, None, 1 << 20).unwrap();
    let said = fsck(&path);
    assert!(said.contains("clean"), "{said}");
    assert!(
        said.contains("files 64") && said.contains("directories 7"),
        "{said}"
    );
    let content = std::fs::read(&path).unwrap();
    let mut file = File::open(&path).unwrap();
    let found = used::recognise(&source::Disk::new(&mut file, content.len() as u64));
    assert_eq!(
        (found.filesystem.as_str(), found.label.as_str()),
        ("exfat", "PITSTOPDATA")
    );
    // It lies in a row.
    assert!(
        content
            .windows(64)
            .any(|part| part == &noise[1_000_000..1_000_064])
    );

    let again = volume(&folder, &from, None, 1 << 20).unwrap();
    assert!(
        std::fs::read(again).unwrap() == content,
        "the same bytes again"
    );
}

#[test]
fn sizes_are_kept_to_and_clusters_grow_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    std::fs::create_dir(&from).unwrap();
    std::fs::write(from.join("a"), vec![1; 3 << 20]).unwrap();
    for size in [8 << 20, 300 << 20, 40 << 30] {
        let path = volume(&folder, &from, Some(size), 0).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), size);
        fsck(&path);
    }
    let roomy = volume(&folder, &from, None, 64 << 20).unwrap();
    let size = std::fs::metadata(roomy).unwrap().len() >> 20;
    assert!((68..76).contains(&size), "{size}");
    for (size, why) in [
        (5 << 20, "give a larger --data-size"),
        (1 << 20, "too few"),
        (2 << 40, "2 TiB"),
    ] {
        let error = volume(&folder, &from, Some(size), 0)
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn what_exfat_cannot_hold_is_named() {
    for (names, why) in [
        (vec!["a:b"], "takes no name with one of"),
        (vec!["Golden", "golden"], "small and capital letters"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let error = format!(
            "{:#}",
            Folder::read(folder.path(), &capitals()).unwrap_err()
        );
        assert!(error.contains(why), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("link")).unwrap();
    let error = Folder::read(folder.path(), &capitals())
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("link is neither a file nor a folder: a stick cannot hold it"),
        "{error}"
    );
}
