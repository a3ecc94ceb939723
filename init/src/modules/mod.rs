//! Kernel modules, as `modprobe` and `udev` would load them.

pub mod devices;
mod load;
mod uevent;

use crate::console::command_line;
use anyhow::Context;
use nix::sys::utsname::uname;
use pitstop_imaging::modules::Index;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What the admin says about modules.
const MODPROBE_D: &str = "/etc/modprobe.d";

/// How loading a module went: known to all who asked for it.
type Once = Arc<OnceLock<Result<(), String>>>;

/// The modules of one kernel, each loaded at most once, from as many threads as may be.
pub struct Modules {
    folder: PathBuf,
    index: Index,
    loaded: Mutex<HashMap<String, Once>>,
}

impl Modules {
    /// Those in `/lib/modules` for the kernel that runs.
    pub fn of_this_kernel() -> anyhow::Result<Self> {
        let release = uname().context("asking the kernel for its version")?;
        let folder = Path::new("/lib/modules").join(release.release());
        let index = Index::read(&folder, Path::new(MODPROBE_D), &command_line())
            .with_context(|| format!("reading the module index in {}", folder.display()))?;
        Ok(Self {
            folder,
            index,
            loaded: Mutex::default(),
        })
    }

    /// The modules that a device's `modalias` asks for.
    pub fn for_device(&self, modalias: &str) -> Vec<String> {
        self.index.for_device(modalias)
    }

    /// Loads a module and all it needs. A second call waits for the first and says the same.
    pub fn load(&self, name: &str) -> anyhow::Result<()> {
        let steps = self.index.steps(name).map_err(|missing| {
            anyhow::anyhow!("loading the module {name}: {missing} is not in the initramfs")
        })?;
        for step in steps {
            let once = {
                let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(loaded.entry(step.name.clone()).or_default())
            };
            once.get_or_init(|| {
                load::load(&self.folder, &step).map_err(|error| format!("{error:#}"))
            })
            .clone()
            .map_err(anyhow::Error::msg)?;
        }
        Ok(())
    }
}

/// Puts this program where the kernel looks for `modprobe`, unless the admin has put another one there.
pub fn answer_the_kernel() -> anyhow::Result<()> {
    const MODPROBE: &str = "/sbin/modprobe";
    if fs::symlink_metadata(MODPROBE).is_ok() {
        return Ok(());
    }
    fs::create_dir_all("/sbin")
        .and_then(|()| symlink("/init", MODPROBE))
        .with_context(|| format!("linking {MODPROBE}"))
}

/// What the kernel calls as `/sbin/modprobe` when it wants a file system or a cipher.
pub fn modprobe(requests: &[String]) -> ExitCode {
    let outcome = Modules::of_this_kernel().and_then(|modules| {
        for request in requests {
            for name in modules.index.for_request(request) {
                modules.load(&name)?;
            }
        }
        Ok(())
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("modprobe: {error:#}");
            ExitCode::FAILURE
        }
    }
}
