//! The host file as written: strict TOML, version 1. Nothing here knows the machine.

mod selector;

pub use selector::WrittenSelector;

use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use std::collections::BTreeMap;
use std::fmt;
use toml::de::DeTable;

/// The only version there is.
const VERSION: i64 = 1;

/// The keys of the file, with TOML's types. What the values mean is checked when a job is made of them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostFile {
    /// Always there: without it a later format could be taken for this one.
    pub version: Option<i64>,
    pub action: Option<String>,
    pub share: Option<String>,
    pub image: Option<String>,
    pub disks: Option<Vec<WrittenSelector>>,
    pub delete: Option<Vec<String>>,
    pub attempts: Option<u32>,
    pub failure_delay: Option<String>,
    pub progress_timeout: Option<String>,
    pub on_success: Option<String>,
    pub on_failure: Option<String>,
    pub exact: Option<bool>,
    pub level: Option<String>,
    pub read_errors: Option<String>,
    pub versions: Option<bool>,
    pub recipients: Option<Vec<String>>,
    pub delta: Option<BoolOrWord>,
    pub verify: Option<bool>,
    pub new_ids: Option<bool>,
    pub grow: Option<bool>,
    pub keep: Option<Vec<WrittenPartition>>,
    pub partitions: Option<Vec<WrittenPartition>>,
    pub method: Option<String>,
    pub layout: Option<String>,
    pub luks_key: Option<String>,
    pub tree: Option<String>,
    pub exclude: Option<Vec<String>>,
    pub local: Option<Vec<String>>,
    pub identity: Option<String>,
    pub hostname: Option<String>,
    pub overrides: Option<Vec<String>>,
    pub hooks: Option<Vec<String>>,
    pub secrets: Option<String>,
    pub boot: Option<String>,
    pub initrd: Option<String>,
    pub changes: Option<String>,
    pub strangers: Option<String>,
    pub check: Option<String>,
    pub writable: Option<String>,
    pub retry_for: Option<String>,
    pub rate_limit: Option<String>,
    pub distribute: Option<String>,
    pub mirrors: Option<Vec<String>>,
    pub token: Option<Secret>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub report: Option<String>,
    pub report_token: Option<Secret>,
    /// Written by the server for each job.
    pub check_in: Option<String>,
    #[serde(rename = "for")]
    pub meant_for: Option<WrittenFor>,
    /// By file name.
    pub digests: Option<BTreeMap<String, String>>,
    pub not_after: Option<WrittenTime>,
    pub id: Option<String>,
    pub signed: Option<bool>,
    pub round: Option<String>,
}

/// Which machine a job is for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenFor {
    pub mac: Option<String>,
    pub uuid: Option<String>,
    pub serial: Option<String>,
}

/// A time, in quotation marks or without.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a time like \"2026-12-31T22:00:00Z\"")]
pub enum WrittenTime {
    Text(String),
    Time(toml::value::Datetime),
}

/// A text that no message shows.
#[derive(Clone, PartialEq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// TOML's own error would quote a number that was meant as the secret.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)
            .map(Self)
            .map_err(|_| serde::de::Error::custom("it must be a text in quotation marks"))
    }
}

/// `true`, `false` or a word.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected true, false or \"auto\"")]
pub enum BoolOrWord {
    Bool(bool),
    Word(String),
}

/// One entry of `keep` or `partitions`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a partition's number, GUID or name")]
pub enum WrittenPartition {
    Number(i64),
    Text(String),
}

/// What is wrong with a host file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFileError {
    /// The file's URL without credentials.
    pub file: String,
    /// Line and column from 1, where there is a place to point at.
    pub place: Option<(usize, usize)>,
    pub what: String,
}

impl std::error::Error for HostFileError {}

impl fmt::Display for HostFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host file {}", self.file)?;
        if let Some((line, column)) = self.place {
            write!(f, ", line {line}, column {column}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl HostFile {
    /// Reads the bytes of the file named `file`.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Self, HostFileError> {
        let error = |place, what: String| HostFileError {
            file: file.to_owned(),
            place,
            what,
        };
        let text = text(bytes).map_err(|what| error(None, what))?;
        let parsed: Self = toml::from_str(text).map_err(|cause| {
            let at = cause.span().map(|span| span.start);
            error(at.map(|at| place(text, at)), explain(text, &cause))
        })?;
        match parsed.version {
            Some(VERSION) => Ok(parsed),
            None => Err(error(
                None,
                "the key \"version\" is missing: begin the file with version = 1".into(),
            )),
            Some(other) => Err(error(
                key_place(text, "version"),
                format!("version = {other}: this Pitstop reads version {VERSION}"),
            )),
        }
    }

    /// Reads what can be read of a file that [`parse`](Self::parse) sent back: each key by itself.
    pub fn salvage(bytes: &[u8]) -> Self {
        let Ok(text) = text(bytes) else {
            return Self::default();
        };
        let (table, _errors) = DeTable::parse_recoverable(text);
        let mut salvaged = Self::default();
        for (key, value) in table.into_inner() {
            let value = value.into_deserializer();
            match key.get_ref().as_ref() {
                "action" => salvaged.action = Deserialize::deserialize(value).ok(),
                "share" => salvaged.share = Deserialize::deserialize(value).ok(),
                "image" => salvaged.image = Deserialize::deserialize(value).ok(),
                "attempts" => salvaged.attempts = Deserialize::deserialize(value).ok(),
                "failure-delay" => salvaged.failure_delay = Deserialize::deserialize(value).ok(),
                "on-success" => salvaged.on_success = Deserialize::deserialize(value).ok(),
                "on-failure" => salvaged.on_failure = Deserialize::deserialize(value).ok(),
                "token" => salvaged.token = Deserialize::deserialize(value).ok(),
                "user" => salvaged.user = Deserialize::deserialize(value).ok(),
                "password" => salvaged.password = Deserialize::deserialize(value).ok(),
                "report" => salvaged.report = Deserialize::deserialize(value).ok(),
                "report-token" => salvaged.report_token = Deserialize::deserialize(value).ok(),
                _ => {}
            }
        }
        salvaged
    }
}

