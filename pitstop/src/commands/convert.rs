//! `pitstop convert FROM TO`: any image becomes one with an index.

#[derive(clap::Args)]
pub struct Args {
    /// A path or an `http(s)://` URL
    from: String,
    /// A path
    to: std::path::PathBuf,
}

pub fn run(_args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("this build has no image engine")
}
