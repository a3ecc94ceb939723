use super::*;
use crate::execute::tree::tests::Bench;
use crate::system::fake::{LoopDisk, Part};
use pitstop_deploy::overrides::{From, Overlay, Owners};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{Fed, Known};
use pitstop_imaging::wishes::Identity;
use pitstop_protocol::job::Action;
use pitstop_trees::TreeImage;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    let new = memory::unpack(&image, size, &at, None, &Silent).unwrap();
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
            None,
            &Silent,
        )
    };
    bench.add("1", TREE);
    let new = boot(Writable::Scratch).unwrap();
    assert!(new.is_fresh());
    fs::write(new.path().join("etc/half"), "the power went\n").unwrap();
    drop(new);

    // What never became the machine's own is begun again.
    let mut new = boot(Writable::Scratch).unwrap();
    assert!(new.is_fresh());
    assert_eq!(text(&new, "etc/half"), "");
    new.made_own().unwrap();
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

/// Brings all that is asked for, as other machines would, and counts it.
#[derive(Default)]
struct Brings(AtomicUsize);

impl Feed for Brings {
    fn run(
        &self,
        restore: &dyn Fed,
        finish: &mut dyn FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut hand = restore.hand()?;
        for Known { chunk, .. } in restore.chunks() {
            let size = usize::try_from(chunk.size)?;
            let member = restore.image().bytes_at(chunk.offset, size)?;
            assert!(hand.put(chunk, &member)?);
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        finish()
    }
}

#[test]
fn all_of_a_tree_is_had_from_others_and_what_changed_from_the_server() {
    let bench = Bench::new();
    let parts = [Part {
        size: 64 * MIB,
        filesystem: "ext4",
        label: "scratch",
        files: &[],
    }];
    let _disk = LoopDisk::add(&bench.fake, "sda", &parts);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("root");
    let volume = scratch_volume(&bench);
    let brought = |boot: &dyn Fn(&dyn Feed) -> NewRoot| {
        let brings = Brings::default();
        let motd = text(&boot(&brings), "etc/motd");
        (brings.0.into_inner(), motd)
    };
    bench.add("1", TREE);
    let all = image(&bench).index.members().len();
    let size = memory::Size {
        tree: MIB,
        most: 64 * MIB,
    };
    let in_memory =
        |feed: &dyn Feed| memory::unpack(&image(&bench), size, &at, Some(feed), &Silent).unwrap();
    assert_eq!(brought(&in_memory), (all, "from the tree\n".into()));
    let on_scratch = |feed: &dyn Feed| {
        let memory = Writable::Memory;
        scratch::unpack(&image(&bench), &volume, memory, &at, Some(feed), &Silent).unwrap()
    };
    assert_eq!(brought(&on_scratch), (all, "from the tree\n".into()));
    let mut changed = TREE.to_vec();
    changed[2] = ("etc/motd", "of version 2\n");
    bench.add("2", &changed);
    assert_eq!(brought(&on_scratch), (0, "of version 2\n".into()));
}

/// What is on the partition, as it lies there.
fn on_scratch(volume: &Volume, at: &Path, act: impl FnOnce(&Path)) {
    let mut new = NewRoot::new(at).unwrap();
    act(&new.scratch(volume).unwrap());
}

#[test]
fn a_kept_tree_stays_until_another_one_is_whole() {
    let bench = Bench::new();
    let parts = [Part {
        size: 64 * MIB,
        filesystem: "ext4",
        label: "scratch",
        files: &[],
    }];
    let _disk = LoopDisk::add(&bench.fake, "sda", &parts);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("root");
    let volume = scratch_volume(&bench);
    let memory = Writable::Memory;
    let boot = |image: &TreeImage| scratch::unpack(image, &volume, memory, &at, None, &Silent);
    bench.add("1", TREE);
    drop(boot(&image(&bench)).unwrap());

    // The share goes away while the next version is read.
    bench.add(
        "2",
        &[("sbin/init", "another\n"), ("etc/motd", "of version 2\n")],
    );
    let second = image(&bench);
    let file = bench.root.path().join("trees/web/2.tar.gz");
    let whole = fs::read(&file).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .and_then(|file| file.set_len(0))
        .unwrap();
    assert!(boot(&second).is_err());
    on_scratch(&volume, &at, |on| {
        let motd = fs::read_to_string(on.join("tree/etc/motd")).unwrap();
        assert_eq!(motd, "from the tree\n");
    });

    // It is back, and nothing can be made of the kept one, which has what nobody may change.
    fs::write(&file, whole).unwrap();
    on_scratch(&volume, &at, |on| {
        fs::write(
            on.join("tree").join(pitstop_trees::RECORD).join("index"),
            "damaged",
        )
        .unwrap();
        let folder = on.join("tree/etc");
        crate::system::fake::run("chattr", &["+i", folder.to_str().unwrap()]);
    });
    let new = boot(&image(&bench)).unwrap();
    assert_eq!(text(&new, "etc/motd"), "of version 2\n");
    assert!(!new.path().join("etc/hostname").exists());
}

#[test]
fn a_host_key_of_the_machines_own_layer_is_the_one_that_it_has() {
    let bench = Bench::new();
    // Programs that make keys, and cannot run here.
    let programs = [
        ("usr/lib/systemd/systemd", "none\n"),
        ("usr/bin/ssh-keygen", "none\n"),
    ];
    bench.add("1", &[&programs[..], TREE].concat());
    let image = image(&bench);
    let size = memory::Size {
        tree: MIB,
        most: 64 * MIB,
    };
    let folder = tempfile::tempdir().unwrap();
    let new = memory::unpack(&image, size, &folder.path().join("root"), None, &Silent).unwrap();
    let own = folder.path().join("layer");
    let key = "etc/ssh/ssh_host_ed25519_key";
    crate::system::fake::plant(&own, &[(key, "of this machine\n")]);
    let wish = Wish {
        identity: Identity::New,
        hostname: None,
        resolver: Path::new("/nowhere"),
    };
    make_own(&new, &wish, &mut [layer("own", &own)], &Silent).unwrap();
    assert_eq!(text(&new, key), "of this machine\n");
}

#[test]
fn an_empty_partition_named_scratch_is_made() {
    let bench = Bench::new();
    bench.add("1", TREE);
    let part = |filesystem| Part {
        size: 64 * MIB,
        filesystem,
        label: "home",
        files: &[("thesis", "years\n")],
    };
    let disk = LoopDisk::add(&bench.fake, "sda", &[part("ext4"), part("")]);
    let before = fs::read(&disk.file).unwrap();
    let disks = inventory::read(&bench.fake.machine()).unwrap().disks;
    let mut here = volumes(&bench.fake.machine(), &disks);
    // As a GPT names it; a loop disk has no such names.
    "scratch".clone_into(&mut here[1].part_label);
    let volume = scratch::choose(&here).unwrap().unwrap();
    assert_eq!(volume.name, "sda2");
    assert!(scratch::line(volume, Writable::Memory).starts_with("make an ext4 on it"));
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("root");
    let memory = Writable::Memory;
    let new = scratch::unpack(&image(&bench), volume, memory, &at, None, &Silent).unwrap();
    assert_eq!(text(&new, "etc/motd"), "from the tree\n");
    drop(new);
    let home = usize::try_from(MIB + 64 * MIB).unwrap();
    assert!(fs::read(&disk.file).unwrap()[..home] == before[..home]);
    // At the next boot it has the label of its own.
    let node = disk.parts[1].0.to_str().unwrap();
    crate::system::fake::run("blockdev", &["--flushbufs", node]);
    let volume = scratch_volume(&bench);
    assert_eq!((&*volume.name, &*volume.filesystem), ("sda2", "ext4"));
}

#[test]
fn a_partition_named_scratch_with_somebodys_files_is_left_alone_and_so_is_every_other() {
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
        None,
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
