//! Which of a kernel's modules go in: those asked for, everything they depend on, and the indices that `/init` loads by.
//!
//! Works on a freshly unpacked kernel package: what `depmod` would say is read from the modules themselves.

pub mod classes;
pub mod info;
pub mod pack;

use crate::arch::Architecture;
use anyhow::{Context, Result, bail, ensure};
use classes::Class;
use info::{Info, normal};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Which PCI devices drivers answer to that are part of the kernel itself: nobody loads by it, `doctor` reads it.
pub const BUILTIN_ALIASES: &str = "modules.builtin.alias";

/// Modules of one kernel version, as they lie on disk.
pub struct Kernel {
    pub version: String,
    architecture: Architecture,
    folder: PathBuf,
    /// Normalised name to the files below `folder`.
    paths: BTreeMap<String, String>,
    /// Where the kernel's own package has the module, which tells its class, if another replaces it.
    replaced: BTreeMap<String, String>,
    builtin: BTreeSet<String>,
    infos: BTreeMap<String, Info>,
    /// Alias to module, for the crypto modules that soft dependencies name by what they do.
    crypto: Option<BTreeMap<String, String>>,
}

/// Where modules are, below the version's folder: the kernel's own; those of packages beside it (Fedora's
/// `kernel-modules-extra`, in the same folders); and those that replace others (DKMS). A later one wins, as for depmod.
const FOLDERS: [&str; 3] = ["kernel", "extra", "updates"];

/// One module that goes in.
#[derive(Debug)]
pub struct Chosen {
    /// Below `lib/modules/VERSION/`.
    pub path: String,
    pub source: PathBuf,
    /// It comes plain and goes in compressed.
    pub compress: bool,
}

/// Which modules of a kernel are wanted, and how they are stored.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    pub classes: &'a [Class],
    pub extra: &'a [String],
    pub without: &'a [String],
    /// Compress each module that comes plain: the machine's memory holds all of them, and it loads a few.
    pub compress: bool,
}

/// The modules that go in, with what `/init` and the firmware loader need beside them.
#[derive(Debug)]
pub struct Selection {
    pub modules: Vec<Chosen>,
    /// File name to content: `modules.dep`, `modules.alias`, `modules.softdep`, `modules.builtin`, and [`BUILTIN_ALIASES`].
    pub indices: Vec<(&'static str, String)>,
    /// Below `/lib/firmware`, as the modules name it.
    pub firmware: BTreeSet<String>,
}

impl Kernel {
    /// Looks at `DIR/lib/modules/VERSION` (or `DIR/usr/lib/modules/VERSION`). All modules are to be of `architecture`.
    pub fn open(dir: &Path, version: &str, architecture: Architecture) -> Result<Self> {
        let roots = roots(dir);
        let folder = roots
            .iter()
            .map(|root| root.join(version))
            .find(|f| f.join("kernel").is_dir());
        let Some(folder) = folder else {
            let there = versions(&roots);
            let there = if there.is_empty() {
                "no kernel at all".to_owned()
            } else {
                there.join(", ")
            };
            bail!(
                "no modules of kernel {version} in {}/lib/modules: there is {there}",
                dir.display()
            );
        };
        let mut paths = BTreeMap::new();
        let mut replaced = BTreeMap::new();
        for below in FOLDERS {
            if !folder.join(below).is_dir() {
                continue;
            }
            let mut found = BTreeMap::new();
            collect(&folder, below, &mut found)?;
            for (module, path) in found {
                if let Some(before) = paths.insert(module.clone(), path) {
                    replaced.entry(module).or_insert(before);
                }
            }
        }
        let builtin = std::fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        Ok(Self {
            version: version.to_owned(),
            architecture,
            builtin: builtin.lines().filter_map(name_of).collect(),
            folder,
            paths,
            replaced,
            infos: BTreeMap::new(),
            crypto: None,
        })
    }

    /// Whether it has a module as a file.
    pub fn has(&self, name: &str) -> bool {
        self.paths.contains_key(&normal(name))
    }

