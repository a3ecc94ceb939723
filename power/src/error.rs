//! Why a machine was not switched.

use crate::act::{Act, State};
use pitstop_protocol::host_name::printable;
use std::path::PathBuf;
use std::time::Duration;

/// Why a machine was not switched.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    #[error("{what} cannot do {act}: {why}")]
    Cannot {
        what: String,
        act: Act,
        why: &'static str,
    },
    #[error("{name} has no {what} in fleet.toml, and its power needs one")]
    Lacks { name: String, what: &'static str },
    #[error("sending a magic packet for {name}: {error}")]
    Wake {
        name: String,
        #[source]
        error: std::io::Error,
    },
    #[error("nothing says user and password for {bmc}: write them into {}", file.display())]
    NoLogin { bmc: String, file: PathBuf },
    #[error("{bmc} does not take the user or the password of {}", file.display())]
    Login { bmc: String, file: PathBuf },
    #[error(
        "nobody this computer trusts has signed the certificate of {bmc}. If it is the right one, write \
         fingerprint = \"{fingerprint}\" for it into {}; insecure = true takes any",
        file.display()
    )]
    Certificate {
        bmc: String,
        fingerprint: String,
        file: PathBuf,
    },
    #[error(
        "{bmc} has another certificate than {} says: {fingerprint}. Somebody may stand between; if it was renewed, \
         change the fingerprint",
        file.display()
    )]
    OtherCertificate {
        bmc: String,
        fingerprint: String,
        file: PathBuf,
    },
    #[error("{bmc} did not answer within {limit:?}")]
    Slow { bmc: String, limit: Duration },
    #[error("{bmc} cannot be asked: {why}")]
    Reach { bmc: String, why: String },
    #[error("{bmc} refused: {said}")]
    Refused { bmc: String, said: String },
    #[error("{bmc} does not answer as Redfish does: {why}")]
    Nonsense { bmc: String, why: String },
    #[error("{bmc} offers no way to do {order}: it has {offered}")]
    NotOffered {
        bmc: String,
        order: &'static str,
        offered: String,
    },
    #[error(
        "{bmc} took the order, but {limit:?} later the machine is still not {wanted}: it is {state}"
    )]
    Stays {
        bmc: String,
        wanted: State,
        state: State,
        limit: Duration,
    },
    #[error("{bmc} took the order to boot from the network once, and still says {says}")]
    NoPxe { bmc: String, says: String },
    #[error("{program} is not installed here: apt-get install {program}")]
    Missing { program: &'static str },
    #[error("running {program}: {error}")]
    Running {
        program: String,
        #[source]
        error: std::io::Error,
    },
    #[error("{program} did not end within {limit:?}, and was stopped")]
    Hangs { program: String, limit: Duration },
    #[error("{program} failed with {status}: {said}")]
    Failed {
        program: String,
        status: String,
        said: String,
    },
}

impl PowerError {
    /// Whether an order that ended so may have been carried out: its answer did not come.
    pub(crate) fn leaves_open(&self) -> bool {
        matches!(
            self,
            Self::Slow { .. } | Self::Reach { .. } | Self::Hangs { .. }
        )
    }

    /// Whether the next question may be answered: a BMC that switches its machine is busy.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Slow { .. }
                | Self::Reach { .. }
                | Self::Refused { .. }
                | Self::Hangs { .. }
                | Self::Failed { .. }
        )
    }
}

/// What somebody else said, as a line of an error.
pub(crate) fn one_line(text: &str) -> String {
    const MOST: usize = 300;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join("; ");
    if line.is_empty() {
        return "it says nothing".into();
    }
    let shown: String = printable(&line).chars().take(MOST).collect();
    if shown.len() < line.len() {
        shown + "…"
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_are_one_short_line() {
        assert_eq!(one_line(" \n\n"), "it says nothing");
        assert_eq!(one_line(" a\n\nb \u{1b}[2J"), "a; b \\u{1b}[2J");
        assert!(one_line(&"x".repeat(4000)).len() < 400);
    }
}
