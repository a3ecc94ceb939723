//! Whether a machine takes part: what was asked for, what the server offers, what the image is.

use crate::node::{Node, NotJoined, Place};
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::OpenedImage;
use pitstop_protocol::job::Distribute;
use pitstop_transport::share::RelayAt;

/// Two make a chain.
const ENOUGH: u64 = 2;

/// Joins those who restore `image` too, if `how` and the server say so. `offer` asks the server whether it plans that.
///
/// # Errors
/// A swarm was asked for and cannot be: the image has no index, the server plans none or does not answer.
pub fn join<'a>(
    how: Distribute,
    image: &OpenedImage,
    offer: impl FnOnce() -> anyhow::Result<Option<RelayAt>>,
    reporter: &'a dyn Reporter,
) -> anyhow::Result<Option<Node<'a>>> {
    let name = image.name();
    match (how, image.digest()) {
        (how, Some(digest)) => join_by_digest(how, name, digest, offer, reporter),
        (Distribute::Off | Distribute::Auto, None) => Ok(None),
        (Distribute::Swarm, None) => bail!(
            "{name} has no index, so that no machine could prove what another one sends: make one that has, with \
             pitstop convert {name} NEW.raw.gz, or restore it with distribute = \"off\""
        ),
    }
}

/// The same for what `digest` stands for: a tree, or a round of an image that grows. `None`: it comes from the server.
///
/// # Errors
/// A swarm was asked for and cannot be.
pub fn join_by_digest<'a>(
    how: Distribute,
    name: &str,
    digest: blake3::Hash,
    offer: impl FnOnce() -> anyhow::Result<Option<RelayAt>>,
    reporter: &'a dyn Reporter,
) -> anyhow::Result<Option<Node<'a>>> {
    match how {
        Distribute::Off => Ok(None),
        Distribute::Auto => Ok(by_itself(name, digest, offer, reporter)),
        Distribute::Swarm => {
            let Some(at) = offer()? else {
                bail!(
                    "the server of {name} plans no chains: only pitstop serve does, and not with --chains 0; get it with \
                     distribute = \"off\""
                );
            };
            let node = Node::join(Place { at, digest }, reporter);
            node.map(Some)
                .with_context(|| format!("sharing {name} with other machines"))
        }
    }
}

/// Whatever is in the way, the image comes from the server as ever.
fn by_itself<'a>(
    name: &str,
    digest: blake3::Hash,
    offer: impl FnOnce() -> anyhow::Result<Option<RelayAt>>,
    reporter: &'a dyn Reporter,
) -> Option<Node<'a>> {
    let at = offer().ok()??;
    if at.wanted < ENOUGH {
        return None;
    }
    match Node::join(Place { at, digest }, reporter) {
        Ok(node) => Some(node),
        Err(NotJoined::NoPlan(_)) => None,
        Err(NotJoined::Failed(error)) => {
            reporter.warn(format!("{name} comes from the server alone: {error:#}"));
            None
        }
    }
}
