//! `pitstop job` by a server.

use super::Client;
use super::client::{Refused, pairs, part};
use crate::host::say;
use crate::job::{Args, Command, Waited, history, show, wait};
use pitstop_api::{Answer, History, Job, JobDetail, Jobs, Retry};
use pitstop_server::jobs::Which;
use std::time::Duration;

pub fn run(client: &Client, args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::List { which, json, .. } => {
            show::print_list(&listed(client, &pairs("of", which))?, *json)
        }
        Command::Show { which, json, .. } => {
            let job: JobDetail = client.get(&format!("/jobs/{}", part(&which.to_string())))?;
            show::print(&job.job, *json)
        }
        Command::Cancel(some) => change(client, "/jobs/cancel", &some.which()),
        Command::Retry(some) => change(client, "/jobs/retry", &some.which()),
        Command::Wait { some, timeout } => wait_for(client, &some.which(), *timeout),
        Command::Log { which, follow, .. } => super::log::print(client, which, *follow),
        Command::History {
            which, since, json, ..
        } => {
            let mut query = pairs("of", which);
            if let Some(since) = since {
                query.push_str("&since=");
                query.push_str(&part(&since.to_string()));
            }
            let found: History = client.get(&format!("/history?{query}"))?;
            history::print_entries(&found.history, *json)
        }
    }
}

fn listed(client: &Client, query: &str) -> anyhow::Result<Vec<Job>> {
    let found: Jobs = client.get(&format!("/jobs?{query}"))?;
    for wrong in &found.wrong {
        eprintln!("pitstop: warning: {wrong}");
    }
    Ok(found.jobs)
}

fn change(client: &Client, path: &str, which: &[Which]) -> anyhow::Result<()> {
    let jobs = which.iter().map(ToString::to_string).collect();
    let answer: Answer = client.post(path, &Retry { jobs })?;
    say(&answer.text)
}

fn wait_for(client: &Client, which: &[Which], timeout: Option<Duration>) -> anyhow::Result<()> {
    let query = format!("one-time&{}", pairs("of", which));
    let mut known = false;
    wait::until_over(timeout, || {
        match client.get::<Jobs>(&format!("/jobs?{query}")) {
            Ok(found) => {
                known = true;
                Ok(Waited::Jobs(found.jobs))
            }
            // A server that is started anew is waited for.
            Err(error) if known && !error.is::<Refused>() => Ok(Waited::Away),
            Err(error) => Err(error),
        }
    })
}
