//! Which folder the server serves, and the host files in it.

use anyhow::Context;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use pitstop_server::write::give_to_owner_of;
use std::path::PathBuf;

/// Where the Debian package says which folder its server serves: systemd reads the same file for the server.
const SETTINGS: &str = "/etc/default/pitstop";
const VARIABLE: &str = "PITSTOP_ROOT";
const DEFAULT: &str = "/srv/pitstop";

/// Where the server's folders are.
#[derive(clap::Args)]
pub struct Root {
    /// The folder that `pitstop serve` serves [default: that of /etc/default/pitstop, else /srv/pitstop]
    // The default is not shown by itself: it is this computer's, and a manual page is everybody's.
    #[arg(
        long = "root",
        env = VARIABLE,
        value_name = "DIR",
        default_value_os_t = default_path(),
        hide_default_value = true
    )]
    pub path: PathBuf,
}

impl Root {
    /// The folder of host files. The root must be there: one that is not is a mistyped name.
    pub fn hosts(&self) -> anyhow::Result<Dir> {
        const NAME: &str = "hosts";
        let root = Dir::open_ambient_dir(&self.path, ambient_authority()).with_context(|| {
            format!(
                "opening {}: is it what pitstop serve serves? (--root, PITSTOP_ROOT)",
                self.path.display()
            )
        })?;
        let path = self.path.join(NAME);
        if root.symlink_metadata(NAME).is_err() {
            root.create_dir(NAME)
                .and_then(|()| give_to_owner_of(&root, &root.open(NAME)?))
                .with_context(|| format!("making {}", path.display()))?;
        }
        // Opened by its whole path: the admin may have made it a symlink to elsewhere.
        Dir::open_ambient_dir(&path, ambient_authority())
            .with_context(|| format!("opening {}", path.display()))
    }
}

fn default_path() -> PathBuf {
    // Most computers have no such file; one that cannot be read is one that says nothing.
    let settings = std::fs::read_to_string(SETTINGS).unwrap_or_default();
    setting(&settings).unwrap_or(DEFAULT).into()
}

/// The folder that a file of `NAME=VALUE` lines sets, as systemd reads it: the last one counts, quotes are left out.
fn setting(text: &str) -> Option<&str> {
    text.lines().rev().find_map(|line| {
        let value = line.trim().strip_prefix(VARIABLE)?.strip_prefix('=')?;
        let quoted = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        (!value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_the_settings_is_read_as_systemd_reads_it() {
        let text = "# PITSTOP_ROOT=/no\nPITSTOP_ROOT=/first\n PITSTOP_ROOT=\"/var/lib/pit stop\"\nOTHER=1\n";
        assert_eq!(setting(text), Some("/var/lib/pit stop"));
        assert_eq!(setting("PITSTOP_ROOT='/srv/x'"), Some("/srv/x"));
        assert_eq!(setting("PITSTOP_ROOTS=/x\n#PITSTOP_ROOT=/x\n"), None);
        assert_eq!(setting("PITSTOP_ROOT=\n"), None);
    }
}
