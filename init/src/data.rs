//! The filesystem with a share that a stick brings along: found by its label, mounted read-only, let go at the end. What
//! writes to it makes it writable for that moment.

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::{DATA, Machine, disks};
use pitstop_imaging::unmount::unmount;
use pitstop_payload::system::{Volume, volumes};
use pitstop_transport::share::stick::FLAGS;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// A USB stick is found by then.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A second one of the same name may be a little later than the first.
const LATER: Duration = Duration::from_secs(2);

/// What Windows, macOS and Linux write, and this kernel.
const KINDS: [&str; 3] = ["exfat", "vfat", "ext4"];

/// Waits for the one filesystem with this label and mounts it.
pub fn bring_up(machine: &Machine, label: &str, reporter: &dyn Reporter) -> anyhow::Result<Volume> {
    let deadline = Instant::now() + PATIENCE;
    while named(machine, label)?.is_empty() {
        if Instant::now() >= deadline {
            bail!(
                "no filesystem labelled {label} (pitstop.data) appeared within {} s: is the stick plugged in, and is its \
                 driver in the initramfs?",
                PATIENCE.as_secs()
            );
        }
        thread::sleep(LOOK_EVERY);
    }
    thread::sleep(LATER);
    let volume = only(named(machine, label)?, label)?;
    let act = || format!("mounting {} ({}) at {DATA}", volume.name, volume.filesystem);
    fs::create_dir_all(DATA).with_context(act)?;
    let flags = FLAGS | MsFlags::MS_RDONLY;
    let kind = Some(volume.filesystem.as_str());
    match mount(Some(&volume.node), DATA, kind, flags, None::<&str>) {
        Ok(()) => {}
        Err(Errno::ENODEV) => bail!(
            "{}: this kernel has no {}: put its module into the initramfs (--drivers filesystems)",
            act(),
            volume.filesystem
        ),
        Err(error) => return Err(error).with_context(act),
    }
    reporter.info(format!("the share is on {} ({label})", volume.name));
    Ok(volume)
}

fn named(machine: &Machine, label: &str) -> anyhow::Result<Vec<Volume>> {
    let mut found = volumes(machine, &disks::read(machine)?);
    found.retain(|volume| volume.label == label);
    Ok(found)
}

/// Which of two is meant nobody can tell: one may be a machine's own disk, restored from the image of a stick.
fn only(mut found: Vec<Volume>, label: &str) -> anyhow::Result<Volume> {
    let Some(volume) = found.pop() else {
        bail!("the stick with {label} went away");
    };
    if let Some(other) = found.first() {
        bail!(
            "{} and {} are both labelled {label}: take one out, or give it another label",
            other.name,
            volume.name
        );
    }
    if !KINDS.contains(&volume.filesystem.as_str()) {
        bail!(
            "{} is labelled {label} and has {}: format it with exFAT, FAT32 or ext4",
            volume.name,
            Some(volume.filesystem.as_str())
                .filter(|kind| !kind.is_empty())
                .unwrap_or("no filesystem that is known")
        );
    }
    Ok(volume)
}

/// Lets go of the stick: all is on it, and it can be taken out.
pub fn release(reporter: &dyn Reporter) {
    match unmount(Path::new(DATA)) {
        Ok(()) => reporter.info("the stick can be taken out".into()),
        Err(error) => reporter.warn(format!(
            "the stick is still in use ({error}): take it out when the machine is off"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::inventory::fake::{FakeDisk, FakeMachine};
    use std::process::Command;

    #[test]
    fn the_stick_is_found_by_its_label_on_a_whole_disk_or_a_partition() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        fs::File::create(&file).unwrap().set_len(8 << 20).unwrap();
        let mut mkfs = Command::new("mkfs.exfat");
        let made = mkfs.args(["-L", "PITSTOPDATA"]).arg(&file).output();
        assert!(made.unwrap().status.success());
        let content = fs::read(&file).unwrap();
        let fake = FakeMachine::new();
        let machine = fake.machine();
        let add = |name: &str, content: &[u8]| {
            fake.add_with(&FakeDisk::new(name, 8 << 20), content);
        };
        add("sda", &vec![7; 8 << 20]);
        assert_eq!(named(&machine, "PITSTOPDATA").unwrap(), []);
        add("sdb", &content);
        let volume = only(named(&machine, "PITSTOPDATA").unwrap(), "PITSTOPDATA").unwrap();
        assert_eq!(
            (volume.name.as_str(), volume.filesystem.as_str()),
            ("sdb", "exfat")
        );
        add("sdc", &content);
        let both = only(named(&machine, "PITSTOPDATA").unwrap(), "PITSTOPDATA").unwrap_err();
        assert!(
            both.to_string()
                .starts_with("sdb and sdc are both labelled PITSTOPDATA: take one out")
        );
        assert_eq!(named(&machine, "OTHER").unwrap(), []);
    }

    #[test]
    fn a_filesystem_that_cannot_carry_a_share_is_named() {
        let volume = |filesystem: &str| Volume {
            name: "sdb1".into(),
            filesystem: filesystem.into(),
            ..Volume::default()
        };
        let error = only(vec![volume("ntfs")], "X").unwrap_err().to_string();
        assert_eq!(
            error,
            "sdb1 is labelled X and has ntfs: format it with exFAT, FAT32 or ext4"
        );
    }
}
