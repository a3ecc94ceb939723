//! Actions about trees: what they take from the share is opened, and proven to be what the job was made for, before anything
//! is written.

mod capture;
mod deploy;
mod parts;
mod run;
mod update;

use super::images::Images;
use super::restore::distribute;
use super::{Prepared, Work, locked};
use crate::plan::{OfTree, Plan};
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::{ImageSource, shares_of};
use pitstop_imaging::inventory::Disk;
use pitstop_protocol::digest::Digest;
use pitstop_protocol::job::{Action, Distribute};
use pitstop_protocol::tree::{self, TreeName};
use pitstop_relay::Node;
use pitstop_transport::fetch::{HttpClient, Listener, Settings};
use pitstop_transport::share::{HttpImage, relay_at, signed, trees};
use pitstop_trees::{Meta, TreeImage};
use std::path::PathBuf;
use url::Url;

/// What a plan about a tree has found, for the work.
pub(super) enum Ready {
    Capture(Box<capture::Ready>),
    Deploy(Box<deploy::Ready>),
    Update(Box<update::Ready>),
    Run(Box<run::Ready>),
}

pub(super) fn plan(work: &mut Work<'_>) -> anyhow::Result<Prepared> {
    // What it is about lives as long as the run, which borrows the rest.
    match &work.job.action {
        Action::Capture(options) => capture::plan(work, options),
        Action::Deploy(options) => deploy::plan(work, options),
        Action::Update(options) => update::plan(work, options),
        Action::Run(options) => run::plan(work, options),
        action => bail!("{action} is not about a tree: a fault in Pitstop itself"),
    }
}

/// Does it. Returns the root of a tree that the machine is to go on in.
pub(super) fn execute(work: &Work<'_>, ready: &Ready) -> anyhow::Result<Option<PathBuf>> {
    match (&work.job.action, ready) {
        (Action::Capture(options), Ready::Capture(ready)) => {
            capture::run(work, options, ready).map(|()| None)
        }
        (Action::Deploy(options), Ready::Deploy(ready)) => {
            deploy::run(work, options, ready).map(|()| None)
        }
        (Action::Update(options), Ready::Update(ready)) => {
            update::run(work, options, ready).map(|()| None)
        }
        (Action::Run(options), Ready::Run(ready)) => run::run(work, options, ready).map(Some),
        (action, _) => bail!("the plan is not of this {action}: a fault in Pitstop itself"),
    }
}

fn prepared(
    work: &Work<'_>,
    step: OfTree,
    left_alone: Vec<(Disk, String)>,
    ready: Ready,
) -> Prepared {
    Prepared {
        plan: Plan::tree(work.heading(), step, left_alone),
        images: Images::default(),
        tree: Some(ready),
        ahead: None,
        done: false,
    }
}

/// The image of a tree, its version decided: what is the current one may change under way.
struct Opened {
    image: TreeImage<'static>,
    at: At,
    /// `web@2026-11-29T014500Z`, or a URL.
    shown: String,
}

/// Where the image of a tree is.
enum At {
    Share(String),
    Elsewhere(HttpClient, Url),
}

impl Opened {
    /// # Errors
    /// There is no such tree, it is not whole, or it is not the one that the job was made for.
    fn open(work: &Work<'_>, name: &TreeName) -> anyhow::Result<Self> {
        let (source, at, named): (Box<dyn ImageSource>, At, String) = match name {
            TreeName::Named { .. } => {
                let path = trees::find(work.share, name)?;
                let image = locked::image(work, &path)?;
                (image, At::Share(path.clone()), path)
            }
            TreeName::Url(url) => {
                let settings = Settings::of_job(&work.job.transfer, Listener::default());
                let http = HttpClient::new(settings)?;
                let image = HttpImage::open(&http, url)?;
                let image = locked::opened(work, Box::new(image), url.as_str())?;
                (image, At::Elsewhere(http, url.clone()), name.to_string())
            }
        };
        let image = TreeImage::of(source)?;
        let digest = Digest(image.digest());
        let checked = work.job.terms.check_tree(&name.in_digests(), Some(digest));
        checked.map_err(anyhow::Error::msg).context(named.clone())?;
        check_signature(work, name, &image, &named)?;
        let meta = &image.meta;
        let shown = match name {
            TreeName::Named { name, .. } if !meta.version.is_empty() => {
                format!("{name}@{}", meta.version)
            }
            TreeName::Named { .. } => named,
            TreeName::Url(_) => name.to_string(),
        };
        Ok(Self { image, at, shown })
    }

    /// Whether other machines may have the tree from this one.
    ///
    /// # Errors
    /// It is encrypted, and the job wants others to have it.
    fn distribute(&self, work: &Work<'_>) -> anyhow::Result<Distribute> {
        let file = match &self.at {
            At::Share(path) => path,
            At::Elsewhere(_, url) => url.path(),
        };
        distribute(work, file)
    }

    /// Joins those who get the tree too. `None`: it comes from the server.
    ///
    /// # Errors
    /// The job wants to have it from others, and the server plans nothing.
    fn join<'w>(&self, work: &'w Work<'_>) -> anyhow::Result<Option<Node<'w>>> {
        let digest = blake3::Hash::from_bytes(self.image.digest());
        let offer = || match &self.at {
            At::Share(path) => work.share.relay(path),
            At::Elsewhere(http, url) => relay_at(http, url),
        };
        let how = self.distribute(work)?;
        pitstop_relay::join_by_digest(how, self.image.name(), digest, offer, work.log)
    }

    /// What a plan says of it first: `Debian GNU/Linux 12, 12345 entries, 1.2 GiB, made …`, and where it comes from.
    fn about(&self) -> Vec<String> {
        let mut lines = vec![self.sentence()];
        if let Some(from) = self.image.places().first() {
            lines.push(format!("it comes from {}", from.name));
        }
        lines
    }

    /// Says how much of it came from where, at the end.
    fn tell_places(&self, reporter: &dyn Reporter) {
        if let Some(shares) = shares_of(&self.image.places()) {
            reporter.info(format!("{}: {shares}", self.shown));
        }
    }

    fn sentence(&self) -> String {
        let meta = &self.image.meta;
        let os = meta.os.as_ref().map(|os| os.name.as_str());
        let os = os.filter(|name| !name.is_empty()).unwrap_or("a tree");
        format!(
            "{os}, {} entries, {}, made {}",
            meta.entries,
            pitstop_imaging::units::bytes(meta.bytes),
            meta.created
        )
    }
}

/// Where trees have to be signed: what is signed is of this image, under the name by which the job means it.
fn check_signature(
    work: &Work<'_>,
    name: &TreeName,
    image: &TreeImage<'_>,
    at: &str,
) -> anyhow::Result<()> {
    let Some(keys) = work.job.terms.images.keys()? else {
        return Ok(());
    };
    let (TreeName::Named { name, .. }, Some(version)) = (name, tree::version_of(at)) else {
        bail!(
            "{name} is a URL, and this job or this machine wants a signed tree: a signature says which tree and version it \
             is of, so name one on the share"
        );
    };
    let about = tree::about(name, version);
    let text = signed::text(work.share, &about, keys, work.log)?;
    let meta = Meta::from_toml(&text).with_context(|| about.clone())?;
    image
        .check_is_of(&meta, Some((name, version)))
        .with_context(|| about)
}

/// The name that the machine gets: the job's, else what the network says.
fn hostname(work: &Work<'_>, wished: Option<&String>) -> Option<String> {
    wished.or(work.lease.hostname.as_ref()).cloned()
}

#[cfg(test)]
mod mirrored;
#[cfg(test)]
mod tests;
