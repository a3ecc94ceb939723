//! Changes to the text of a fleet file. Comments, order and line ends stay as they are.

use crate::keys::{Checker, Kind};
use crate::problem::{BadFleet, Problem};
use crate::settings::Layer;
use ipnet::IpNet;
use std::net::IpAddr;
use toml::Value;
use toml_edit::{DocumentMut, Item, Table, TableLike};

/// What a new file begins with.
pub const NEW_FILE: &str = "version = 1\n";

/// A section that is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Base,
    Network(IpNet),
    Group(String),
    /// By its header: a range as it is written.
    Host(String),
    Ip(IpAddr),
}

impl Target {
    pub fn kind(&self) -> Kind {
        match self {
            Target::Base => Kind::Base,
            Target::Network(_) => Kind::Network,
            Target::Group(_) => Kind::Group,
            Target::Host(_) => Kind::Host,
            Target::Ip(_) => Kind::Ip,
        }
    }

    /// The section's header, as messages name it.
    pub fn layer(&self) -> Layer {
        Layer {
            kind: self.kind(),
            name: self.names().1.unwrap_or_default(),
        }
    }

    fn names(&self) -> (&'static str, Option<String>) {
        match self {
            Target::Base => ("base", None),
            Target::Network(net) => ("network", Some(net.to_string())),
            Target::Group(name) => ("group", Some(name.clone())),
            Target::Host(name) => ("host", Some(name.clone())),
            Target::Ip(ip) => ("ip", Some(ip.to_string())),
        }
    }
}

/// The text of a file, being changed.
pub struct Editor {
    document: DocumentMut,
    byte_order_mark: bool,
    windows: bool,
}

impl Editor {
    /// # Errors
    /// A text that is no TOML.
    pub fn new(text: &str, file: &str) -> Result<Self, BadFleet> {
        let plain = text.strip_prefix('\u{feff}');
        let document = plain
            .unwrap_or(text)
            .parse()
            .map_err(|error: toml_edit::TomlError| {
                let before = error
                    .span()
                    .and_then(|span| text.get(..span.start))
                    .unwrap_or_default();
                BadFleet {
                    file: file.to_owned(),
                    problems: vec![Problem::at(
                        before.matches('\n').count() + 1,
                        error.message().replace('\n', " "),
                    )],
                }
            })?;
        Ok(Self {
            document,
            byte_order_mark: plain.is_some(),
            windows: text.contains("\r\n"),
        })
    }

    /// The text as it is now.
    pub fn text(&self) -> String {
        let text = self.document.to_string();
        let text = if self.windows {
            text.replace("\r\n", "\n").replace('\n', "\r\n")
        } else {
            text
        };
        if self.byte_order_mark {
            format!("\u{feff}{text}")
        } else {
            text
        }
    }

    pub fn has(&self, target: &Target) -> bool {
        let (kind, name) = target.names();
        let section = self.document.get(kind);
        match name {
            None => section.is_some(),
            Some(name) => section
                .and_then(Item::as_table_like)
                .is_some_and(|table| table.contains_key(&name)),
        }
    }

    /// Sets a key, in a section that is made if it is not there.
    ///
    /// # Errors
    /// Something else stands where the section should be.
    pub fn set(&mut self, target: &Target, key: &str, value: &Value) -> Result<(), String> {
        let value: toml_edit::Value = value
            .to_string()
            .parse()
            .map_err(|error| format!("writing {key} = {value}: {error}"))?;
        let section = self.section(target)?;
        match section.get_mut(key).and_then(Item::as_value_mut) {
            // Blanks and the comment behind the old value stay.
            Some(old) => {
                let decor = old.decor().clone();
                *old = value;
                *old.decor_mut() = decor;
            }
            None => {
                section.insert(key, toml_edit::value(value));
            }
        }
        Ok(())
    }

