//! Jobs that are done once: which ids are finished, in `signed-jobs/` on the share.
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
use pitstop_protocol::job::ActionName;
use pitstop_protocol::job::terms::note as path;
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

/// The note of one job, begun and not finished.
#[derive(Debug)]
pub struct Begun {
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
}

/// Looks an id up.
///
/// # Errors
/// When the share cannot be read, another machine has begun the job, or the note makes no sense: it would be no good to take
/// that for none.
pub fn look(share: &dyn Share, id: &str, this: &MachineIdentity) -> anyhow::Result<Known> {
    let path = path(id);
    if share.stat(&path)?.is_none() {
        return Ok(Known::Nothing);
    }
    let mut text = String::new();
    let doing = || format!("reading {path} on {}", share.name());
    share
        .open(&path)?
        .take(MOST_BYTES)
        .read_to_string(&mut text)
        .with_context(doing)?;
    let note = parse(&text).with_context(doing)?;
    if let Some(finished) = note.finished {
        return Ok(Known::Finished(finished));
    }
    if same_machine(&note.machine, this) == Some(false) {
        bail!(
            "the job {id} was begun by another machine ({}) at {}: it is done by one",
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
    id: &str,
    action: ActionName,
    this: MachineIdentity,
) -> anyhow::Result<Begun> {
    let note = Note {
        version: 1,
        id: id.to_owned(),
        action: action.to_string(),
        begun: now(),
        finished: None,
        machine: this,
    };
    write(share, &note)?;
    match look(share, id, &note.machine)? {
        Known::Begun => Ok(Begun { note }),
        Known::Nothing | Known::Finished(_) => {
            bail!("{} does not keep {}", share.name(), path(id))
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
        write(share, &self.note)
    }
}

fn write(share: &dyn Share, note: &Note) -> anyhow::Result<()> {
    let text = toml::to_string(note).context("putting the note of a job into TOML")?;
    put(share, &path(&note.id), text.as_bytes())
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
        assert!(matches!(look(&share, "x", &a).unwrap(), Known::Nothing));
        let begun = begin(&share, "x", ActionName::Restore, a.clone()).unwrap();
        assert!(matches!(look(&share, "x", &a).unwrap(), Known::Begun));
        let other = look(&share, "x", &b).unwrap_err().to_string();
        assert!(other.contains("begun by another machine"), "{other}");
        begun.finish(&share).unwrap();
        for this in [&a, &b] {
            assert!(matches!(
                look(&share, "x", this).unwrap(),
                Known::Finished(_)
            ));
        }
        assert!(matches!(look(&share, "y", &a).unwrap(), Known::Nothing));
    }

    #[test]
    fn a_note_that_makes_no_sense_is_no_free_id() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        fs::create_dir(root.path().join(NOTES)).unwrap();
        for spoilt in [&b""[..], b"finished = ", b"\xff"] {
            fs::write(root.path().join(NOTES).join("x.toml"), spoilt).unwrap();
            let error = format!("{:#}", look(&share, "x", &machine("")).unwrap_err());
            assert!(error.contains("signed-jobs/x.toml"), "{error}");
        }
    }

    #[test]
    fn a_share_that_takes_no_note_is_an_error_before_any_work() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        // Where the folder should be is a file.
        fs::write(root.path().join(NOTES), "").unwrap();
        begin(&share, "x", ActionName::Restore, machine("")).unwrap_err();
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
