//! Jobs that are done once: which ids are finished, in `signed-jobs/` on the share; and which machines are through with a
//! round, in `rounds/`.
//!
//! A note is there before the first write, so that a share which takes none ends the run while nothing has happened; it is
//! turned into one of a finished job before anybody hears of success. The notes are the share's and not the server's: one that
//! lost its memory, or another one, refuses what was done all the same. They lie beside the machines' folders, not in them: an
//! address goes from machine to machine.

use super::attempts::put;
use super::pace::now;
use super::record::same_machine;
use anyhow::{Context, bail};
use pitstop_imaging::image::MachineIdentity;
use pitstop_protocol::host_name::Mac;
use pitstop_protocol::job::ActionName;
use pitstop_protocol::job::terms::{note, note_of_round};
use pitstop_transport::share::Share;
use serde::{Deserialize, Serialize};
use std::io::Read;

/// Far more than a note ever holds.
const MOST_BYTES: u64 = 1 << 16;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Note {
    version: u32,
    id: String,
    action: String,
    /// RFC 3339, UTC.
    begun: String,
    /// Left out while the job is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished: Option<String>,
    machine: MachineIdentity,
}

/// What is done once, and where that is noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    id: String,
    /// All of them have the same note; the first is the one that people are told of.
    paths: Vec<String>,
    /// Every machine has a note of its own.
    is_round: bool,
}

impl Once {
    /// A job that one machine does.
    pub fn job(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            paths: vec![note(id)],
            is_round: false,
        }
    }

    /// What this machine does in a round: by the UUID, which goes with no card. One without a UUID is noted under each of its
    /// cards, as one of them may be elsewhere the next time, else under its serial number.
    ///
    /// # Errors
    /// Nothing tells this machine from others.
    pub fn in_round(round: &str, this: &MachineIdentity) -> anyhow::Result<Self> {
        let cards = this.macs.iter().filter_map(|mac| mac.parse::<Mac>().ok());
        let mut names: Vec<String> = if this.uuid.is_empty() {
            cards.map(Mac::dashed).collect()
        } else {
            vec![this.uuid.clone()]
        };
        if names.is_empty() {
            names.extend(file_name(&this.serial));
        }
        if names.is_empty() {
            bail!(
                "nothing tells this machine from others: its firmware has neither UUID nor serial number, and no card of \
                 its was found; who is through with the round could not be noted"
            );
        }
        let path = |name: &String| note_of_round(round, name);
        Ok(Self {
            id: round.to_owned(),
            paths: names.iter().map(path).collect(),
            is_round: true,
        })
    }
}

/// A serial number as the name of a file, where it has anything that can be in one.
fn file_name(serial: &str) -> Option<String> {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = serial.chars().map(safe).collect();
    name.contains(|c| c != '-').then_some(name)
}

/// The note of one job, begun and not finished.
#[derive(Debug)]
pub struct Begun {
    once: Once,
    note: Note,
}

/// What the share knows of an id.
#[derive(Debug)]
pub enum Known {
    Nothing,
    /// By this machine, as far as can be told: an earlier try, which failed or lost power.
    Begun,
    /// When.
    Finished(String),
    /// When, by this machine or by another one with its UUID: makers have given one to all their boards.
    Doubtful(String),
}

/// Looks a job up.
///
/// # Errors
/// When the share cannot be read, another machine has begun the job, or a note makes no sense: it would be no good to take
/// that for none.
pub fn look(share: &dyn Share, once: &Once, this: &MachineIdentity) -> anyhow::Result<Known> {
    let mut known = Known::Nothing;
    for path in &once.paths {
        let Some(note) = read(share, path)? else {
            continue;
        };
        let found = known_by(note, once, path, this)?;
        // Of several notes one may be older than the others: what was finished once is finished.
        if matches!(found, Known::Finished(_) | Known::Doubtful(_)) {
            return Ok(found);
        }
        known = found;
    }
    Ok(known)
}

