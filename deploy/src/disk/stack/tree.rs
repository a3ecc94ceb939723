//! What a tree needs so that its system puts arrays, LUKS and volumes together, and what it is told of them.

use super::{Array, Encrypted, Stack, holds_root, opened_early};
use crate::boot::files as in_image;
use crate::disk::Deployment;
use crate::disk::volumes::Volumes;
use crate::files::Files;
use crate::root::Root;
use crate::wishes::Initrd;
use anyhow::bail;
use pitstop_imaging::event::Reporter;
use pitstop_trees::TreeImage;
use std::fmt::Write as _;

/// A program of the tree, its package in Debian; and what makes the initramfs use it, with the package that this is of.
struct Part {
    program: &'static str,
    package: &'static str,
    hook: &'static str,
    hook_package: &'static str,
}

const ARRAYS: Part = Part {
    program: "mdadm",
    package: "mdadm",
    hook: "mdadm",
    hook_package: "mdadm",
};
const ENCRYPTED: Part = Part {
    program: "cryptsetup",
    package: "cryptsetup",
    hook: "cryptroot",
    hook_package: "cryptsetup-initramfs",
};
const VOLUMES: Part = Part {
    program: "lvm",
    package: "lvm2",
    hook: "lvm2",
    hook_package: "lvm2",
};
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// What asks for passphrases when the system starts: systemd, or Debian's scripts.
const OPENERS: [&str; 4] = [
    "/usr/lib/systemd/systemd-cryptsetup",
    "/lib/systemd/systemd-cryptsetup",
    "/usr/lib/cryptsetup/cryptdisks-functions",
    "/lib/cryptsetup/cryptdisks-functions",
];
/// What makes an initramfs that has been seen to put arrays, LUKS and volumes together.
const MAKER: &str = "update-initramfs";
const HOOKS: &str = "/usr/share/initramfs-tools/hooks";

/// Where distributions have mdadm's configuration: Debian's folder, else all others' file.
const FOLDER: &str = "etc/mdadm";
const IN_FOLDER: &str = "etc/mdadm/mdadm.conf";
const ALONE: &str = "etc/mdadm.conf";
/// Names the only devices that LVM looks at: the disks of the machine that the tree is from.
const DEVICES: &str = "etc/lvm/devices/system.devices";

const CRYPTTAB: &str = "etc/crypttab";
/// Of LVM, where a list of devices is in it that are looked at or not.
const LVM: &str = "etc/lvm/lvm.conf";
const FILTERS: [&str; 2] = ["filter", "global_filter"];

/// Whether the tree can use what it is put on.
///
/// # Errors
/// When a program is missing in it.
pub fn check(deployment: &Deployment, volumes: &Volumes) -> anyhow::Result<()> {
    let (image, layout) = (deployment.image, &volumes.layout);
    let has = |program: &str| {
        let mut folders = FOLDERS.iter();
        folders.any(|folder| in_image::has(image, &format!("{folder}/{program}")))
    };
    let parts = [
        (&ARRAYS, "[[raid]]", !layout.raid.is_empty()),
        (&ENCRYPTED, "[[luks]]", !layout.luks.is_empty()),
        (&VOLUMES, "[[lvm]]", !layout.lvm.is_empty()),
    ];
    let wanted = || parts.iter().filter(|(_, _, wanted)| *wanted);
    for (part, key, _) in wanted() {
        if !has(part.program) {
            bail!(
                "the layout has {key}, and the tree has no {}: install {} in it (pitstop tree shell {})",
                part.program,
                part.package,
                image.meta.name
            );
        }
    }
    let early = opened_early(volumes);
    let later = layout.luks.iter().find(|luks| !early.contains(&luks.name));
    if let Some(luks) = later
        && !OPENERS.iter().any(|path| in_image::has(image, path))
    {
        bail!(
            "nothing in the tree opens [[luks]] {:?} when its system starts: install systemd-cryptsetup or cryptsetup in it (pitstop \
             tree shell {})",
            luks.name,
            image.meta.name
        );
    }
    if !holds_root(volumes) {
        return Ok(());
    }
    if deployment.initrd == Initrd::Keep {
        bail!(
            "the root is on an array, LUKS or a volume, and an initramfs that is kept does not know of that: leave initrd = \"keep\" out"
        );
    }
    if !has(MAKER) {
        bail!(
            "the root is on an array, LUKS or a volume, and the tree has no {MAKER} to make an initramfs that finds it"
        );
    }
    for (part, ..) in wanted() {
        check_hook(image, part)?;
    }
    Ok(())
}

