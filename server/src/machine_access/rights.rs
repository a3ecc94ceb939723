//! The token of a run, and what it is good for.

use crate::path::RelPath;
use crate::refusal::Refusal;
use crate::runs::token::{self, Answer};
use crate::site::{Site, is_marker};
use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use pitstop_jobs::{HostFiles, Job};
use pitstop_protocol::id::Id;
use pitstop_protocol::job::ActionName;
use pitstop_protocol::job::terms::{NOTES, note};
use pitstop_protocol::machine::folder;
use std::fmt::Write as _;
use std::net::IpAddr;

/// A machine whose job is over has logs to write and files to move.
const AFTERWARDS: SignedDuration = SignedDuration::from_hours(1);
/// Keys of a host file that are credentials: what somebody wrote there themselves stays.
const CREDENTIALS: [&str; 3] = ["token", "user", "password"];

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// What there is to be done with a path.
    Ask,
    Read,
    /// A folder is made.
    Make,
    Write,
}

impl Act {
    pub fn of(method: &str) -> Self {
        match method {
            "OPTIONS" => Self::Ask,
            "GET" | "HEAD" => Self::Read,
            "MKCOL" => Self::Make,
            _ => Self::Write,
        }
    }
}

/// The token as a host file has it: the job, a dot, the secret that its reports show as well.
fn token_text(job: &Id, secret: &str) -> String {
    format!("{job}.{secret}")
}

/// The job and the secret of a run's token; `None` for what is none.
pub fn read_token(text: &str) -> Option<(Id, String)> {
    let (job, secret) = text.split_once('.')?;
    Some((job.parse().ok()?, secret.to_owned()))
}

/// Adds the run's token to a host file, or beside one that is signed, if its share is this server's and it has no credentials.
pub fn add_token(files: &mut HostFiles, server: &str, job: &Id, secret: &str) {
    let said: toml::Table = toml::from_str(&files.text).unwrap_or_default();
    let own = |share: &str| {
        let below = share.strip_prefix(server);
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    };
    let share = said.get("share").and_then(toml::Value::as_str);
    if share.is_some_and(own) && !CREDENTIALS.iter().any(|key| said.contains_key(*key)) {
        let text = match &files.signature {
            Some(_) => files.unsigned.get_or_insert_default(),
            None => &mut files.text,
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let token = toml::Value::from(token_text(job, secret));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "token = {token}");
    }
}

/// What a run's token is good for.
#[derive(Debug, PartialEq, Eq)]
pub struct Rights {
    own: String,
    /// The folder of the image, if it is another one; and whether the job writes it.
    image: Option<(String, bool)>,
    /// Where a job that is done once is noted.
    note: Option<String>,
}

