//! `pitstop host list`: every host file, whether or not its machine will take it.

use crate::machine::MachineName;
use anyhow::Context;
use cap_std::fs::Dir;
use pitstop_protocol::job;
use serde::Serialize;
use std::fmt::Write;

/// A host file.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Job {
    /// An address, or whom else the file's name is about.
    pub machine: String,
    pub file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The folder on the share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Why the machine will not take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Reads all host files, by file name.
pub fn jobs(hosts: &Dir) -> anyhow::Result<Vec<Job>> {
    let mut files = Vec::new();
    for entry in hosts.entries().context("listing the host files")? {
        let name = entry.context("listing the host files")?.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".toml") && !name.starts_with('.') && hosts.is_file(&*name) {
            files.push(name.into_owned());
        }
    }
    files.sort();
    Ok(files
        .into_iter()
        .filter_map(|file| job(hosts, file))
        .collect())
}

/// `None` for a file that went away in the meantime: its machine is done.
fn job(hosts: &Dir, file: String) -> Option<Job> {
    let bytes = match hosts.read(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        bytes => bytes,
    };
    let machine = MachineName::of_file(&file);
    let checked = bytes
        .map_err(|error| format!("reading {file}: {error}"))
        .and_then(|bytes| preview(&bytes, &file, machine));
    let mut job = Job {
        machine: machine.map_or_else(|| others(&file), |machine| machine.to_string()),
        file,
        action: None,
        image: None,
        error: None,
    };
    match checked {
        Ok(checked) => {
            job.action = Some(checked.action.to_string());
            job.image = Some(checked.image);
        }
        Err(error) => job.error = Some(error),
    }
    Some(job)
}

/// What the machine will make of the file; the error is its error.
pub fn preview(bytes: &[u8], file: &str, machine: Option<MachineName>) -> Result<job::Job, String> {
    let address = match machine {
        Some(MachineName::Ip(ip)) => Some(ip),
        _ => None,
    };
    // The server's name means nothing to the check: the file's own is what the error should say.
    let url = format!("http://server/hosts/{file}")
        .parse()
        .map_err(|_| format!("{file} cannot be a part of a URL"))?;
    job::preview(bytes, &url, address).map_err(|error| error.replace("http://server/hosts/", ""))
}

fn others(file: &str) -> String {
    match file.strip_suffix(".toml").unwrap_or(file) {
        "default" => "every other machine".into(),
        stem if stem.len() < 8 && stem.bytes().all(|b| b.is_ascii_hexdigit()) => {
            format!("{stem}…")
        }
        stem => stem.into(),
    }
}

pub fn json(jobs: &[Job]) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(jobs).context("writing JSON")? + "\n")
}

pub fn table(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return "No machine has a job: every machine boots from its own disk\n".into();
    }
    let width = |text: fn(&Job) -> &str, least| {
        let widths = jobs.iter().map(|job| text(job).chars().count());
        widths.max().unwrap_or(0).max(least)
    };
    let machine = width(|job| &job.machine, "MACHINE".len());
    let file = width(|job| &job.file, "HOST FILE".len());
    let mut table = format!(
        "{:machine$}  {:12}  {:file$}  IMAGE\n",
        "MACHINE", "ACTION", "HOST FILE"
    );
    for job in jobs {
        // Writing to a String cannot fail.
        let _ = match &job.error {
            None => writeln!(
                table,
                "{:machine$}  {:12}  {:file$}  {}",
                job.machine,
                job.action.as_deref().unwrap_or_default(),
                job.file,
                job.image.as_deref().unwrap_or_default()
            ),
            Some(error) => writeln!(
                table,
                "{:machine$}  {:12}  {:file$}  {error}",
                job.machine, "WRONG", job.file
            ),
        };
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;

    #[test]
    fn every_host_file_is_listed_with_what_is_wrong_with_it() {
        let temp = tempfile::tempdir().unwrap();
        let hosts = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
        assert!(table(&jobs(&hosts).unwrap()).starts_with("No machine has a job"));
        let good = "version = 1\naction = \"backup\"\nshare = \"http://srv/share\"\n";
        hosts.write("0A00020F.toml", good).unwrap();
        hosts.write("01-52-54-00-12-34-56.toml", good).unwrap();
        hosts
            .write("default.toml", "version = 1\naction = \"melt\"\n")
            .unwrap();
        hosts.write("notes.txt", "").unwrap();
        hosts.write(".hidden.toml", "").unwrap();
        let jobs = jobs(&hosts).unwrap();
        let machines: Vec<_> = jobs.iter().map(|job| job.machine.as_str()).collect();
        assert_eq!(
            machines,
            ["52:54:00:12:34:56", "10.0.2.15", "every other machine"]
        );
        assert_eq!(jobs[1].image.as_deref(), Some("10.0.2.15"));
        let error = jobs[2].error.as_deref().unwrap();
        assert!(
            error.starts_with(
                "host file default.toml, line 2, column 1: key \"action\": unknown action \"melt\""
            ),
            "{error}"
        );
        let json: serde_json::Value = serde_json::from_str(&json(&jobs).unwrap()).unwrap();
        assert_eq!(json[1]["action"], "backup");
        let table = table(&jobs);
        assert!(
            table.contains("10.0.2.15            backup        0A00020F.toml"),
            "{table}"
        );
    }
}
