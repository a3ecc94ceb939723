//! Users and passwords of BMCs, in a file of their own that nobody else may read.
//!
//! ```toml
//! [default]
//! user = "admin"
//! password = "…"
//! ["bmc-lab3-*"]
//! fingerprint = "sha256:…"
//! ```
//! Sections are layers: those whose name fits the BMC's, in the file's order, the later one winning key by key.

use crate::fingerprint::Fingerprint;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The file's name, in the root or in /etc/pitstop.
pub const FILE: &str = "credentials.toml";
const SYSTEM: &str = "/etc/pitstop";
const DEFAULT: &str = "default";
const KEYS: [&str; 5] = ["user", "password", "fingerprint", "insecure", "auth"];
/// Bytes: what is larger is no such file.
const LARGEST: u64 = 1 << 20;

/// A text that no message and no debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// For the one who asks for it, and for nobody's eyes.
    pub fn tell(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// How a Redfish service is shown who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Auth {
    /// What holds where nothing is said.
    Basic,
    /// A session is opened, used, and closed.
    Session,
}

/// What is known for one BMC.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Login {
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub fingerprint: Option<Fingerprint>,
    pub insecure: Option<bool>,
    pub auth: Option<Auth>,
}

impl Login {
    /// What somebody said, without the password, should it be in it.
    pub fn redact(&self, text: &str) -> String {
        match &self.password {
            Some(password) if !password.0.is_empty() => text.replace(&password.0, "(secret)"),
            _ => text.to_owned(),
        }
    }

    fn take(&mut self, layer: &Self) {
        self.user = layer.user.clone().or(self.user.take());
        self.password = layer.password.clone().or(self.password.take());
        self.fingerprint = layer.fingerprint.or(self.fingerprint);
        self.insecure = layer.insecure.or(self.insecure);
        self.auth = layer.auth.or(self.auth);
    }
}

/// The file.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Where it is, or would be.
    path: PathBuf,
    /// Each with its pattern.
    sections: Vec<(String, Login)>,
}

/// A credentials file that is not used. It quotes nothing of the file: that may be a password.
#[derive(Debug, thiserror::Error)]
pub enum BadCredentials {
    #[error("reading {}: {error}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("others may read {}, which has passwords in it: chmod 600 {}", path.display(), path.display())]
    Mode { path: PathBuf },
    #[error("{}, line {line}: {what}", path.display())]
    Wrong {
        path: PathBuf,
        line: usize,
        what: String,
    },
}

impl Credentials {
    /// Reads the file of `root`, or where there is none that of /etc/pitstop. No file has no credentials.
    ///
    /// # Errors
    /// It cannot be read, others may read it, or something in it is wrong.
    pub fn read(root: &Path) -> Result<Self, BadCredentials> {
        let own = root.join(FILE);
        for path in [own.clone(), Path::new(SYSTEM).join(FILE)] {
            if let Some(text) = text(&path)? {
                return Self::parse(&text, path);
            }
        }
        Ok(Self {
            path: own,
            sections: Vec::new(),
        })
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path.clone()
    }

    /// What holds for the BMC of this name or address. An IPv6 address may stand in brackets.
    pub(crate) fn of(&self, bmc: &str) -> Login {
        let bmc = bmc.trim_matches(['[', ']']);
        let mut login = Login::default();
        let fits = |pattern: &str| pattern == DEFAULT || fits(pattern, bmc);
        for (_, layer) in self.sections.iter().filter(|(pattern, _)| fits(pattern)) {
            login.take(layer);
        }
        login
    }

    fn parse(text: &str, path: PathBuf) -> Result<Self, BadCredentials> {
        match sections(text) {
            Ok(sections) => Ok(Self { path, sections }),
            Err((at, what)) => {
                let before = text.get(..at).unwrap_or(text);
                let line = before.matches('\n').count() + 1;
                Err(BadCredentials::Wrong { path, line, what })
            }
        }
    }
}

