//! The token of a run, and what it is good for.

use crate::path::RelPath;
use crate::refusal::Refusal;
use crate::runs::token::{self, Answer};
use crate::site::{Site, is_marker};
use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use pitstop_jobs::{HostFiles, Job};
use pitstop_protocol::id::Id;
use pitstop_protocol::job::terms::{NOTES, note};
use pitstop_protocol::job::{ActionName, check_folder};
use pitstop_protocol::tree::{self, TreeName};
use std::fmt::Write as _;

/// A machine whose job is over has logs to write and files to move.
const AFTERWARDS: SignedDuration = SignedDuration::from_hours(1);
/// A machine that the server itself sent to say what it is does that at once, with a few tries.
const TO_SAY_WHAT_IT_IS: SignedDuration = SignedDuration::from_hours(24);
/// Where a store has the log of all machines.
const SHARED_LOGS: &str = "maintenance.log.d";
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
    tree: OfTree,
}

/// What a job about a tree has to do with on the share.
#[derive(Debug, Default, PartialEq, Eq)]
struct OfTree {
    /// The tree's folder; and whether the job adds a version to it.
    folder: Option<(String, bool)>,
    /// Folders of files by layer, hooks, and what those are to know.
    reads: Vec<String>,
}

impl OfTree {
    fn of_job(action: ActionName, said: &toml::Table) -> Self {
        let captures = action == ActionName::Capture;
        let takes = matches!(
            action,
            ActionName::Deploy | ActionName::Update | ActionName::Run
        );
        if !captures && !takes {
            return Self::default();
        }
        let named = said.get("tree").and_then(toml::Value::as_str);
        let folder = match named.map(str::parse) {
            Some(Ok(TreeName::Named { name, .. })) => {
                Some((format!("{}/{name}", tree::FOLDER), captures))
            }
            _ => None,
        };
        let paths = |key: &str, below: &str| {
            let paths = said.get(key).and_then(toml::Value::as_array);
            let paths = paths.into_iter().flatten().filter_map(toml::Value::as_str);
            let below = format!("{below}/");
            let paths = paths.filter(|path| takes && path.starts_with(&below));
            paths.map(str::to_owned).collect::<Vec<_>>()
        };
        let layers = paths("overrides", tree::LAYERS);
        let packed = layers.iter().map(|path| format!("{path}{}", tree::LAYER));
        let reads = packed.chain(layers.iter().cloned());
        let secrets = secrets_of_job(action, said).map(str::to_owned);
        Self {
            reads: reads
                .chain(paths("hooks", tree::HOOKS))
                .chain(secrets)
                .collect(),
            folder,
        }
    }
}

/// The secrets that the hooks of a job are given: a file below a folder where there is nothing else.
pub fn secrets_of_job(action: ActionName, said: &toml::Table) -> Option<&str> {
    let runs_hooks = matches!(action, ActionName::Deploy | ActionName::Update);
    let named = said.get("secrets").and_then(toml::Value::as_str);
    named.filter(|path| {
        let below = path.strip_prefix(tree::SECRETS);
        runs_hooks && below.is_some_and(|rest| rest.starts_with('/')) && check_folder(path).is_ok()
    })
}

