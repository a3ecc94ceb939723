//! Every option of a job, once: its key in the host file, the kind of its value, which actions take it, its default,
//! and the line of help that the command, its manual and its completion show. The check of a host file asks here who
//! takes what; `pitstop host set`, `backup` and `restore` make their options of it; the documentation is tested against it.

use crate::job::hostfile::HostFile;
use crate::job::words::{Choice, choices};
use crate::job::{ActionName, After, Distribute, Method};
use pitstop_imaging::image::{Delta, Level, ReadErrors};
use pitstop_imaging::wishes::{BootWish, Changes, Check, Identity, Initrd, Strangers, Writable};

/// What kind of value an option has.
#[derive(Clone, Copy)]
pub enum Kind {
    /// The name of an action.
    Action,
    /// `true` or `false`. On a command line its name alone is `true`.
    Switch,
    /// One of these words; what stands for it in a help.
    Words(&'static str, fn() -> Vec<Choice>),
    /// `true`, `false` or one more word. On a command line its name alone is `true`.
    SwitchOrWord(fn() -> Vec<Choice>),
    /// A whole number.
    Count,
    /// `30s`, `5m`
    Time,
    /// `80MiB/s`
    Rate,
    /// A text; what stands for it in a help.
    Text(&'static str),
    /// A text that no message shows.
    Secret,
    /// A list of URLs.
    Urls,
    /// A list of disks.
    Disks,
    /// A list of partitions.
    Partitions,
    /// A list of patterns of paths in a tree.
    Patterns,
    /// A list of folders or files on the share; what stands for one in a help.
    Paths(&'static str),
    /// A list of public keys of age's.
    Keys,
    /// A table; what stands for it in a help.
    Table(&'static str),
}

impl Kind {
    /// What stands for the value in a help.
    pub fn placeholder(self) -> &'static str {
        match self {
            Kind::Action => "ACTION",
            Kind::Switch | Kind::SwitchOrWord(_) => "WHEN",
            Kind::Words(what, _) | Kind::Text(what) | Kind::Table(what) | Kind::Paths(what) => what,
            Kind::Count => "N",
            Kind::Time => "TIME",
            Kind::Rate => "RATE",
            Kind::Secret => "SECRET",
            Kind::Urls => "URL",
            Kind::Disks => "DISK",
            Kind::Partitions => "PARTITION",
            Kind::Patterns => "PATTERN",
            Kind::Keys => "KEY",
        }
    }

    /// Whether the value is a list: on a command line, each entry is an option of its own.
    pub fn is_list(self) -> bool {
        matches!(
            self,
            Kind::Urls
                | Kind::Disks
                | Kind::Partitions
                | Kind::Patterns
                | Kind::Paths(_)
                | Kind::Keys
        )
    }
}

/// What holds where an option is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// A value, as a command line has it.
    Value(&'static str),
    /// What no value of the option says.
    Described(&'static str),
    /// Nothing: the option does not apply.
    None,
    /// It has to be given.
    Required,
}

/// One option.
pub struct JobOption {
    /// The host file's key.
    pub key: &'static str,
    pub kind: Kind,
    /// Which actions take it; empty for every action.
    actions: &'static [ActionName],
    pub preset: Preset,
    /// The name of the command's option, without dashes; `None` where a command line has none.
    pub flag: Option<&'static str>,
    /// Keys that cannot stand beside it.
    pub excludes: &'static [&'static str],
    /// What it does, in one line.
    pub help: &'static str,
    /// Whether another action refuses it, where it would be misunderstood: it says what of a disk stays as it is, or
    /// becomes larger. Other options of another action say nothing to this one.
    pub refused_elsewhere: bool,
    /// Whether it is of one host file alone, and no setting that many machines could share.
    pub of_one_file: bool,
    /// Whether the file asks for it: `false` asks for nothing.
    asked: fn(&HostFile) -> bool,
}

impl JobOption {
    /// An option of every action that is nothing by default, with an option of the same name on the command line.
    const fn new(
        key: &'static str,
        kind: Kind,
        asked: fn(&HostFile) -> bool,
        help: &'static str,
    ) -> Self {
        Self {
            key,
            kind,
            actions: &[],
            preset: Preset::None,
            flag: Some(key),
            excludes: &[],
            help,
            refused_elsewhere: false,
            of_one_file: false,
            asked,
        }
    }

    const fn of(self, actions: &'static [ActionName]) -> Self {
        Self { actions, ..self }
    }

    const fn preset(self, preset: Preset) -> Self {
        Self { preset, ..self }
    }

    const fn value(self, value: &'static str) -> Self {
        self.preset(Preset::Value(value))
    }

    const fn flag(self, flag: Option<&'static str>) -> Self {
        Self { flag, ..self }
    }

    const fn excludes(self, excludes: &'static [&'static str]) -> Self {
        Self { excludes, ..self }
    }

    const fn refused_elsewhere(self) -> Self {
        Self {
            refused_elsewhere: true,
            ..self
        }
    }

    const fn of_one_file(self) -> Self {
        Self {
            of_one_file: true,
            ..self
        }
    }

    pub fn find(key: &str) -> Option<&'static Self> {
        OPTIONS.iter().find(|option| option.key == key)
    }

    pub fn is_of(&self, action: ActionName) -> bool {
        self.actions.is_empty() || self.actions.contains(&action)
    }

    /// Whether some actions take it and others do not.
    pub fn is_of_some(&self) -> bool {
        !self.actions.is_empty()
    }

    /// The actions that take it.
    pub fn actions(&self) -> &'static [ActionName] {
        match self.actions {
            [] => &ActionName::ALL,
            some => some,
        }
    }