/// `None` where there is no file.
fn text(path: &Path) -> Result<Option<String>, BadCredentials> {
    let reading = |error| BadCredentials::Read {
        path: path.to_owned(),
        error,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(reading(error)),
    };
    // Of the file that is open: another one may take its name meanwhile.
    let mode = file.metadata().map_err(reading)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(BadCredentials::Mode {
            path: path.to_owned(),
        });
    }
    let mut text = String::new();
    file.take(LARGEST)
        .read_to_string(&mut text)
        .map_err(reading)?;
    Ok(Some(text))
}

type Wrong = (usize, String);

/// Each with its pattern, the default first, the others as they stand in the file. An error has its place in the text.
fn sections(text: &str) -> Result<Vec<(String, Login)>, Wrong> {
    let table = DeTable::parse(text).map_err(|error| {
        // The parser's own words may quote the line.
        let at = error.span().map_or(0, |span| span.start);
        (at, "it is not written as TOML is".to_owned())
    })?;
    let mut found = Vec::new();
    for (name, value) in table.into_inner() {
        let at = name.span().start;
        let name = name.into_inner().into_owned();
        let DeValue::Table(keys) = value.into_inner() else {
            return Err((
                at,
                "it stands in no section: write [default] or [\"bmc-lab3-01\"] before it".into(),
            ));
        };
        let mut login = Login::default();
        for (key, value) in keys {
            let at = key.span().start;
            let key = key.into_inner();
            set(&mut login, &key, value).map_err(|what| (at, format!("key {key:?}: {what}")))?;
        }
        found.push((name != DEFAULT, at, name, login));
    }
    found.sort_by_key(|(named, at, ..)| (*named, *at));
    Ok(found
        .into_iter()
        .map(|(_, _, name, login)| (name, login))
        .collect())
}

fn set(login: &mut Login, key: &str, value: Spanned<DeValue>) -> Result<(), String> {
    let value = value.into_inner();
    let text = || {
        let text = value
            .as_str()
            .ok_or("it must be a text in quotation marks")?;
        if text.chars().any(char::is_control) {
            return Err("it has a line end or another control character in it");
        }
        Ok(text.to_owned())
    };
    match key {
        "user" => login.user = Some(text()?),
        "password" => login.password = Some(Secret(text()?)),
        "fingerprint" => {
            let print = Fingerprint::parse(&text()?);
            login.fingerprint = Some(print.ok_or("write sha256: and 64 hexadecimal digits")?);
        }
        "insecure" => login.insecure = Some(value.as_bool().ok_or("it must be true or false")?),
        "auth" => {
            login.auth = Some(match text()?.as_str() {
                "basic" => Auth::Basic,
                "session" => Auth::Session,
                _ => return Err("there are \"basic\" and \"session\"".into()),
            });
        }
        _ => return Err(format!("it is not known: there are {}", KEYS.join(", "))),
    }
    Ok(())
}