impl Rights {
    /// What the token is good for, shown by the machine with the folder `own`, where the job does not say which it is.
    ///
    /// # Errors
    /// It is no job's token, or the job is over.
    pub fn of(site: &Site, (job, secret): &(Id, String), own: String) -> Result<Self, Refusal> {
        let failed = |error| Refusal::io("looking for the job's token", &error);
        let known = token::check(site.runs.root(), job, Some(secret)).map_err(failed)?;
        if known != Answer::Right {
            return Err(Refusal::unauthorized("this is no token of a run"));
        }
        let over = || Refusal::unauthorized("the run of this token is over");
        let now = Timestamp::now();
        let found = site.jobs.store().read(job);
        let found = found.map_err(|error| {
            let why = format!("looking for the token's job: {error:#}");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why)
        })?;
        let Some(job) = found else {
            // Of a machine that the server itself sent to say what it is, or of a job whose record is gone: neither has an end
            // of its own.
            if !is_fresh(job, now) {
                return Err(over());
            }
            return Ok(Self {
                own,
                image: None,
                note: None,
                tree: OfTree::default(),
            });
        };
        if job
            .ended
            .is_some_and(|ended| now.duration_since(ended) > AFTERWARDS)
        {
            return Err(over());
        }
        Ok(Self::of_job(&job, own))
    }

    fn of_job(job: &Job, own: String) -> Self {
        let own = job.folder.clone().unwrap_or(own);
        Self::of_action(&job.text, job.action, own)
    }

    /// Of a job that somebody wrote by hand, of the machine with the folder `own`.
    pub fn of_text(text: &str, own: String) -> Self {
        let said: toml::Table = toml::from_str(text).unwrap_or_default();
        let action = said.get("action").and_then(toml::Value::as_str);
        let action = action.and_then(|action| action.parse().ok());
        // An action that is none is not done.
        Self::of_action(text, action.unwrap_or(ActionName::Rescue), own)
    }

    fn of_action(text: &str, action: ActionName, own: String) -> Self {
        let said: toml::Table = toml::from_str(text).unwrap_or_default();
        let image = said.get("image").and_then(toml::Value::as_str);
        let image = image.map(|image| image.replace("{ip}", &own).trim_matches('/').to_owned());
        let writes = matches!(action, ActionName::Backup | ActionName::BackupAgain);
        Self {
            image: image
                .filter(|image| *image != own && !image.is_empty())
                .map(|image| (image, writes)),
            own,
            note: said.get("id").and_then(toml::Value::as_str).map(note),
            tree: OfTree::of_job(action, &said),
        }
    }

    /// The machine's own folder.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// The folder of the job's image.
    pub fn image(&self) -> &str {
        self.image.as_ref().map_or(&self.own, |(image, _)| image)
    }

    /// Whether the machine may do this with `path`, below the share.
    ///
    /// # Errors
    /// 403; 404 for what it may not read and is not there, which servers are asked for to see whether they say so.
    pub fn check(&self, site: &Site, act: Act, path: &RelPath) -> Result<(), Refusal> {
        if self.allow(act, path) {
            return Ok(());
        }
        if act == Act::Read
            && !path.is_root()
            && site
                .facts(path)
                .is_err_and(|it| it.status == StatusCode::NOT_FOUND)
        {
            return Err(Refusal::not_found(path));
        }
        Err(self.refuse(path))
    }

    /// The same, whatever there is.
    pub fn allow(&self, act: Act, path: &RelPath) -> bool {
        let image = self.image.as_ref();
        let tree = self.tree.folder.as_ref();
        let both = || image.into_iter().chain(tree);
        let own = std::iter::once(self.own.as_str());
        let read = own
            .clone()
            .chain(both().map(|(folder, _)| folder.as_str()))
            .chain(self.tree.reads.iter().map(String::as_str));
        let write: Vec<&str> = own
            .chain(
                both()
                    .filter(|(_, writes)| *writes)
                    .map(|(folder, _)| folder.as_str()),
            )
            .collect();
        let within = |folders: &[&str]| {
            let mut folders = folders.iter();
            folders.any(|folder| path.below(folder).is_some())
        };
        let notes = self.note.is_some() && path.as_str() == NOTES;
        match act {
            Act::Ask => true,
            Act::Read => {
                is_marker(path) || within(&read.collect::<Vec<_>>()) || notes || self.is_note(path)
            }
            // A folder on the way to the own one may have to be made. It is not the machine's: whoever moved it would take
            // along what is others'.
            Act::Make => within(&write) || notes || is_above(path, &write),
            Act::Write => within(&write) || self.is_note(path),
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

    /// Whether `path` is an object with lines of this machine for the log of all, as stores have it.
    pub fn is_log(&self, path: &RelPath) -> bool {
        let name = path.below(SHARED_LOGS).map(|name| name.as_str().to_owned());
        let is = |name: String| {
            let parts: Vec<&str> = name.splitn(4, '-').collect();
            let [day, time, random, writer] = parts[..] else {
                return false;
            };
            let digits = |text: &str, count| {
                text.len() == count && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            };
            digits(day, 8)
                && digits(time, 6)
                && digits(random, 8)
                && writer.strip_suffix(".log") == Some(&self.own)
        };
        name.is_some_and(is)
    }

    pub fn refuse(&self, path: &RelPath) -> Refusal {
        let mut good = self.own.clone();
        if let Some((image, writes)) = &self.image {
            good.push_str(if *writes { " and " } else { " and, to read, " });
            good.push_str(image);
        }
        if let Some((folder, writes)) = &self.tree.folder {
            good.push_str(if *writes { " and " } else { " and, to read, " });
            good.push_str(folder);
        }
        for read in &self.tree.reads {
            good.push_str(" and, to read, ");
            good.push_str(read);
        }
        let why = format!("the token of this run is good for {good}, not for {path}");
        Refusal::new(StatusCode::FORBIDDEN, why)
    }
}

/// Whether a token without a record of its job is still good.
fn is_fresh(job: &Id, now: Timestamp) -> bool {
    job.made()
        .is_some_and(|made| now.duration_since(made).abs() <= TO_SAY_WHAT_IT_IS)
}

fn is_above(path: &RelPath, folders: &[&str]) -> bool {
    let mut folders = folders.iter();
    !path.is_root()
        && folders.any(|folder| {
            let rest = folder.strip_prefix(path.as_str());
            rest.is_some_and(|rest| rest.starts_with('/'))
        })
}

#[cfg(test)]
mod tests;
