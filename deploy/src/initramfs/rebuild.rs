//! A tree's own program makes its initramfs anew.

use super::Looked;
use crate::chroot::{Call, Chroot};
use crate::files::Files;
use pitstop_imaging::event::Reporter;
use std::time::Duration;

/// Minutes on a small machine.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// What distributions have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Debian and its kin.
    UpdateInitramfs,
    /// Red Hat's and SUSE's.
    Dracut,
    /// Arch's.
    Mkinitcpio,
    /// Alpine's.
    Mkinitfs,
}

const TOOLS: [(Tool, &str); 5] = [
    (Tool::UpdateInitramfs, "/usr/sbin/update-initramfs"),
    (Tool::Dracut, "/usr/bin/dracut"),
    (Tool::Dracut, "/usr/sbin/dracut"),
    (Tool::Mkinitcpio, "/usr/bin/mkinitcpio"),
    (Tool::Mkinitfs, "/sbin/mkinitfs"),
];

/// For messages.
pub fn names() -> String {
    "update-initramfs, dracut, mkinitcpio, mkinitfs".to_owned()
}

/// Folders of programs, some of which are links to others.
const FOLDERS: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];

/// Whether a path may be one of them, by whatever link it is found.
pub fn is_tool(path: &str) -> bool {
    let Some((folder, name)) = path.rsplit_once('/') else {
        return false;
    };
    let is_named = |tool: &str| tool.rsplit('/').next() == Some(name);
    FOLDERS.contains(&folder) && TOOLS.iter().any(|(_, tool)| is_named(tool))
}

impl Tool {
    pub fn of(chroot: &Chroot) -> Option<Self> {
        Self::found(|path| chroot.has(path))
    }

    /// The one that a tree has.
    pub fn in_tree(files: &Files) -> Option<Self> {
        Self::found(|path| files.exists(path))
    }

    fn found(has: impl Fn(&str) -> bool) -> Option<Self> {
        let found = TOOLS.iter().find(|(_, path)| has(path));
        found.map(|(tool, _)| *tool)
    }

    /// Runs it for the kernel that boots.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(
        self,
        chroot: &Chroot,
        looked: &Looked,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<()> {
        let path = TOOLS
            .iter()
            .find(|(tool, path)| *tool == self && chroot.has(path))
            .map_or("", |(_, path)| path);
        let kernel = looked.kernel.as_str();
        let image = looked.initramfs.as_ref().map(|path| format!("/{path}"));
        let drivers = looked.missing.join(" ");
        let mut arguments: Vec<&str> = Vec::new();
        match self {
            Self::UpdateInitramfs => {
                let how = if image.is_some() { "-u" } else { "-c" };
                arguments.extend([how, "-k", kernel]);
            }
            Self::Dracut => {
                arguments.push("--force");
                if !drivers.is_empty() {
                    arguments.extend(["--add-drivers", &drivers]);
                }
                match &image {
                    Some(image) => arguments.extend([image.as_str(), kernel]),
                    None => arguments.extend(["--kver", kernel]),
                }
            }
            Self::Mkinitcpio => arguments.push("-P"),
            Self::Mkinitfs => arguments.push(kernel),
        }
        reporter.info(format!("running {path} {}", arguments.join(" ")));
        chroot.run(&Call::new(path, &arguments, LIMIT), reporter)
    }
}
