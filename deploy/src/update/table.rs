//! The table that an update follows: what the trees say of a path, what is on the machine, what the admin wishes.

use crate::wishes::{Changes, Strangers};
use serde::Serialize;

/// What became of a path from the last tree to the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InTrees {
    Same,
    Changed,
    /// Only the new one has it.
    Added,
    /// Only the last one had it.
    Gone,
    /// Neither has it.
    Unknown,
}

/// What is at a path on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Here {
    Absent,
    AsOld,
    AsNew,
    /// As neither tree has it.
    Edited,
}

/// What an update does at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// It is as it is to be.
    Nothing,
    /// The new tree's comes, data and all.
    Place,
    /// Only attributes change.
    Set,
    Delete,
    /// The machine's stays, and is listed.
    Keep,
    /// No update where this is so: the admin wishes none, or a folder would be left half empty.
    Refuse,
}

/// Why it does that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    Same,
    Changed,
    New,
    Gone,
    EditedHere,
    RemovedHere,
    EditedAndChanged,
    RemovedAndChanged,
    EditedAndGone,
    InTheWay,
    Unrecorded,
    UnrecordedOlder,
    Stranger,
    MachinesOwn,
    Below,
    HoldsOthers,
    FolderInTheWay,
    RunningInTheWay,
    MountPoint,
    Linked,
    Needed,
    Running,
    BootStays,
}

impl Why {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Why::Same => "as in the tree",
            Why::Changed => "changed in the tree",
            Why::New => "new in the tree",
            Why::Gone => "gone from the tree",
            Why::EditedHere => "edited on the machine",
            Why::RemovedHere => "removed on the machine",
            Why::EditedAndChanged => "edited on the machine, and changed in the tree",
            Why::RemovedAndChanged => "removed on the machine, and changed in the tree",
            Why::EditedAndGone => "edited on the machine, and gone from the tree",
            Why::InTheWay => "the machine had something of its own where the tree now has this",
            Why::Unrecorded => "other than in the tree, and no record says who changed it",
            Why::UnrecordedOlder => "older than in the tree; there is no record",
            Why::Stranger => "in no tree of this machine",
            Why::MachinesOwn => "the machine's own",
            Why::Below => "what is above it on the machine is no folder",
            Why::HoldsOthers => "gone from the tree, but something in it stays",
            Why::FolderInTheWay => {
                "no folder in the tree, and on the machine one with something of its own: move that elsewhere, or leave the \
                 folder alone (exclude)"
            }
            Why::RunningInTheWay => {
                "no folder in the tree, and on the machine one with modules of the kernel that runs: update it while it does not \
                 run (the action update), or leave the folder alone (exclude)"
            }
            Why::MountPoint => "another filesystem is mounted there",
            Why::Linked => "another name of a file that is replaced",
            Why::Needed => "removed on the machine; something new goes into it",
            Why::Running => "gone from the tree, but of the kernel that runs",
            Why::BootStays => {
                "gone from the tree, but the boot configuration that stays may name it"
            }
        }
    }
}

/// What the admin wishes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes {
    pub changes: Changes,
    pub strangers: Strangers,
}

