//! The way to the share: connected, proven to be the share, and told who is there.

use super::Run;
use crate::execute::{attempts, name};
use anyhow::{Context, bail};
use pitstop_protocol::host_name::hex_address;
use pitstop_protocol::job::{Action, Job};
use pitstop_protocol::share_url::{MARKERS, NEVER_THERE, ShareUrl};
use pitstop_transport::share::{self, Carriers, Share, WithMirrors};

/// Whether it is the share, and not some place that anything could be written to.
fn check_marked(share: &dyn Share) -> anyhow::Result<()> {
    if share.stat(NEVER_THERE)?.is_some() {
        bail!(
            "{} has a file of any name, {NEVER_THERE} too: something answers every request with a page of its own",
            share.name()
        );
    }
    for marker in MARKERS {
        if share.stat(marker)?.is_some() {
            return Ok(());
        }
    }
    bail!(
        "{} is not the share: it has no file {}; make one to say that it is",
        share.name(),
        MARKERS.join(" or ")
    );
}

impl Run<'_> {
    /// Connects, makes sure that it is the share, and says hi.
    pub(super) fn reach_share(
        &mut self,
        url: &ShareUrl,
        carriers: &Carriers,
    ) -> anyhow::Result<()> {
        if self.lease.is_offline() && !matches!(url, ShareUrl::Directory(_)) {
            bail!(
                "the share {url} is reached over a network, and this machine uses none (ip=off): write ip=dhcp, or leave \
                 share out for the stick's"
            );
        }
        let share =
            share::connect(url, carriers).with_context(|| format!("reaching the share {url}"))?;
        check_marked(&*share)?;
        let home = self.home();
        let hi = format!(
            "hi from {} ({}): {}",
            name(self.lease),
            env!("CARGO_PKG_VERSION"),
            self.policy.action
        );
        self.log.announce(&hi);
        self.log.flush(&*share, &home)?;
        let address = Some(self.lease.address).filter(|_| !self.lease.is_offline());
        let names = [self.lease.hostname.clone(), address.map(hex_address)];
        for file in names
            .into_iter()
            .flatten()
            .filter(|file| is_file_name(file))
        {
            attempts::put(
                &*share,
                &format!("{home}/{file}"),
                format!("{home}\n").as_bytes(),
            )?;
        }
        self.share = Some(share);
        self.policy.share = Some(match url {
            // Its `Display` leaves credentials out.
            ShareUrl::Http(url) => url.to_string(),
            other => other.to_string(),
        });
        (self.options.on_policy)(&self.policy);
        Ok(())
    }

    /// Has images of disks and trees come from mirrors where they have them. A limit holds for them as well: it goes around
    /// this.
    pub(super) fn ask_mirrors(&mut self, job: &Job, carriers: &Carriers) {
        let mirrors = &job.transfer.mirrors;
        let reads_one = matches!(
            job.action,
            Action::Restore(_) | Action::Deploy(_) | Action::Update(_) | Action::Run(_)
        );
        if reads_one
            && !mirrors.is_empty()
            && let Some(share) = self.share.take()
        {
            let settings = carriers.http.settings().clone();
            let share = WithMirrors::new(share, mirrors.clone(), settings);
            self.share = Some(Box::new(share));
        }
    }
}

/// A host name comes from the network: it must not lead elsewhere or overwrite a file of the share's layout.
pub(super) fn is_file_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let taken = [
        ".log", ".txt", ".zip", ".lst", ".toml", ".gz", ".old", ".part", ".new",
    ];
    !name.is_empty()
        && !name.starts_with('.')
        && name.len() <= 253
        && name.chars().all(plain)
        && !taken.iter().any(|suffix| name.ends_with(suffix))
}