    /// What is wanted, with all that it needs.
    pub fn select(&mut self, wanted: &Wanted) -> Result<Selection> {
        let without: BTreeSet<String> = wanted.without.iter().map(|name| normal(name)).collect();
        let mut queue: Vec<String> = Vec::new();
        for (name, path) in &self.paths {
            let path = self.replaced.get(name).unwrap_or(path);
            if wanted.classes.iter().any(|class| class.holds(path)) {
                queue.push(name.clone());
            }
        }
        for name in wanted.extra.iter().map(|name| normal(name)) {
            if !self.paths.contains_key(&name) && !self.builtin.contains(&name) {
                bail!("kernel {} has no module {name}", self.version);
            }
            queue.push(name);
        }
        let mut chosen: BTreeSet<String> = BTreeSet::new();
        while let Some(name) = queue.pop() {
            let builtin = !self.paths.contains_key(&name);
            if builtin || chosen.contains(&name) || without.contains(&name) {
                continue;
            }
            let info = self.info(&name)?;
            for needed in &info.depends {
                if without.contains(needed) {
                    bail!("{name} needs {needed}, which was to be left out: leave {name} out too");
                }
                if !self.paths.contains_key(needed) && !self.builtin.contains(needed) {
                    bail!(
                        "{name} needs module {needed}, which kernel {} has not{}",
                        self.version,
                        self.incomplete()
                    );
                }
                queue.push(needed.clone());
            }
            for soft in info.soft_names() {
                // A soft dependency that is not there is no error: modprobe thinks so too.
                queue.extend(self.providers(soft)?);
            }
            chosen.insert(name);
        }
        self.selection(&chosen, wanted.compress)
    }

    /// What is missing of a kernel whose packages were not all unpacked.
    fn incomplete(&self) -> &'static str {
        if self.folder.join("modules.builtin").is_file() {
            ""
        } else {
            ": its folder has no modules.builtin; unpack the other packages of this kernel there too (Fedora: kernel-core and \
             kernel-modules-core)"
        }
    }

    fn selection(&mut self, chosen: &BTreeSet<String>, compress: bool) -> Result<Selection> {
        let (mut dep, mut alias, mut softdep) = (String::new(), String::new(), String::new());
        let mut firmware = BTreeSet::new();
        let mut modules = Vec::new();
        for name in chosen {
            let as_found = &self.paths[name];
            let source = self.folder.join(as_found);
            let path = pack::path(as_found, compress);
            let plain = path != *as_found;
            write!(dep, "{path}:")?;
            for needed in self.closure(name)? {
                write!(dep, " {}", pack::path(&self.paths[&needed], compress))?;
            }
            dep.push('\n');
            let info = self.info(name)?;
            for pattern in &info.aliases {
                writeln!(alias, "alias {pattern} {name}")?;
            }
            for line in &info.softdeps {
                writeln!(softdep, "softdep {name} {line}")?;
            }
            firmware.extend(info.firmware);
            modules.push(Chosen {
                path,
                source,
                compress: plain,
            });
        }
        let builtin =
            std::fs::read_to_string(self.folder.join("modules.builtin")).unwrap_or_default();
        let indices = vec![
            ("modules.dep", dep),
            ("modules.alias", alias),
            ("modules.softdep", softdep),
            ("modules.builtin", builtin),
            (BUILTIN_ALIASES, self.builtin_aliases()),
        ];
        Ok(Selection {
            modules,
            indices,
            firmware,
        })
    }

