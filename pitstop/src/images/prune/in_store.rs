//! Images that leave a store. There a DELETE is for good, and nothing can be put back: so it is asked of the very object that was
//! judged, by its tag, and the image goes before what describes it. Who is cut short leaves a description of nothing.

use super::aside::BESIDE;
use super::{BEING_WRITTEN, UNFINISHED};
use anyhow::{Context, bail};
use jiff::Timestamp;
use pitstop_api::Image;
use pitstop_protocol::host_name::printable;
use pitstop_protocol::image_version::{Version, split};
use pitstop_server::view::is_image;
use pitstop_transport::share::{Changed, Object, S3Share};
use std::collections::{BTreeMap, BTreeSet};

pub struct InStore<'a> {
    share: &'a S3Share,
    listed: BTreeMap<String, Object>,
}

/// A description whose image is gone.
struct Left<'a> {
    path: &'a str,
    tag: &'a str,
    /// The last image of the disk.
    last: &'a str,
}

impl<'a> InStore<'a> {
    pub fn look(share: &'a S3Share) -> anyhow::Result<Self> {
        let listed = share.list("", true)?.into_iter();
        let listed = listed.filter_map(|one| Some((one.name, one.object?)));
        Ok(Self {
            share,
            listed: listed.collect(),
        })
    }

    pub fn is_being_written(&self, last: &str) -> anyhow::Result<bool> {
        let mut whole = UNFINISHED.iter().filter_map(|suffix| {
            let object = self.listed.get(&format!("{last}{suffix}"))?;
            object.modified
        });
        if whole.any(is_fresh) {
            return Ok(true);
        }
        for suffix in UNFINISHED.iter().chain([&""]) {
            let upload = self.share.last_upload(&format!("{last}{suffix}"));
            let upload = upload.context("looking for backups that are being written")?;
            if upload.is_some_and(is_fresh) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes an image that is as it was when it was judged, and what describes it.
    pub fn remove(&self, image: &Image) -> anyhow::Result<()> {
        let path = image.path.as_str();
        let second = |time: Option<Timestamp>| time.map(Timestamp::as_second);
        let tag = self.listed.get(path).and_then(|object| {
            let same =
                object.size == image.file_size && second(object.modified) == second(image.modified);
            object.tag.as_deref().filter(|_| same)
        });
        let shown = printable(path);
        let Some(tag) = tag else {
            bail!(
                "{shown} has changed just now, or the store tells no tag of it: run the command again"
            );
        };
        let beside = BESIDE.iter().filter_map(|end| {
            let path = format!("{path}{end}");
            let tag = self.listed.get(&path)?.tag.clone()?;
            Some((path, tag))
        });
        let removed = self.share.remove_if(path, tag);
        removed.with_context(|| format!("removing {shown}"))?;
        for (path, tag) in beside {
            self.remove_description(&path, &tag).with_context(|| {
                format!("{shown} is removed, and what describes it is not: run the command again")
            })?;
        }
        Ok(())
    }

    /// One that is another's by now describes another image: it stays, and the answer is no.
    fn remove_description(&self, path: &str, tag: &str) -> anyhow::Result<bool> {
        match self.share.remove_if(path, tag) {
            Ok(()) => Ok(true),
            Err(error) if error.is::<Changed>() => Ok(false),
            Err(error) => Err(error).with_context(|| format!("removing {}", printable(path))),
        }
    }

    pub fn leftovers(&self, folders: &BTreeSet<String>, removes: bool) -> Vec<String> {
        let mut told = Vec::new();
        for left in self.left(folders) {
            // A backup that gives images their names moves what describes them first.
            let done = match self.is_being_written(left.last) {
                Ok(true) => continue,
                Ok(false) if removes => self.remove_description(left.path, left.tag).map(Some),
                Ok(false) => Ok(None),
                Err(error) => Err(error),
            };
            let shown = printable(left.path);
            let what = match done {
                Ok(Some(true)) => "it is removed".to_owned(),
                Ok(Some(false)) => "it is another image's now, and stays".to_owned(),
                Ok(None) => "it would be removed".to_owned(),
                Err(error) => format!("it stays: {error:#}"),
            };
            told.push(format!(
                "{shown} describes an image that is gone, as a run leaves it that was cut short: {what}"
            ));
        }
        told
    }

    fn left(&self, folders: &BTreeSet<String>) -> impl Iterator<Item = Left<'_>> {
        self.listed.iter().filter_map(move |(path, object)| {
            let image = BESIDE.iter().find_map(|end| path.strip_suffix(end))?;
            let (last, version) = split(image);
            let (folder, _) = path.rsplit_once('/')?;
            let is_left = is_image(image)
                && version != Version::Last
                && folders.contains(folder)
                && !self.listed.contains_key(image)
                && !object.modified.is_some_and(is_fresh);
            is_left.then_some(Left {
                path,
                tag: object.tag.as_deref()?,
                last,
            })
        })
    }
}

/// By the store's clock, which is ours to a quarter of an hour: it takes no signature that is farther off.
fn is_fresh(time: Timestamp) -> bool {
    let age = Timestamp::now().duration_since(time);
    age.as_secs() < i64::try_from(BEING_WRITTEN.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use pitstop_protocol::share_url::ShareUrl;
    use pitstop_transport::fetch::{HttpClient, Settings};
    use pitstop_transport::share::{Keys, Signer};

    #[test]
    fn what_describes_an_image_that_is_gone_was_left() {
        let ShareUrl::S3(url) = "s3://lab/room?endpoint=http://127.0.0.1:1".parse().unwrap() else {
            panic!("it is a store");
        };
        let http = HttpClient::new(Settings::default()).unwrap();
        let signer = Signer::new(&url, &Keys::new("AKID", "s3cret")).unwrap();
        let share = S3Share::new(&url, &http, signer);
        let old = Timestamp::now() - SignedDuration::from_hours(2);
        let object = |modified| Object {
            size: 1,
            tag: Some("\"a\"".into()),
            modified: Some(modified),
        };
        let mut listed: BTreeMap<String, Object> = [
            "golden/sda.raw.gz.old.toml",
            "golden/sda.raw.gz.old.toml.minisig",
            // Its image is there.
            "golden/sdb.raw.gz.old",
            "golden/sdb.raw.gz.old.toml",
            // Of no earlier image, of none at all, and elsewhere.
            "golden/sda.raw.gz.toml",
            "golden/machine.toml",
            "lab/sda.raw.gz.old.toml",
        ]
        .map(|path| (path.to_owned(), object(old)))
        .into();
        // A backup may just be moving its image.
        let fresh = "golden/sdc.raw.gz.old.toml".to_owned();
        listed.insert(fresh, object(Timestamp::now()));
        let store = InStore {
            share: &share,
            listed,
        };
        let golden = BTreeSet::from(["golden".to_owned()]);
        let left: Vec<&str> = store.left(&golden).map(|left| left.path).collect();
        assert_eq!(
            left,
            [
                "golden/sda.raw.gz.old.toml",
                "golden/sda.raw.gz.old.toml.minisig"
            ]
        );
    }
}
