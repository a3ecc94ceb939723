//! What becomes of a machine when its run is over.

use serde::{Deserialize, Serialize};

/// What becomes of the machine. The names are the host file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum After {
    #[default]
    Reboot,
    Poweroff,
    /// Stays up with a shell: no reboot by itself.
    Rescue,
}
