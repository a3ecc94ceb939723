//! `--distribute`: trees that machines have from each other.

use super::store::Where;
use crate::job_options::{JobOptions, Which};
use anyhow::bail;
use pitstop_imaging::event::Reporter;
use pitstop_protocol::job::{Distribute, JobOption, check};
use pitstop_relay::Node;
use pitstop_trees::TreeImage;

/// Of commands that get all of a tree.
#[derive(clap::Args)]
pub struct Shared {
    #[command(flatten)]
    asked: JobOptions<Distributed>,
}

struct Distributed;

impl Which for Distributed {
    fn has(option: &JobOption) -> bool {
        option.key == "distribute"
    }

    /// A command opens no port unless it is asked to.
    fn preset(_: &JobOption) -> Option<&'static str> {
        Some("off")
    }
}

impl Shared {
    /// Joins those who get `image` too, which is called `named`. `None`: it comes from where it is.
    ///
    /// # Errors
    /// It is to be had from others, and nobody plans that; or it may be encrypted.
    pub fn join<'a>(
        &self,
        named: &str,
        place: &Where,
        image: &TreeImage,
        reporter: &'a dyn Reporter,
    ) -> anyhow::Result<Option<Node<'a>>> {
        let file = self.asked.host_file()?;
        let how = match &file.distribute {
            None => Distribute::Off,
            Some(_) => check::distribute(&file)?,
        };
        if how != Distribute::Off && place.has_keys() {
            bail!(
                "--distribute does not go with --identity-file: others would get what is in an encrypted image"
            );
        }
        let digest = blake3::Hash::from_bytes(image.digest());
        let offer = || place.relay(named);
        pitstop_relay::join_by_digest(how, image.name(), digest, offer, reporter)
    }
}