fn read(share: &dyn Share, path: &str) -> anyhow::Result<Option<Note>> {
    if share.stat(path)?.is_none() {
        return Ok(None);
    }
    let mut text = String::new();
    let doing = || format!("reading {path} on {}", share.name());
    share
        .open(path)?
        .take(MOST_BYTES)
        .read_to_string(&mut text)
        .with_context(doing)?;
    parse(&text).with_context(doing).map(Some)
}

/// What one note says to `this` machine.
fn known_by(note: Note, once: &Once, path: &str, this: &MachineIdentity) -> anyhow::Result<Known> {
    let is_same = same_machine(&note.machine, this);
    if once.is_round && is_same == Some(false) {
        // Serial numbers that differ in what no file's name can have. To write over it would have that machine do all again.
        bail!(
            "{path} is the note of another machine ({}), whose name looks the same",
            note.machine
        );
    }
    if let Some(finished) = note.finished {
        return Ok(if once.is_round && is_same.is_none() {
            Known::Doubtful(finished)
        } else {
            Known::Finished(finished)
        });
    }
    if is_same == Some(false) {
        bail!(
            "the job {} was begun by another machine ({}) at {}: it is done by one",
            once.id,
            note.machine,
            note.begun
        );
    }
    Ok(Known::Begun)
}

fn parse(text: &str) -> anyhow::Result<Note> {
    let note: Note = toml::from_str(text).context("it is no note of a job")?;
    if note.version != 1 {
        bail!("it is of version {}", note.version);
    }
    Ok(note)
}

/// Notes that the job is begun, and proves that the note is there.
///
/// # Errors
/// When the share does not take it.
pub fn begin(
    share: &dyn Share,
    once: &Once,
    action: ActionName,
    this: MachineIdentity,
) -> anyhow::Result<Begun> {
    let note = Note {
        version: 1,
        id: once.id.clone(),
        action: action.to_string(),
        begun: now(),
        finished: None,
        machine: this,
    };
    write(share, once, &note)?;
    let once = once.clone();
    match look(share, &once, &note.machine)? {
        Known::Begun => Ok(Begun { once, note }),
        Known::Nothing | Known::Finished(_) | Known::Doubtful(_) => {
            bail!(
                "{} does not keep {}",
                share.name(),
                once.paths.join(" and ")
            )
        }
    }
}

impl Begun {
    /// From now on the id is refused.
    ///
    /// # Errors
    /// When the share does not take it.
    pub fn finish(mut self, share: &dyn Share) -> anyhow::Result<()> {
        self.note.finished = Some(now());
        write(share, &self.once, &self.note)
    }
}

