//! `notify.toml`: who is told what, as written and as checked.

use crate::mail::{Mail, Security};
use crate::notice::{Event, Notice};
use crate::receiver::{Kind, Receiver};
use crate::template::{self, Template};
use crate::webhook::Webhook;
use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Below the root.
pub const FILE: &str = "notify.toml";
const VERSION: u32 = 1;
/// A name is a folder of the spool, too.
const LONGEST_NAME: usize = 40;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    version: u32,
    #[serde(default)]
    webhook: Vec<WrittenWebhook>,
    #[serde(default)]
    mail: Vec<WrittenMail>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenWebhook {
    name: String,
    url: String,
    #[serde(default = "failures")]
    on: Vec<Event>,
    secret_file: Option<PathBuf>,
    body: Option<String>,
    content_type: Option<String>,
    ca_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenMail {
    name: String,
    server: String,
    port: Option<u16>,
    #[serde(default)]
    security: Security,
    user: Option<String>,
    password_file: Option<PathBuf>,
    from: String,
    to: Vec<String>,
    #[serde(default = "failures")]
    on: Vec<Event>,
    subject: Option<String>,
    body: Option<String>,
    ca_file: Option<PathBuf>,
}

/// What is told where nobody says what.
fn failures() -> Vec<Event> {
    vec![Event::Failed, Event::GaveUp, Event::Silent]
}

/// The file, checked: every receiver could be told something now.
#[derive(Debug, Default)]
pub struct Config {
    pub receivers: Vec<Receiver>,
}

impl Config {
    /// Reads the file of a root. Where there is none, nobody is told anything.
    ///
    /// # Errors
    /// What is wrong with it, with line and key or the name of the receiver.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let path = root.join(FILE);
        match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            text => Self::parse(&text.with_context(|| format!("reading {}", path.display()))?)
                .with_context(|| path.display().to_string()),
        }
    }

    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let written: Written = toml::from_str(text)?;
        ensure!(
            written.version == VERSION,
            "version is {}: this program knows version {VERSION}",
            written.version
        );
        let mut receivers = Vec::new();
        for webhook in written.webhook {
            let name = webhook.name.clone();
            receivers.push(checked(webhook).with_context(|| format!("[[webhook]] {name:?}"))?);
        }
        for mail in written.mail {
            let name = mail.name.clone();
            receivers.push(checked_mail(mail).with_context(|| format!("[[mail]] {name:?}"))?);
        }
        let mut names = HashSet::new();
        for receiver in &receivers {
            let name = &receiver.name;
            ensure!(
                names.insert(name.clone()),
                "two receivers have the name {name:?}"
            );
        }
        Ok(Self { receivers })
    }

    /// Who is to be told of a notice.
    pub fn of<'a>(&'a self, notice: &'a Notice) -> impl Iterator<Item = &'a Receiver> {
        self.receivers
            .iter()
            .filter(|receiver| receiver.on.contains(&notice.event))
    }
}

fn named(name: String, on: Vec<Event>, kind: Kind) -> anyhow::Result<Receiver> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    ensure!(
        !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(plain),
        "a name has letters, digits, - and _, and at most {LONGEST_NAME} of them"
    );
    ensure!(!on.is_empty(), "on is empty: it would be told nothing");
    Ok(Receiver { name, on, kind })
}

fn template(key: &str, text: &str) -> anyhow::Result<Template> {
    Template::new(text).map_err(|why| anyhow::anyhow!("{key}: {why}"))
}

fn checked(written: WrittenWebhook) -> anyhow::Result<Receiver> {
    let url: reqwest::Url = written.url.parse().context("url")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        bail!("url: write http:// or https:// and a host");
    }
    let body = written.body.as_deref();
    let webhook = Webhook::new(
        url,
        written.secret_file,
        body.map(|text| template("body", text)).transpose()?,
        written.content_type,
        written.ca_file.as_deref(),
    )?;
    named(written.name, written.on, Kind::Webhook(Box::new(webhook)))
}

fn checked_mail(written: WrittenMail) -> anyhow::Result<Receiver> {
    ensure!(!written.to.is_empty(), "to is empty");
    let address = |key: &str, text: &str| {
        text.parse()
            .with_context(|| format!("{key}: {text:?} is no mail address"))
    };
    let login = match (written.user, written.password_file) {
        (Some(user), Some(file)) => Some((user, file)),
        (None, None) => None,
        _ => bail!("user and password-file go together"),
    };
    let to = written.to.iter().map(|to| address("to", to));
    let mail = Mail {
        port: written.port.unwrap_or(written.security.port()),
        server: written.server,
        security: written.security,
        login,
        from: address("from", &written.from)?,
        to: to.collect::<anyhow::Result<_>>()?,
        subject: template(
            "subject",
            written.subject.as_deref().unwrap_or(template::SUBJECT),
        )?,
        body: template("body", written.body.as_deref().unwrap_or(template::BODY))?,
        ca_file: written.ca_file,
    };
    mail.check()?;
    named(written.name, written.on, Kind::Mail(Box::new(mail)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAIL: &str = "version = 1\n[[mail]]\nname = \"admins\"\nserver = \"smtp.example\"\nfrom = \"Pitstop <p@lab.example>\"\n\
                        to = [\"a@lab.example\"]\n";

    fn wrong(text: &str) -> String {
        format!("{:#}", Config::parse(text).unwrap_err())
    }

    #[test]
    fn what_nobody_says_has_a_sensible_value() {
        let config = Config::parse(MAIL).unwrap();
        let [receiver] = &config.receivers[..] else {
            panic!("one receiver");
        };
        assert_eq!(receiver.on, failures());
        let Kind::Mail(mail) = &receiver.kind else {
            panic!("it is mail");
        };
        assert_eq!((mail.port, mail.security), (587, Security::Starttls));
        assert!(Config::parse("version = 1\n").unwrap().receivers.is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let hook = "version = 1\n[[webhook]]\nname = \"x\"\nurl = \"https://h/\"\n";
        for (text, why) in [
            (format!("{hook}sekret = \"x\"\n"), "line 5"),
            (format!("{hook}sekret = \"x\"\n"), "sekret"),
            (format!("{hook}on = [\"broken\"]\n"), "broken"),
            (format!("{hook}on = []\n"), "on is empty"),
            (
                format!("{hook}body = \"{{{{ nam }}}}\"\n"),
                "[[webhook]] \"x\": body: line 1",
            ),
            (format!("{hook}ca-file = \"/none\"\n"), "/none"),
            (hook.replace("https", "gopher"), "url: write http"),
            (hook.replace("\"x\"", "\"../x\""), "a name has letters"),
            (hook.replace("= 1", "= 2"), "version 1"),
            (format!("{hook}{}", &hook[11..]), "two receivers"),
            (format!("{MAIL}user = \"u\"\n"), "go together"),
            (MAIL.replace("a@lab.example", "nobody"), "no mail address"),
        ] {
            let told = wrong(&text);
            assert!(told.contains(why), "{text}\n{told}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_configuration_or_an_error(text in "(version = 1\n)?.{0,80}") {
            let _ = Config::parse(&text);
        }
    }
}
