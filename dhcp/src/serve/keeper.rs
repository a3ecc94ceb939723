//! Writes the file of leases, one version at a time; several that wait are one write.

use super::Journal;
use crate::leases;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// What waits for a version to be on the disk.
type Wanted = (String, oneshot::Sender<()>);

pub struct Keeper {
    root: PathBuf,
    journal: Journal,
    wanted: mpsc::UnboundedReceiver<Wanted>,
}

/// Where versions are handed in.
#[derive(Clone)]
pub struct Store(mpsc::UnboundedSender<Wanted>);

impl Store {
    /// Takes a version in its place: call it while nobody can make the next one.
    pub fn hand_in(&self, text: String) -> oneshot::Receiver<()> {
        let (done, written) = oneshot::channel();
        // A keeper that is gone ends the wait as well.
        let _ = self.0.send((text, done));
        written
    }
}

impl Keeper {
    pub fn new(root: PathBuf, journal: Journal) -> (Self, Store) {
        let (sender, wanted) = mpsc::unbounded_channel();
        let keeper = Self {
            root,
            journal,
            wanted,
        };
        (keeper, Store(sender))
    }

    pub async fn run(mut self) {
        while let Some((mut text, done)) = self.wanted.recv().await {
            let mut waiting = vec![done];
            while let Ok((newer, done)) = self.wanted.try_recv() {
                text = newer;
                waiting.push(done);
            }
            let root = self.root.clone();
            let written = tokio::task::spawn_blocking(move || leases::write(&root, &text)).await;
            if let Ok(Err(error)) = written {
                // Machines get their addresses all the same: after a restart they are looked for before they are offered.
                let journal = Arc::clone(&self.journal);
                journal(&format!("DHCP: {error:#}"));
            }
            for done in waiting {
                // One that waits no longer was dropped.
                let _ = done.send(());
            }
        }
    }
}