    /// Makes a section without keys, if there is none.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn make(&mut self, target: &Target) -> Result<(), String> {
        self.section(target).map(|_| ())
    }

    /// Drops a key. Whether there was one.
    pub fn unset(&mut self, target: &Target, key: &str) -> bool {
        self.has(target)
            && self
                .section(target)
                .is_ok_and(|section| section.remove(key).is_some())
    }

    /// Drops a section. Whether there was one.
    pub fn remove(&mut self, target: &Target) -> bool {
        let (kind, name) = target.names();
        match name {
            None => self.document.remove(kind).is_some(),
            Some(name) => self
                .document
                .get_mut(kind)
                .and_then(Item::as_table_like_mut)
                .is_some_and(|table| table.remove(&name).is_some()),
        }
    }

    fn section(&mut self, target: &Target) -> Result<&mut dyn TableLike, String> {
        let (kind, name) = target.names();
        let wrong = || format!("{kind} is no table in the file");
        let Some(name) = name else {
            let item = self.document.entry(kind).or_insert_with(new_section);
            return item.as_table_like_mut().ok_or_else(wrong);
        };
        let parent = self.document.entry(kind).or_insert_with(|| {
            let mut table = Table::new();
            // Only its sections have headers.
            table.set_implicit(true);
            Item::Table(table)
        });
        let parent = parent.as_table_like_mut().ok_or_else(wrong)?;
        parent
            .entry(&name)
            .or_insert_with(new_section)
            .as_table_like_mut()
            .ok_or_else(|| format!("{kind}.{name} is no table in the file"))
    }
}

fn new_section() -> Item {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    Item::Table(table)
}

