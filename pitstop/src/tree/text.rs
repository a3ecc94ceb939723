//! Images and their entries as text for people.

use pitstop_imaging::units;
use pitstop_trees::entry::{Entry, Kind};
use pitstop_trees::path::shown;
use pitstop_trees::{Consistency, Difference, Meta, TreeImage};
use std::fmt::Write as _;

/// What `inspect` says.
pub fn describe(image: &TreeImage) -> String {
    let meta = image.meta_beside();
    let mut text = format!(
        "{}: a system as files, {}\n",
        image.name(),
        units::bytes(image.size())
    );
    for (key, value) in facts(&meta).iter().chain(&absences(&meta)) {
        if !value.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {key:<12}{value}");
        }
    }
    text
}

/// What is in it.
fn facts(meta: &Meta) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if !meta.name.is_empty() {
        facts.push(("name", format!("{}@{}", meta.name, meta.version)));
    }
    if let Some(os) = &meta.os {
        facts.push(("system", format!("{} ({} {})", os.name, os.id, os.version)));
    }
    facts.push(("processor", meta.architecture.clone()));
    facts.push(("kernels", meta.kernels.join(", ")));
    facts.push((
        "created",
        format!("{} by pitstop {}", meta.created, meta.pitstop),
    ));
    let files = units::bytes(meta.bytes);
    facts.push((
        "holds",
        format!("{files} of files in {} entries", meta.entries),
    ));
    let how = match meta.consistency {
        Consistency::Offline => "while nothing ran from it",
        Consistency::Snapshot => "from snapshots, while it ran",
        Consistency::Live => "while it ran",
    };
    facts.push(("captured", how.into()));
    for filesystem in &meta.filesystems {
        let words = [&filesystem.kind, &filesystem.label, &filesystem.uuid];
        let words: Vec<&str> = words
            .into_iter()
            .map(String::as_str)
            .filter(|it| !it.is_empty())
            .collect();
        facts.push((
            "filesystem",
            format!("{}: {}", filesystem.mount, words.join(", ")),
        ));
    }
    if let Some(boot) = &meta.boot {
        facts.push(("GRUB", boot.grub.join(", ")));
        facts.push(("loaders", boot.loaders.join(", ")));
        facts.push(("entries", boot.entries.join(", ")));
    }
    facts.push(("index", meta.index.clone()));
    facts
}

/// What is not in it, or is not sure.
fn absences(meta: &Meta) -> Vec<(&'static str, String)> {
    let mut absences = vec![("excludes", meta.excludes.join(" "))];
    if !meta.identity.is_empty() {
        absences.push(("identity", format!("left out: {}", meta.identity.join(" "))));
    }
    let left_out = meta.left_out.iter();
    absences.extend(left_out.map(|left| ("left out", format!("{}: {}", left.path, left.why))));
    absences.extend(
        meta.changed
            .iter()
            .map(|changed| ("changed", changed.clone())),
    );
    absences
}

/// An entry as `ls -l` has it.
pub fn long(entry: &Entry) -> String {
    let attributes = &entry.attributes;
    let (size, target) = match &entry.kind {
        Kind::File { size, .. } => (size.to_string(), String::new()),
        Kind::Symlink(target) => ("0".into(), format!(" -> {}", shown(target))),
        Kind::HardLink(target) => ("0".into(), format!(" link to {target}")),
        Kind::Character { major, minor } | Kind::Block { major, minor } => {
            (format!("{major},{minor}"), String::new())
        }
        Kind::Folder | Kind::Fifo => ("0".into(), String::new()),
    };
    let time = jiff::Timestamp::from_second(attributes.mtime.seconds)
        .map(|time| time.strftime("%Y-%m-%d %H:%M").to_string())
        .unwrap_or_default();
    let owner = format!("{}/{}", attributes.uid, attributes.gid);
    format!(
        "{} {owner:<11} {size:>12} {time} {}{target}",
        mode(entry),
        entry.path
    )
}

/// Ten letters: what it is, and who may do what.
fn mode(entry: &Entry) -> String {
    let mode = entry.attributes.mode;
    let kind = match entry.kind.letter() {
        b'f' => '-',
        other => char::from(other),
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (bits & 1 == 1, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// A line about what differs.
pub fn difference(difference: &Difference) -> String {
    match difference {
        Difference::Added(entry) => format!("+ {}\n", entry.path),
        Difference::Removed(entry) => format!("- {}\n", entry.path),
        Difference::Changed(_, entry, what) => {
            let words: Vec<&str> = what.iter().map(|aspect| aspect.word()).collect();
            format!("M {} ({})\n", entry.path, words.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_trees::entry::{Attributes, Time};
    use pitstop_trees::path::TreePath;

    #[test]
    fn an_entry_looks_as_ls_has_it() {
        let mut entry = Entry {
            path: TreePath::parse(b"usr/bin/su").unwrap(),
            kind: Kind::File {
                size: 71912,
                extents: None,
                hash: [0; 32],
            },
            attributes: Attributes {
                mode: 0o4755,
                mtime: Time {
                    seconds: 0,
                    nanos: 0,
                },
                ..Attributes::default()
            },
        };
        assert_eq!(
            long(&entry),
            "-rwsr-xr-x 0/0                71912 1970-01-01 00:00 /usr/bin/su"
        );
        entry.kind = Kind::Folder;
        entry.attributes.mode = 0o1666;
        assert!(long(&entry).starts_with("drw-rw-rwT "));
    }
}