impl Rights {
    /// What the token is good for, shown by `peer`.
    ///
    /// # Errors
    /// It is no job's token, or the job is over.
    pub fn of(site: &Site, (job, secret): &(Id, String), peer: IpAddr) -> Result<Self, Refusal> {
        let failed = |error| Refusal::io("looking for the job's token", &error);
        let known = token::check(site.runs.root(), job, Some(secret)).map_err(failed)?;
        if known != Answer::Right {
            return Err(Refusal::unauthorized("this is no token of a run"));
        }
        let job = site.jobs.store().read(job);
        let job = job.map_err(|error| {
            let why = format!("looking for the token's job: {error:#}");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why)
        })?;
        let Some(job) = job else {
            // Of a machine that the server itself sent to say what it is.
            return Ok(Self {
                own: folder(peer),
                image: None,
                note: None,
            });
        };
        let now = Timestamp::now();
        let over = job
            .ended
            .is_some_and(|ended| now.duration_since(ended) > AFTERWARDS);
        if over {
            return Err(Refusal::unauthorized("the run of this token is over"));
        }
        Ok(Self::of_job(&job, peer))
    }

    fn of_job(job: &Job, peer: IpAddr) -> Self {
        let own = job.folder.clone().unwrap_or_else(|| folder(peer));
        let said: toml::Table = toml::from_str(&job.text).unwrap_or_default();
        let image = said.get("image").and_then(toml::Value::as_str);
        let image = image.map(|image| image.replace("{ip}", &own).trim_matches('/').to_owned());
        let writes = matches!(job.action, ActionName::Backup | ActionName::BackupAgain);
        Self {
            image: image
                .filter(|image| *image != own && !image.is_empty())
                .map(|image| (image, writes)),
            own,
            note: said.get("id").and_then(toml::Value::as_str).map(note),
        }
    }

    /// The machine's own folder.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// Whether the machine may do this with `path`, below the share.
    ///
    /// # Errors
    /// 403; 404 for what it may not read and is not there, which servers are asked for to see whether they say so.
    pub fn check(&self, site: &Site, act: Act, path: &RelPath) -> Result<(), Refusal> {
        if self.allow(act, path) {
            return Ok(());
        }
        if act == Act::Read && !path.is_root() && !site.share.exists(path.as_path()) {
            return Err(Refusal::not_found(path));
        }
        Err(self.refuse(path))
    }

    fn allow(&self, act: Act, path: &RelPath) -> bool {
        let image = self.image.as_ref();
        let read = [
            Some(self.own.as_str()),
            image.map(|(image, _)| image.as_str()),
        ];
        let write = [
            Some(self.own.as_str()),
            image
                .filter(|(_, writes)| *writes)
                .map(|(image, _)| image.as_str()),
        ];
        let within = |folders: [Option<&str>; 2]| {
            let mut folders = folders.into_iter().flatten();
            folders.any(|folder| path.below(folder).is_some())
        };
        let notes = self.note.is_some() && path.as_str() == NOTES;
        match act {
            Act::Ask => true,
            Act::Read => is_marker(path) || within(read) || notes || self.is_note(path),
            // A folder on the way to the own one may have to be made. It is not the machine's: whoever moved it would take
            // along what is others'.
            Act::Make => within(write) || notes || is_above(path, &write),
            Act::Write => within(write) || self.is_note(path),
        }
    }

    /// The note of its own job, also while it is being written.
    fn is_note(&self, path: &RelPath) -> bool {
        let is = |note: &String| {
            let rest = path.as_str().strip_prefix(note.as_str());
            matches!(rest, Some("" | ".part"))
        };
        self.note.as_ref().is_some_and(is)
    }

    pub fn refuse(&self, path: &RelPath) -> Refusal {
        let mut good = self.own.clone();
        if let Some((image, writes)) = &self.image {
            good.push_str(if *writes { " and " } else { " and, to read, " });
            good.push_str(image);
        }
        let why = format!("the token of this run is good for {good}, not for {path}");
        Refusal::new(StatusCode::FORBIDDEN, why)
    }
}

