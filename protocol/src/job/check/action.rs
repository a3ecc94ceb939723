//! The action with its options: what the action takes is checked; what it does not take is refused where it would be
//! misunderstood, and says nothing else: a file for several actions is made by changing one line.

use super::{Wrong, at, general};
use crate::job::hostfile::{BoolOrWord, HostFile};
use crate::job::options::{JobOption, Kind, OPTIONS};
use crate::job::partition_scope::part;
use crate::job::words::{Word, words};
use crate::job::{Action, ActionName, BackupOptions, Method, RestoreOptions, check_folder};
use pitstop_imaging::image::Delta;

/// `own` is the action that the file itself names, where it names one.
pub(super) fn action(
    name: ActionName,
    own: Option<ActionName>,
    file: &HostFile,
) -> Result<Action, Wrong> {
    refuse_options_of_others(name, own, file)?;
    Ok(match name {
        ActionName::Backup => Action::Backup(backup(file)?),
        ActionName::BackupAgain => Action::BackupAgain(backup(file)?),
        ActionName::Restore => Action::Restore(restore(file)?),
        ActionName::RefreshInfo => Action::RefreshInfo,
        ActionName::Wipe => Action::Wipe {
            method: method(file)?,
        },
        ActionName::Partition => Action::Partition {
            layout: layout(file)?,
        },
        ActionName::Rescue => Action::Rescue,
    })
}

fn refuse_options_of_others(
    name: ActionName,
    own: Option<ActionName>,
    file: &HostFile,
) -> Result<(), Wrong> {
    let asked = OPTIONS.iter().filter(|option| option.is_asked(file));
    for option in asked.filter(|option| option.refused_elsewhere && !option.is_of(name)) {
        if !is_left_out(option, name, own) {
            let takers = option.actions().iter().map(|taker| format!("a {taker}"));
            let takers: Vec<String> = takers.collect();
            return Err(at(option.key)(format!(
                "it is for {}, this is a {name}",
                takers.join(" or ")
            )));
        }
    }
    Ok(())
}

/// `pitstop.action` may make another job of a file, such as a rescue of a restore: the options of the file's own action
/// then have no meaning, and are no mistake. Those that say which partitions to leave alone are never dropped by an
/// action that writes.
fn is_left_out(option: &JobOption, name: ActionName, own: Option<ActionName>) -> bool {
    let is_of_own = own.is_some_and(|own| own != name && option.is_of(own));
    let spares = matches!(option.kind, Kind::Partitions);
    is_of_own && !(spares && name.writes_disks())
}

/// The options of a backup.
///
/// # Errors
/// Names the key of a wrong value.
pub fn backup(file: &HostFile) -> Result<BackupOptions, Wrong> {
    Ok(BackupOptions {
        exact: file.exact.unwrap_or_default(),
        level: word(file.level.as_deref()).map_err(at("level"))?,
        read_errors: word(file.read_errors.as_deref()).map_err(at("read-errors"))?,
    })
}

/// The options of a restore.
///
/// # Errors
/// Names the key of a wrong value.
pub fn restore(file: &HostFile) -> Result<RestoreOptions, Wrong> {
    Ok(RestoreOptions {
        part: part(file).map_err(|(key, what)| at(key)(what))?,
        delta: delta(file).map_err(at("delta"))?,
        verify: file.verify.unwrap_or_default(),
        new_ids: file.new_ids.unwrap_or_default(),
        grow: file.grow.unwrap_or_default(),
    })
}

/// There is no default: a wipe is never begun by one word on a command line.
fn method(file: &HostFile) -> Result<Method, Wrong> {
    match file.method.as_deref() {
        Some(text) => Method::read(text).map_err(at("method")),
        None => Err(general(format!(
            "a wipe needs a method in the host file: there are {}",
            words::<Method>().join(", ")
        ))),
    }
}

fn layout(file: &HostFile) -> Result<String, Wrong> {
    let Some(path) = &file.layout else {
        return Err(general(
            "partition needs a layout in the host file: layout = \"layout.toml\", a file in the image folder",
        ));
    };
    check_folder(path).map_err(at("layout"))?;
    Ok(path.clone())
}