/// `*` stands for any letters, in capitals or not.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    // Each part where it comes first leaves most for those behind it.
    for part in parts {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    const TEXT: &str = "[\"bmc-lab3-*\"]\nuser = \"lab3\"\n[default]\nuser = \"admin\"\npassword = \"hush-hush\"\n\
        [\"bmc-lab3-07\"]\ninsecure = true\nauth = \"session\"\n\
        [\"10.0.0.7\"]\npassword = \"other\"\nfingerprint = \"SHA256:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB\"\n";

    fn parse(text: &str) -> Result<Credentials, String> {
        Credentials::parse(text, "credentials.toml".into()).map_err(|error| error.to_string())
    }

    #[test]
    fn sections_are_layers() {
        let all = parse(TEXT).unwrap();
        let is = |bmc: &str| {
            let login = all.of(bmc);
            (
                login.user.unwrap(),
                login.password.unwrap().0,
                login.insecure == Some(true),
            )
        };
        assert_eq!(is("bmc-1"), ("admin".into(), "hush-hush".into(), false));
        assert_eq!(
            is("BMC-lab3-01"),
            ("lab3".into(), "hush-hush".into(), false)
        );
        assert_eq!(is("bmc-lab3-07"), ("lab3".into(), "hush-hush".into(), true));
        assert_eq!(all.of("bmc-lab3-07").auth, Some(Auth::Session));
        let other = all.of("10.0.0.7");
        assert_eq!(other.password, Some(Secret("other".into())));
        assert_eq!(other.fingerprint, Some(Fingerprint([0xab; 32])));
        let shown = other.fingerprint.unwrap().to_string();
        assert_eq!(Fingerprint::parse(&shown), other.fingerprint);
        assert_eq!(Credentials::default().of("x"), Login::default());
    }

    #[test]
    fn a_later_layer_may_say_no() {
        let text = "[default]\ninsecure = true\nauth = \"session\"\n[\"bmc-*\"]\ninsecure = false\nauth = \"basic\"\n";
        let login = parse(text).unwrap().of("bmc-1");
        assert_eq!(
            (login.insecure, login.auth),
            (Some(false), Some(Auth::Basic))
        );
    }

    #[test]
    fn an_ipv6_address_is_the_same_with_brackets() {
        let all = parse("[\"2001:db8::7\"]\nuser = \"u\"\n").unwrap();
        for bmc in ["2001:db8::7", "[2001:db8::7]"] {
            assert_eq!(all.of(bmc).user.as_deref(), Some("u"), "{bmc}");
        }
    }

    #[test]
    fn a_pattern_fits_as_in_a_shell() {
        for (pattern, name) in [
            ("*", ""),
            ("a*", "a"),
            ("*.lab", "x.lab"),
            ("a*b*c", "abbc"),
            ("A", "a"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("a", "ab"),
            ("a*", "b"),
            ("*a", "ab"),
            ("a*b*c", "ac"),
            ("ab*ba", "aba"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn nothing_of_the_file_is_in_an_error_or_in_debug_output() {
        for (text, line) in [
            ("[default]\nuser = \"admin\"\npassword = hush-hush\n", 3),
            ("[default]\npassword = 'hush-hush\n", 2),
            ("[default]\npassword = [\"hush-hush\"]\n", 2),
            ("password = \"hush-hush\"\n", 1),
            ("[default]\ninsecure = \"hush-hush\"\n", 2),
            ("[default]\nauth = \"hush-hush\"\n", 2),
            ("[default]\npasswort = \"hush-hush\"\n", 2),
            ("[default]\nfingerprint = \"hush-hush\"\n", 2),
            ("[default]\npassword = \"hush-hush\\n\"\n", 2),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.starts_with(&format!("credentials.toml, line {line}: ")),
                "{error}"
            );
            assert!(!error.contains("hush"), "{error}");
        }
        let all = parse(TEXT).unwrap();
        let shown = format!("{all:?} {:?}", all.of("x"));
        assert!(
            !shown.contains("hush") && shown.contains("(secret)"),
            "{shown}"
        );
        assert_eq!(all.of("x").redact("no: hush-hush"), "no: (secret)");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(FILE);
        fs::write(&path, TEXT).unwrap();
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for open in [0o644, 0o640, 0o604, 0o660] {
            mode(open);
            let error = Credentials::read(root.path()).unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("chmod 600 {}", path.display())),
                "{error}"
            );
        }
        for private in [0o600, 0o400] {
            mode(private);
            let read = Credentials::read(root.path()).unwrap();
            assert_eq!(read.of("x").user.as_deref(), Some("admin"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[\\[\\]a-c.=\"0-9\n*{}]{0,60}", name in ".{0,8}") {
            if let Ok(all) = parse(&text) {
                let _ = all.of(&name);
            }
            let _ = (Fingerprint::parse(&text), fits(&text, &name));
        }
    }
}
