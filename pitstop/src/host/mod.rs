//! Machines' jobs: plain host files under the server's root.

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("this build has no host command")
}