fn write(share: &dyn Share, once: &Once, note: &Note) -> anyhow::Result<()> {
    let text = toml::to_string(note).context("putting the note of a job into TOML")?;
    for path in &once.paths {
        put(share, path, text.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_protocol::job::terms::NOTES;
    use pitstop_transport::share::DirectoryShare;
    use std::fs;

    fn machine(mac: &str) -> MachineIdentity {
        MachineIdentity {
            macs: vec![mac.into()],
            ..MachineIdentity::default()
        }
    }

    #[test]
    fn an_id_is_free_begun_and_then_finished_for_every_machine() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        let (a, b) = (machine("52:54:00:00:00:01"), machine("52:54:00:00:00:02"));
        assert!(matches!(
            look(&share, &Once::job("x"), &a).unwrap(),
            Known::Nothing
        ));
        let begun = begin(&share, &Once::job("x"), ActionName::Restore, a.clone()).unwrap();
        assert!(matches!(
            look(&share, &Once::job("x"), &a).unwrap(),
            Known::Begun
        ));
        let other = look(&share, &Once::job("x"), &b).unwrap_err().to_string();
        assert!(other.contains("begun by another machine"), "{other}");
        begun.finish(&share).unwrap();
        for this in [&a, &b] {
            assert!(matches!(
                look(&share, &Once::job("x"), this).unwrap(),
                Known::Finished(_)
            ));
        }
        assert!(matches!(
            look(&share, &Once::job("y"), &a).unwrap(),
            Known::Nothing
        ));
    }

    #[test]
    fn a_note_that_makes_no_sense_is_no_free_id() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        fs::create_dir(root.path().join(NOTES)).unwrap();
        for spoilt in [&b""[..], b"finished = ", b"\xff"] {
            fs::write(root.path().join(NOTES).join("x.toml"), spoilt).unwrap();
            let error = format!(
                "{:#}",
                look(&share, &Once::job("x"), &machine("")).unwrap_err()
            );
            assert!(error.contains("signed-jobs/x.toml"), "{error}");
        }
    }

    #[test]
    fn a_share_that_takes_no_note_is_an_error_before_any_work() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        // Where the folder should be is a file.
        fs::write(root.path().join(NOTES), "").unwrap();
        begin(&share, &Once::job("x"), ActionName::Restore, machine("")).unwrap_err();
    }

    #[test]
    fn each_machine_has_a_note_of_its_own_in_a_round() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        let (a, b) = (machine("52:54:00:00:00:01"), machine("52:54:00:00:00:02"));
        let of = |this: &MachineIdentity| Once::in_round("autumn", this).unwrap();
        finished(&share, &a);
        assert!(matches!(known_of(&share, &a), Known::Finished(_)));
        assert!(matches!(known_of(&share, &b), Known::Nothing));
        assert!(
            root.path()
                .join("rounds/autumn/52-54-00-00-00-01.toml")
                .exists()
        );
        let named = |uuid: &str, serial: &str| MachineIdentity {
            uuid: uuid.into(),
            serial: serial.into(),
            ..MachineIdentity::default()
        };
        let uuid = "33221100-5544-7766-8899-aabbccddeeff";
        assert_eq!(
            of(&named(uuid, "S")).paths,
            [format!("rounds/autumn/{uuid}.toml")]
        );
        let by_serial = named("", "PF/1 2");
        assert_eq!(of(&by_serial).paths, ["rounds/autumn/PF-1-2.toml"]);
        for nobody in ["", "/"] {
            Once::in_round("autumn", &named("", nobody)).unwrap_err();
        }
        finished(&share, &by_serial);
        let other = named("", "PF-1-2");
        let error = look(&share, &of(&other), &other).unwrap_err().to_string();
        assert!(error.contains("is the note of another machine"), "{error}");
        assert!(matches!(known_of(&share, &by_serial), Known::Finished(_)));
    }

    fn finished(share: &DirectoryShare, this: &MachineIdentity) {
        let once = Once::in_round("autumn", this).unwrap();
        let begun = begin(share, &once, ActionName::Restore, this.clone()).unwrap();
        begun.finish(share).unwrap();
    }

    fn known_of(share: &DirectoryShare, this: &MachineIdentity) -> Known {
        look(share, &Once::in_round("autumn", this).unwrap(), this).unwrap()
    }

    #[test]
    fn whichever_of_its_cards_a_machine_without_a_uuid_still_has_it_is_through() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        let with = |macs: &[&str]| MachineIdentity {
            macs: macs.iter().map(|mac| (*mac).to_owned()).collect(),
            ..MachineIdentity::default()
        };
        let (plugged, own) = ("00:50:b6:00:00:01", "52:54:00:00:00:01");
        finished(&share, &with(&[plugged, own]));
        for left in [
            &[plugged][..],
            &[own],
            &[plugged, own],
            &["00:00:01:00:00:01", own],
        ] {
            let known = known_of(&share, &with(left));
            assert!(matches!(known, Known::Finished(_)), "{left:?}");
        }
        let known = known_of(&share, &with(&["52:54:00:00:00:02"]));
        assert!(matches!(known, Known::Nothing));
    }

    #[test]
    fn of_two_machines_with_one_uuid_nobody_says_that_the_second_is_through() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        let board = |mac: &str| MachineIdentity {
            uuid: "03000200-0400-0500-0006-000700080009".into(),
            ..machine(mac)
        };
        let (a, b) = (board("52:54:00:00:00:01"), board("52:54:00:00:00:02"));
        finished(&share, &a);
        assert!(matches!(known_of(&share, &a), Known::Finished(_)));
        assert!(matches!(known_of(&share, &b), Known::Doubtful(_)));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
