//! `pitstop job log` by a server.

use super::Client;
use super::client::{Refused, part};
use crate::host::say;
use pitstop_api::JobDetail;
use pitstop_server::jobs::Which;
use std::thread::sleep;
use std::time::Duration;

/// How often a log that is followed is asked for.
const LOOK: Duration = Duration::from_secs(1);

pub fn print(client: &Client, which: &Which, follow: bool) -> anyhow::Result<()> {
    let name = part(&which.to_string());
    if !follow {
        let text = client.text(&format!("/jobs/{name}/log"), 0)?;
        return say(&String::from_utf8_lossy(&text.unwrap_or_default()));
    }
    let job: JobDetail = client.get(&format!("/jobs/{name}"))?;
    let id = job.job.id;
    let mut told = Told::default();
    loop {
        // Asked before the log is: what was written before the end is printed.
        let now: JobDetail = client.get(&format!("/jobs/{id}"))?;
        told.run(&now);
        match client.text(&format!("/jobs/{id}/log"), told.bytes) {
            Ok(Some(text)) => {
                told.bytes += text.len() as u64;
                say(&String::from_utf8_lossy(&text))?;
            }
            Ok(None) => {}
            // There is no log yet.
            Err(error)
                if error
                    .downcast_ref()
                    .is_some_and(|e: &Refused| e.status == 404) => {}
            Err(error) => return Err(error),
        }
        if now.job.state.is_over() {
            return Ok(());
        }
        sleep(LOOK);
    }
}

/// How far a log was printed. Each try has its own.
#[derive(Default)]
struct Told {
    run: Option<pitstop_api::Id>,
    bytes: u64,
}

impl Told {
    fn run(&mut self, now: &JobDetail) {
        let last = now.tries.first().map(|run| run.run.clone());
        if last.is_some() && last != self.run {
            self.run = last;
            self.bytes = 0;
        }
    }
}