/// The error for a `key` whose value has the right type but makes no sense.
pub fn value_error(bytes: &[u8], file: &str, key: &str, what: &str) -> HostFileError {
    HostFileError {
        file: file.to_owned(),
        place: text(bytes).ok().and_then(|text| key_place(text, key)),
        what: format!("key {key:?}: {what}"),
    }
}

/// The file as text; what is plainly something else gets a plainer answer than a TOML error.
fn text(bytes: &[u8]) -> Result<&str, String> {
    // RFC 1952 2.3.1. A server that says so beside it, as Content-Encoding, has had it unpacked before.
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return Err("it is compressed with gzip: put it there as plain text".into());
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        format!(
            "it is not a TOML file: byte {} is not UTF-8 text",
            error.valid_up_to()
        )
    })?;
    // Windows editors write a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err("it is empty".into());
    }
    if text.trim_start().starts_with('<') {
        return Err("it is not TOML but looks like a web page: is the URL right?".into());
    }
    Ok(text)
}

/// Line and column, from 1, of the byte at `at`.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

fn key_place(text: &str, key: &str) -> Option<(usize, usize)> {
    let (table, _errors) = DeTable::parse_recoverable(text);
    let (found, _) = table
        .get_ref()
        .iter()
        .find(|(name, _)| name.get_ref().as_ref() == key)?;
    Some(place(text, found.span().start))
}

/// The key that `at` lies in, or in whose value it does.
fn key_at(text: &str, at: usize) -> Option<String> {
    let (table, _errors) = DeTable::parse_recoverable(text);
    table
        .get_ref()
        .iter()
        .find(|(key, value)| key.span().contains(&at) || value.span().contains(&at))
        .map(|(key, _)| key.get_ref().to_string())
}

/// The TOML crate's error as a sentence that names the key and, for an unknown one, the nearest known.
fn explain(text: &str, cause: &toml::de::Error) -> String {
    let message = cause.message().replace('\n', " ");
    if let Some(rest) = message.strip_prefix("unknown field `")
        && let Some((key, known)) = rest.split_once('`')
    {
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        return match nearest(key, &known) {
            Some(near) => format!("unknown key {key:?}: did you mean {near:?}?"),
            None => format!("unknown key {key:?}: there are {}", known.join(", ")),
        };
    }
    let bare = |word: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !word.is_empty() && word.bytes().all(plain)
    };
    let key = cause.span().and_then(|span| {
        // Of a key that stands twice, the place is the key itself.
        let itself = text.get(span.clone()).filter(bare).map(str::to_owned);
        key_at(text, span.start).or(itself)
    });
    match key {
        Some(key) => format!("key {key:?}: {message}"),
        None => message,
    }
}