fn delta(file: &HostFile) -> Result<Delta, String> {
    match &file.delta {
        Some(BoolOrWord::Bool(true)) => Ok(Delta::On),
        Some(BoolOrWord::Bool(false)) => Ok(Delta::Off),
        Some(BoolOrWord::Word(word)) => Delta::read(word),
        None => Ok(Delta::default()),
    }
}

/// The default where nothing is written.
pub(super) fn word<W: Word + Default>(text: Option<&str>) -> Result<W, String> {
    text.map_or_else(|| Ok(W::default()), W::read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::options::Preset;
    use toml::Value;

    fn file(text: &str) -> HostFile {
        HostFile::parse(format!("version = 1\n{text}\n").as_bytes(), "f").unwrap()
    }

    /// A line of a host file that asks for the option, with a value that is right.
    fn asking(key: &str) -> String {
        let value: Value = match key {
            "exact" | "delta" | "verify" | "new-ids" | "grow" => true.into(),
            "level" => "small".into(),
            "distribute" => "swarm".into(),
            "read-errors" => "record".into(),
            "keep" | "partitions" => Value::Array(vec![3.into()]),
            "method" => "zero".into(),
            "layout" => "layout.toml".into(),
            other => panic!("no value for {other}: give one here"),
        };
        format!("{key} = {value}")
    }

    #[test]
    fn what_would_be_misunderstood_is_refused_by_key_and_action() {
        let some = OPTIONS.iter().filter(|option| option.is_of_some());
        for option in some {
            for name in ActionName::ALL {
                let file = file(&asking(option.key));
                let error = action(name, None, &file).err();
                let refused = error.filter(|wrong| wrong.key == Some(option.key));
                assert_eq!(
                    refused.is_some(),
                    option.refused_elsewhere && !option.is_of(name),
                    "{} {name}",
                    option.key
                );
                if let Some(wrong) = refused {
                    assert!(
                        wrong.what.ends_with(&format!(", this is a {name}")),
                        "{wrong:?}"
                    );
                }
            }
        }
        let wrong = action(ActionName::Backup, None, &file("keep = [3]")).unwrap_err();
        assert_eq!(wrong.what, "it is for a restore, this is a backup");
    }

    #[test]
    fn what_asks_for_nothing_is_no_mistake() {
        let nothing = file("grow = false\nexact = false\nverify = false\nnew-ids = false");
        for name in [ActionName::Backup, ActionName::Restore, ActionName::Rescue] {
            action(name, None, &nothing).unwrap();
        }
    }

    #[test]
    fn another_action_of_the_command_line_leaves_out_what_the_file_says_of_its_own() {
        let restore = file("verify = true\ngrow = true");
        let own = Some(ActionName::Restore);
        assert_eq!(
            action(ActionName::Rescue, own, &restore),
            Ok(Action::Rescue)
        );
        action(ActionName::Backup, own, &restore).unwrap();
        // Of no action that is meant.
        let own_backup = Some(ActionName::Backup);
        let wrong = action(ActionName::Rescue, own_backup, &file("grow = true")).unwrap_err();
        assert_eq!(wrong.key, Some("grow"));
        // What is to be left alone stays a condition of whatever writes.
        let keep = file("keep = [3]\nmethod = \"zero\"");
        let wrong = action(ActionName::Wipe, own, &keep).unwrap_err();
        assert_eq!(wrong.key, Some("keep"));
    }

    #[test]
    fn a_default_is_what_nothing_written_means() {
        for option in OPTIONS.iter().filter(|option| option.is_of_some()) {
            let Preset::Value(text) = option.preset else {
                continue;
            };
            let bare = ["true", "false"].contains(&text);
            let value = if bare {
                text.to_owned()
            } else {
                format!("{text:?}")
            };
            let written = file(&format!("{} = {value}", option.key));
            let name = option.actions()[0];
            assert_eq!(
                action(name, None, &written),
                action(name, None, &HostFile::default()),
                "{}",
                option.key
            );
        }
    }
}