fn check_hook(image: &TreeImage, part: &Part) -> anyhow::Result<()> {
    let hook = format!("{HOOKS}/{}", part.hook);
    if !in_image::has(image, &hook) {
        bail!(
            "the root is on an array, LUKS or a volume, and the tree has no {hook}: install {} in it (pitstop tree shell {})",
            part.hook_package,
            image.meta.name
        );
    }
    Ok(())
}

/// Tells the new system of its arrays and of what is encrypted, before its initramfs is made.
///
/// # Errors
/// When a file cannot be read or written.
pub fn configure(root: &Root, stack: &Stack, reporter: &dyn Reporter) -> anyhow::Result<()> {
    if stack.is_empty() {
        return Ok(());
    }
    let files = Files::of(root)?;
    if !stack.groups.is_empty() && files.exists(DEVICES) {
        files.remove(DEVICES)?;
        reporter.info(format!("/{DEVICES} is removed: it names other disks"));
    }
    if !stack.groups.is_empty()
        && let Some(line) = filter(&files.text(LVM)?.unwrap_or_default())
    {
        reporter.warn(format!(
            "/{LVM} has {line:?}: what it leaves out is not looked at, and where that is these disks, the system does not find its groups"
        ));
    }
    if !stack.arrays.is_empty() {
        let path = if files.exists(FOLDER) {
            IN_FOLDER
        } else {
            ALONE
        };
        let before = files.text(path)?.unwrap_or_default();
        files.write(
            path,
            configuration(&before, &stack.arrays).as_bytes(),
            0o644,
        )?;
        reporter.info(format!("/{path} names the arrays of these disks"));
    }
    if !stack.luks.is_empty() {
        let before = files.text(CRYPTTAB)?.unwrap_or_default();
        let (text, gone) = crypttab(&before, &stack.luks);
        for line in gone {
            reporter.warn(format!(
                "/{CRYPTTAB}: {line:?} is of another disk: it is made a comment"
            ));
        }
        files.write(CRYPTTAB, text.as_bytes(), 0o644)?;
        reporter.info(format!("/{CRYPTTAB} names what is encrypted on this disk"));
    }
    files.finish(reporter)
}

/// crypttab(5): what is encrypted here, by the UUIDs of its headers. Lines for other disks become comments, and are returned: a
/// system would wait for them, or write swap space over what has the name here. Those for files stay.
fn crypttab(before: &str, all: &[Encrypted]) -> (String, Vec<String>) {
    let mut text = String::new();
    let mut gone = Vec::new();
    for line in before.lines() {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let source = words.next().unwrap_or_default();
        let is_comment = name.is_empty() || name.starts_with('#');
        let is_device = source.starts_with("/dev/") || source.contains('=');
        let is_ours = all.iter().any(|luks| luks.name == name);
        if !is_comment && (is_device || is_ours) {
            gone.push(line.to_owned());
            text.push_str("# ");
        }
        text.push_str(line);
        text.push('\n');
    }
    for luks in all {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} UUID={} none luks", luks.name, luks.uuid);
    }
    (text, gone)
}

/// The line of LVM's configuration that leaves devices out.
fn filter(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| {
        let key = line.split(['=', ' ', '\t']).next().unwrap_or_default();
        FILTERS.contains(&key)
    })
}

