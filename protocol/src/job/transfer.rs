//! How the machine talks to the servers of a job: patience, speed and credentials.

use crate::credentials::Access;
use crate::job::mirrors::Mirror;
use crate::job::report::ReportTo;
use crate::share_url::ShareUrl;
use crate::store::SignAt;
use std::num::NonZeroU64;
use std::time::Duration;
use url::Url;

/// The default of [`Transfer::retry_for`]: a server's restart, or a switch's.
pub const RETRY_FOR: Duration = Duration::from_secs(60);

/// Whether a machine has an image or a tree from others that get it too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Distribute {
    /// Where the server knows of two or more that are to get it.
    #[default]
    Auto,
    Swarm,
    Off,
}

/// The host file's keys about transfers, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// How long a server that went away is waited for.
    pub retry_for: Duration,
    /// Image bytes per second, at most.
    pub rate_limit: Option<NonZeroU64>,
    pub distribute: Distribute,
    /// Who else has the image, the nearest first.
    pub mirrors: Vec<Mirror>,
    /// Credentials for the share's and the configuration's own servers.
    pub access: Option<Access>,
    /// Where the run is reported to, if anywhere.
    pub report: Option<ReportTo>,
    /// Who has keys for a store, if anybody.
    pub sign: Option<SignAt>,
}

impl Default for Transfer {
    fn default() -> Self {
        Self {
            retry_for: RETRY_FOR,
            rate_limit: None,
            distribute: Distribute::default(),
            mirrors: Vec::new(),
            access: None,
            report: None,
            sign: None,
        }
    }
}

/// The URLs whose servers may see a job's credentials: the share's, and the configuration's that was read. What
/// is merely to be deleted may be anywhere.
pub fn trusted<'a>(share: Option<&'a ShareUrl>, from: Option<&'a Url>) -> Vec<&'a Url> {
    let share = match share {
        Some(ShareUrl::Http(url)) => Some(url),
        _ => None,
    };
    share
        .into_iter()
        .chain(from.filter(|url| matches!(url.scheme(), "http" | "https")))
        .collect()
}
