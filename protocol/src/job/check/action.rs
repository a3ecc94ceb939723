//! The action with its options: what the action takes is checked; what it does not take is refused where it would be
//! misunderstood, and says nothing else: a file for several actions is made by changing one line.

mod tree;

use super::{Wrong, at, general};
use crate::job::host_file_search::Placeholders;
use crate::job::hostfile::{BoolOrWord, HostFile};
use crate::job::options::{JobOption, Kind, OPTIONS, RECIPIENTS};
use crate::job::partition_scope::part;
use crate::job::words::{Word, words};
use crate::job::{Action, ActionName, BackupOptions, Method, RestoreOptions, check_folder};
use pitstop_age::Recipients;
use pitstop_imaging::image::Delta;

/// `own` is the action that the file itself names, where it names one.
pub(super) fn action(
    name: ActionName,
    own: Option<ActionName>,
    file: &HostFile,
    placeholders: &Placeholders,
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
        ActionName::Capture => Action::Capture(tree::capture(file)?),
        ActionName::Deploy => Action::Deploy(Box::new(tree::deploy(file, placeholders)?)),
        ActionName::Update => Action::Update(Box::new(tree::update(file)?)),
        ActionName::Run => Action::Run(Box::new(tree::run(file, placeholders)?)),
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
/// then have no meaning, and are no mistake. Those that say which partitions or files to leave alone are never dropped by an
/// action that writes.
fn is_left_out(option: &JobOption, name: ActionName, own: Option<ActionName>) -> bool {
    let is_of_own = own.is_some_and(|own| own != name && option.is_of(own));
    let spares = matches!(option.kind, Kind::Partitions | Kind::Patterns);
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
        versions: file.versions.unwrap_or_default(),
        recipients: recipients(file).map_err(at(RECIPIENTS))?,
    })
}

/// Who can read a new image.
///
/// # Errors
/// A sentence about the entry that is no key. It is not shown: it may be a secret one by mistake.
fn recipients(file: &HostFile) -> Result<Option<Recipients>, String> {
    let Some(written) = &file.recipients else {
        return Ok(None);
    };
    if written.is_empty() {
        return Err("an empty list could mean nobody or everybody: name keys, or leave the key out for a plain image".into());
    }
    for (number, key) in (1..).zip(written) {
        // Each by itself: a text of several lines would be several, or a comment.
        let is_one = !key.contains(['\n', '#']);
        if !is_one || Recipients::parse(key).is_err() {
            return Err(format!(
                "entry {number} is no public key of age's: it begins with age1 (age-keygen -y KEY.txt shows it)"
            ));
        }
    }
    let all = Recipients::parse(&written.join("\n"));
    all.map(Some).map_err(|error| error.to_string())
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
    use crate::job::preview::placeholders;
    use toml::Value;

    fn file(text: &str) -> HostFile {
        HostFile::parse(format!("version = 1\n{text}\n").as_bytes(), "f").unwrap()
    }

    // From age's own documentation.
    const KEY: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    fn of(name: ActionName, own: Option<ActionName>, file: &HostFile) -> Result<Action, Wrong> {
        action(name, own, file, &placeholders(None))
    }

    /// A line of a host file that asks for the option, with a value that is right.
    fn asking(key: &str) -> String {
        let value: Value = match key {
            "exact" | "delta" | "verify" | "new-ids" | "grow" | "versions" | "signed" => {
                true.into()
            }
            "level" => "small".into(),
            "distribute" => "swarm".into(),
            "mirrors" => Value::Array(vec!["http://10.0.2.3:8080".into()]),
            "read-errors" => "record".into(),
            RECIPIENTS => Value::Array(vec![KEY.into()]),
            "keep" | "partitions" => Value::Array(vec![3.into()]),
            "method" => "zero".into(),
            "layout" => "layout.toml".into(),
            "luks-key" => "luks.key.age".into(),
            "tree" => "web".into(),
            "exclude" | "local" => Value::Array(vec!["/srv/**".into()]),
            "identity" | "changes" | "strangers" | "initrd" => "keep".into(),
            "hostname" => "lab7".into(),
            "overrides" => Value::Array(vec!["layers/base".into()]),
            "hooks" => Value::Array(vec!["hooks/10-x.sh".into()]),
            "secrets" => "secrets/web.env.age".into(),
            "boot" => "native".into(),
            "check" => "full".into(),
            "writable" => "scratch".into(),
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
                let error = of(name, None, &file).err();
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
        let wrong = of(ActionName::Backup, None, &file("keep = [3]")).unwrap_err();
        assert_eq!(wrong.what, "it is for a restore, this is a backup");
    }

    #[test]
    fn images_are_for_keys_that_are_some_and_no_secret_is_shown() {
        let backup = |keys: &str| super::backup(&file(&format!("recipients = {keys}")));
        let read = backup(&format!("[\"{KEY}\", \" {KEY} \"]")).unwrap();
        assert!(read.recipients.is_some());
        assert_eq!(super::backup(&file("")).unwrap().recipients, None);
        let secret = "AGE-SECRET-KEY-1QQQ";
        for (keys, why) in [
            ("[]".to_owned(), "an empty list"),
            ("[\"\"]".into(), "entry 1 is no public key"),
            (
                format!("[\"{KEY}\", \"{secret}\"]"),
                "entry 2 is no public key",
            ),
            (format!("[\"{KEY}\\n{KEY}\"]"), "entry 1"),
            (format!("[\"# {KEY}\"]"), "entry 1"),
            (format!("[\"{KEY}q\"]"), "entry 1"),
        ] {
            let wrong = backup(&keys).unwrap_err();
            assert_eq!(wrong.key, Some("recipients"));
            assert!(wrong.what.contains(why), "{keys}: {}", wrong.what);
            assert!(!wrong.what.contains("SECRET"), "{}", wrong.what);
        }
        let capture = file(&format!("tree = \"web\"\nrecipients = [\"{KEY}\"]"));
        let action = of(ActionName::Capture, None, &capture).unwrap();
        assert!(matches!(action, Action::Capture(it) if it.recipients.is_some()));
    }

    #[test]
    fn what_asks_for_nothing_is_no_mistake() {
        let nothing = file("grow = false\nexact = false\nverify = false\nnew-ids = false");
        for name in [ActionName::Backup, ActionName::Restore, ActionName::Rescue] {
            of(name, None, &nothing).unwrap();
        }
    }

    #[test]
    fn another_action_of_the_command_line_leaves_out_what_the_file_says_of_its_own() {
        let restore = file("verify = true\ngrow = true");
        let own = Some(ActionName::Restore);
        assert_eq!(of(ActionName::Rescue, own, &restore), Ok(Action::Rescue));
        of(ActionName::Backup, own, &restore).unwrap();
        // Of no action that is meant.
        let own_backup = Some(ActionName::Backup);
        let wrong = of(ActionName::Rescue, own_backup, &file("grow = true")).unwrap_err();
        assert_eq!(wrong.key, Some("grow"));
        // What is to be left alone stays a condition of whatever writes.
        let keep = file("keep = [3]\nmethod = \"zero\"");
        let wrong = of(ActionName::Wipe, own, &keep).unwrap_err();
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
                of(name, None, &written),
                of(name, None, &HostFile::default()),
                "{}",
                option.key
            );
        }
    }
}
