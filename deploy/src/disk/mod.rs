//! A tree onto a disk: planned first, with nothing written; then done, with what makes it boot at the very end.

mod btrfs;
mod commit;
mod configuration;
mod disks;
mod drivers;
mod fat;
mod fat_dots;
mod fat_names;
mod fat_room;
mod fit;
pub(crate) mod fstab;
mod full;
mod limits;
mod mount_points;
mod mounts;
mod plan;
mod private;
mod room;
mod run;
pub(crate) mod stack;
pub(crate) mod volumes;

pub use plan::{Plan, plan};
pub use private::run as apart;
pub use run::Deployed;
pub use stack::Reading;

use crate::hooks::Hook;
use crate::overrides::Overlay;
use crate::passphrase::Passphrase;
use crate::wishes::{BootWish, Identity, Initrd};
use pitstop_imaging::layout::Layout;
use pitstop_trees::TreeImage;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a hook may run where nothing else is said.
pub const HOOK_LIMIT: Duration = Duration::from_secs(600);

/// What starts the machine that the disk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Firmware {
    /// Nobody knows: the disk is prepared for another machine. One way to boot is enough.
    #[default]
    Unknown,
    Bios,
    Uefi,
}

/// Where the firmware's boot entries are, and what they are told. Only on the machine that is to boot the disk.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'a> {
    /// The folder of the variables.
    pub efivars: &'a Path,
    /// Every disk of the machine, with the bytes of its sectors.
    pub disks: &'a [(PathBuf, u32)],
}

/// What is to go where, and how.
pub struct Deployment<'a> {
    pub image: &'a TreeImage<'a>,
    /// A block device or a plain file.
    pub disk: &'a Path,
    /// Other disks that get the same partitions, for the arrays of the layout. Block devices.
    pub mirrors: Vec<PathBuf>,
    /// In place of the image's own.
    pub layout: Option<Layout>,
    pub identity: Identity,
    pub hostname: Option<String>,
    /// Whether partitions and filesystems get identifiers of their own.
    pub new_ids: bool,
    pub boot: BootWish,
    pub initrd: Initrd,
    /// Files that are laid over the tree, the later ones over those before.
    pub overrides: Vec<Overlay>,
    /// Scripts that run in the tree, in this order.
    pub hooks: Vec<Hook>,
    /// How long each of them may run.
    pub hook_limit: Duration,
    /// What the file has that hooks find by `PITSTOP_SECRETS`.
    pub secrets: Option<Vec<u8>>,
    /// What opens the LUKS of the layout.
    pub passphrase: Option<Passphrase>,
    pub firmware: Firmware,
    pub entries: Option<Entries<'a>>,
    /// Cores to unpack on; 0 is all.
    pub threads: usize,
}

impl<'a> Deployment<'a> {
    /// The image onto the disk, without a wish.
    #[must_use]
    pub fn new(image: &'a TreeImage<'a>, disk: &'a Path) -> Self {
        Self {
            image,
            disk,
            mirrors: Vec::new(),
            layout: None,
            identity: Identity::default(),
            hostname: None,
            new_ids: false,
            boot: BootWish::default(),
            initrd: Initrd::default(),
            overrides: Vec::new(),
            hooks: Vec::new(),
            hook_limit: HOOK_LIMIT,
            secrets: None,
            passphrase: None,
            firmware: Firmware::default(),
            entries: None,
            threads: 0,
        }
    }
}
