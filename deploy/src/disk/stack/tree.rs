//! What a tree needs so that its system puts arrays and volumes together, and what it is told of them.

use super::{Array, Stack, holds_root};
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

/// A program of the tree, its package in Debian, and what of that makes the initramfs use it.
struct Part {
    program: &'static str,
    package: &'static str,
    hook: &'static str,
}

const ARRAYS: Part = Part {
    program: "mdadm",
    package: "mdadm",
    hook: "mdadm",
};
const VOLUMES: Part = Part {
    program: "lvm",
    package: "lvm2",
    hook: "lvm2",
};
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// What makes an initramfs that has been seen to put arrays and volumes together.
const MAKER: &str = "update-initramfs";
const HOOKS: &str = "/usr/share/initramfs-tools/hooks";

/// Where distributions have mdadm's configuration: Debian's folder, else all others' file.
const FOLDER: &str = "etc/mdadm";
const IN_FOLDER: &str = "etc/mdadm/mdadm.conf";
const ALONE: &str = "etc/mdadm.conf";
/// Names the only devices that LVM looks at: the disks of the machine that the tree is from.
const DEVICES: &str = "etc/lvm/devices/system.devices";

/// Of LVM, where a list of devices is in it that are looked at or not.
const LVM: &str = "etc/lvm/lvm.conf";
const FILTERS: [&str; 2] = ["filter", "global_filter"];

/// Whether the tree can use what it is put on.
///
/// # Errors
/// When a program is missing in it.
pub fn check(deployment: &Deployment, volumes: &Volumes, stack: &Stack) -> anyhow::Result<()> {
    let image = deployment.image;
    let has = |program: &str| {
        let mut folders = FOLDERS.iter();
        folders.any(|folder| in_image::has(image, &format!("{folder}/{program}")))
    };
    let parts = [
        (&ARRAYS, "[[raid]]", !stack.arrays.is_empty()),
        (&VOLUMES, "[[lvm]]", !stack.groups.is_empty()),
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
    if !holds_root(volumes) {
        return Ok(());
    }
    if deployment.initrd == Initrd::Keep {
        bail!(
            "the root is on an array or a volume, and an initramfs that is kept does not know of that: leave initrd = \"keep\" out"
        );
    }
    if !has(MAKER) {
        bail!(
            "the root is on an array or a volume, and the tree has no {MAKER} to make an initramfs that finds it"
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
            "the root is on an array or a volume, and the tree has no {hook}: install {} in it (pitstop tree shell {})",
            part.package,
            image.meta.name
        );
    }
    Ok(())
}

/// Tells the new system of its arrays, before its initramfs is made.
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
    files.finish(reporter)
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
    fn a_filter_of_lvm_is_found_and_a_comment_is_none() {
        let told = "devices {\n\t# filter = [ \"a|.*|\" ]\n\tfilter_x = 1\n\tglobal_filter=[ \"r|.*|\" ]\n}\n";
        assert_eq!(filter(told), Some("global_filter=[ \"r|.*|\" ]"));
        assert_eq!(filter("# global_filter = []\nfilters = 1\n"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_configuration_is_read(text in "([aA ]?[ -~\t]{0,20}\n){0,6}") {
            configuration(&text, &[]);
        }
    }
}
