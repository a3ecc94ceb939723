use super::*;
use crate::test_tree::{Told, put, text, tree};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

fn folder(name: &str, path: &Path) -> Overlay {
    Overlay {
        name: name.into(),
        from: From::Folder(path.to_owned()),
        owners: Owners::Root,
    }
}

/// A tar of a folder, as tar makes it.
fn tar(folder: &Path) -> Vec<u8> {
    let output = Command::new("tar")
        .args(["--numeric-owner", "--xattrs", "-C"])
        .arg(folder)
        .args(["-c", "."])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn of_tar(name: &str, bytes: Vec<u8>, owners: Owners) -> Overlay {
    Overlay {
        name: name.into(),
        from: From::Tar(Box::new(std::io::Cursor::new(bytes))),
        owners,
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn later_layers_win_and_each_replaced_file_is_told() {
    let (_folder, root) = tree(&[("etc/motd", "tree\n"), ("etc/issue", "tree\n")]);
    fs::set_permissions(root.path().join("etc"), fs::Permissions::from_mode(0o711)).unwrap();
    let layers = tempfile::tempdir().unwrap();
    put(layers.path(), "base/etc/motd", "base\n");
    put(layers.path(), "base/root/.ssh/authorized_keys", "key\n");
    put(layers.path(), "host/etc/motd", "host\n");
    put(layers.path(), "host/etc/new", "new\n");
    let modes = |path: &str, mode| {
        fs::set_permissions(layers.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    modes("base/root/.ssh", 0o700);
    modes("base/root/.ssh/authorized_keys", 0o600);
    modes("base/etc", 0o777);
    std::os::unix::fs::lchown(layers.path().join("host/etc/new"), Some(1234), Some(1234)).unwrap();
    let told = Told::default();
    let mut overlays = [
        folder("layers/base", &layers.path().join("base")),
        folder("layers/host/h", &layers.path().join("host")),
    ];
    let copied = copy(&root, &mut overlays, &told).unwrap();
    assert_eq!((copied.added, copied.replaced, copied.removed), (2, 2, 0));
    let paths: Vec<String> = copied.paths.iter().map(ToString::to_string).collect();
    assert_eq!(
        paths,
        ["/etc/motd", "/etc/new", "/root/.ssh/authorized_keys"]
    );
    assert_eq!(text(&root, "etc/motd"), "host\n");
    assert_eq!(text(&root, "etc/issue"), "tree\n");
    assert_eq!(mode(&root.path().join("root/.ssh")), 0o700);
    assert_eq!(mode(&root.path().join("root/.ssh/authorized_keys")), 0o600);
    assert_eq!(
        mode(&root.path().join("etc")),
        0o711,
        "a folder stays as it is"
    );
    let new = fs::metadata(root.path().join("etc/new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (0, 0));
    for line in [
        "layers/base: /etc/motd is replaced",
        "layers/host/h: /etc/motd is replaced",
        "layers/host/h: 1 files added, 1 replaced",
    ] {
        assert!(told.has(line), "{line}: {:#?}", told.lines());
    }
}

#[test]
fn a_tar_keeps_owners_where_asked_and_every_kind_of_file() {
    let source = tempfile::tempdir().unwrap();
    put(source.path(), "opt/app/run", "#!/bin/sh\n");
    let run = source.path().join("opt/app/run");
    std::os::unix::fs::chown(&run, Some(12), Some(34)).unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(&run, source.path().join("opt/app/two")).unwrap();
    symlink("run", source.path().join("opt/app/link")).unwrap();
    let bytes = tar(source.path());
    for (owners, uid) in [(Owners::Kept, 12), (Owners::Root, 0)] {
        let (_folder, root) = tree(&[("opt/app/link", "a file\n")]);
        let mut overlays = [of_tar("layer", bytes.clone(), owners)];
        let copied = copy(&root, &mut overlays, &Told::default()).unwrap();
        assert_eq!((copied.added, copied.replaced), (2, 1));
        let (one, two) = ("opt/app/run", "opt/app/two");
        let found = |path: &str| fs::symlink_metadata(root.path().join(path)).unwrap();
        assert_eq!(
            (found(one).uid(), mode(&root.path().join(one))),
            (uid, 0o4755)
        );
        assert_eq!(found(one).ino(), found(two).ino());
        assert_eq!(
            fs::read_link(root.path().join("opt/app/link")).unwrap(),
            Path::new("run")
        );
        let left = fs::read_dir(root.path().join("opt/app")).unwrap().count();
        assert_eq!(left, 3, "nothing else is left");
    }
}

#[test]
fn ways_through_symlinks_stay_in_the_tree() {
    let outside = tempfile::tempdir().unwrap();
    let (_folder, root) = tree(&[("usr/lib/x", ""), ("etc/resolv.conf.d/a", "")]);
    // As on systems whose /lib is a part of /usr; and one that leads out, as an absolute path does.
    symlink("usr/lib", root.path().join("lib")).unwrap();
    symlink(outside.path(), root.path().join("out")).unwrap();
    symlink("../../../../../../../..", root.path().join("up")).unwrap();
    symlink(
        outside.path().join("victim"),
        root.path().join("etc/resolv.conf"),
    )
    .unwrap();
    let layer = tempfile::tempdir().unwrap();
    put(layer.path(), "lib/modules-load.d/x.conf", "x\n");
    put(layer.path(), "etc/resolv.conf", "nameserver 10.0.0.1\n");
    put(layer.path(), "up/etc/up", "up\n");
    copy(&root, &mut [folder("l", layer.path())], &Told::default()).unwrap();
    assert_eq!(text(&root, "usr/lib/modules-load.d/x.conf"), "x\n");
    assert!(
        fs::symlink_metadata(root.path().join("lib"))
            .unwrap()
            .is_symlink()
    );
    // A file takes the place of a link.
    assert!(
        !fs::symlink_metadata(root.path().join("etc/resolv.conf"))
            .unwrap()
            .is_symlink()
    );
    assert_eq!(text(&root, "etc/up"), "up\n");

    let layer = tempfile::tempdir().unwrap();
    put(layer.path(), "out/file", "x\n");
    let error = copy(&root, &mut [folder("l", layer.path())], &Told::default()).unwrap_err();
    assert!(
        format!("{error:#}").contains("it is no folder in the tree"),
        "{error:#}"
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_hostile_tar_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    put(source.path(), "a", "x");
    let script = format!(
        "import tarfile, io, sys
t = tarfile.open(fileobj=sys.stdout.buffer, mode='w|')
def add(name, kind=tarfile.REGTYPE, link='', data=b'x'):
    i = tarfile.TarInfo(name); i.type = kind; i.linkname = link
    i.size = len(data) if kind == tarfile.REGTYPE else 0
    t.addfile(i, io.BytesIO(data) if i.size else None)
add('way', tarfile.SYMTYPE, {outside:?})
add('way/file')
t.close()",
        outside = outside.path()
    );
    let python = |script: &str| {
        let output = Command::new("python3")
            .args(["-c", script])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let (_folder, root) = tree(&[]);
    let mut overlays = [of_tar("l", python(&script), Owners::Kept)];
    // It lands within the tree, or is refused.
    let _ = copy(&root, &mut overlays, &Told::default());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);

    let up = script.replace("'way/file'", "'../file'");
    let mut overlays = [of_tar("l", python(&up), Owners::Kept)];
    let error = copy(&root, &mut overlays, &Told::default()).unwrap_err();
    assert!(format!("{error:#}").contains("\"..\""), "{error:#}");
    let cut = tar(source.path())[..700].to_vec();
    let error = copy(
        &root,
        &mut [of_tar("l", cut, Owners::Kept)],
        &Told::default(),
    )
    .unwrap_err();
    assert!(
        format!("{error:#}").contains("laying l over the tree: "),
        "{error:#}"
    );
}

/// Nobody would see what of it is missing.
#[test]
fn a_tar_that_is_not_whole_or_packed_is_refused() {
    let (_folder, root) = tree(&[("etc/old", "")]);
    let layer = tempfile::tempdir().unwrap();
    put(layer.path(), "etc/new", "");
    let whole = tar(layer.path());
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let cut = whole[..end.next_multiple_of(512)].to_vec();
    let packed = [&[0x1f, 0x8b, 8, 0][..], &[7; 600]].concat();
    for (bytes, why) in [
        (cut, "it ends without the zeros"),
        (whole.repeat(2), "it goes on behind the end"),
        (packed, "it is packed"),
    ] {
        let mut layers = [of_tar("l.tar", bytes, Owners::Root)];
        let error = format!("{:#}", check(&mut layers[0], root.path()).unwrap_err());
        assert!(
            error.starts_with("reading l.tar: ") && error.contains(why),
            "{error}"
        );
    }
}

#[test]
fn whiteouts_take_away_and_kinds_that_do_not_fit_are_errors() {
    let (_folder, root) = tree(&[
        ("etc/cron.d/one", ""),
        ("etc/cron.d/two", ""),
        ("etc/old", ""),
        ("etc/dir/file", ""),
    ]);
    let layer = tempfile::tempdir().unwrap();
    put(layer.path(), "etc/.wh.old", "");
    put(layer.path(), "etc/.wh.never", "");
    put(layer.path(), "etc/cron.d/.wh..wh..opq", "");
    put(layer.path(), "etc/cron.d/three", "");
    let copied = copy(&root, &mut [folder("l", layer.path())], &Told::default()).unwrap();
    assert_eq!((copied.added, copied.removed), (1, 3));
    assert!(!root.path().join("etc/old").exists());
    let names: Vec<_> = fs::read_dir(root.path().join("etc/cron.d"))
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(names.len(), 1);

    let layer = tempfile::tempdir().unwrap();
    put(layer.path(), "etc/dir", "a file");
    let error = copy(&root, &mut [folder("l", layer.path())], &Told::default()).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        format!(
            "laying l over the tree: reading {}: /etc: /etc/dir: it is a folder in the tree, and a file cannot lie over it",
            layer.path().display()
        )
    );
    assert!(root.path().join("etc/dir/file").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_tar_is_laid_or_refused_within_the_tree(noise in prop::collection::vec((0usize..2048, any::<u8>()), 0..12)) {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("root");
        fs::create_dir(&path).unwrap();
        let source = tempfile::tempdir().unwrap();
        put(source.path(), "etc/motd", "x");
        let mut bytes = tar(source.path());
        for (at, byte) in noise {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let root = Root::new(path);
        let _ = copy(&root, &mut [of_tar("l", bytes, Owners::Root)], &Told::default());
        prop_assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
