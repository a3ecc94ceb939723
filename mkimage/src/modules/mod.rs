//! Which of a kernel's modules go in: those asked for, everything they depend on, and the indices that `/init` loads by.
//!
//! Works on a freshly unpacked kernel package: what `depmod` would say is read from the modules themselves.

pub mod classes;
mod info;
pub mod pack;

use anyhow::{Context, Result, bail};
use classes::Class;
use info::{Info, normal};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Modules of one kernel version, as they lie on disk.
pub struct Kernel {
    pub version: String,
    folder: PathBuf,
    /// Normalised name to path below `folder`.
    paths: BTreeMap<String, String>,
    builtin: BTreeSet<String>,
    infos: BTreeMap<String, Info>,
    /// Alias to module, for the crypto modules that soft dependencies name by what they do.
    crypto: Option<BTreeMap<String, String>>,
}

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
    /// File name to content: `modules.dep`, `modules.alias`, `modules.softdep`, `modules.builtin`.
    pub indices: Vec<(&'static str, String)>,
    /// Below `/lib/firmware`, as the modules name it.
    pub firmware: BTreeSet<String>,
}

impl Kernel {
    /// Looks at `DIR/lib/modules/VERSION` (or `DIR/usr/lib/modules/VERSION`).
    pub fn open(dir: &Path, version: &str) -> Result<Self> {
        let roots = [dir.join("lib/modules"), dir.join("usr/lib/modules")];
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
        collect(&folder, "kernel", &mut paths)?;
        let builtin = std::fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        Ok(Self {
            version: version.to_owned(),
            builtin: builtin.lines().filter_map(name_of).collect(),
            folder,
            paths,
            infos: BTreeMap::new(),
            crypto: None,
        })
    }

    /// What is wanted, with all that it needs.
    pub fn select(&mut self, wanted: &Wanted) -> Result<Selection> {
        let without: BTreeSet<String> = wanted.without.iter().map(|name| normal(name)).collect();
        let mut queue: Vec<String> = Vec::new();
        for (name, path) in &self.paths {
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
                        "{name} needs module {needed}, which kernel {} has not",
                        self.version
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
        ];
        Ok(Selection {
            modules,
            indices,
            firmware,
        })
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
        let info = Info::read(&data).with_context(|| format!("module {}", file.display()))?;
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
            let folders = ["kernel/crypto/", "kernel/arch/x86/crypto/"];
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
