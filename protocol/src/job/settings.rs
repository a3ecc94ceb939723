//! The host file's keys one by one, for files that hold the settings of many machines. Names are those of the table of
//! options; types and values are the host file's own parser's: nothing is listed here a second time.

use crate::job::cmdline::CommandLine;
use crate::job::hostfile::HostFile;
use crate::job::options::{JobOption, OPTIONS};
use crate::job::preview::placeholders;
use crate::job::{ActionName, check};
use std::sync::LazyLock;

/// The key that tells the file's format, not the machine what to do.
const VERSION: &str = "version";

/// In the name of an image, the first group of the machine: a fleet file knows it, a machine does not.
pub const GROUP: &str = "{group}";

/// Every key of the host file that can be a setting of machines, in the order in which its documentation has them.
pub fn setting_keys() -> &'static [&'static str] {
    static KEYS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        let settings = OPTIONS.iter().filter(|option| !option.of_one_file);
        settings.map(|option| option.key).collect()
    });
    &KEYS
}

/// Checks `key = value` as a machine would whose host file has it. What depends on other keys is not looked at: a value that
/// some action takes is right.
///
/// # Errors
/// A sentence that says what is wrong with the value, or that there is no such key.
pub fn check_setting(key: &str, value: &toml::Value) -> Result<(), String> {
    let option = known(key)?;
    check_for(option.key, value, option.actions())
}

/// Whether `key = value` means something to `action`: `keep`, for one, is of a restore alone.
pub fn is_of_action(key: &str, value: &toml::Value, action: ActionName) -> bool {
    known(key)
        .is_ok_and(|option| option.is_of(action) && check_for(option.key, value, &[action]).is_ok())
}

fn known(key: &str) -> Result<&'static JobOption, String> {
    JobOption::find(key).ok_or_else(|| format!("there is no key {key:?} in a host file"))
}

fn check_for(key: &str, value: &toml::Value, actions: &[ActionName]) -> Result<(), String> {
    let mut text = format!("{VERSION} = 1\n{key} = {value}\n");
    if key == "image" {
        text = text.replace(GROUP, "group");
    }
    let mut file = HostFile::parse(text.as_bytes(), "").map_err(|error| plain(key, &error.what))?;
    if file.share.is_none() {
        file.share = Some("http://server/share".into());
    }
    let placeholders = placeholders(None);
    let mut wrong = None;
    for action in actions {
        let line = CommandLine {
            action: file.action.is_none().then_some(*action),
            ..CommandLine::default()
        };
        match check::job(&line, &file, None, &placeholders) {
            Ok(_) => return Ok(()),
            Err(error) if error.key == Some(key) => wrong = wrong.or(Some(error.what)),
            // Another key is missing: that is no fault of this one.
            Err(_) => {}
        }
    }
    match wrong {
        Some(what) => Err(what),
        None => Ok(()),
    }
}

/// Whether no message may show the value of `key`.
pub fn is_secret(key: &str) -> bool {
    JobOption::find(key).is_some_and(JobOption::is_secret)
}

/// The parser's sentence without the key in front, which whoever asked says with a place of his own.
fn plain(key: &str, what: &str) -> String {
    what.strip_prefix(&format!("key {key:?}: "))
        .unwrap_or(what)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::value::Error;
    use serde::de::{Deserializer, Visitor};
    use serde::{Deserialize, forward_to_deserialize_any};
    use toml::Value;

    /// A deserializer that has no data, and notes which fields a struct asks for.
    struct FieldNames<'a>(&'a mut Vec<&'static str>);

    impl<'de> Deserializer<'de> for FieldNames<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
            Err(serde::de::Error::custom("there is no data here"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Error> {
            self.0.extend_from_slice(fields);
            self.deserialize_any(visitor)
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    #[test]
    fn the_keys_are_the_parsers() {
        let mut keys = Vec::new();
        // It ends in an error by design: all it is for is to be asked for the fields.
        HostFile::deserialize(FieldNames(&mut keys)).unwrap_err();
        keys.retain(|key| *key != VERSION);
        let options: Vec<&str> = OPTIONS.iter().map(|option| option.key).collect();
        assert_eq!(options, keys);
        assert!(setting_keys().contains(&"report") && !setting_keys().contains(&"check-in"));
    }

    #[test]
    fn a_value_is_right_if_some_action_takes_it() {
        for (key, value) in [
            ("action", Value::from("restore")),
            ("grow", true.into()),
            ("method", "zero".into()),
            ("layout", "layout.toml".into()),
            ("keep", vec![3].into()),
            ("partitions", vec!["home"].into()),
            ("image", "lab/{hostname}".into()),
            ("image", "golden-{group}".into()),
            ("attempts", 5.into()),
            ("share", "nfs://10.0.2.2/export?vers=4.1".into()),
        ] {
            assert_eq!(check_setting(key, &value), Ok(()), "{key} = {value}");
        }
    }

    #[test]
    fn a_wrong_value_is_told_without_the_key() {
        for (key, value, why) in [
            ("action", Value::from("melt"), "unknown action \"melt\""),
            ("attempts", 0.into(), "it must be 1 or more"),
            ("attempts", "3".into(), "invalid type: string"),
            ("image", "../etc".into(), "must not contain . or .."),
            ("failure-delay", "soon".into(), ""),
            ("zebra", 1.into(), "there is no key \"zebra\""),
        ] {
            let error = check_setting(key, &value).unwrap_err();
            assert!(error.contains(why), "{key}: {error}");
            assert!(!error.starts_with("key"), "{key}: {error}");
        }
    }

    #[test]
    fn secrets_are_known_as_such() {
        assert!(is_secret("token") && is_secret("password"));
        // What the parser hides, and nothing else.
        for key in setting_keys() {
            let text = format!("{VERSION} = 1\n{key} = \"visible\"\n");
            if let Ok(file) = HostFile::parse(text.as_bytes(), "") {
                let shown = format!("{file:?}").contains("visible");
                assert_eq!(is_secret(key), !shown, "{key}");
            }
        }
        assert!(!is_secret("user") && !is_secret("attempts") && !is_secret("zebra"));
        let error = check_setting("password", &12_345_678.into()).unwrap_err();
        assert!(!error.contains("1234"), "{error}");
    }
}
