//! The embedded server: host files, boot files and the share over HTTP; boot files over TFTP.

use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// The folder that is served: hosts/, share/ and boot/ are made in it if missing
    #[arg(long, env = "PITSTOP_ROOT", value_name = "DIR")]
    root: PathBuf,
}

pub fn run(_args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("this build has no server")
}
