//! Arrays, LUKS and volumes while the system is put onto them. They are let go at the end, and where something fails.

use super::commands::{self, Command};
use super::{Array, Encrypted, Group, Stack};
use crate::devices;
use crate::passphrase::Passphrase;
use anyhow::{Context, bail};
use pitstop_imaging::disk::{Output as _, Target, nodes, signature_places};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::interrupt;
use pitstop_imaging::layout::stack::On;
use pitstop_imaging::layout::{Layout, Wanted};
use pitstop_imaging::tools;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long something may be held by others, as udev does where it runs.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);
/// Where udev listens.
const UDEV: &str = "/run/udev/control";
const BLOCK: &str = "/sys/block";

/// Keeps udev from the disks where it runs: it would start an array or a group again as soon as it sees one. It leaves alone what is
/// locked so (systemd's "Locking Block Device Access").
///
/// # Errors
/// When another program has one of them.
pub fn lock(stack: &Stack, disks: &[&Path]) -> anyhow::Result<Vec<File>> {
    let mut held = Vec::new();
    for disk in disks.iter().filter(|_| !stack.is_empty()) {
        let doing = || format!("locking {}", disk.display());
        let file = File::open(disk).with_context(doing)?;
        let until = Instant::now() + PATIENCE;
        while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != Errno::WOULDBLOCK || Instant::now() >= until {
                return Err(error).with_context(doing);
            }
            thread::sleep(PAUSE);
        }
        held.push(file);
    }
    Ok(held)
}

/// What was made, and how it is let go.
pub struct Running<'a> {
    reporter: &'a dyn Reporter,
    /// The node of each slot that is no partition.
    nodes: Vec<(usize, PathBuf)>,
    /// The node of each array, and of what is encrypted, by its name.
    named: Vec<(String, PathBuf)>,
    /// In the order in which they were made.
    stops: Vec<Command>,
}

impl<'a> Running<'a> {
    /// Makes all of it on the partitions of `disks`, and the filesystems on it. `passphrase` is for what is encrypted.
    ///
    /// # Errors
    /// When a tool fails, or a signal asks for the end. What was made by then is let go.
    pub fn make(
        stack: &Stack,
        layout: &Layout,
        disks: &[PathBuf],
        sector: u64,
        passphrase: Option<&Passphrase>,
        reporter: &'a dyn Reporter,
    ) -> anyhow::Result<Self> {
        let mut running = Self {
            reporter,
            nodes: Vec::new(),
            named: Vec::new(),
            stops: Vec::new(),
        };
        for array in &stack.arrays {
            interrupt::check()?;
            let doing = || format!("making the array {}", array.name);
            running.array(array, disks).with_context(doing)?;
        }
        for luks in &stack.luks {
            interrupt::check()?;
            let doing = || format!("encrypting {}", luks.name);
            let passphrase = passphrase.context("no passphrase is given");
            passphrase
                .and_then(|passphrase| running.luks(luks, disks, sector, passphrase))
                .with_context(doing)?;
        }
        for group in &stack.groups {
            interrupt::check()?;
            let doing = || format!("making the group {}", group.name);
            running.group(group, disks).with_context(doing)?;
        }
        let slots = layout.slots();
        for (index, node) in &running.nodes {
            let Some((slot, entry)) = slots.get(*index) else {
                bail!("slot {index} of the layout is none");
            };
            if entry.filesystem.is_none() {
                continue;
            }
            let size = Target::reopen(node)?.limit();
            let wanted = Wanted {
                on: slot.to_string(),
                size: size.unwrap_or_default(),
                entry,
            };
            interrupt::check()?;
            let name = entry.filesystem.as_deref().unwrap_or_default();
            reporter.info(format!("making {name} on {slot}"));
            wanted.make(node, sector, reporter)?;
        }
        Ok(running)
    }

