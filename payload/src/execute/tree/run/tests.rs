use super::*;
use crate::execute::tree::tests::Bench;
use crate::system::fake::{LoopDisk, Part};
use pitstop_deploy::overrides::{From, Overlay, Owners};
use pitstop_imaging::event::Silent;
use pitstop_imaging::wishes::Identity;
use pitstop_protocol::job::Action;
use pitstop_trees::TreeImage;
use std::fs;

const MIB: u64 = 1 << 20;

const TREE: &[(&str, &str)] = &[
    ("sbin/init", "#!/bin/sh\n"),
    ("etc/fstab", "UUID=1 / ext4 defaults 0 1\n"),
    ("etc/motd", "from the tree\n"),
    ("etc/hostname", "golden\n"),
];

fn image(bench: &Bench) -> TreeImage<'static> {
    let job = crate::execute::broken::job(Action::RefreshInfo, "m");
    let name = "web".parse().unwrap();
    let opened = bench.with(&job, |work| Opened::open(work, &name));
    opened.unwrap().image
}

fn layer(name: &str, folder: &Path) -> Overlay {
    Overlay {
        name: name.into(),
        from: From::Folder(folder.to_owned()),
        owners: Owners::Root,
    }
}

fn text(new: &NewRoot, path: &str) -> String {
    fs::read_to_string(new.path().join(path)).unwrap_or_default()
}

#[test]
fn a_tree_in_memory_gets_its_layers_in_their_order_and_a_name() {
    let bench = Bench::new();
    bench.add("1", TREE);
    let image = image(&bench);
    let free = memory::Free {
        memory: 512 * MIB,
        swap: 0,
    };
    let size = memory::size(&image.index, free).unwrap();
    let at = tempfile::tempdir().unwrap();
    let at = at.path().join("root");
    let new = memory::unpack(&image, size, &at, &Silent).unwrap();
    let layers = tempfile::tempdir().unwrap();
    for (name, motd) in [("a", "first\n"), ("b", "second\n")] {
        crate::system::fake::plant(&layers.path().join(name), &[("etc/motd", motd)]);
    }
    crate::system::fake::plant(&layers.path().join("a"), &[("etc/issue", "a\n")]);
    let mut overlays = ["a", "b"].map(|name| layer(name, &layers.path().join(name)));
    let wish = Wish {
        identity: Identity::Keep,
        hostname: Some("lab7"),
        resolver: Path::new("/nowhere"),
    };
    make_own(&new, &wish, &mut overlays, &Silent).unwrap();
    assert_eq!(text(&new, "etc/motd"), "second\n");
    assert_eq!(text(&new, "etc/issue"), "a\n");
    assert_eq!(text(&new, "etc/hostname").trim(), "lab7");
    assert!(text(&new, "etc/fstab").starts_with('#'));
    let error = root::check(new.path(), &INIT).unwrap_err().to_string();
    assert!(error.contains("no program"), "{error}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(new.path().join("sbin/init"), mode).unwrap();
    root::check(new.path(), &INIT).unwrap();
    drop(new);
    assert_eq!(
        fs::read_dir(&at).unwrap().count(),
        0,
        "nothing stays mounted"
    );
}

fn scratch_volume(bench: &Bench) -> Volume {
    let disks = inventory::read(&bench.fake.machine()).unwrap().disks;
    let here = volumes(&bench.fake.machine(), &disks);
    scratch::choose(&here).unwrap().unwrap().clone()
}

#[test]
fn a_tree_on_scratch_is_kept_brought_up_to_date_and_written_over() {
    let bench = Bench::new();
    let parts = [Part {
        size: 64 * MIB,
        filesystem: "ext4",
        label: "scratch",
        files: &[],
    }];
    let _disk = LoopDisk::add(&bench.fake, "sda", &parts);
    let at = tempfile::tempdir().unwrap();
    let boot = |writable: Writable| {
        let volume = scratch_volume(&bench);
        scratch::unpack(
            &image(&bench),
            &volume,
            writable,
            &at.path().join("root"),
            &Silent,
        )
    };
    bench.add("1", TREE);
    let new = boot(Writable::Scratch).unwrap();
    assert!(new.is_fresh());
    assert_eq!(text(&new, "etc/motd"), "from the tree\n");
    fs::write(new.path().join("etc/local"), "mine\n").unwrap();
    drop(new);

    let changed: Vec<(&str, &str)> = TREE
        .iter()
        .map(|(path, text)| match *path {
            "etc/motd" => ("etc/motd", "of version 2\n"),
            _ => (*path, *text),
        })
        .collect();
    bench.add("2", &changed);
    let new = boot(Writable::Scratch).unwrap();
    assert!(!new.is_fresh());
    assert_eq!(text(&new, "etc/motd"), "of version 2\n");
    assert_eq!(text(&new, "etc/local"), "mine\n");
    drop(new);

    // In memory, what was written before is not seen, and what is written now goes.
    let new = boot(Writable::Memory).unwrap();
    assert!(new.is_fresh());
    assert_eq!(text(&new, "etc/local"), "");
    fs::write(new.path().join("etc/motd"), "edited\n").unwrap();
    drop(new);
    let new = boot(Writable::Memory).unwrap();
    assert_eq!(text(&new, "etc/motd"), "of version 2\n");
}

#[test]
fn an_empty_partition_named_scratch_is_made_and_no_other_is_touched() {
    let bench = Bench::new();
    bench.add("1", TREE);
    let files: &[(&str, &str)] = &[("thesis", "years\n")];
    let parts = [
        Part {
            size: 32 * MIB,
            filesystem: "ext4",
            label: "home",
            files,
        },
        Part {
            size: 32 * MIB,
            filesystem: "ext4",
            label: "scratch",
            files,
        },
    ];
    let disk = LoopDisk::add(&bench.fake, "sda", &parts);
    let before = fs::read(&disk.file).unwrap();
    let at = tempfile::tempdir().unwrap();
    let volume = scratch_volume(&bench);
    let refused = scratch::unpack(
        &image(&bench),
        &volume,
        Writable::Memory,
        &at.path().join("root"),
        &Silent,
    );
    let error = refused.err().unwrap().to_string();
    assert!(
        error.contains("thesis") && error.contains("left alone"),
        "{error}"
    );
    let home = usize::try_from(MIB + 32 * MIB).unwrap();
    let after = fs::read(&disk.file).unwrap();
    assert!(after[..home] == before[..home], "home is as it was");
}
