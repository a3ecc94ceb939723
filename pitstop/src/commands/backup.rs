//! `pitstop backup DISK IMAGE`: a disk becomes an image, without a boot.

#[derive(clap::Args)]
pub struct Args {
    /// A block device or a plain file
    disk: std::path::PathBuf,
    /// A path or an `http(s)://` URL
    image: String,
}

pub fn run(_args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("this build has no image engine")
}
