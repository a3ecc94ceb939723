//! `pitstop host list`: every host file, whether or not its machine will take it.

use anyhow::Context;
use cap_std::fs::Dir;
pub use pitstop_api::HostFile as Job;
use pitstop_protocol::host_name::{HostName, Meaning, SUFFIX, printable};
use pitstop_protocol::job;
use std::fmt::Write;
use std::net::IpAddr;

/// The names of all host files, in order.
pub fn names(hosts: &Dir) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in hosts.entries().context("listing the host files")? {
        let name = entry.context("listing the host files")?.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(SUFFIX) && !name.starts_with('.') && hosts.is_file(&*name) {
            files.push(name.into_owned());
        }
    }
    files.sort();
    Ok(files)
}

/// Reads all host files, by file name.
pub fn jobs(hosts: &Dir) -> anyhow::Result<Vec<Job>> {
    Ok(names(hosts)?
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
    let (machine, address, note) = meaning(&file);
    let checked = bytes
        .map_err(|error| format!("reading {file}: {error}"))
        .and_then(|bytes| preview(&bytes, &file, address));
    let mut job = Job {
        machine,
        file,
        action: None,
        image: None,
        error: None,
        note,
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

/// Whom a file of this name is for, its address where that is known, and what is wrong with the name.
fn meaning(file: &str) -> (String, Option<IpAddr>, Option<String>) {
    let (name, note) = match Meaning::of_file(file) {
        Meaning::Taken(name) => (name, None),
        Meaning::Misspelled(name) => {
            let note = format!(
                "no machine looks for this name by itself: call it {}, or name it in pitstop.host",
                name.file()
            );
            (name, Some(note))
        }
        Meaning::Named => {
            let stem = file.strip_suffix(SUFFIX).unwrap_or(file);
            let note = if file.contains(|c: char| c.is_control() || c == '\\') {
                "no machine can ask for a name with a control character or a backslash in it: rename it"
            } else {
                "no machine looks for this name by itself: only a pitstop.host that names it leads here"
            };
            return (printable(stem), None, Some(note.into()));
        }
    };
    let address = match name {
        HostName::Ip(address) => Some(address),
        _ => None,
    };
    (name.to_string(), address, note)
}

/// What the machine at `address` will make of the file; the error is its error.
pub fn preview(bytes: &[u8], file: &str, address: Option<IpAddr>) -> Result<job::Job, String> {
    // The server's name means nothing to the check: the file's own is what the error should say.
    let url = format!("http://server/hosts/{file}")
        .parse()
        .map_err(|_| format!("{file} cannot be a part of a URL"))?;
    job::preview(bytes, &url, address).map_err(|error| error.replace("http://server/hosts/", ""))
}

pub fn json(jobs: &[Job]) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(jobs).context("writing JSON")? + "\n")
}

pub fn table(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return "No machine has a job: every machine boots from its own disk\n".into();
    }
    let width = |text: fn(&Job) -> &str, least| {
        let widths = jobs.iter().map(|job| printable(text(job)).chars().count());
        widths.max().unwrap_or(0).max(least)
    };
    let machine = width(|job| &job.machine, "MACHINE".len());
    let file = width(|job| &job.file, "HOST FILE".len());
    let mut table = format!(
        "{:machine$}  {:12}  {:file$}  IMAGE\n",
        "MACHINE", "ACTION", "HOST FILE"
    );
    for job in jobs {
        let (action, image) = match &job.error {
            None => (job.action.as_deref(), job.image.as_deref()),
            Some(error) => (Some("WRONG"), Some(error.as_str())),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "{:machine$}  {:12}  {:file$}  {}",
            job.machine,
            action.unwrap_or_default(),
            printable(&job.file),
            printable(image.unwrap_or_default())
        );
        if let Some(note) = &job.note {
            let _ = writeln!(table, "  {}: {note}", printable(&job.file));
        }
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
        assert!(jobs.iter().all(|job| job.note.is_none()));
        let json: serde_json::Value = serde_json::from_str(&json(&jobs).unwrap()).unwrap();
        assert_eq!(json[1]["action"], "backup");
        let table = table(&jobs);
        assert!(
            table.contains("10.0.2.15            backup        0A00020F.toml"),
            "{table}"
        );
    }

    #[test]
    fn a_name_that_no_machine_asks_for_is_shown_with_the_name_to_use() {
        let temp = tempfile::tempdir().unwrap();
        let hosts = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
        let good = "version = 1\naction = \"backup\"\nshare = \"http://srv/share\"\n";
        for (file, shown, why) in [
            ("0a00020f.toml", "10.0.2.15", "call it 0A00020F.toml"),
            ("10.0.2.15.toml", "10.0.2.15", "call it 0A00020F.toml"),
            (
                "01-52-54-00-AB-34-56.toml",
                "52:54:00:ab:34:56",
                "call it 01-52-54-00-ab-34-56.toml",
            ),
            (
                "52:54:00:ab:34:56.toml",
                "52:54:00:ab:34:56",
                "call it 01-52-54-00-ab-34-56.toml",
            ),
            ("lab-7.toml", "lab-7", "only a pitstop.host that names it"),
            ("a\u{1b}]0;x\u{7}.toml", "a\\u{1b}]0;x\\u{7}", "rename it"),
        ] {
            hosts.write(file, good).unwrap();
            let jobs = jobs(&hosts).unwrap();
            assert_eq!(
                (jobs[0].machine.as_str(), jobs[0].action.as_deref()),
                (shown, Some("backup"))
            );
            let table = table(&jobs);
            assert!(table.contains(why), "{table}");
            assert!(
                !table.contains(|c: char| c.is_control() && c != '\n'),
                "{table:?}"
            );
            hosts.remove_file(file).unwrap();
        }
        // What is wrong in a file is quoted from it.
        hosts
            .write("0A00020F.toml", "version = 1\n\"\\u001b[2J\" = 1\n")
            .unwrap();
        let table = table(&jobs(&hosts).unwrap());
        assert!(table.contains("WRONG"), "{table}");
        assert!(!table.contains('\u{1b}'), "{table:?}");
    }
}
