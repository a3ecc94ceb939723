//! What is served: three folders, and what all requests share.

use crate::before_store::Store;
use crate::by_digest::Digests;
use crate::claims::Claims;
use crate::connections::Table;
use crate::events::Events;
use crate::file::Facts;
use crate::fleet::Watched;
use crate::given::Given;
use crate::growing::Uploads;
use crate::health::Health;
use crate::inventory::Inventory;
use crate::jobs::Keeper;
use crate::journal::Journal;
use crate::layer::Kept;
use crate::locks::Locks;
use crate::machine_access::{MachineAccess, Unlocking};
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::pages::Glance;
use crate::path::RelPath;
use crate::refusal::Refusal;
use crate::relay::Relays;
use crate::report::JobFiles;
use crate::runs::Recorder;
use crate::tls::Tls;
use crate::unknown::Strangers;
use crate::verifier::Verifier;
use crate::view::{Looks, Watch};
use anyhow::Context;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use pitstop_imaging::image::ImageSource;
use pitstop_people::Gate;
use pitstop_protocol::share_url::MARKERS;
use pitstop_transport::share::{DirectoryShare, Keys, Share as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Whether `path`, below the share, is its marker: without it no machine takes the folder for a share.
pub fn is_marker(path: &RelPath) -> bool {
    MARKERS.contains(&path.as_str())
}

/// The two files that a machine boots.
pub const KERNEL: &str = "vmlinuz";
pub const INITRAMFS: &str = "initramfs.img";

/// Everything the handlers need. The folders are open: nothing below them can lead out.
#[derive(Clone)]
pub struct Site {
    pub share: Arc<Dir>,
    pub hosts: Arc<Dir>,
    pub boot: Arc<Dir>,
    pub fleet: Arc<Watched>,
    pub journal: Arc<Journal>,
    pub claims: Arc<Claims>,
    pub strangers: Arc<Strangers>,
    pub jobs: Arc<Keeper>,
    /// Kernel parameters beside Pitstop's own.
    pub append: String,
    /// The URL under which machines at work reach this server, without a slash at its end.
    pub url: String,
    /// The same for their boot loaders: another one where there is https.
    pub boot_url: String,
    pub tls: Option<Arc<Tls>>,
    /// `url` was given: it wins over the name that a client used.
    pub url_given: bool,
    pub connections: Arc<Table>,
    pub metrics: Arc<Metrics>,
    pub locks: Arc<Locks>,
    /// What machines report.
    pub runs: Arc<Recorder>,
    /// What changes, for whoever looks.
    pub events: Arc<Events>,
    /// What was looked at lately.
    pub looks: Arc<Looks>,
    pub watch: Arc<Watch>,
    /// Checks of images.
    pub verifier: Arc<Verifier>,
    pub job_files: Arc<JobFiles>,
    /// What machines are.
    pub inventory: Arc<Inventory>,
    pub people: Arc<Gate>,
    pub machine_access: MachineAccess,
    /// Machines as a page that is open last saw them.
    pub glance: Arc<Glance>,
    /// Layers as tars, as they were made.
    pub layers: Arc<Kept>,
    /// Who gets an image from whom.
    pub relays: Arc<Relays>,
    /// The share, where it is a store; `share` is what would be it otherwise.
    pub store: Option<Arc<Store>>,
    /// Earlier images that are being read.
    pub given: Arc<Given>,
    /// Images by what is in them.
    pub digests: Arc<Digests>,
    /// Images that are being sent.
    pub uploads: Arc<Uploads>,
    /// Images of another server, where this is a mirror of one.
    pub mirror: Option<Arc<Mirror>>,
    /// For a store that machines use.
    pub store_keys: Option<Arc<Keys>>,
    /// For encrypted images that machines use.
    pub unlocking: Option<Arc<Unlocking>>,
}

/// The site as it is now. A folder that was moved away, or under which another one was mounted, is opened anew: what
/// is served is what an admin sees under that name.
pub struct Sites {
    pub journal: Arc<Journal>,
    pub fleet: Arc<Watched>,
    pub jobs: Arc<Keeper>,
    pub tls: Option<Arc<Tls>>,
    pub connections: Arc<Table>,
    pub metrics: Arc<Metrics>,
    pub health: Health,
    pub people: Arc<Gate>,
    places: Places,
    current: RwLock<(Ids, Arc<Site>)>,
    /// The journal has been told that a folder is gone.
    told: AtomicBool,
}

/// Where the folders are.
#[derive(Debug, Clone)]
struct Places {
    share: PathBuf,
    hosts: PathBuf,
    boot: PathBuf,
}

/// What tells one folder from another: the device's and the inode's number.
type Id = (u64, u64);

fn id(path: &Path) -> anyhow::Result<Id> {
    let found = std::fs::metadata(path)
        .with_context(|| format!("looking for the folder {}", path.display()))?;
    Ok((found.dev(), found.ino()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ids {
    share: Id,
    hosts: Id,
    boot: Id,
}

impl Places {
    /// Which folders are under these names now. None has another's numbers as long as it is open.
    fn ids(&self) -> anyhow::Result<Ids> {
        Ok(Ids {
            share: id(&self.share)?,
            hosts: id(&self.hosts)?,
            boot: id(&self.boot)?,
        })
    }

    /// The same while `open` are served. Boot files that are being built anew keep no machine from its work: their
    /// folder may be gone for a while.
    fn ids_beside(&self, open: &Ids) -> anyhow::Result<Ids> {
        Ok(Ids {
            share: id(&self.share)?,
            hosts: id(&self.hosts)?,
            boot: if self.boot.exists() {
                id(&self.boot)?
            } else {
                open.boot
            },
        })
    }
}

impl Site {
    /// Whether the share has its marker: without it no machine takes it for the share.
    pub fn has_marker(&self) -> bool {
        match &self.store {
            // A store that is away has not lost it.
            Some(store) => store.has_marker().unwrap_or(true),
            None => MARKERS.iter().any(|marker| self.share.exists(marker)),
        }
    }

    /// What is known of a file of the share.
    ///
    /// # Errors
    /// There is no such file, or it cannot be asked for.
    pub fn facts(&self, path: &RelPath) -> Result<Facts, Refusal> {
        if let Some(store) = &self.store {
            return store.facts(path)?.ok_or_else(|| Refusal::not_found(path));
        }
        let found = self.share.metadata(path.as_path());
        let found = found.map_err(|e| Refusal::io(&format!("looking for {path}"), &e))?;
        if found.is_file() {
            Ok(Facts::of(&found))
        } else {
            Err(Refusal::not_found(path))
        }
    }

    /// A file of the share, for random access.
    ///
    /// # Errors
    /// There is no such file, or it cannot be read.
    pub fn image(&self, path: &str) -> anyhow::Result<Box<dyn ImageSource>> {
        match &self.store {
            Some(store) => store.image(path),
            None => DirectoryShare::open(&self.runs.root().join("share"))?.image(path),
        }
    }
}

impl Sites {
    /// The site of the folders that `folders` opened.
    pub fn new(folders: &Folders, site: Site) -> Self {
        Self {
            journal: Arc::clone(&site.journal),
            fleet: Arc::clone(&site.fleet),
            jobs: Arc::clone(&site.jobs),
            tls: site.tls.clone(),
            connections: Arc::clone(&site.connections),
            metrics: Arc::clone(&site.metrics),
            health: Health::default(),
            people: Arc::clone(&site.people),
            places: folders.places.clone(),
            current: RwLock::new((folders.ids, Arc::new(site))),
            told: AtomicBool::new(false),
        }
    }

    /// The folders that are there now. Nothing is made of what is missing: the disk that should be there may not be
    /// mounted.
    ///
    /// # Errors
    /// Names the folder that cannot be opened.
    pub fn now(&self) -> anyhow::Result<Arc<Site>> {
        let found = self.look();
        match &found {
            Ok(_) => self.told.store(false, Ordering::Relaxed),
            Err(error) if !self.told.swap(true, Ordering::Relaxed) => {
                self.journal
                    .note(&format!("nothing can be served: {error:#}"));
            }
            Err(_) => {}
        }
        found
    }

    fn look(&self) -> anyhow::Result<Arc<Site>> {
        let (opened, site) = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            (current.0, Arc::clone(&current.1))
        };
        let ids = self.places.ids_beside(&opened)?;
        if opened == ids {
            return Ok(site);
        }
        let boot = if opened.boot == ids.boot {
            Arc::clone(&site.boot)
        } else {
            Arc::new(open(&self.places.boot)?)
        };
        let anew = Arc::new(Site {
            share: Arc::new(open(&self.places.share)?),
            hosts: Arc::new(open(&self.places.hosts)?),
            boot,
            ..Site::clone(&site)
        });
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.0 != ids {
            self.journal
                .note(&"the folders that are served were replaced by others: they are opened anew");
            *current = (ids, Arc::clone(&anew));
        }
        Ok(anew)
    }
}

/// The folders of a root, made and opened.
pub struct Folders {
    pub share: Arc<Dir>,
    pub hosts: Arc<Dir>,
    pub boot: Arc<Dir>,
    pub boot_path: PathBuf,
    places: Places,
    ids: Ids,
}

impl Folders {
    /// Makes what is missing of the layout below `root`. `boot` takes the place of `root`'s own.
    pub fn open(root: &Path, boot: Option<&Path>) -> anyhow::Result<Self> {
        let boot_path = boot.map_or_else(|| root.join("boot"), Path::to_path_buf);
        let places = Places {
            share: root.join("share"),
            hosts: root.join("hosts"),
            boot: boot_path.clone(),
        };
        make(&places.share)?;
        make(&places.hosts)?;
        if boot.is_none() {
            make(&places.boot)?;
        }
        // Before they are opened: one that is replaced in between is noticed at the first request.
        let ids = places.ids()?;
        let share = open(&places.share)?;
        if !MARKERS.iter().any(|marker| share.exists(marker)) {
            let marker = root.join("share").join(MARKERS[0]);
            share
                .write(MARKERS[0], "This folder is the share of pitstop.\n")
                .with_context(|| format!("writing {}", marker.display()))?;
        }
        Ok(Self {
            share: Arc::new(share),
            hosts: Arc::new(open(&places.hosts)?),
            boot: Arc::new(open(&places.boot)?),
            boot_path,
            places,
            ids,
        })
    }

    /// The boot files that machines will ask for and not find.
    pub fn missing_boot_files(&self) -> Vec<&'static str> {
        [KERNEL, INITRAMFS]
            .into_iter()
            .filter(|name| !self.boot.is_file(name))
            .collect()
    }
}

fn make(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))
}

fn open(path: &Path) -> anyhow::Result<Dir> {
    Dir::open_ambient_dir(path, ambient_authority())
        .with_context(|| format!("opening {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_made_once_and_an_old_marker_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path(), None).unwrap();
        assert!(root.path().join("share/pitstop-share").is_file());
        assert_eq!(folders.missing_boot_files(), [KERNEL, INITRAMFS]);

        let old = tempfile::tempdir().unwrap();
        std::fs::create_dir(old.path().join("share")).unwrap();
        std::fs::write(old.path().join("share/testbox-backup"), "").unwrap();
        Folders::open(old.path(), None).unwrap();
        assert!(!old.path().join("share/pitstop-share").exists());

        let error = Folders::open(root.path(), Some(Path::new("/nowhere/out")))
            .err()
            .unwrap();
        assert!(
            format!("{error:#}").starts_with("looking for the folder /nowhere/out: "),
            "{error:#}"
        );
    }
}
