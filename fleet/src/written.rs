//! `fleet.toml` as written: its tables and keys with their lines. What they mean is looked at in [`crate::keys`] and after.

use crate::problem::{Problem, nearest};
use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The only version there is.
const VERSION: i64 = 1;
/// Ten thousand machines need a tenth of it. What is larger is something else.
pub const LARGEST: usize = 8 << 20;
/// What stands at the top of the file.
const TOP: [&str; 7] = [
    "version", "server", "base", "network", "group", "host", "ip",
];

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub name: String,
    pub line: usize,
    pub value: toml::Value,
}

/// A table of keys: `[base]`, or one of `[host.NAME]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Section {
    /// Empty for `base` and `server`.
    pub name: String,
    pub line: usize,
    /// In the file's order.
    pub keys: Vec<Key>,
}

impl Section {
    pub fn key(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// The file, each list in its order.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Written {
    pub server: Section,
    pub base: Section,
    pub networks: Vec<Section>,
    pub groups: Vec<Section>,
    pub hosts: Vec<Section>,
    pub ips: Vec<Section>,
}

impl Written {
    /// Reads the bytes of a file. A byte order mark and Windows' line ends are let pass.
    pub fn read(bytes: &[u8]) -> Result<Self, Vec<Problem>> {
        let one = |what: String| vec![Problem::at(0, what)];
        if bytes.len() > LARGEST {
            return Err(one(format!(
                "it has {} MiB: a file of machines is smaller than {} MiB; is it something else?",
                bytes.len() >> 20,
                LARGEST >> 20
            )));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let line = before.matches('\n').count() + 1;
            vec![Problem::at(
                line,
                format!("byte {} is not UTF-8 text", error.valid_up_to()),
            )]
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = Lines::new(text);
        let table = DeTable::parse(text)
            .map_err(|error| vec![lines.explain(text, &error)])?
            .into_inner();
        let mut reader = Reader {
            lines,
            problems: Vec::new(),
        };
        let written = reader.file(table);
        if reader.problems.is_empty() {
            Ok(written)
        } else {
            Err(reader.problems)
        }
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        let behind = text.match_indices('\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(behind).collect())
    }

    /// From 1.
    fn of(&self, at: usize) -> usize {
        self.0.partition_point(|start| *start <= at)
    }

    fn text<'a>(&self, text: &'a str, line: usize) -> &'a str {
        let start = self.0.get(line - 1).copied().unwrap_or(text.len());
        text[start..].lines().next().unwrap_or_default().trim()
    }

    /// The parser's error with its line; of what stands twice both lines.
    fn explain(&self, text: &str, error: &toml::de::Error) -> Problem {
        let message = error.message().replace('\n', " ");
        let Some(span) = error.span() else {
            return Problem::at(0, message);
        };
        let line = self.of(span.start);
        if !message.contains("duplicate key") {
            return Problem::at(line, message);
        }
        let here = without_comment(self.text(text, line));
        let key = text.get(span).unwrap_or(here).trim();
        // A table's header stands twice; of a key the one before it in its table is meant.
        let header = here.starts_with('[');
        let wanted = bare(if header { here } else { key });
        let same = |candidate: &usize| {
            let candidate = bare(self.text(text, *candidate));
            if header {
                candidate == wanted
            } else {
                let name = candidate.split_once('=').map(|(name, _)| name);
                name == Some(wanted.as_str())
            }
        };
        let what = if header { here } else { key };
        match (1..line).rev().find(same) {
            Some(first) => Problem::both(line, first, format_args!("{what} stands here and")),
            None => Problem::at(line, format!("{what} stands twice")),
        }
    }
}

fn without_comment(line: &str) -> &str {
    let mut quoted = None;
    for (at, c) in line.char_indices() {
        match (quoted, c) {
            (None, '#') => return line[..at].trim_end(),
            (None, '"' | '\'') => quoted = Some(c),
            (Some(quote), c) if c == quote => quoted = None,
            _ => {}
        }
    }
    line
}

/// A header or a key, however it is written: `[ host."a" ] # front` is `[host.a]`.
fn bare(line: &str) -> String {
    let quote = |c: char| matches!(c, '"' | '\'');
    let kept = without_comment(line).chars();
    kept.filter(|c| !c.is_whitespace() && !quote(*c)).collect()
}

struct Reader {
    lines: Lines,
    problems: Vec<Problem>,
}

type Item<'a> = (Spanned<std::borrow::Cow<'a, str>>, Spanned<DeValue<'a>>);

impl Reader {
    fn wrong(&mut self, line: usize, what: String) {
        self.problems.push(Problem::at(line, what));
    }