    fn array(&mut self, array: &Array, disks: &[PathBuf]) -> anyhow::Result<()> {
        let parts: anyhow::Result<Vec<PathBuf>> = disks
            .iter()
            .map(|disk| nodes::partition(disk, array.partition))
            .collect();
        let parts = parts?;
        let is_taken = |name: &std::ffi::OsStr| Path::new(BLOCK).join(name).exists();
        let node = commands::free_array(&is_taken).context("all numbers of arrays are taken")?;
        let made = run(&commands::create(array, &node, &parts), self.reporter);
        // One that is half made is let go as well; one that others have under this name by now is not.
        if made.is_ok() || has_member(Path::new(BLOCK), &node, &parts) {
            self.stops.push(commands::stop(&node));
        }
        made?;
        wipe(&node)?;
        self.named.push((array.name.clone(), node.clone()));
        self.nodes.push((array.slot, node));
        Ok(())
    }

    fn luks(
        &mut self,
        luks: &Encrypted,
        disks: &[PathBuf],
        sector: u64,
        passphrase: &Passphrase,
    ) -> anyhow::Result<()> {
        let devices = self.devices(&luks.on, disks)?;
        let [device] = &devices[..] else {
            bail!("it would be on {} devices", devices.len());
        };
        feed(
            &commands::format(luks, device, sector),
            passphrase,
            self.reporter,
        )?;
        interrupt::check()?;
        let opened = feed(&commands::open(luks, device), passphrase, self.reporter);
        // Ctrl-C ends cryptsetup as well, which may have made the mapping by then.
        if opened.is_ok() || is_mapped(Path::new(BLOCK), &luks.uuid) {
            self.stops.push(commands::close(&luks.name));
        }
        opened?;
        let node = commands::opened(&luks.name);
        wipe(&node)?;
        self.named.push((luks.name.clone(), node.clone()));
        self.nodes.push((luks.slot, node));
        Ok(())
    }

    /// What something is made of: of several disks, the partition of each.
    fn devices(&self, on: &On, disks: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
        match on {
            On::Partition(number) => disks
                .iter()
                .map(|disk| nodes::partition(disk, *number))
                .collect(),
            On::Name(name) => {
                let found = self.named.iter().find(|(other, _)| other == name);
                let (_, node) = found.with_context(|| format!("there is no {name}"))?;
                Ok(vec![node.clone()])
            }
        }
    }

    fn group(&mut self, group: &Group, disks: &[PathBuf]) -> anyhow::Result<()> {
        let mut devices = Vec::new();
        for on in &group.on {
            devices.extend(self.devices(on, disks)?);
        }
        run(&commands::physical(&devices), self.reporter)?;
        run(&commands::group(group, &devices), self.reporter)?;
        self.stops.push(commands::deactivate(&group.name, &devices));
        for volume in &group.volumes {
            run(&commands::volume(group, volume, &devices), self.reporter)?;
        }
        for volume in &group.volumes {
            let node = commands::node(group, &volume.name);
            wipe(&node)?;
            self.nodes.push((volume.slot, node));
        }
        Ok(())
    }

    /// The node of a slot that is no partition.
    pub fn node(&self, slot: usize) -> Option<&Path> {
        let found = self.nodes.iter().find(|(index, _)| *index == slot);
        found.map(|(_, node)| node.as_path())
    }

    /// Lets all of it go. When it returns, nothing holds the disks.
    ///
    /// # Errors
    /// When something cannot be let go.
    pub fn finish(mut self) -> anyhow::Result<()> {
        while let Some(stop) = self.stops.pop() {
            let stopped = patiently(&stop, self.reporter);
            if stopped.is_err() {
                self.stops.push(stop);
                return stopped;
            }
        }
        Ok(())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        while let Some(stop) = self.stops.pop() {
            if let Err(error) = patiently(&stop, self.reporter) {
                self.reporter.warn(format!(
                    "an array, LUKS or a volume is still in use: {error:#}"
                ));
            }
        }
    }
}

