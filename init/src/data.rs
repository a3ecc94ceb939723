//! The filesystem with a share that a stick brings along: found by its label, mounted read-only, let go at the end. What
//! writes to it makes it writable for that moment.

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::{DATA, Machine, Standing, disks};
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

/// A stick may be later than a machine's own disk that was restored from the image of one, and so has its label: slow sticks
/// take some seconds.
const LATER_THAN_A_DISK: Duration = Duration::from_secs(10);

/// What Windows, macOS and Linux write, and this kernel.
const KINDS: [&str; 3] = ["exfat", "vfat", "ext4"];

/// Waits for the one filesystem with this label and mounts it.
pub fn bring_up(machine: &Machine, label: &str, reporter: &dyn Reporter) -> anyhow::Result<Volume> {
    let began = Instant::now();
    let mut first = None;
    let found = loop {
        let found = named(machine, label)?;
        if !found.is_empty() {
            let first = *first.get_or_insert_with(Instant::now);
            if first.elapsed() >= long_enough(&found) {
                break found;
            }
        } else if began.elapsed() >= PATIENCE {
            bail!(
                "no filesystem labelled {label} (pitstop.data) appeared within {} s: is the stick plugged in, and is its \
                 driver in the initramfs?",
                PATIENCE.as_secs()
            );
        }
        thread::sleep(LOOK_EVERY);
    };
    let volume = only(found, label)?;
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

/// A filesystem with the label.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Named {
    volume: Volume,
    /// It is on something that can be taken out.
    is_stick: bool,
}

fn named(machine: &Machine, label: &str) -> anyhow::Result<Vec<Named>> {
    let disks = disks::read(machine)?;
    let mut found = volumes(machine, &disks);
    found.retain(|volume| volume.label == label);
    let is_stick = |volume: &Volume| {
        let disk = disks
            .iter()
            .find(|disk| disk.identity.device == volume.disk);
        disk.is_some_and(|disk| matches!(disk.unused, Standing::Usb | Standing::Removable))
    };
    let found = found.into_iter().map(|volume| Named {
        is_stick: is_stick(&volume),
        volume,
    });
    Ok(found.collect())
}

/// How long others are waited for, from the first one on.
fn long_enough(found: &[Named]) -> Duration {
    if found.iter().any(|one| one.is_stick) {
        LATER
    } else {
        LATER_THAN_A_DISK
    }
}

/// The stick, where one is: a machine's own disk may have been restored from the image of one. Which of two sticks is meant nobody
/// can tell.
fn only(found: Vec<Named>, label: &str) -> anyhow::Result<Volume> {
    let has_stick = found.iter().any(|one| one.is_stick);
    let meant = found.into_iter().filter(|one| one.is_stick || !has_stick);
    let mut found: Vec<Volume> = meant.map(|one| one.volume).collect();
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
        // A stick goes before disks that have its label; it may come later.
        assert_eq!(
            long_enough(&named(&machine, "PITSTOPDATA").unwrap()),
            LATER_THAN_A_DISK
        );
        let stick = FakeDisk::new("sdd", 8 << 20).on("pci0/usb2/2-1/host9");
        fake.add_with(&stick, &content);
        let found = named(&machine, "PITSTOPDATA").unwrap();
        assert_eq!(long_enough(&found), LATER);
        assert_eq!(only(found, "PITSTOPDATA").unwrap().name, "sdd");
        let second = FakeDisk::new("sde", 8 << 20).on("pci0/usb2/2-2/host10");
        fake.add_with(&second, &content);
        let both = only(named(&machine, "PITSTOPDATA").unwrap(), "PITSTOPDATA").unwrap_err();
        let both = both.to_string();
        assert!(both.starts_with("sdd and sde are both labelled"), "{both}");
    }

    #[test]
    fn a_filesystem_that_cannot_carry_a_share_is_named() {
        let volume = |filesystem: &str| Named {
            volume: Volume {
                name: "sdb1".into(),
                filesystem: filesystem.into(),
                ..Volume::default()
            },
            is_stick: true,
        };
        let error = only(vec![volume("ntfs")], "X").unwrap_err().to_string();
        assert_eq!(
            error,
            "sdb1 is labelled X and has ntfs: format it with exFAT, FAT32 or ext4"
        );
    }
}