    fn file(&mut self, table: DeTable) -> Written {
        let mut written = Written::default();
        let mut version = false;
        for (key, value) in in_order(table) {
            let line = self.lines.of(key.span().start);
            let name = key.into_inner().into_owned();
            match name.as_str() {
                "version" => {
                    version = true;
                    self.version(line, value);
                }
                "server" => written.server = self.section(String::new(), line, value, "server"),
                "base" => written.base = self.section(String::new(), line, value, "base"),
                "network" => written.networks = self.sections(line, value, "network"),
                "group" => written.groups = self.sections(line, value, "group"),
                "host" => written.hosts = self.sections(line, value, "host"),
                "ip" => written.ips = self.sections(line, value, "ip"),
                other => {
                    let what = match nearest(other, TOP.into_iter()) {
                        Some(near) => format!("unknown key {other:?}: did you mean {near:?}?"),
                        None => format!("unknown key {other:?}: there are {}", TOP.join(", ")),
                    };
                    self.wrong(line, what);
                }
            }
        }
        if !version {
            let what = "the key \"version\" is missing: begin the file with version = 1";
            self.wrong(1, what.into());
        }
        written
    }

    fn version(&mut self, line: usize, value: Spanned<DeValue>) {
        match self.value(line, value) {
            Some(toml::Value::Integer(VERSION)) | None => {}
            Some(other) => self.wrong(
                line,
                format!("version = {other}: this Pitstop reads version {VERSION}"),
            ),
        }
    }

    fn value(&mut self, line: usize, value: Spanned<DeValue>) -> Option<toml::Value> {
        let read = toml::Value::deserialize(value.into_deserializer());
        read.map_err(|error| self.wrong(line, error.message().to_owned()))
            .ok()
    }

    /// `[host.a]`, `[host.b]`, …
    fn sections(&mut self, line: usize, value: Spanned<DeValue>, kind: &str) -> Vec<Section> {
        let DeValue::Table(table) = value.into_inner() else {
            self.wrong(line, format!("{kind} is no value: write [{kind}.NAME]"));
            return Vec::new();
        };
        in_order(table)
            .into_iter()
            .map(|(key, value)| {
                let line = self.lines.of(key.span().start);
                let name = key.into_inner().into_owned();
                let title = format!("{kind}.{name}");
                self.section(name, line, value, &title)
            })
            .collect()
    }