/// The known word that was probably meant: at most a third of it typed wrongly.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase().replace('_', "-");
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHOLE: &str = r#"
version = 1
action = "restore"
share = "http://10.0.2.2:8080/share"
image = "10.0.2.15"
disks = ["sda", { serial = "QM00001" }, { wwn = "0x5000" }]
delete = ["http://10.0.2.2:8080/hosts/0A00020F.toml"]
attempts = 3
failure-delay = "5m"
on-success = "reboot"
on-failure = "reboot"
exact = true
delta = "auto"
verify = false
new-ids = true
grow = true
level = "small"
read-errors = "record"
versions = true
recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]
method = "zero"
retry-for = "2m"
rate-limit = "80MiB/s"
distribute = "swarm"
mirrors = ["http://10.0.2.3:8080"]
token = "t"
report = "http://10.0.2.2:8080/report/20261128-213000-a1b2"
report-token = "r"
layout = "layout.toml"
luks-key = "luks.key.age"
tree = "web@2026-11-29T014500Z"
exclude = ["/tmp/*"]
local = ["/etc/hosts"]
identity = "new"
hostname = "web-{serial}"
overrides = ["layers/base"]
hooks = ["hooks/10-x.sh"]
secrets = "secrets/web.env.age"
boot = "auto"
initrd = "auto"
changes = "keep"
strangers = "keep"
check = "full"
writable = "memory"
for = { mac = "52:54:00:12:34:56" }
digests = { "sda.raw.gz" = "blake3:0" }
not-after = 2026-12-31T22:00:00Z
id = "one"
"#;

    fn error(text: &str) -> String {
        HostFile::parse(text.as_bytes(), "http://srv/h.toml")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn every_key_of_the_contract_is_read() {
        let file = HostFile::parse(WHOLE.as_bytes(), "f").unwrap();
        assert_eq!(file.attempts, Some(3));
        assert_eq!(file.disks.map(|disks| disks.len()), Some(3));
        assert_eq!(file.delta, Some(BoolOrWord::Word("auto".into())));
        assert!(matches!(file.not_after, Some(WrittenTime::Time(_))));
        let marked = format!("\u{feff}{WHOLE}");
        assert!(HostFile::parse(marked.as_bytes(), "f").is_ok());
    }

    #[test]
    fn errors_name_file_line_and_key() {
        assert_eq!(
            error("version = 1\nactoin = \"backup\"\n"),
            "host file http://srv/h.toml, line 2, column 1: unknown key \"actoin\": did you mean \"action\"?"
        );
        assert_eq!(
            error("version = 1\n\nattempts = \"3\"\n"),
            "host file http://srv/h.toml, line 3, column 12: key \"attempts\": invalid type: string \"3\", expected u32"
        );
        for (text, parts) in [
            (
                "version = 1\nfailure_delay = \"1m\"",
                ["line 2", "did you mean \"failure-delay\"?"],
            ),
            (
                "version = 1\nzebra = 1",
                ["unknown key \"zebra\"", "there are version, action"],
            ),
            (
                "version = 1\n[policy]\nx = 1",
                ["line 2", "unknown key \"policy\""],
            ),
            ("version = 1\naction = backup", ["line 2", "column 10"]),
            (
                "version = 1\nexact = 1",
                ["key \"exact\"", "expected a boolean"],
            ),
            ("version = 1\nattempts = -1", ["line 2", "key \"attempts\""]),
            (
                "version = 1\ndelta = 3",
                ["key \"delta\"", "true, false or \"auto\""],
            ),
            (
                "version = 1\ndisks = [1]",
                ["key \"disks\"", "a disk name or { serial"],
            ),
            (
                "version = 1\ndisks = [{ sreial = \"1\" }]",
                ["line 2", "unknown key \"sreial\": did you mean \"serial\"?"],
            ),
            (
                "version = 1\naction = \"a\"\naction = \"b\"",
                ["line 3", "key \"action\": duplicate key"],
            ),
            (
                "action = \"backup\"",
                ["\"version\" is missing", "version = 1"],
            ),
            ("\nversion = 2", ["line 2, column 1", "reads version 1"]),
            ("<!DOCTYPE html>", ["web page", "URL"]),
            (" \n", ["http://srv/h.toml", "it is empty"]),
        ] {
            let error = error(text);
            for part in parts {
                assert!(error.contains(part), "{text:?}: {part}: {error}");
            }
        }
        let noise = HostFile::parse(b"version\xff", "f").unwrap_err();
        assert_eq!(
            noise.what,
            "it is not a TOML file: byte 7 is not UTF-8 text"
        );
    }

    #[test]
    fn no_error_shows_a_secret() {
        for text in [
            "version = 1\npassword = 12345678\n",
            "version = 1\ntoken = [\"12345678\"]\n",
        ] {
            let error = error(text);
            assert!(
                error.contains("it must be a text in quotation marks"),
                "{error}"
            );
            assert!(error.contains("line 2"), "{error}");
            assert!(!error.contains("1234"), "{error}");
        }
        let file = HostFile::parse(b"version = 1\npassword = \"12345678\"\n", "f").unwrap();
        assert!(!format!("{file:?}").contains("1234"));
    }

    #[test]
    fn a_broken_file_still_tells_its_policy_and_share() {
        let text = "version = 1\naction = \"backup\"\nshare = \"http://srv/share\"\nbogus = 1\n\
                    attempts = \"many\"\nfailure-delay = \"7s\"\non-failure = poweroff\n";
        let salvaged = HostFile::salvage(text.as_bytes());
        assert_eq!(salvaged.share.as_deref(), Some("http://srv/share"));
        assert_eq!(salvaged.failure_delay.as_deref(), Some("7s"));
        assert_eq!(salvaged.action.as_deref(), Some("backup"));
        assert_eq!(salvaged.attempts, None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(noise in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(HostFile::parse(&noise, "f").is_err());
            let _ = HostFile::salvage(&noise);
            let _ = value_error(&noise, "f", "share", "x");
        }

        #[test]
        fn a_damaged_file_is_read_without_panic(at in 0usize..WHOLE.len(), byte in 0u8..128) {
            let mut bytes = WHOLE.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = HostFile::salvage(&bytes);
            if let Err(error) = HostFile::parse(&bytes, "f") {
                prop_assert!(!error.what.contains('\n'), "{}", error.what);
            }
        }
    }
}