    /// From `modules.builtin.modinfo` (kernel Documentation/kbuild/kbuild.rst): `NAME.alias=PATTERN`, each with a zero behind.
    fn builtin_aliases(&self) -> String {
        let bytes = std::fs::read(self.folder.join("modules.builtin.modinfo")).unwrap_or_default();
        let fields = bytes
            .split(|byte| *byte == 0)
            .filter_map(|field| std::str::from_utf8(field).ok());
        let mut text = String::new();
        for (name, pattern) in fields.filter_map(|field| field.split_once(".alias=")) {
            if pattern.starts_with("pci:") {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "alias {pattern} {}", normal(name));
            }
        }
        text
    }

    /// All modules that `name` needs: loaded from the back, each finds its own there, as in depmod's file.
    fn closure(&mut self, name: &str) -> Result<Vec<String>> {
        let mut done = Vec::new();
        self.visit(name, &mut Vec::new(), &mut done)?;
        done.pop();
        done.reverse();
        Ok(done)
    }

    /// Depth first: `done` gets what `name` needs, then `name`. `open` is the way from the first one to here.
    fn visit(&mut self, name: &str, open: &mut Vec<String>, done: &mut Vec<String>) -> Result<()> {
        if done.iter().any(|one| one == name) || !self.paths.contains_key(name) {
            return Ok(());
        }
        let circle = open.iter().any(|one| one == name);
        open.push(name.to_owned());
        if circle {
            bail!("modules need each other in a circle: {}", open.join(", "));
        }
        for needed in self.info(name)?.depends {
            self.visit(&needed, open, done)?;
        }
        open.pop();
        done.push(name.to_owned());
        Ok(())
    }

    fn info(&mut self, name: &str) -> Result<Info> {
        if let Some(info) = self.infos.get(name) {
            return Ok(info.clone());
        }
        let path = self
            .paths
            .get(name)
            .with_context(|| format!("no module {name}"))?;
        let file = self.folder.join(path);
        let data = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let (info, machine) =
            Info::read(&data).with_context(|| format!("module {}", file.display()))?;
        ensure!(
            machine == self.architecture.elf(),
            "module {} is not for {}, as the init is (ELF machine {machine}): give the kernel of its architecture",
            file.display(),
            self.architecture
        );
        self.infos.insert(name.to_owned(), info.clone());
        Ok(info)
    }

    /// Modules that answer to `name`: the module itself, or crypto modules by alias (`crc32c`, `crypto-crc32c`).
    fn providers(&mut self, name: &str) -> Result<Vec<String>> {
        let name = normal(name);
        if self.paths.contains_key(&name) {
            return Ok(vec![name]);
        }
        if self.crypto.is_none() {
            let folders = ["kernel/crypto/", self.architecture.crypto_folder()];
            let names: Vec<String> = self
                .paths
                .iter()
                .filter(|(_, path)| folders.iter().any(|folder| path.starts_with(folder)))
                .map(|(name, _)| name.clone())
                .collect();
            let mut crypto = BTreeMap::new();
            for module in names {
                for alias in self.info(&module)?.aliases {
                    crypto.insert(format!("{}\0{module}", normal(&alias)), module.clone());
                }
            }
            self.crypto = Some(crypto);
        }
        let prefix = format!("{name}\0");
        let answering = self
            .crypto
            .iter()
            .flatten()
            .filter(|(alias, _)| alias.starts_with(&prefix));
        Ok(answering.map(|(_, module)| module.clone()).collect())
    }
}

/// `kernel/drivers/net/mii.ko.xz` is called `mii`.
fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let stem = file.strip_suffix(".ko").or_else(|| {
        [".ko.xz", ".ko.zst", ".ko.gz"]
            .iter()
            .find_map(|suffix| file.strip_suffix(suffix))
    })?;
    Some(normal(stem))
}

fn collect(root: &Path, below: &str, paths: &mut BTreeMap<String, String>) -> Result<()> {
    let folder = root.join(below);
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
        let name = entry.file_name();
        let name = name
            .to_str()
            .with_context(|| format!("{} is not UTF-8", entry.path().display()))?;
        let path = format!("{below}/{name}");
        if entry.file_type()?.is_dir() {
            collect(root, &path, paths)?;
        } else if let Some(module) = name_of(&path) {
            paths.insert(module, path);
        }
    }
    Ok(())
}

/// The kernels that lie in a folder, as [`Kernel::open`] finds them.
pub fn versions_in(dir: &Path) -> Vec<String> {
    versions(&roots(dir))
}

fn roots(dir: &Path) -> [PathBuf; 2] {
    [dir.join("lib/modules"), dir.join("usr/lib/modules")]
}

fn versions(roots: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = roots
        .iter()
        .filter_map(|root| std::fs::read_dir(root).ok())
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("kernel").is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files_of_every_compression() {
        assert_eq!(name_of("kernel/a/snd-pcm.ko"), Some("snd_pcm".into()));
        assert_eq!(name_of("kernel/a/mii.ko.zst"), Some("mii".into()));
        assert_eq!(name_of("kernel/a/Makefile"), None);
    }
}
