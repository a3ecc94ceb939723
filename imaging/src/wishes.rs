//! What an admin may wish of a tree that goes to a machine, as plain values: `protocol` reads their words, `deploy` does them.

/// Whether the machine is to be one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Identity {
    /// Host keys, machine-id, DUID and the like are made anew, each machine its own.
    #[default]
    New,
    /// What the files have stays.
    Keep,
}

/// How the machine is made to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BootWish {
    /// Natively where that is possible, else by the tree's own programs in a chroot.
    #[default]
    Auto,
    /// Natively, or refused.
    Native,
    /// By the tree's own programs, or refused.
    Chroot,
    /// Not at all: the admin's hooks see to it.
    None,
}

/// What happens to the initramfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Initrd {
    /// Made anew where it lacks a driver of this machine's disk, or what `new-ids` changed.
    #[default]
    Auto,
    /// As it is in the tree; refused where a driver is missing.
    Keep,
    Rebuild,
}

/// What an update does with a file that was edited on the machine and changed in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Changes {
    /// The machine's stays, and is listed.
    #[default]
    Keep,
    /// The tree's comes, and is listed.
    Replace,
    /// The update is refused, with the list.
    Fail,
}

/// What an update does with files that no tree of this machine ever had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strangers {
    #[default]
    Keep,
    Delete,
    /// The update is refused, with the list.
    Fail,
}

/// How an update finds out whether a file of the machine is as the last deploy left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Check {
    /// By kind, size, times and attributes.
    #[default]
    Quick,
    /// By the BLAKE3 of what is in it, too.
    Full,
}

/// Where a machine that runs a tree writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Writable {
    /// In memory: every boot begins with the tree as it is.
    #[default]
    Memory,
    /// On the partition labelled `scratch`, where it survives a boot.
    Scratch,
}
