//! The audit log: what commands add to it, and how it is shown.

use super::people;
use crate::host::{Root, say, who};
use anyhow::Context;
use jiff::Timestamp;
use pitstop_people::{Entry, Gate, Outcome};
use pitstop_protocol::host_name::printable;
use pitstop_server::set::columns;

/// Does a change of the people and notes it, whether or not it went well.
pub fn noted<T>(
    people: &Gate,
    act: &str,
    object: &str,
    change: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let done = change();
    let entry = Entry {
        time: Timestamp::now(),
        who: who(),
        how: "command".into(),
        from: String::new(),
        act: act.into(),
        object: object.into(),
        outcome: match &done {
            Ok(_) => Outcome::Done,
            Err(_) => Outcome::Failed,
        },
        left_out: 0,
    };
    let written = people
        .audit
        .note(entry)
        .context("noting it in the audit log");
    let done = done?;
    written?;
    Ok(done)
}

/// Which lines are shown.
#[derive(clap::Args)]
pub struct Args {
    /// Only what these users did, or tried
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only what is later than this: 7d, 2026-12-01, or as in `host set --at`
    #[arg(long, value_name = "TIME", value_parser = crate::job::since)]
    since: Option<Timestamp>,
    #[command(flatten)]
    root: Root,
    /// An array of objects, for programs
    #[arg(long)]
    json: bool,
}

pub fn show(args: &Args) -> anyhow::Result<()> {
    let mut entries = people(&args.root)?.audit.read()?;
    entries.retain(|entry| {
        (args.names.is_empty() || args.names.contains(&entry.who))
            && args.since.is_none_or(|since| entry.time >= since)
    });
    if args.json {
        let text = serde_json::to_string_pretty(&entries).context("writing JSON")?;
        return say(&(text + "\n"));
    }
    let rows: Vec<[String; 7]> = entries.iter().map(row).collect();
    say(&columns(
        &["TIME", "WHO", "HOW", "FROM", "ACT", "OBJECT", "OUTCOME"],
        &rows,
    ))
}

fn row(entry: &Entry) -> [String; 7] {
    let or_dash = |text: &str| match text {
        "" => "-".to_owned(),
        text => printable(text),
    };
    let outcome = match entry.outcome {
        Outcome::Done => "done",
        Outcome::Refused => "refused",
        Outcome::Failed => "failed",
    };
    let outcome = match entry.left_out {
        0 => outcome.to_owned(),
        more => format!("{outcome}; {more} refusals before are not noted"),
    };
    [
        format!("{:.0}", entry.time),
        or_dash(&entry.who),
        or_dash(&entry.how),
        or_dash(&entry.from),
        or_dash(&entry.act),
        or_dash(&entry.object),
        outcome,
    ]
}
