//! What was written becomes what can be run: every value checked, every default filled in.

mod action;

pub use action::{backup, restore};

use crate::credentials::{Access, Credentials};
use crate::job::cmdline::CommandLine;
use crate::job::default_host_urls::nothing_said;
use crate::job::host_file_search::Placeholders;
use crate::job::hostfile::{HostFile, Secret, WrittenSelector};
use crate::job::report::report;
use crate::job::transfer::trusted;
use crate::job::{
    ActionName, DeleteTarget, DiskSelector, Distribute, Job, Mirror, Policy, RETRY_FOR, Salvaged,
    Terms, Transfer, check_folder, check_signable, check_vouched,
};
use crate::share_url::ShareUrl;
use crate::stick::{self, Whose};
use crate::store::SignAt;
use action::word;
use pitstop_imaging::units;
use std::num::NonZeroU64;
use std::time::Duration;
use url::Url;

/// A wait longer than this is a typing error.
const LONGEST_DELAY: Duration = Duration::from_secs(7 * 24 * 3600);

/// A value that makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Wrong {
    /// The host file's key, where it is to blame.
    pub key: Option<&'static str>,
    pub what: String,
}

fn at(key: &'static str) -> impl Fn(String) -> Wrong {
    move |what| Wrong {
        key: Some(key),
        what,
    }
}

fn general(what: impl Into<String>) -> Wrong {
    Wrong {
        key: None,
        what: what.into(),
    }
}

/// Joins both: the command line wins, its deletions are added.
pub fn job(
    line: &CommandLine,
    file: &HostFile,
    from: Option<&Url>,
    placeholders: &Placeholders,
) -> Result<Job, Wrong> {
    let filled = |text: &str| placeholders.fill(text);
    let written_action = match &file.action {
        None => None,
        Some(name) => Some(
            name.parse::<ActionName>()
                .map_err(|e| at("action")(e.to_string()))?,
        ),
    };
    let written_share = match &file.share {
        None => None,
        Some(text) => Some(share(text, placeholders).map_err(at("share"))?),
    };
    let name = line
        .action
        .or(written_action)
        .ok_or_else(|| no_action(from))?;
    let stick = from.and_then(stick::whose);
    let share = line.share_url(filled).map_err(general)?.or(written_share);
    // What is on a stick means the stick.
    let share = share.or_else(|| stick.map(|_| ShareUrl::Directory(stick::share())));
    if share.is_none() && name != ActionName::Rescue {
        return Err(general(format!(
            "{name} needs a share: give it as share in the host file or as pitstop.share"
        )));
    }
    let mut job = Job {
        action: action::action(name, written_action, file, placeholders)?,
        transfer: transfer(file, share.as_ref(), from, placeholders)?,
        share,
        image: image(file, placeholders).map_err(at("image"))?,
        image_named: file.image.as_deref().is_some_and(names_folder),
        disks: disks(file).map_err(at("disks"))?,
        delete: delete(line, file, from, placeholders)?,
        policy: policy(file)?,
        check_in: file
            .check_in
            .as_deref()
            .map(check_in)
            .transpose()
            .map_err(at("check-in"))?,
        terms: Terms::read(file).map_err(|(key, what)| at(key)(what))?,
        digest: String::new(),
        source: from.map_or_else(|| "the kernel command line".into(), crate::redacted),
    };
    if stick == Some(Whose::Everyone) && job.terms.round.is_none() && !harmless(name) {
        return Err(general(format!(
            "it is for every machine that boots from the stick, and {name} changes machines or images: write \
             round = \"WORD\", a word of your own, so that each machine does it once"
        )));
    }
    job.digest = job.fingerprint();
    vouched(&job)?;
    Ok(job)
}

/// Whether all that comes with an image that has to be signed is vouched for too.
///
/// # Errors
/// What is not.
pub fn vouched(job: &Job) -> Result<(), Wrong> {
    check_vouched(job).map_err(|(key, what)| at(key)(what))
}

/// Whether a machine that nobody named may do this each time that it boots.
fn harmless(action: ActionName) -> bool {
    action.is_repeated() || matches!(action, ActionName::Rescue | ActionName::RefreshInfo)
}

/// Whether a signed job could be like this.
///
/// # Errors
/// What is missing, or is too much.
pub fn signable(job: &Job) -> Result<(), Wrong> {
    check_signable(job).map_err(|(key, what)| at(key)(what))
}

/// Where the machine says that it has come.
fn check_in(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok();
    let web = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    url.filter(web)
        .ok_or_else(|| format!("{text:?} is not a URL like http://server:8080/check-in/JOB"))
}

fn no_action(from: Option<&Url>) -> Wrong {
    general(match from {
        Some(url) => format!(
            "host file {}: there is no action: give it as action in the host file or as pitstop.action",
            crate::redacted(url)
        ),
        None => nothing_said(),
    })
}

