//! What `host set` takes about when jobs begin, and how many at once.

use jiff::{Timestamp, Zoned};
use pitstop_jobs::{Cron, Order};
use pitstop_server::set;

#[derive(clap::Args)]
pub struct Many {
    /// Ask nothing: for scripts that have a terminal
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Set the job then: 22:00, "2026-12-01 22:00" (local), 2026-12-01T22:00:00Z, or +2h; the server must run
    #[arg(long, value_name = "TIME", value_parser = at, conflicts_with = "every")]
    pub at: Option<Timestamp>,
    /// Set a job each time: minute, hour, day of month, month, day of week, as in "0 22 * * 1-5"; the server must run
    #[arg(long, value_name = "CRON", value_parser = every)]
    pub every: Option<String>,
    /// Machines of this command at work at once; the others wait [default: as fleet.toml says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub slots: Option<u32>,
    /// Which of the machines that wait is next: as given, by name, or whose last job ended longest ago
    #[arg(long, value_name = "given|name|last-done", default_value = "given")]
    pub order: Order,
}

impl Many {
    pub fn wished(&self) -> set::Many {
        set::Many {
            at: self.at,
            every: self.every.clone(),
            slots: self.slots,
            order: self.order,
        }
    }
}

pub fn at(text: &str) -> Result<Timestamp, String> {
    pitstop_jobs::at(text, &Zoned::now()).map_err(|error| error.to_string())
}

fn every(text: &str) -> Result<String, String> {
    Cron::parse(text, Zoned::now().time_zone())
        .map(|_| text.trim().to_owned())
        .map_err(|error| error.to_string())
}
