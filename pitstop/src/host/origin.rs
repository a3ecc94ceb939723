//! What `host set` takes about whose images are restored.

use pitstop_server::set::{self, Who};

#[derive(clap::Args)]
pub struct Origin {
    /// Restore the images of this machine, in place of --image
    #[arg(long, value_name = "MACHINE")]
    from: Option<Who>,
    /// Wait until the backup of that machine is done, however long it takes, and restore then
    #[arg(long, requires = "from")]
    pub follow: bool,
}

impl Origin {
    pub fn wished(&self) -> Option<set::Origin> {
        let machine = self.from.clone()?;
        Some(set::Origin {
            machine,
            follow: self.follow,
        })
    }

    /// As the API has it.
    pub fn from(&self) -> Option<String> {
        self.from.as_ref().map(ToString::to_string)
    }
}