/// What a configuration says of another machine: its arrays, and the only disks that mdadm looks at. Without the latter it looks at all.
const OF_ANOTHER: [&str; 2] = ["array", "device"];

/// mdadm.conf(5): what is of another machine goes, with the lines that go on it, and all else stays.
fn configuration(before: &str, arrays: &[Array]) -> String {
    let mut text = String::new();
    let mut is_gone = false;
    for line in before.lines() {
        // A keyword may be cut down to three letters; what begins with a blank belongs to the line before.
        let goes_on = line.starts_with([' ', '\t']) && !line.trim().is_empty();
        if !goes_on {
            let word = line.split_whitespace().next().unwrap_or_default();
            let word = word.to_ascii_lowercase();
            is_gone = word.len() >= 3 && OF_ANOTHER.iter().any(|key| key.starts_with(&word));
        }
        if !is_gone {
            text.push_str(line);
            text.push('\n');
        }
    }
    for array in arrays {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "ARRAY /dev/md/{} metadata=1.2 UUID={}",
            array.name, array.uuid
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::layout::stack::On;

    #[test]
    fn arrays_of_another_machine_are_forgotten() {
        let arrays = [Array {
            name: "boot".into(),
            uuid: "1:2:3:4".into(),
            partition: 2,
            slot: 3,
        }];
        let before = "# mdadm.conf\nDEVICE /dev/sda*\n  /dev/sdb*\nHOMEHOST <system>\nARRAY /dev/md/0 metadata=1.2\n   UUID=old\narr /dev/md1\n\nMAILADDR root\n";
        assert_eq!(
            configuration(before, &arrays),
            "# mdadm.conf\nHOMEHOST <system>\n\nMAILADDR root\nARRAY /dev/md/boot metadata=1.2 UUID=1:2:3:4\n"
        );
        assert_eq!(
            configuration("", &arrays),
            "ARRAY /dev/md/boot metadata=1.2 UUID=1:2:3:4\n"
        );
    }

    #[test]
    fn what_is_encrypted_is_named_by_its_header_and_other_disks_are_not_waited_for() {
        let encrypted = |name: &str, uuid: &str| Encrypted {
            name: name.into(),
            uuid: uuid.into(),
            on: On::Partition(3),
            slot: 3,
        };
        let all = [encrypted("system", "1-2"), encrypted("home", "3-4")];
        let before = "# <target> <source>\n\nsda5_crypt UUID=old none luks\nswap /dev/sda3 /dev/urandom swap\n\
                      box /srv/box.img none luks,noauto\nsystem /srv/other.img none\n";
        let (text, gone) = crypttab(before, &all);
        assert_eq!(
            text,
            "# <target> <source>\n\n# sda5_crypt UUID=old none luks\n# swap /dev/sda3 /dev/urandom swap\n\
             box /srv/box.img none luks,noauto\n# system /srv/other.img none\n\
             system UUID=1-2 none luks\nhome UUID=3-4 none luks\n"
        );
        assert_eq!(gone.len(), 3);
        // Once more it is the same, but for the comments.
        let (again, gone) = crypttab(&text, &all);
        assert_eq!(
            gone,
            ["system UUID=1-2 none luks", "home UUID=3-4 none luks"]
        );
        assert!(again.ends_with(
            "# home UUID=3-4 none luks\nsystem UUID=1-2 none luks\nhome UUID=3-4 none luks\n"
        ));
    }

    #[test]
    fn a_filter_of_lvm_is_found_and_a_comment_is_none() {
        let told = "devices {\n\t# filter = [ \"a|.*|\" ]\n\tfilter_x = 1\n\tglobal_filter=[ \"r|.*|\" ]\n}\n";
        assert_eq!(filter(told), Some("global_filter=[ \"r|.*|\" ]"));
        assert_eq!(filter("# global_filter = []\nfilters = 1\n"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_configuration_is_read(text in "([aA ]?[ -~\t]{0,20}\n){0,6}") {
            configuration(&text, &[]);
            crypttab(&text, &[]);
        }
    }
}
