//! Machines' jobs: plain host files under the server's root.

use cap_std::fs::Dir;

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("this build has no host command")
}

/// A machine's job, as far as its host file can be read.
pub struct Job {
    pub file: String,
    pub machine: String,
    pub action: Option<String>,
    pub image: Option<String>,
}

pub fn jobs(_hosts: &Dir) -> anyhow::Result<Vec<Job>> {
    Ok(Vec::new())
}