/// The value that `text` of a command line stands for: `3`, `true`, `["sda"]`, or just a text, whichever the key takes.
///
/// # Errors
/// The key is none of `kind`, or takes no such value.
pub fn value(kind: Kind, key: &str, text: &str) -> Result<Value, String> {
    let written = format!("x = {text}")
        .parse::<toml::Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("x"));
    let plain = Value::String(text.to_owned());
    let list = || {
        let words = text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        Value::Array(words.map(Value::from).collect())
    };
    let mut checker = Checker::default();
    if kind.own_keys().contains(&key) {
        return Ok(match (key, written) {
            ("slots", Some(number)) => number,
            (_, Some(value @ (Value::Array(_) | Value::String(_)))) => value,
            _ if text.contains(',') => list(),
            _ => plain,
        });
    }
    let candidates: Vec<Value> = written.into_iter().chain([plain, list()]).collect();
    let mut first = None;
    for candidate in candidates {
        match checker.key(kind, key, &candidate) {
            Ok(()) => return Ok(candidate),
            Err(what) => first = first.or(Some(what)),
        }
    }
    Err(first.unwrap_or_else(|| format!("key {key:?}: no value")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fleet;
    use proptest::prelude::*;

    const FILE: &str = "# The lab.\nversion = 1   # of the format\n\n[network.\"10.0.0.0/24\"]   # upstairs\ndns = [\n  \"10.0.0.1\", # ours\n]\n\n\
        # Front row\n[host.b]\nip = \"10.0.0.5\"  # by the window\n\n[host.a]\nip = \"10.0.0.4\"\n\n[ip.\"10.0.0.4\"]\nattempts = 2\n";

    fn edited(text: &str, edit: impl Fn(&mut Editor)) -> String {
        let mut editor = Editor::new(text, "fleet.toml").unwrap();
        edit(&mut editor);
        editor.text()
    }

    #[test]
    fn comments_order_and_line_ends_stay() {
        for text in [
            FILE.to_owned(),
            format!("\u{feff}{}", FILE.replace('\n', "\r\n")),
        ] {
            assert_eq!(edited(&text, |_| {}), text);
            let host = |name: &str| Target::Host(name.into());
            let changed = edited(&text, |editor| {
                editor.set(&host("b"), "ip", &"10.0.0.6".into()).unwrap();
                editor.set(&host("b"), "attempts", &3.into()).unwrap();
                editor
                    .set(&host("c-[1-2]"), "ip", &"10.0.0.[8-9]".into())
                    .unwrap();
            });
            let line_end = if text.contains('\r') { "\r\n" } else { "\n" };
            let expected = text
                .replace("10.0.0.5\"  # by the window", &format!("10.0.0.6\"  # by the window{line_end}attempts = 3"))
                .replace(
                    &format!("{line_end}[ip."),
                    &format!("{line_end}[host.\"c-[1-2]\"]{line_end}ip = \"10.0.0.[8-9]\"{line_end}{line_end}[ip."),
                );
            assert_eq!(changed, expected);
            assert!(Fleet::parse(changed.as_bytes(), "f").is_ok());
            let removed = edited(&text, |editor| {
                assert!(editor.remove(&host("b")) && !editor.remove(&host("z")));
                assert!(editor.unset(&host("a"), "ip") && !editor.unset(&host("q"), "ip"));
            });
            assert!(
                !removed.contains("Front row")
                    && removed.contains("# upstairs")
                    && removed.contains("[host.a]")
            );
            assert!(!removed.contains("host.q"), "{removed}");
        }
    }

    #[test]
    fn a_file_begins_with_what_is_set_first() {
        let text = edited(NEW_FILE, |editor| {
            let net = Target::Network("10.0.0.0/24".parse().unwrap());
            editor.set(&net, "router", &"10.0.0.1".into()).unwrap();
            editor
                .set(&Target::Host("a".into()), "ip", &"10.0.0.2".into())
                .unwrap();
            editor.set(&Target::Base, "attempts", &2.into()).unwrap();
            editor.make(&Target::Group("g".into())).unwrap();
        });
        assert_eq!(
            text,
            "version = 1\n\n[network.\"10.0.0.0/24\"]\nrouter = \"10.0.0.1\"\n\n[host.a]\nip = \"10.0.0.2\"\n\n[base]\nattempts = 2\n\n[group.g]\n"
        );
        let bad = Editor::new("version = 1\n[a\n", "f").err().unwrap();
        assert!(bad.to_string().starts_with("f, line 2: "), "{bad}");
        let mut odd = Editor::new("host = 3\n", "f").unwrap();
        assert_eq!(
            odd.make(&Target::Host("a".into())),
            Err("host is no table in the file".into())
        );
    }

    #[test]
    fn a_value_is_what_its_key_takes() {
        let read = |key, text| value(Kind::Host, key, text).map(|value| value.to_string());
        for (key, text, written) in [
            ("attempts", "3", "3"),
            ("exact", "true", "true"),
            ("image", "10.0", "\"10.0\""),
            ("image", "\"quoted\"", "\"quoted\""),
            ("disks", "sda", "[\"sda\"]"),
            ("disks", "sda, sdb", "[\"sda\", \"sdb\"]"),
            ("disks", "[{ serial = \"1\" }]", "[{ serial = \"1\" }]"),
            ("serial", "12345", "\"12345\""),
            ("groups", "a,b", "[\"a\", \"b\"]"),
            (
                "kernel-args",
                "console=ttyS0,115200 quiet",
                "\"console=ttyS0,115200 quiet\"",
            ),
        ] {
            assert_eq!(read(key, text), Ok(written.into()), "{key}={text}");
        }
        assert!(read("attempts", "0").unwrap_err().contains("1 or more"));
        assert!(read("zebra", "1").unwrap_err().contains("unknown key"));
    }

    proptest! {
        #[test]
        fn any_text_is_edited_without_panic(text in "(version = 1\n)?[\\[\\]a-c.=\"0-9\n{} #,hostip]{0,60}", key in ".{0,8}", word in ".{0,12}") {
            if let Ok(mut editor) = Editor::new(&text, "f") {
                let _ = editor.set(&Target::Host("a".into()), &key, &Value::String(word.clone()));
                let _ = editor.remove(&Target::Host("b".into()));
                prop_assert!(Editor::new(&editor.text(), "f").is_ok());
            }
            let _ = value(Kind::Host, &key, &word);
            let _ = value(Kind::Host, "disks", &word);
        }
    }
}
