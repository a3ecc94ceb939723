//! A share whose images come from mirrors where they have them. All else is the share's own.

use super::Mirrored;
use crate::fetch::Settings;
use crate::share::{NewAgain, Pending, RelayAt, Share, Stat};
use anyhow::Context as _;
use pitstop_imaging::image::ImageSource;
use pitstop_protocol::job::Mirror;
use std::io::Read;
use std::path::PathBuf;

pub struct WithMirrors {
    inner: Box<dyn Share>,
    mirrors: Vec<Mirror>,
    settings: Settings,
}

impl WithMirrors {
    /// `settings` are those of the share; mirrors get none of its credentials.
    pub fn new(inner: Box<dyn Share>, mirrors: Vec<Mirror>, settings: Settings) -> Self {
        Self {
            inner,
            mirrors,
            settings,
        }
    }
}

impl Share for WithMirrors {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn stat(&self, path: &str) -> anyhow::Result<Option<Stat>> {
        self.inner.stat(path)
    }

    fn open(&self, path: &str) -> anyhow::Result<Box<dyn Read + Send>> {
        self.inner.open(path)
    }

    fn folder(&self, path: &str) -> anyhow::Result<Option<PathBuf>> {
        self.inner.folder(path)
    }

    fn image(&self, path: &str) -> anyhow::Result<Box<dyn ImageSource>> {
        let own = self.inner.image(path)?;
        let paths = [path.to_owned()];
        Mirrored::of(own, &paths, &self.mirrors, &self.settings)
            .with_context(|| format!("reading the end of {path} on {}", self.name()))
    }

    fn relay(&self, path: &str) -> anyhow::Result<Option<RelayAt>> {
        let at = self.inner.relay(path)?;
        Ok(at.map(|at| at.behind(&self.mirrors)))
    }

    fn create(&self, path: &str) -> anyhow::Result<Box<dyn Pending>> {
        self.inner.create(path)
    }

    fn create_again(&self, path: &str, before: &str) -> anyhow::Result<Option<NewAgain>> {
        self.inner.create_again(path, before)
    }

    fn rename(&self, from: &str, to: &str) -> anyhow::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> anyhow::Result<()> {
        self.inner.remove(path)
    }

    fn append(&self, path: &str, text: &str) -> anyhow::Result<()> {
        self.inner.append(path, text)
    }
}