fn share(text: &str, placeholders: &Placeholders) -> Result<ShareUrl, String> {
    let filled = placeholders.fill(text)?;
    filled
        .parse()
        .map_err(|error: crate::share_url::BadShareUrl| error.to_string())
}

fn image(file: &HostFile, placeholders: &Placeholders) -> Result<String, String> {
    let image = match &file.image {
        None => placeholders.ip.clone(),
        Some(text) => placeholders.fill(text)?,
    };
    check_folder(&image)?;
    Ok(image)
}

/// A folder that is made of the address is whosesoever the address is.
fn names_folder(image: &str) -> bool {
    !["{ip}", "{hexip}"].iter().any(|part| image.contains(part))
}

fn disks(file: &HostFile) -> Result<Vec<DiskSelector>, String> {
    let Some(written) = &file.disks else {
        return Ok(Vec::new());
    };
    if written.is_empty() {
        return Err(
            "an empty list could mean no disk or every disk: name disks, or leave the key out for \
             every fixed disk"
                .into(),
        );
    }
    written.iter().map(selector).collect()
}

fn selector(written: &WrittenSelector) -> Result<DiskSelector, String> {
    let (text, selector) = match written {
        WrittenSelector::Name(name) => {
            let name = name.trim().trim_start_matches("/dev/");
            if name.contains('/') {
                return Err(format!("{name:?} is not a disk's name: write \"sda\""));
            }
            (name, DiskSelector::Name(name.to_owned()))
        }
        WrittenSelector::Serial(serial) => (
            serial.trim(),
            DiskSelector::Serial(serial.trim().to_owned()),
        ),
        WrittenSelector::Wwn(wwn) => (wwn.trim(), DiskSelector::Wwn(wwn.trim().to_owned())),
    };
    if text.is_empty() {
        return Err("a disk's name, serial or wwn is empty".into());
    }
    Ok(selector)
}

/// The file's own list, else the file itself where that can be deleted; then the command line's.
fn delete(
    line: &CommandLine,
    file: &HostFile,
    from: Option<&Url>,
    placeholders: &Placeholders,
) -> Result<Vec<DeleteTarget>, Wrong> {
    let added = line
        .targets(|text| placeholders.fill(text))
        .map_err(general)?;
    let mut targets = Vec::new();
    match (&file.delete, from) {
        (Some(written), _) => {
            for text in written {
                let target = placeholders.fill(text).and_then(|text| text.parse());
                targets.push(target.map_err(at("delete"))?);
            }
        }
        // The next machine does it too.
        (None, _) if file.round.is_some() => {}
        // A file in the initramfs is not what makes the machine boot again; one of a stick that is named after the machine is.
        (None, Some(url))
            if url.scheme() == "file" && stick::whose(url) != Some(Whose::OneMachine) => {}
        // TFTP deletes nothing; the command line's URL stands for the same file.
        (None, Some(url)) if url.scheme() == "tftp" && !added.is_empty() => {}
        (None, Some(url)) => targets.push(url.as_str().parse().map_err(general)?),
        (None, None) => {}
    }
    for target in added {
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    // The file itself goes last: while others are left to delete, the next run has to find its job.
    targets.sort_by_key(|target| Some(target.url()) == from);
    Ok(targets)
}

fn policy(file: &HostFile) -> Result<Policy, Wrong> {
    let default = Policy::default();
    if file.attempts == Some(0) {
        return Err(at("attempts")("it must be 1 or more".into()));
    }
    Ok(Policy {
        attempts: file.attempts.unwrap_or(default.attempts),
        failure_delay: match &file.failure_delay {
            None => default.failure_delay,
            Some(text) => delay(text).map_err(at("failure-delay"))?,
        },
        progress_timeout: match &file.progress_timeout {
            None => default.progress_timeout,
            Some(text) => patience(text).map_err(at("progress-timeout"))?,
        },
        on_success: word(file.on_success.as_deref()).map_err(at("on-success"))?,
        on_failure: word(file.on_failure.as_deref()).map_err(at("on-failure"))?,
    })
}

/// Slower than this, servers would take the machine for gone.
const SLOWEST: u64 = 64 << 10;

fn transfer(
    file: &HostFile,
    share: Option<&ShareUrl>,
    from: Option<&Url>,
    placeholders: &Placeholders,
) -> Result<Transfer, Wrong> {
    let retry_for = match &file.retry_for {
        None => RETRY_FOR,
        Some(text) => delay(text).map_err(at("retry-for"))?,
    };
    let rate_limit = match &file.rate_limit {
        None => None,
        Some(text) => Some(rate(text).map_err(at("rate-limit"))?),
    };
    let distribute = distribute(file)?;
    let report =
        report(file, |text| placeholders.fill(text)).map_err(|(key, what)| at(key)(what))?;
    Ok(Transfer {
        retry_for,
        rate_limit,
        distribute,
        mirrors: mirrors(file)?,
        access: access(file, share, from)?,
        sign: SignAt::of_job(report.as_ref(), from),
        report,
    })
}

/// Who else may have the image.
///
/// # Errors
/// Names the key of a wrong value.
pub fn mirrors(file: &HostFile) -> Result<Vec<Mirror>, Wrong> {
    super::mirrors::mirrors(file).map_err(at("mirrors"))
}

/// Whether other machines pass the image on.
///
/// # Errors
/// Names the key of a wrong value; and a limit cannot be kept where others send.
pub fn distribute(file: &HostFile) -> Result<Distribute, Wrong> {
    let how = word(file.distribute.as_deref()).map_err(at("distribute"))?;
    match (how, &file.rate_limit) {
        (Distribute::Auto, Some(_)) => Ok(Distribute::Off),
        (Distribute::Swarm, Some(_)) => Err(at("distribute")(
            "swarm does not go with rate-limit: other machines send as fast as they can".into(),
        )),
        (how, _) => Ok(how),
    }
}

/// Reads `80MiB/s`.
///
/// # Errors
/// A sentence about what it should be.
pub fn rate(text: &str) -> Result<NonZeroU64, String> {
    let amount = text.trim().strip_suffix("/s").ok_or_else(|| {
        format!("{text:?} is not a rate: write bytes per second, as in \"80MiB/s\"")
    })?;
    let rate = units::parse_bytes(amount)?;
    NonZeroU64::new(rate)
        .filter(|rate| rate.get() >= SLOWEST)
        .ok_or_else(|| format!("{text} is less than {}/s", units::bytes(SLOWEST)))
}

/// Nothing here may show what it is about.
fn access(
    file: &HostFile,
    share: Option<&ShareUrl>,
    from: Option<&Url>,
) -> Result<Option<Access>, Wrong> {
    let credentials = match (&file.token, &file.user, &file.password) {
        (None, None, None) => return Ok(None),
        (Some(Secret(token)), None, None) => {
            if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(at("token")(
                    "it must be visible ASCII without spaces".into(),
                ));
            }
            Credentials::Bearer {
                token: token.clone(),
            }
        }
        (None, Some(user), Some(Secret(password))) => {
            // RFC 7617 2: the first colon ends the name.
            if user.is_empty() || user.contains(':') || user.chars().any(char::is_control) {
                return Err(at("user")("it must be a name without a colon".into()));
            }
            Credentials::Basic {
                user: user.clone(),
                password: password.clone(),
            }
        }
        (Some(_), _, _) => {
            return Err(at("token")(
                "it goes alone: leave user and password out".into(),
            ));
        }
        (None, Some(_), None) => return Err(at("user")("the password is missing".into())),
        (None, None, Some(_)) => return Err(at("password")("the user is missing".into())),
    };
    Ok(Some(Access::new(credentials, trusted(share, from))))
}