/// Whether one of `parts` is in an array; `block` is the folder of all block devices in sysfs.
fn has_member(block: &Path, array: &Path, parts: &[PathBuf]) -> bool {
    let folder = block.join(array.file_name().unwrap_or_default());
    let members = fs::read_dir(folder.join("slaves")).into_iter().flatten();
    members.flatten().any(|member| {
        let name = devices::name(&member.path());
        name.is_some_and(|name| parts.contains(&Path::new("/dev").join(name)))
    })
}

/// Whether what has this UUID in its header is open; `block` is the folder of all block devices in sysfs.
fn is_mapped(block: &Path, uuid: &str) -> bool {
    // As cryptsetup tells device-mapper, with the mapping's name behind.
    let start = format!("CRYPT-LUKS2-{}-", uuid.replace('-', ""));
    let devices = fs::read_dir(block).into_iter().flatten().flatten();
    let mut uuids = devices.map(|device| devices::fact(&device.path().join("dm/uuid")));
    uuids.any(|found| found.starts_with(&start))
}

pub(super) fn patiently(command: &Command, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let ended = run(command, reporter);
        if ended.is_ok() || Instant::now() >= until {
            return ended;
        }
        thread::sleep(PAUSE);
    }
}

pub(super) fn run(command: &Command, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let Command { program, arguments } = command;
    tools::run_with(program, arguments, environment(), 0, reporter)
}

pub(super) fn feed(
    command: &Command,
    passphrase: &Passphrase,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let Command { program, arguments } = command;
    let input = passphrase.bytes();
    tools::run_fed(program, arguments, environment(), input, reporter)
}

fn environment() -> &'static [(&'static str, &'static str)] {
    if Path::new(UDEV).exists() {
        &[]
    } else {
        &commands::WITHOUT_UDEV
    }
}

/// Whatever was there before: an array and a volume begin where another one may have begun, with all its names.
fn wipe(node: &Path) -> anyhow::Result<()> {
    let target = Target::reopen(node)?;
    let size = target.limit().unwrap_or_default();
    let doing = || format!("zeroing old signatures on {}", node.display());
    for range in signature_places::of_volume(&(0..size)).iter() {
        target.zero(range).with_context(doing)?;
    }
    target.flush().with_context(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_that_others_made_under_the_same_name_is_not_ours() {
        let block = tempfile::tempdir().unwrap();
        let node = Path::new("/dev/md127");
        let parts = ["/dev/sda2", "/dev/cciss/c0d0p2"].map(PathBuf::from);
        assert!(!has_member(block.path(), node, &parts));
        let members = block.path().join("md127/slaves");
        fs::create_dir_all(members.join("sdb2")).unwrap();
        assert!(!has_member(block.path(), node, &parts));
        fs::create_dir(members.join("cciss!c0d0p2")).unwrap();
        assert!(has_member(block.path(), node, &parts));
    }

    #[test]
    fn what_cryptsetup_opened_before_it_was_ended_is_known_by_its_header() {
        let block = tempfile::tempdir().unwrap();
        let uuid = "0d9f5f0a-6a0c-4c1a-9a77-1f6d6f2a5e11";
        let put = |name: &str, uuid: &str| {
            let folder = block.path().join(name).join("dm");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("uuid"), uuid).unwrap();
        };
        fs::create_dir(block.path().join("sda")).unwrap();
        put("dm-0", "LVM-0d9f5f0a6a0c4c1a9a771f6d6f2a5e11\n");
        // Another one of the same name.
        put(
            "dm-1",
            "CRYPT-LUKS2-ffff5f0a6a0c4c1a9a771f6d6f2a5e11-system\n",
        );
        assert!(!is_mapped(block.path(), uuid));
        put(
            "dm-2",
            "CRYPT-LUKS2-0d9f5f0a6a0c4c1a9a771f6d6f2a5e11-system\n",
        );
        assert!(is_mapped(block.path(), uuid));
    }
}