    /// Whether `file` asks for it.
    pub fn is_asked(&self, file: &HostFile) -> bool {
        (self.asked)(file)
    }

    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret)
    }
}

const BACKUPS: &[ActionName] = &[ActionName::Backup, ActionName::BackupAgain];
const RESTORE: &[ActionName] = &[ActionName::Restore];
const TREES: &[ActionName] = &[
    ActionName::Capture,
    ActionName::Deploy,
    ActionName::Update,
    ActionName::Run,
];
const UPDATE: &[ActionName] = &[ActionName::Update];
/// Those that write an image or a tree from the share.
const IMAGES: &[ActionName] = &[
    ActionName::Restore,
    ActionName::Deploy,
    ActionName::Update,
    ActionName::Run,
];

/// Those that get all of an image or a tree, and can pass it on.
const SHARED: &[ActionName] = &[ActionName::Restore, ActionName::Deploy, ActionName::Run];

/// The key of those who can read a new image.
pub const RECIPIENTS: &str = "recipients";

/// In the order in which files, help and documentation have them.
pub static OPTIONS: &[JobOption] = &[
    JobOption::new("action", Kind::Action, |file| file.action.is_some(), "What to do")
        .preset(Preset::Required)
        .flag(None),
    JobOption::new("share", Kind::Text("URL"), |file| file.share.is_some(), "The share")
        .preset(Preset::Required),
    JobOption::new("image", Kind::Text("FOLDER"), |file| file.image.is_some(), "The folder on the share")
        .preset(Preset::Described("the machine's IP address")),
    JobOption::new(
        "disks",
        Kind::Disks,
        |file| file.disks.is_some(),
        "A disk: sda, serial=S4EVNX0M123456 or wwn=0x5000…",
    )
    .preset(Preset::Described("every fixed disk"))
    .flag(Some("disk")),
    JobOption::new(
        "delete",
        Kind::Urls,
        |file| file.delete.is_some(),
        "A configuration to delete when the job is done",
    )
    .preset(Preset::Described("the host file itself")),
    JobOption::new(
        "attempts",
        Kind::Count,
        |file| file.attempts.is_some(),
        "Failed tries before the machine holds in rescue",
    )
    .value("3"),
    JobOption::new(
        "failure-delay",
        Kind::Time,
        |file| file.failure_delay.is_some(),
        "The wait before the reboot that follows a failure: 30s, 5m",
    )
    .value("5m"),
    JobOption::new(
        "progress-timeout",
        Kind::Time,
        |file| file.progress_timeout.is_some(),
        "How long a run may move nothing before it has failed: a disk or a driver hangs",
    )
    .value("30m"),
    JobOption::new(
        "on-success",
        Kind::Words("WHAT", choices::<After>),
        |file| file.on_success.is_some(),
        "What the machine does when the job is done",
    )
    .value("reboot"),
    JobOption::new(
        "on-failure",
        Kind::Words("WHAT", choices::<After>),
        |file| file.on_failure.is_some(),
        "What the machine does when the job fails",
    )
    .value("reboot"),
    JobOption::new(
        "exact",
        Kind::Switch,
        |file| file.exact == Some(true),
        "Keep every block, also those that no filesystem uses",
    )
    .of(BACKUPS)
    .value("false"),
    JobOption::new(
        "level",
        Kind::Words("LEVEL", choices::<Level>),
        |file| file.level.is_some(),
        "How hard to compress: as the time allows, fast, or small and several times slower",
    )
    .of(&[ActionName::Backup, ActionName::BackupAgain, ActionName::Capture])
    .value("auto"),
    JobOption::new(
        "read-errors",
        Kind::Words("WHAT", choices::<ReadErrors>),
        |file| file.read_errors.is_some(),
        "What to do about sectors that cannot be read: fail, or zeros in the image and a list beside it",
    )
    .of(BACKUPS)
    .value("fail"),
    JobOption::new(
        "versions",
        Kind::Switch,
        |file| file.versions == Some(true),
        "Keep the image before .old too, under the time when it was made",
    )
    .of(&[ActionName::BackupAgain])
    .value("false"),
    JobOption::new(
        RECIPIENTS,
        Kind::Keys,
        |file| file.recipients.is_some(),
        "Encrypt the image for this key, age1…",
    )
    .of(&[ActionName::Backup, ActionName::BackupAgain, ActionName::Capture])
    .preset(Preset::Described("a plain image"))
    .flag(Some("recipient")),
    JobOption::new(
        "delta",
        Kind::SwitchOrWord(choices::<Delta>),
        |file| file.delta.is_some(),
        "Compare with the disk first and move only what differs; auto lets a sample decide",
    )
    .of(RESTORE)
    .value("auto"),
    JobOption::new(
        "verify",
        Kind::Switch,
        |file| file.verify == Some(true),
        "Read a restored disk back and compare",
    )
    .of(RESTORE)
    .value("false"),
    JobOption::new(
        "new-ids",
        Kind::Switch,
        |file| file.new_ids == Some(true),
        "Give a restored or deployed disk and its partitions new GUIDs, or its MBR a new signature",
    )
    .of(&[ActionName::Restore, ActionName::Deploy])
    .value("false")
    .excludes(&["keep", "partitions"]),
    JobOption::new(
        "grow",
        Kind::Switch,
        |file| file.grow == Some(true),
        "On a larger disk, let the last partition and its filesystem (ext2-4, XFS, Btrfs, NTFS) have the room",
    )
    .of(RESTORE)
    .refused_elsewhere()
    .value("false")
    .excludes(&["keep", "partitions"]),
    JobOption::new(
        "keep",
        Kind::Partitions,
        |file| file.keep.is_some(),
        "A partition of the disk that survives a restore, by number, GUID or GPT name",
    )
    .of(RESTORE)
    .refused_elsewhere()
    .excludes(&["partitions"]),
    JobOption::new(
        "partitions",
        Kind::Partitions,
        |file| file.partitions.is_some(),
        "Restore only this partition of the image, into the same of the disk, by number, GUID or GPT name",
    )
    .of(RESTORE)
    .refused_elsewhere()
    .preset(Preset::Described("all"))
    .flag(Some("partition")),
    JobOption::new(
        "method",
        Kind::Words("METHOD", choices::<Method>),
        |file| file.method.is_some(),
        "How to wipe; a wipe has no default",
    )
    .of(&[ActionName::Wipe])
    .preset(Preset::Required),
    JobOption::new(
        "layout",
        Kind::Text("FILE"),
        |file| file.layout.is_some(),
        "The layout to make, a file in the image folder",
    )
    .of(&[ActionName::Partition, ActionName::Deploy])
    .preset(Preset::Required),
    JobOption::new(
        "luks-key",
        Kind::Text("FILE"),
        |file| file.luks_key.is_some(),
        "The passphrase of the layout's [[luks]], or of what a system is captured from, in the image folder, encrypted by age: luks.key.age",
    )
    .of(&[ActionName::Capture, ActionName::Deploy])
    .refused_elsewhere(),
    JobOption::new(
        "tree",
        Kind::Text("NAME"),
        |file| file.tree.is_some(),
        "The tree: NAME or NAME@VERSION on the share, or a URL",
    )
    .of(TREES)
    .refused_elsewhere()
    .preset(Preset::Required),
    JobOption::new(
        "exclude",
        Kind::Patterns,
        |file| file.exclude.is_some(),
        "Leave out of a capture, or alone in an update, what matches: /srv/*, **/*.pyc",
    )
    .of(&[ActionName::Capture, ActionName::Update])
    .refused_elsewhere(),
    JobOption::new(
        "local",
        Kind::Patterns,
        |file| file.local.is_some(),
        "What is this machine's own and stays through an update: /etc/hosts, /srv/**",
    )
    .of(UPDATE)
    .refused_elsewhere(),
    JobOption::new(
        "identity",
        Kind::Words("WHAT", choices::<Identity>),
        |file| file.identity.is_some(),
        "Host keys, machine-id, leases and the like: made anew, or kept as the files have them",
    )
    .of(&[ActionName::Capture, ActionName::Deploy, ActionName::Run])
    .value("new"),
    JobOption::new(
        "hostname",
        Kind::Text("NAME"),
        |file| file.hostname.is_some(),
        "The machine's name",
    )
    .of(&[ActionName::Deploy, ActionName::Run])
    .preset(Preset::Described("what DHCP or reverse DNS says")),
    JobOption::new(
        "overrides",
        Kind::Paths("FOLDER"),
        |file| file.overrides.is_some(),
        "A folder of the share whose files are laid over the tree's; later ones win",
    )
    .of(&[ActionName::Deploy, ActionName::Update, ActionName::Run])
    .refused_elsewhere(),
    JobOption::new(
        "hooks",
        Kind::Paths("FILE"),
        |file| file.hooks.is_some(),
        "A script of the share to run in the new system",
    )
    .of(&[ActionName::Deploy, ActionName::Update])
    .flag(Some("hook"))
    .refused_elsewhere(),
    JobOption::new(
        "secrets",
        Kind::Text("FILE"),
        |file| file.secrets.is_some(),
        "What the hooks are to know and nobody else: a file of the share, encrypted by age",
    )
    .of(&[ActionName::Deploy, ActionName::Update])
    .refused_elsewhere(),
    JobOption::new(
        "boot",
        Kind::Words("HOW", choices::<BootWish>),
        |file| file.boot.is_some(),
        "How the machine is made to boot: natively, by the tree's own programs, or not at all",
    )
    .of(&[ActionName::Deploy])
    .value("auto"),
    JobOption::new(
        "initrd",
        Kind::Words("HOW", choices::<Initrd>),
        |file| file.initrd.is_some(),
        "The initramfs: made anew where a driver is missing, kept, or made anew in any case",
    )
    .of(&[ActionName::Deploy, ActionName::Update])
    .value("auto"),
    JobOption::new(
        "changes",
        Kind::Words("WHAT", choices::<Changes>),
        |file| file.changes.is_some(),
        "Files that were edited on the machine and changed in the tree",
    )
    .of(UPDATE)
    .refused_elsewhere()
    .value("keep"),
    JobOption::new(
        "strangers",
        Kind::Words("WHAT", choices::<Strangers>),
        |file| file.strangers.is_some(),
        "Files that no tree of this machine ever had",
    )
    .of(UPDATE)
    .refused_elsewhere()
    .value("keep"),
    JobOption::new(
        "check",
        Kind::Words("HOW", choices::<Check>),
        |file| file.check.is_some(),
        "How files that were edited are told: by size and times, or by what is in them",
    )
    .of(UPDATE)
    .value("quick"),
    JobOption::new(
        "writable",
        Kind::Words("WHERE", choices::<Writable>),
        |file| file.writable.is_some(),
        "Where a machine that runs a tree writes: memory, or the partition labelled scratch",
    )
    .of(&[ActionName::Run])
    .value("memory"),
    JobOption::new(
        "retry-for",
        Kind::Time,
        |file| file.retry_for.is_some(),
        "How long a server that goes away is waited for",
    )
    .value("1m"),
    JobOption::new(
        "rate-limit",
        Kind::Rate,
        |file| file.rate_limit.is_some(),
        "Move no more image bytes a second than this: 80MiB/s",
    )
    .preset(Preset::Described("no limit")),
    JobOption::new(
        "distribute",
        Kind::Words("HOW", choices::<Distribute>),
        |file| file.distribute.is_some(),
        "Have an image or a tree from other machines that get it too: auto where the server knows of two or more",
    )
    .of(SHARED)
    .value("auto"),
    JobOption::new(
        "mirrors",
        Kind::Urls,
        |file| file.mirrors.is_some(),
        "A server near the machine that holds the image too: what comes from there is proven, and no token is sent to it",
    )
    .of(IMAGES)
    .preset(Preset::Described("the share alone"))
    .flag(Some("mirror")),
    // Other users of a computer see its command lines: what lets in has no option there.
    JobOption::new("token", Kind::Secret, |file| file.token.is_some(), "A bearer token")
        .flag(None),
    JobOption::new(
        "user",
        Kind::Text("NAME"),
        |file| file.user.is_some(),
        "The user name for HTTP basic log-in",
    )
    .flag(None),
    JobOption::new(
        "password",
        Kind::Secret,
        |file| file.password.is_some(),
        "The password for HTTP basic log-in",
    )
    .flag(None),
    JobOption::new(
        "report",
        Kind::Text("URL"),
        |file| file.report.is_some(),
        "Where to send what happens, about once a second",
    )
    .preset(Preset::Described("nowhere"))
    .flag(None),
    JobOption::new(
        "report-token",
        Kind::Secret,
        |file| file.report_token.is_some(),
        "What to show to the server of `report`, and to no other",
    )
    .flag(None),
    JobOption::new(
        "check-in",
        Kind::Text("URL"),
        |file| file.check_in.is_some(),
        "Where the machine says that it has come, and how it goes; written by the server",
    )
    .flag(None)
    .of_one_file(),
    JobOption::new(
        "for",
        Kind::Table("MACHINE"),
        |file| file.meant_for.is_some(),
        "Which machine it is for: all that is given must be that machine's",
    )
    .preset(Preset::Described("the machine that reads it"))
    .flag(None)
    .of_one_file(),
    JobOption::new(
        "digests",
        Kind::Table("DIGESTS"),
        |file| file.digests.is_some(),
        "What is in each file that the job writes: the BLAKE3 of an image's index",
    )
    .preset(Preset::Described("whatever is there"))
    .flag(None)
    .of_one_file(),
    JobOption::new(
        "not-after",
        Kind::Text("TIME"),
        |file| file.not_after.is_some(),
        "Until when it may be done",
    )
    .preset(Preset::Described("for ever"))
    .flag(None)
    .of_one_file(),
    JobOption::new(
        "id",
        Kind::Text("WORD"),
        |file| file.id.is_some(),
        "What is done once: the share remembers it",
    )
    .flag(None)
    .of_one_file(),
    JobOption::new(
        "signed",
        Kind::Switch,
        |file| file.signed == Some(true),
        "Write only an image or a tree whose .toml is signed with a key that the machine trusts",
    )
    .of(IMAGES)
    .value("false"),
    JobOption::new(
        "round",
        Kind::Text("WORD"),
        |file| file.round.is_some(),
        "What each machine does once: the share remembers which have done it",
    )
    .flag(None)
    .of_one_file(),
];
