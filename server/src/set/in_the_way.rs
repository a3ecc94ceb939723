//! Jobs of other machines that wait where one is to be set: under an address that was another's when they were set.

use super::One;
use crate::jobs::Store;
use pitstop_jobs::Job;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

/// A line for each of those that end when `new` are set.
pub(super) fn told(root: &Path, new: &[One]) -> anyhow::Result<String> {
    let by_file: HashMap<&str, &One> = new.iter().map(|one| (one.file.as_str(), one)).collect();
    let mut text = String::new();
    for job in Store::at(root).all()?.jobs {
        let one = by_file.get(job.host_file.as_str());
        let name = one.and_then(|one| other(one, &job));
        if let Some(name) = name.filter(|_| job.state.is_set()) {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "  warning     {name}'s job {} ({}) waited under {}, and ends with this: set it anew (pitstop host set {name} …)",
                job.id, job.action, job.machine
            );
        }
    }
    Ok(text)
}

/// The name of the machine of `job`, if that is another one: neither name nor card nor UUID is `one`'s.
fn other<'a>(one: &One, job: &'a Job) -> Option<&'a String> {
    let files = one.target.files();
    let has_its = job.other_files.iter().any(|file| files.contains(file));
    let name = job.name.as_ref()?;
    (one.target.label.as_ref() != Some(name) && !has_its).then_some(name)
}