fn is_above(path: &RelPath, folders: &[Option<&str>]) -> bool {
    let mut folders = folders.iter().flatten();
    !path.is_root()
        && folders.any(|folder| {
            let rest = folder.strip_prefix(path.as_str());
            rest.is_some_and(|rest| rest.starts_with('/'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn rights(image: Option<(&str, bool)>) -> Rights {
        Rights {
            own: "10.0.2.15".into(),
            image: image.map(|(image, writes)| (image.to_owned(), writes)),
            note: None,
        }
    }

    fn path(text: &str) -> RelPath {
        RelPath::from_text(text).unwrap()
    }

    #[test]
    fn a_machine_writes_its_own_folder_and_reads_its_image() {
        let rights = rights(Some(("lab3/golden", false)));
        for (act, name, may) in [
            (Act::Read, "10.0.2.15/sda.raw.gz", true),
            (Act::Write, "10.0.2.15/sda.raw.gz.new.part", true),
            (Act::Write, "10.0.2.15", true),
            (Act::Read, "10.0.2.16/sda.raw.gz", false),
            (Act::Read, "10.0.2.1", false),
            (Act::Read, "10.0.2.155/x", false),
            (Act::Write, "10.0.2.155/x", false),
            (Act::Read, "lab3/golden/sda.raw.gz", true),
            (Act::Write, "lab3/golden/sda.raw.gz", false),
            (Act::Write, "lab3", false),
            (Act::Read, "lab3", false),
            (Act::Read, "pitstop-share", true),
            (Act::Write, "pitstop-share", false),
            (Act::Read, "", false),
            (Act::Write, "", false),
            (Act::Ask, "10.0.2.16/x", true),
        ] {
            assert_eq!(rights.allow(act, &path(name)), may, "{act:?} {name}");
        }
        let once = super::Rights {
            note: Some(note("one")),
            ..super::Rights {
                own: rights.own.clone(),
                image: None,
                note: None,
            }
        };
        for (name, may) in [
            ("signed-jobs/one.toml", true),
            ("signed-jobs/one.toml.part", true),
            ("signed-jobs", false),
            ("signed-jobs/two.toml", false),
            ("signed-jobs/one.toml.toml", false),
        ] {
            assert_eq!(once.allow(Act::Write, &path(name)), may, "{name}");
            assert!(!rights.allow(Act::Write, &path(name)), "{name}");
        }
        assert!(once.allow(Act::Make, &path("signed-jobs")));
        let writes = super::Rights {
            image: Some(("lab3/golden".into(), true)),
            ..rights
        };
        assert!(writes.allow(Act::Write, &path("lab3/golden/sda.raw.gz")));
        // Moved away, it would take the images of others along.
        assert!(!writes.allow(Act::Write, &path("lab3")));
        assert!(writes.allow(Act::Make, &path("lab3")));
        assert!(!writes.allow(Act::Make, &path("lab")));
    }

    #[test]
    fn a_token_goes_to_the_own_share_and_takes_no_credentials_place() {
        let job: Id = "20261128-212955-0f3a".parse().unwrap();
        let files = |text: &str, signature: Option<&str>| {
            let mut files = HostFiles {
                text: text.to_owned(),
                signature: signature.map(str::to_owned),
                unsigned: None,
            };
            add_token(&mut files, "http://srv:8080", &job, "abc");
            files
        };
        let with = |text: &str| files(text, None).text;
        let own = "share = \"http://srv:8080/share\"";
        let added = with(own);
        let table: toml::Table = toml::from_str(&added).unwrap();
        let token = table["token"].as_str().unwrap();
        assert_eq!(read_token(token), Some((job.clone(), "abc".into())));
        let signed = files(own, Some("signature"));
        assert_eq!(signed.text, own);
        assert_eq!(signed.unsigned, Some(format!("token = \"{job}.abc\"\n")));
        for other in [
            "share = \"http://srv:80801/share\"",
            "share = \"nfs://srv/x\"",
            "",
            &format!("{own}\nuser = \"u\"\npassword = \"p\"\n"),
            &format!("{own}\ntoken = \"mine\"\n"),
        ] {
            assert_eq!(with(other), other);
        }
    }

    #[test]
    fn the_job_tells_the_folders() {
        let of = |image: &str, action, own: Option<&str>| {
            let text = format!("version = 1\n{image}");
            let mut job = crate::jobs::fake::job(15, Timestamp::UNIX_EPOCH);
            job.text = text;
            job.action = action;
            job.folder = own.map(str::to_owned);
            Rights::of_job(&job, PEER)
        };
        assert_eq!(of("", ActionName::Backup, Some("10.0.2.15")), rights(None));
        assert_eq!(of("", ActionName::Backup, None).own, "192.0.2.7");
        assert_eq!(
            of(
                "image = \"gold/{ip}/\"",
                ActionName::Restore,
                Some("10.0.2.15")
            ),
            rights(Some(("gold/10.0.2.15", false)))
        );
        assert_eq!(
            of("image = \"g\"", ActionName::BackupAgain, Some("10.0.2.15")),
            rights(Some(("g", true)))
        );
        assert_eq!(
            of("image = \"/\"", ActionName::Restore, Some("10.0.2.15")),
            rights(None)
        );
    }

    proptest! {
        #[test]
        fn any_token_is_read_without_a_panic(text in "\\PC{0,60}", near in "2026112[0-9]-[0-9]{6}-[0-9a-f]{3,7}\\.[0-9a-f]{0,40}") {
            let _ = read_token(&text);
            if let Some((job, secret)) = read_token(&near) {
                prop_assert_eq!(token_text(&job, &secret), near);
            }
        }

        #[test]
        fn no_path_outside_the_own_folder_is_written(name in "[a-z0-9./]{0,30}") {
            let Ok(path) = RelPath::from_text(&name) else { return Ok(()) };
            if rights(None).allow(Act::Write, &path) {
                prop_assert!(path.as_str() == "10.0.2.15" || path.as_str().starts_with("10.0.2.15/"));
            }
        }
    }
}
