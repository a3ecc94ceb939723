//! `pitstop restore IMAGE DISK`: an image goes back to a disk, without a boot.

#[derive(clap::Args)]
pub struct Args {
    /// A path or an `http(s)://` URL
    image: String,
    /// A block device or a plain file
    disk: std::path::PathBuf,
}

pub fn run(_args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("this build has no image engine")
}