    fn section(
        &mut self,
        name: String,
        line: usize,
        value: Spanned<DeValue>,
        title: &str,
    ) -> Section {
        let mut section = Section {
            name,
            line,
            keys: Vec::new(),
        };
        let DeValue::Table(table) = value.into_inner() else {
            self.wrong(line, format!("{title} is no value: write [{title}]"));
            return section;
        };
        for (key, value) in in_order(table) {
            let line = self.lines.of(key.span().start);
            let key = key.into_inner().into_owned();
            if let Some(value) = self.value(line, value) {
                section.keys.push(Key {
                    name: key,
                    line,
                    value,
                });
            }
        }
        section
    }
}

/// The parser keeps keys by their letters: their places tell how they were written.
fn in_order(table: DeTable) -> Vec<Item> {
    let mut items: Vec<Item> = table.into_iter().collect();
    items.sort_by_key(|(key, _)| key.span().start);
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problems(text: &str) -> Vec<(usize, String)> {
        let problems = Written::read(text.as_bytes()).unwrap_err();
        problems.into_iter().map(|p| (p.line, p.what)).collect()
    }

    #[test]
    fn sections_come_in_the_order_of_the_file_with_their_lines() {
        let text = "\u{feff}version = 1\r\n[group.b]\r\nimage = \"x\"\r\n[group.a]\r\n[host.h]\r\nmac = [\r\n]\r\nattempts = 3\r\n";
        let written = Written::read(text.as_bytes()).unwrap();
        let groups: Vec<_> = written
            .groups
            .iter()
            .map(|g| (g.name.as_str(), g.line))
            .collect();
        assert_eq!(groups, [("b", 2), ("a", 4)]);
        let keys: Vec<_> = written.hosts[0]
            .keys
            .iter()
            .map(|k| (k.name.as_str(), k.line))
            .collect();
        assert_eq!(keys, [("mac", 6), ("attempts", 8)]);
    }

    #[test]
    fn what_stands_twice_is_told_with_both_lines() {
        let twice =
            "version = 1\n[host.a]\nip = \"1.2.3.4\"\n[host.b]\nip = \"1.2.3.5\"\n[host.a]\n";
        assert_eq!(
            problems(twice),
            [(6, "[host.a] stands here and in line 2".into())]
        );
        let key = "version = 1\n[host.a]\nip = \"1\"\n[host.b]\nip = \"1\"\nip = \"2\"\n";
        assert_eq!(problems(key), [(6, "ip stands here and in line 5".into())]);
        let commented = "version = 1\n[host.a] # front\n[ host.'a' ]\n";
        assert_eq!(
            problems(commented),
            [(3, "[ host.'a' ] stands here and in line 2".into())]
        );
        let quoted = "version = 1\n[host.\"a#b\"]\n[host.\"a\"]\n[host.a] # \"front\n";
        assert_eq!(
            problems(quoted),
            [(4, "[host.a] stands here and in line 3".into())]
        );
        let key = "version = 1\n[host.a]\n\"ip\" = \"1\" # it\nip=\"2\"\n";
        assert_eq!(problems(key), [(4, "ip stands here and in line 3".into())]);
        let key = "version = 1\n[host.a]\nip = \"1\"\n\"ip\" = \"2\"\n";
        assert_eq!(problems(key)[0].0, 4);
        assert!(problems(key)[0].1.ends_with("stands here and in line 3"));
    }

    #[test]
    fn what_is_no_fleet_file_is_told() {
        assert_eq!(
            problems("[base]\n")[0].1,
            "the key \"version\" is missing: begin the file with version = 1"
        );
        assert_eq!(
            problems("version = 2\n"),
            [(1, "version = 2: this Pitstop reads version 1".into())]
        );
        assert_eq!(
            problems("version = 1\n[hots.a]\n"),
            [(2, "unknown key \"hots\": did you mean \"host\"?".into())]
        );
        assert_eq!(
            problems("version = 1\nhost = 3\n"),
            [(2, "host is no value: write [host.NAME]".into())]
        );
        assert_eq!(
            problems("version = 1\n[host]\na = 3\n"),
            [(3, "host.a is no value: write [host.a]".into())]
        );
        assert_eq!(Written::read(b"version = 1\n\xff").unwrap_err()[0].line, 2);
        assert_eq!(problems("version = 1\n[base\n")[0].0, 2);
    }

    #[test]
    fn ten_megabytes_of_noise_are_one_problem_soon_told() {
        let noise: Vec<u8> = (0..10u32 << 20)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 & 0x7f)
            .collect();
        assert!(
            Written::read(&noise).unwrap_err()[0]
                .what
                .contains("it has 10 MiB")
        );
        let began = std::time::Instant::now();
        for text in ["[", "=", "a=[\n", "[a]\n", "\"", "a.", "{"] {
            let repeated = text.repeat(LARGEST / 2 / text.len());
            assert_eq!(
                Written::read(repeated.as_bytes()).unwrap_err().len(),
                1,
                "{text}"
            );
        }
        assert_eq!(Written::read(&noise[..LARGEST]).unwrap_err().len(), 1);
        println!("noise took {:?}", began.elapsed());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(version = 1\n)?[\\[\\]a-c.=\"0-9\n{} #,]{0,60}") {
            let _ = Written::read(text.as_bytes());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Written::read(&bytes);
        }
    }
}
