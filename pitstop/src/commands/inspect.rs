//! `pitstop inspect IMAGE`: what is in it.

#[derive(clap::Args)]
pub struct Args {
    /// A path or an `http(s)://` URL
    image: String,
}

pub fn run(_args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("this build has no image engine")
}
