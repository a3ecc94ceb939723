//! Whether a restore takes part: what was asked for, what the server offers, what the image is.

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
    match how {
        Distribute::Off => Ok(None),
        Distribute::Auto => Ok(image
            .digest()
            .and_then(|digest| by_itself(image.name(), digest, offer, reporter))),
        Distribute::Swarm => asked(image, offer, reporter).map(Some),
    }
}

fn asked<'a>(
    image: &OpenedImage,
    offer: impl FnOnce() -> anyhow::Result<Option<RelayAt>>,
    reporter: &'a dyn Reporter,
) -> anyhow::Result<Node<'a>> {
    let name = image.name();
    let Some(digest) = image.digest() else {
        bail!(
            "{name} has no index, so that no machine could prove what another one sends: make one that has, with \
             pitstop convert {name} NEW.raw.gz, or restore it with distribute = \"off\""
        );
    };
    let Some(at) = offer()? else {
        bail!(
            "the server of {name} plans no chains: only pitstop serve does, and not with --chains 0; restore it with \
             distribute = \"off\""
        );
    };
    Node::join(Place { at, digest }, reporter)
        .with_context(|| format!("sharing {name} with other machines"))
}

/// Joins those who write the same round of an image that grows: `digest` stands for it. `None`: it comes from the server.
///
/// # Errors
/// A swarm was asked for and cannot be.
pub fn join_round<'a>(
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
            let at = offer()?.with_context(|| format!("the server of {name} plans no chains"))?;
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
