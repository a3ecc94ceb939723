//! What is on a stick that serves machines without a network: a share with the machines' host files and a menu of jobs.

use crate::host_name::{HostName, Meaning, SUFFIX};
use crate::job::ActionName;
use crate::job::hostfile::HostFile;
use pitstop_imaging::inventory::DATA;
use std::path::{Path, PathBuf};
use url::Url;

/// The label of its filesystem. FAT and exFAT have room for eleven characters.
pub const LABEL: &str = "PITSTOPDATA";

/// Host files, each named after its machine; `default.toml` is for every machine.
pub const HOSTS: &str = "hosts";

/// Host files that a person chooses from.
pub const JOBS: &str = "jobs";

/// Whom a host file on the stick is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// One machine, after which it is named.
    OneMachine,
    /// Every machine that boots.
    Everyone,
    /// Whoever it is chosen for.
    Chosen,
}

/// The share's folder on this machine.
pub fn share() -> PathBuf {
    PathBuf::from(DATA)
}

/// Whom the host file at this URL is for; `None` of one that is on no stick.
pub fn whose(url: &Url) -> Option<Whose> {
    let path = Some(url).filter(|url| url.scheme() == "file");
    let path = path.and_then(|url| url.to_file_path().ok())?;
    of_file(path.strip_prefix(DATA).ok()?)
}

fn of_file(below: &Path) -> Option<Whose> {
    let folder = below.parent()?;
    let name = below.file_name()?.to_str()?;
    if folder == Path::new(HOSTS) {
        let meaning = Meaning::of_file(name);
        return Some(match meaning {
            Meaning::Taken(host) | Meaning::Misspelled(host) if host.is_shared() => Whose::Everyone,
            Meaning::Taken(_) | Meaning::Misspelled(_) | Meaning::Named => Whose::OneMachine,
        });
    }
    Some(Whose::Chosen)
}

/// The name of the host file for every machine.
pub fn everyone() -> String {
    HostName::Default.file()
}

/// Whether a machine would do everybody's job after its `own`, of which nothing tells any more once its file is deleted.
///
/// # Errors
/// It would: what to write.
pub fn check_next(own: &HostFile, everyones: &HostFile) -> Result<(), String> {
    let action: Option<ActionName> = own.action.as_deref().and_then(|name| name.parse().ok());
    let is_deleted = own.delete.as_ref().is_none_or(|list| !list.is_empty())
        && !action.is_some_and(ActionName::is_repeated);
    if own.round.is_some() || everyones.round.is_none() || !is_deleted {
        return Ok(());
    }
    Err(format!(
        "the file goes when its job is done, and at its next boot the machine would do the job of {}: write round = \"WORD\" in \
         it too, so that it stays",
        everyone()
    ))
}

/// What a menu calls the job in this file; `None` of what is no host file.
pub fn title(file: &str) -> Option<&str> {
    let title = file.strip_suffix(SUFFIX)?;
    // Editors and other systems leave files of their own, which begin with a dot.
    (!title.is_empty() && !title.starts_with('.') && !title.chars().any(char::is_control))
        .then_some(title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_file_is_for_whom_its_place_says() {
        for (url, whose) in [
            (
                "file:///run/data/hosts/01-52-54-00-12-34-56.toml",
                Some(Whose::OneMachine),
            ),
            (
                "file:///run/data/hosts/PF-1234.toml",
                Some(Whose::OneMachine),
            ),
            ("file:///run/data/hosts/default.toml", Some(Whose::Everyone)),
            ("file:///run/data/jobs/golden.toml", Some(Whose::Chosen)),
            ("file:///run/data/jobs/hosts/a.toml", Some(Whose::Chosen)),
            ("file:///run/medium/pitstop/host.toml", None),
            ("http://server/run/data/hosts/default.toml", None),
        ] {
            assert_eq!(super::whose(&Url::parse(url).unwrap()), whose, "{url}");
        }
    }

    fn job(place: &str, text: &str) -> Result<crate::job::Job, String> {
        let url = Url::parse(&format!("file:///run/data/{place}")).unwrap();
        crate::job::preview(format!("version = 1\n{text}").as_bytes(), &url, None)
    }

    #[test]
    fn a_job_for_everybody_on_a_stick_is_a_round() {
        let restore = "action = \"restore\"\nimage = \"golden\"\n";
        let error = job("hosts/default.toml", restore).unwrap_err();
        assert!(error.contains("round = \"WORD\""), "{error}");
        job("hosts/default.toml", "action = \"refresh-info\"\n").unwrap();
        let round = job("hosts/default.toml", &format!("{restore}round = \"one\"\n")).unwrap();
        assert_eq!(round.terms.round.as_deref(), Some("one"));
        assert_eq!(
            round.share,
            Some(crate::share_url::ShareUrl::Directory(share()))
        );
        assert!(round.delete.is_empty());
        for wrong in [
            "round = \"../x\"\n",
            "round = \"\"\n",
            "round = \"a\"\nid = \"b\"\n",
        ] {
            job("hosts/default.toml", &format!("{restore}{wrong}")).unwrap_err();
        }
    }

    #[test]
    fn what_is_named_after_a_machine_goes_and_what_is_chosen_stays() {
        let text = "action = \"backup\"\n";
        let own = job("hosts/01-52-54-00-12-34-56.toml", text).unwrap();
        assert_eq!(own.delete.len(), 1);
        assert!(job("jobs/a.toml", text).unwrap().delete.is_empty());
        let elsewhere = format!("{text}share = \"http://server/share\"\n");
        let job = job("jobs/a.toml", &elsewhere).unwrap();
        assert_eq!(job.share.unwrap().to_string(), "http://server/share");
    }

    #[test]
    fn what_is_wrong_with_a_job_of_a_stick_is_told_on_the_stick() {
        use crate::job::check::salvage;
        use crate::job::cmdline::CommandLine;
        use crate::job::host_file_search::Placeholders;
        let wreck = HostFile::salvage(b"action = 3\n");
        let told = |url: &str| {
            let url = Url::parse(url).unwrap();
            let line = CommandLine::default();
            salvage(&line, &wreck, Some(&url), &Placeholders::default()).share
        };
        let stick = Some(crate::share_url::ShareUrl::Directory(share()));
        assert_eq!(told("file:///run/data/hosts/default.toml"), stick);
        assert_eq!(told("http://server/hosts/default.toml"), None);
    }

    #[test]
    fn a_machine_that_is_through_with_its_own_job_does_not_get_everybodys() {
        let host = |text: &str| HostFile::parse(text.as_bytes(), "a.toml").unwrap();
        let restore = "version = 1\naction = \"restore\"\n";
        let round = format!("{restore}round = \"one\"\n");
        let error = check_next(&host(restore), &host(&round)).unwrap_err();
        assert!(error.contains("round = \"WORD\""), "{error}");
        let stays = format!("{restore}delete = []\n");
        let rescue = "version = 1\naction = \"rescue\"\n";
        let look = "version = 1\naction = \"refresh-info\"\n";
        for (own, everyones) in [
            (round.as_str(), round.as_str()),
            (stays.as_str(), round.as_str()),
            (rescue, round.as_str()),
            (restore, look),
        ] {
            assert_eq!(check_next(&host(own), &host(everyones)), Ok(()), "{own}");
        }
    }

    #[test]
    fn only_host_files_are_in_the_menu() {
        assert_eq!(title("golden image.toml"), Some("golden image"));
        for other in [
            "._golden.toml",
            ".toml",
            "golden.toml.bak",
            "a\u{7}.toml",
            "notes.txt",
        ] {
            assert_eq!(title(other), None, "{other}");
        }
    }
}
