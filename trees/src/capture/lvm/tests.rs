//! With an LVM that is played: what a real one does is seen on a machine, in the tests of machines.

use super::*;
use crate::path::TreePath;
use pitstop_imaging::event::Event;
use pitstop_imaging::image::members::lock;
use std::sync::Mutex;

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn lines(&self) -> Vec<String> {
        lock(&self.0).clone()
    }
}

impl Reporter for Told {
    fn event(&self, event: &Event) {
        if let Event::Message { text, .. } = event {
            lock(&self.0).push(text.clone());
        }
    }
}

/// Two groups with a volume each, and another one in the first.
struct Played {
    /// What `lvs` shows, without what ours are.
    volumes: Vec<String>,
    /// Ours: group, name, attributes, origin.
    ours: Mutex<Vec<[String; 4]>>,
    /// What it was told, but for `lvs`.
    calls: Mutex<Vec<String>>,
    /// Acts that fail.
    failing: Mutex<Vec<&'static str>>,
    is_busy: bool,
    folder: tempfile::TempDir,
}

const FREE: u64 = 400 << 20;

impl Played {
    fn new() -> Self {
        let volume = |group: &str, name: &str, attributes: &str| {
            format!(
                "g-{group}|v-{name}|{group}|{name}|{}|{FREE}|4194304|{attributes}||",
                800 << 20
            )
        };
        Self {
            volumes: vec![
                volume("vg0", "root", "-wi-ao----"),
                volume("vg0", "srv", "-wi-ao----"),
                volume("vg1", "thin", "Vwi-aotz--"),
            ],
            ours: Mutex::default(),
            calls: Mutex::default(),
            failing: Mutex::default(),
            is_busy: false,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn names(&self) -> Vec<String> {
        let ours = lock(&self.ours);
        ours.iter()
            .map(|it| format!("{}/{}", it[0], it[1]))
            .collect()
    }

    fn fill(&self, name: &str) {
        let mut ours = lock(&self.ours);
        let found = ours.iter_mut().find(|it| it[1] == name).unwrap();
        found[2] = "swi-I-s---".into();
    }
}

impl Lvm for Played {
    fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        let act = words[0];
        if act != "lvs" {
            lock(&self.calls).push(words.join(" "));
        }
        let last = *words.last().unwrap();
        let mut ours = lock(&self.ours);
        match act {
            "lvcreate" => {
                let at = words.iter().position(|word| *word == "--name").unwrap();
                let (group, origin) = last.split_once('/').unwrap();
                let made = [group, words[at + 1], "swi-a-s---", origin];
                ours.push(made.map(str::to_owned));
            }
            "lvremove" if !lock(&self.failing).contains(&"lvremove") => {
                ours.retain(|it| format!("{}/{}", it[0], it[1]) != last);
            }
            _ => {}
        }
        // One that fails may have done it.
        if lock(&self.failing).contains(&act) {
            bail!("{act} fails");
        }
        let lines = ours.iter().map(|[group, name, attributes, origin]| {
            format!("g-{group}|v-{name}|{group}|{name}|67108864|{FREE}|4194304|{attributes}|{TAG}|{origin}")
        });
        let all: Vec<String> = self.volumes.iter().cloned().chain(lines).collect();
        Ok(all.join("\n"))
    }

    fn mount(&self, group: &str, name: &str, kind: &str) -> io::Result<OwnedFd> {
        if lock(&self.failing).contains(&"mount") {
            return Err(Errno::UCLEAN.into());
        }
        assert!(["ext4", "xfs"].contains(&kind));
        let at = self.folder.path().join(format!("{group}-{name}"));
        fs::create_dir_all(at.join("within"))?;
        Ok(File::open(at)?.into())
    }

    fn volume_of(&self, info: &MountInfo) -> Option<String> {
        let name = info.source.to_str()?.strip_prefix("lvm:")?;
        Some(name.replace('-', ""))
    }

    fn is_within_volume(&self, info: &MountInfo) -> bool {
        info.source.starts_with("/dev/mapper")
    }

    fn turn(&self) -> anyhow::Result<Option<File>> {
        Ok((!self.is_busy).then(|| File::open(self.folder.path()).unwrap()))
    }
}

fn mount(path: &str, kind: &str, source: &str, root: &str) -> Mount {
    Mount {
        path: TreePath::parse(path.as_bytes()).unwrap(),
        folder: File::open("/").unwrap().into(),
        detached: true,
        info: Some(MountInfo {
            device: (0, 0),
            root: root.into(),
            point: PathBuf::from(path),
            options: "rw".into(),
            kind: kind.into(),
            source: source.into(),
        }),
    }
}

/// A root, a folder of it that is mounted once more, another volume, one that is thin, and what is on none.
fn mounts() -> Vec<Mount> {
    vec![
        mount("", "ext4", "lvm:g-vg0v-root", "/"),
        mount("boot", "ext4", "/dev/sda1", "/"),
        mount("home", "btrfs", "lvm:g-vg0v-home", "/"),
        mount("again", "ext4", "lvm:g-vg0v-root", "/within"),
        mount("srv", "xfs", "lvm:g-vg0v-srv", "/"),
        mount("var", "ext4", "lvm:g-vg1v-thin", "/"),
    ]
}

fn leads_to(mount: &Mount) -> String {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", mount.folder.as_raw_fd());
    fs::read_link(link).unwrap().display().to_string()
}

#[test]
fn each_volume_is_read_from_one_snapshot_which_goes_and_others_are_told() {
    let (lvm, told) = (Played::new(), Told::default());
    let mut mounts = mounts();
    let mut snapshots = Snapshots::by(&lvm, &told);
    assert!(snapshots.hold(&mut mounts, None));
    assert_eq!(
        lvm.names(),
        ["vg0/pitstop-capture-0", "vg0/pitstop-capture-1"]
    );
    for (number, at) in [
        (0, "vg0-pitstop-capture-0"),
        (3, "vg0-pitstop-capture-0/within"),
        (4, "vg0-pitstop-capture-1"),
    ] {
        assert!(leads_to(&mounts[number]).ends_with(at));
    }
    for number in [1, 2, 5] {
        assert_eq!(leads_to(&mounts[number]), "/");
    }
    // The two share what the group has.
    let calls = lock(&lvm.calls).clone();
    assert!(calls[0].ends_with("--extents 50 vg0/root"), "{calls:?}");
    assert!(calls[1].ends_with("--extents 50 vg0/srv"), "{calls:?}");
    let lines = told.lines();
    assert!(
        lines.len() == 1 && lines[0].starts_with("/var is read while"),
        "{lines:?}"
    );
    snapshots.check().unwrap();
    drop(snapshots);
    assert_eq!(lvm.names(), [""; 0]);
}

#[test]
fn an_image_that_is_written_to_a_volume_wants_room_in_its_snapshot() {
    let (lvm, told) = (Played::new(), Told::default());
    let mut found = mounts();
    found.retain(|mount| mount.path.is_root() || mount.path.as_bytes() == b"srv");
    let image = found[1].info.clone();
    let mut snapshots = Snapshots::by(&lvm, &told);
    assert!(snapshots.hold(&mut found, image.as_ref()));
    assert_eq!(lvm.names(), ["vg0/pitstop-capture-0"]);
    let lines = told.lines();
    assert!(
        lines.len() == 1
            && lines[0].starts_with("/srv is read while")
            && lines[0].contains("put it elsewhere"),
        "{lines:?}"
    );
}

#[test]
fn one_that_is_full_or_gone_is_an_error() {
    let (lvm, told) = (Played::new(), Told::default());
    let mut mounts = mounts();
    let mut snapshots = Snapshots::by(&lvm, &told);
    snapshots.hold(&mut mounts, None);
    lvm.fill("pitstop-capture-1");
    let error = snapshots.check().unwrap_err().to_string();
    assert!(error.contains("written to vg0/srv while"), "{error}");
    // What it failed of is told, too, and that once.
    let error = snapshots.explain(snapshots.check().unwrap_err().into());
    assert_eq!(error.chain().count(), 1, "{error:#}");
    let error = snapshots.explain(Errno::IO.into());
    assert_eq!(error.downcast_ref(), Some(&Errno::IO));
    let text = format!("{error:#}");
    assert!(
        text.contains("written to vg0/srv while") && text.ends_with(&Errno::IO.to_string()),
        "{text}"
    );
    lock(&lvm.ours).clear();
    let error = snapshots.check().unwrap_err().to_string();
    assert!(error.contains("pitstop-capture-0 is gone"), "{error}");
    lock(&lvm.failing).push("lvs");
    assert!(snapshots.check().is_err());
}

#[test]
fn what_was_left_goes_first_and_nothing_does_while_another_capture_is_at_work() {
    let (mut lvm, told) = (Played::new(), Told::default());
    let left = ["vg0", "pitstop-capture-3", "swi-I-s---", "root"].map(str::to_owned);
    lock(&lvm.ours).push(left.clone());
    // Of volumes that are not mounted here: another machine may be at work on them.
    let others = [
        ["vg0", "pitstop-capture-7", "swi-a-s---", "other"],
        ["vg2", "pitstop-capture-0", "swi-a-s---", "root"],
    ];
    let others = others.map(|it| it.map(str::to_owned));
    lock(&lvm.ours).extend(others);
    let mut found = mounts();
    drop({
        let mut snapshots = Snapshots::by(&lvm, &told);
        assert!(snapshots.hold(&mut found, None));
        assert!(!lvm.names().contains(&"vg0/pitstop-capture-3".to_owned()));
        snapshots
    });
    assert_eq!(
        lvm.names(),
        ["vg0/pitstop-capture-7", "vg2/pitstop-capture-0"]
    );
    lock(&lvm.ours).clear();
    let lines = told.lines();
    assert!(
        lines[0].contains("vg0/pitstop-capture-3, which a capture"),
        "{lines:?}"
    );
    lock(&lvm.ours).push(left);
    lvm.is_busy = true;
    let told = Told::default();
    let mut found = mounts();
    assert!(!Snapshots::by(&lvm, &told).hold(&mut found, None));
    assert_eq!(lvm.names(), ["vg0/pitstop-capture-3"]);
    let lines = told.lines();
    assert!(
        lines.len() == 4 && lines[0].contains("another capture is at work"),
        "{lines:?}"
    );
}

#[test]
fn one_that_failed_but_was_made_goes_too_and_one_that_stays_is_told() {
    let (lvm, told) = (Played::new(), Told::default());
    lock(&lvm.failing).push("lvcreate");
    let mut found = mounts();
    assert!(!Snapshots::by(&lvm, &told).hold(&mut found, None));
    assert_eq!(lvm.names(), [""; 0]);
    *lock(&lvm.failing) = vec!["lvremove"];
    let told = Told::default();
    let mut found = mounts();
    drop({
        let mut snapshots = Snapshots::by(&lvm, &told);
        assert!(snapshots.hold(&mut found, None));
        snapshots
    });
    let lines = told.lines();
    assert!(
        lines
            .iter()
            .any(|it| it.contains("vg0/pitstop-capture-0 stays: lvremove fails")),
        "{lines:?}"
    );
}

#[test]
fn one_that_cannot_be_mounted_ends_no_capture_when_it_is_full() {
    let (lvm, told) = (Played::new(), Told::default());
    lock(&lvm.failing).push("mount");
    let mut found = mounts();
    let mut snapshots = Snapshots::by(&lvm, &told);
    assert!(!snapshots.hold(&mut found, None));
    lvm.fill("pitstop-capture-0");
    snapshots.check().unwrap();
    drop(snapshots);
    assert_eq!(lvm.names(), [""; 0]);
    let lines = told.lines();
    assert!(
        lines[0].contains("mounting the snapshot vg0/pitstop-capture-0"),
        "{lines:?}"
    );
}

#[test]
fn luks_within_a_volume_is_told() {
    let (lvm, told) = (Played::new(), Told::default());
    let mut found = vec![
        mount("", "ext4", "/dev/mapper/luks-root", "/"),
        mount("boot", "ext4", "/dev/sda1", "/"),
    ];
    assert!(!Snapshots::by(&lvm, &told).hold(&mut found, None));
    let lines = told.lines();
    assert!(
        lines.len() == 1 && lines[0].starts_with("/ is read while") && lines[0].contains("LUKS"),
        "{lines:?}"
    );
}

#[test]
fn a_device_is_a_volume_or_stands_on_one() {
    let folder = tempfile::tempdir().unwrap();
    let device = |path: &str, uuid: &str| {
        let at = folder.path().join(path);
        fs::create_dir_all(at.join("dm")).unwrap();
        fs::write(at.join("dm/uuid"), format!("{uuid}\n")).unwrap();
        at
    };
    let luks = device("253:2", "CRYPT-LUKS2-0a-home");
    assert!(!stands_on_volume(&luks));
    device("253:2/slaves/dm-1", "CRYPT-INTEGRITY-0b-home");
    assert!(!stands_on_volume(&luks));
    let volume = device("253:2/slaves/dm-1/slaves/dm-0", "LVM-8bGxLvAZwTQ30B");
    assert!(stands_on_volume(&luks));
    assert_eq!(volume_at(&luks), None);
    assert_eq!(volume_at(&volume).unwrap(), "8bGxLvAZwTQ30B");
    // LUKS below LVM.
    device("253:0/slaves/dm-5", "CRYPT-LUKS2-0c-disk");
    assert!(!stands_on_volume(&folder.path().join("253:0")));
}