/// What is taken becomes [`Act::Place`] here; whether attributes alone do is found out later. `older`: there is no record of
/// a last tree, and whether the machine's is older than the tree's and nothing that an admin edits.
pub fn decide(trees: InTrees, here: Here, older: Option<bool>, wishes: Wishes) -> (Act, Why) {
    let by_changes = |why| match wishes.changes {
        Changes::Keep => (Act::Keep, why),
        Changes::Replace => (Act::Place, why),
        Changes::Fail => (Act::Refuse, why),
    };
    match (trees, here) {
        (InTrees::Same, Here::AsOld | Here::AsNew)
        | (InTrees::Changed | InTrees::Added, Here::AsNew)
        | (InTrees::Gone | InTrees::Unknown, Here::Absent) => (Act::Nothing, Why::Same),
        (InTrees::Same, Here::Edited) => by_changes(Why::EditedHere),
        (InTrees::Same, Here::Absent) => by_changes(Why::RemovedHere),
        (InTrees::Changed, Here::AsOld) => (Act::Place, Why::Changed),
        (InTrees::Changed, Here::Edited) => by_changes(Why::EditedAndChanged),
        (InTrees::Changed, Here::Absent) => by_changes(Why::RemovedAndChanged),
        (InTrees::Added, Here::Absent | Here::AsOld) => (Act::Place, Why::New),
        (InTrees::Added, Here::Edited) => match older {
            None => by_changes(Why::InTheWay),
            Some(true) => (Act::Place, Why::UnrecordedOlder),
            Some(false) => by_changes(Why::Unrecorded),
        },
        (InTrees::Gone, Here::AsOld | Here::AsNew) => (Act::Delete, Why::Gone),
        (InTrees::Gone, Here::Edited) => (Act::Keep, Why::EditedAndGone),
        (InTrees::Unknown, _) => match wishes.strangers {
            Strangers::Keep => (Act::Keep, Why::Stranger),
            Strangers::Delete => (Act::Delete, Why::Stranger),
            Strangers::Fail => (Act::Refuse, Why::Stranger),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(changes: Changes, strangers: Strangers) -> Wishes {
        Wishes { changes, strangers }
    }

    #[test]
    fn each_cell_is_what_the_table_says() {
        let keep = Wishes::default();
        for (trees, here, act) in [
            (InTrees::Same, Here::AsOld, Act::Nothing),
            (InTrees::Same, Here::Edited, Act::Keep),
            (InTrees::Same, Here::Absent, Act::Keep),
            (InTrees::Changed, Here::AsOld, Act::Place),
            (InTrees::Changed, Here::AsNew, Act::Nothing),
            (InTrees::Changed, Here::Edited, Act::Keep),
            (InTrees::Changed, Here::Absent, Act::Keep),
            (InTrees::Added, Here::Absent, Act::Place),
            (InTrees::Added, Here::Edited, Act::Keep),
            (InTrees::Gone, Here::AsOld, Act::Delete),
            (InTrees::Gone, Here::Edited, Act::Keep),
            (InTrees::Gone, Here::Absent, Act::Nothing),
            (InTrees::Unknown, Here::Edited, Act::Keep),
        ] {
            assert_eq!(decide(trees, here, None, keep).0, act, "{trees:?} {here:?}");
        }
    }

    #[test]
    fn wishes_decide_what_was_edited_and_nothing_else() {
        for (changes, act) in [
            (Changes::Keep, Act::Keep),
            (Changes::Replace, Act::Place),
            (Changes::Fail, Act::Refuse),
        ] {
            let wishes = with(changes, Strangers::Keep);
            for trees in [InTrees::Same, InTrees::Changed, InTrees::Added] {
                assert_eq!(decide(trees, Here::Edited, None, wishes).0, act);
            }
            assert_eq!(
                decide(InTrees::Gone, Here::Edited, None, wishes).0,
                Act::Keep
            );
            assert_eq!(
                decide(InTrees::Changed, Here::AsOld, None, wishes).0,
                Act::Place
            );
            // Without a record what is older than the tree's is no edit.
            let older = decide(InTrees::Added, Here::Edited, Some(true), wishes);
            assert_eq!(older, (Act::Place, Why::UnrecordedOlder));
            assert_eq!(
                decide(InTrees::Added, Here::Edited, Some(false), wishes).0,
                act
            );
        }
        for (strangers, act) in [
            (Strangers::Keep, Act::Keep),
            (Strangers::Delete, Act::Delete),
            (Strangers::Fail, Act::Refuse),
        ] {
            let wishes = with(Changes::Keep, strangers);
            assert_eq!(decide(InTrees::Unknown, Here::Edited, None, wishes).0, act);
        }
    }
}