fn delay(text: &str) -> Result<Duration, String> {
    let delay = units::parse_duration(text)?;
    if delay > LONGEST_DELAY {
        return Err(format!("{text} is longer than a week"));
    }
    Ok(delay)
}

/// Shorter, and a disk that spins up or a server that thinks would count as hung.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(10);

fn patience(text: &str) -> Result<Duration, String> {
    let patience = delay(text)?;
    if patience < SHORTEST_PATIENCE {
        return Err(format!("{text} is less than 10s"));
    }
    Ok(patience)
}

/// What holds in spite of an error elsewhere: each value that makes sense by itself.
pub fn salvage(
    line: &CommandLine,
    file: &HostFile,
    from: Option<&Url>,
    placeholders: &Placeholders,
) -> Salvaged {
    let default = Policy::default();
    let filled = |text: &str| placeholders.fill(text);
    let written_share = || share(file.share.as_deref()?, placeholders).ok();
    let written_action = || file.action.as_deref()?.parse().ok();
    let written_delay = file
        .failure_delay
        .as_deref()
        .and_then(|text| delay(text).ok());
    let share = line.share_url(filled).ok().flatten().or_else(written_share);
    let of_stick = || {
        let stick = from.and_then(stick::whose);
        stick.map(|_| ShareUrl::Directory(stick::share()))
    };
    let share = share.or_else(of_stick);
    let report = report(file, filled).ok().flatten();
    Salvaged {
        transfer: Transfer {
            access: access(file, share.as_ref(), from).ok().flatten(),
            sign: SignAt::of_job(report.as_ref(), from),
            report,
            ..Transfer::default()
        },
        policy: Policy {
            attempts: file.attempts.filter(|n| *n > 0).unwrap_or(default.attempts),
            failure_delay: written_delay.unwrap_or(default.failure_delay),
            progress_timeout: default.progress_timeout,
            on_success: default.on_success,
            on_failure: word(file.on_failure.as_deref()).unwrap_or(default.on_failure),
        },
        share,
        image: image(file, placeholders).unwrap_or_else(|_| placeholders.ip.clone()),
        action: line.action.or_else(written_action),
    }
}
