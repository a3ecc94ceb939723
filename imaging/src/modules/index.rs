//! What `depmod` wrote about the modules: `modules.dep`, `.alias`, `.softdep`, `.builtin`; and what the
//! admin says in `modprobe.d` and on the command line. Pure text in, an order of loading out.

use super::glob;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// All modules of one kernel.
#[derive(Debug, Default)]
pub struct Index {
    /// Of each module: its file, and all it needs, in the order of `modules.dep`.
    files: HashMap<String, Entry>,
    /// By what stands before the first `:`, so that a PCI device does not walk all of USB.
    aliases: HashMap<String, Vec<(String, String)>>,
    soft: HashMap<String, Soft>,
    builtin: HashSet<String>,
    /// Whether aliases of what is built in were read.
    tells_built_in: bool,
    /// Not to be loaded for a device; still loaded when asked for by name or needed by another.
    blocked: HashSet<String>,
    options: HashMap<String, Vec<String>>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Relative to the folder of the index.
    file: PathBuf,
    needs: Vec<String>,
}

#[derive(Debug, Default)]
struct Soft {
    before: Vec<String>,
    after: Vec<String>,
}

/// A module that is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub name: String,
    pub file: PathBuf,
    /// `name=value` pairs as for `insmod`.
    pub options: String,
}

impl Index {
    /// Reads the index in `folder`, `/lib/modules/6.1.0-13-amd64`. A file that is missing is an empty one:
    /// a kernel without modules has none of them.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn read(folder: &Path, modprobe_d: &Path, command_line: &str) -> io::Result<Self> {
        let mut index = Self::default();
        index.add_dependencies(&text(&folder.join("modules.dep"))?);
        index.add_builtin(&text(&folder.join("modules.builtin"))?);
        for name in ["modules.alias", "modules.softdep"] {
            index.add_settings(&text(&folder.join(name))?);
        }
        for file in settings_files(modprobe_d)? {
            index.add_settings(&text(&file)?);
        }
        index.add_command_line(command_line);
        Ok(index)
    }

    /// Reads the index of another system's kernel, which says also what is built into it for which devices (since Linux 5.2).
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn of_system(folder: &Path) -> io::Result<Self> {
        let mut index = Self::default();
        index.add_dependencies(&text(&folder.join("modules.dep"))?);
        index.add_builtin(&text(&folder.join("modules.builtin"))?);
        index.add_settings(&text(&folder.join("modules.alias"))?);
        index.add_built_in_aliases(&text(&folder.join("modules.builtin.modinfo"))?);
        Ok(index)
    }

    /// `ahci.alias=pci:v00008086d…`, each with a zero byte behind it (scripts/mod/modpost.c).
    fn add_built_in_aliases(&mut self, text: &str) {
        for field in text.split('\0') {
            let Some((name, pattern)) = field.split_once(".alias=") else {
                continue;
            };
            self.tells_built_in = true;
            let aliases = self.aliases.entry(kind(pattern).to_owned()).or_default();
            aliases.push((pattern.to_owned(), normal(name)));
        }
    }

    /// Whether a driver that no alias leads to is none of the kernel's: what is built in is known, too.
    #[must_use]
    pub fn tells_built_in(&self) -> bool {
        self.tells_built_in
    }

    #[must_use]
    pub fn is_built_in(&self, name: &str) -> bool {
        self.builtin.contains(&normal(name))
    }

    #[must_use]
    pub fn is_module(&self, name: &str) -> bool {
        self.files.contains_key(&normal(name))
    }

    /// `kernel/drivers/net/virtio_net.ko.xz: kernel/net/core/failover.ko.xz`
    fn add_dependencies(&mut self, text: &str) {
        for line in text.lines() {
            let Some((file, needs)) = line.split_once(':') else {
                continue;
            };
            let entry = Entry {
                file: file.trim().into(),
                needs: needs.split_whitespace().filter_map(module_of).collect(),
            };
            if let Some(name) = module_of(file.trim()) {
                self.files.insert(name, entry);
            }
        }
    }

    fn add_builtin(&mut self, text: &str) {
        self.builtin
            .extend(text.lines().filter_map(|line| module_of(line.trim())));
    }

    /// The lines of `modules.alias`, `modules.softdep` and `modprobe.d`: one language.
    fn add_settings(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("alias"), Some(pattern)) => {
                    if let Some(name) = words.next() {
                        self.aliases
                            .entry(kind(pattern).to_owned())
                            .or_default()
                            .push((pattern.to_owned(), normal(name)));
                    }
                }
                (Some("softdep"), Some(name)) => {
                    let soft = self.soft.entry(normal(name)).or_default();
                    let mut after = false;
                    for word in words {
                        match word {
                            "pre:" => after = false,
                            "post:" => after = true,
                            name if after => soft.after.push(normal(name)),
                            name => soft.before.push(normal(name)),
                        }
                    }
                }
                (Some("blacklist"), Some(name)) => {
                    self.blocked.insert(normal(name));
                }
                (Some("options"), Some(name)) => self
                    .options
                    .entry(normal(name))
                    .or_default()
                    .extend(words.map(str::to_owned)),
                _ => {}
            }
        }
    }

    /// `modprobe.blacklist=a,b` and `e1000e.copybreak=0`, as modprobe takes them.
    fn add_command_line(&mut self, text: &str) {
        for word in text.split_whitespace() {
            let Some((key, value)) = word.split_once('=') else {
                continue;
            };
            if matches!(key, "modprobe.blacklist" | "module_blacklist") {
                self.blocked.extend(value.split(',').map(normal));
            } else if let Some((module, option)) = key.split_once('.') {
                self.options
                    .entry(normal(module))
                    .or_default()
                    .push(format!("{option}={value}"));
            }
        }
    }

    /// The modules for a device's `modalias`, without those that the admin blocked.
    pub fn for_device(&self, modalias: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        // Patterns such as `acpi*:LNXSYSTM:*` have a kind with a star.
        for (kind_pattern, aliases) in &self.aliases {
            if !glob::matches(kind_pattern, kind(modalias)) {
                continue;
            }
            for (pattern, name) in aliases {
                if glob::matches(pattern, modalias)
                    && !self.blocked.contains(name)
                    && !names.contains(name)
                {
                    names.push(name.clone());
                }
            }
        }
        names
    }

    /// The modules for what the kernel asks `modprobe` for: a module's name, or an alias.
    pub fn for_request(&self, request: &str) -> Vec<String> {
        let name = normal(request);
        if self.files.contains_key(&name) || self.builtin.contains(&name) {
            return vec![name];
        }
        self.for_device(request)
    }

    /// All that is to be loaded for `name`, in order: soft and hard dependencies, itself, what it wants after
    /// it. Built-in modules need no loading; a soft dependency that is not there is none.
    ///
    /// # Errors
    /// The name of a module that is needed and not there.
    pub fn steps(&self, name: &str) -> Result<Vec<Step>, String> {
        let mut order = Vec::new();
        self.visit(name, &mut HashSet::new(), &mut order)?;
        Ok(order)
    }

    fn visit(
        &self,
        name: &str,
        visited: &mut HashSet<String>,
        order: &mut Vec<Step>,
    ) -> Result<(), String> {
        // Soft dependencies may go in circles: each module is visited once.
        if self.builtin.contains(name) || !visited.insert(name.to_owned()) {
            return Ok(());
        }
        let entry = self.files.get(name).ok_or_else(|| name.to_owned())?;
        let nothing = Soft::default();
        let soft = self.soft.get(name).unwrap_or(&nothing);
        let known = |name: &&String| self.files.contains_key(*name);
        for name in soft.before.iter().filter(known) {
            self.visit(name, visited, order)?;
        }
        // modules.dep lists what is needed deepest last.
        for name in entry.needs.iter().rev() {
            self.visit(name, visited, order)?;
        }
        order.push(Step {
            name: name.to_owned(),
            file: entry.file.clone(),
            options: self
                .options
                .get(name)
                .map(|o| o.join(" "))
                .unwrap_or_default(),
        });
        for name in soft.after.iter().filter(known) {
            self.visit(name, visited, order)?;
        }
        Ok(())
    }
}

fn kind(alias: &str) -> &str {
    alias.split(':').next().unwrap_or(alias)
}

/// `kernel/drivers/net/e1000e/e1000e.ko.xz` is `e1000e`; `None` of what is no module's file.
pub fn module_of(file: &str) -> Option<String> {
    let name = file.rsplit('/').next()?;
    let stem = name.split(".ko").next()?;
    (!stem.is_empty() && name.contains(".ko")).then(|| normal(stem))
}

/// Dashes and underscores are the same in names of modules; the kernel writes underscores.
#[must_use]
pub fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn text(path: &Path) -> io::Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn settings_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEP: &str = "\
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/net/core/failover.ko:
kernel/drivers/scsi/sd_mod.ko.xz: kernel/drivers/scsi/scsi_mod.ko.xz
kernel/fs/ext4/ext4.ko.zst: kernel/fs/mbcache.ko.zst
kernel/fs/mbcache.ko.zst:
kernel/crypto/crc32c_generic.ko.gz:
";

    fn index(settings: &str, command_line: &str) -> Index {
        let mut index = Index::default();
        index.add_dependencies(DEP);
        index.add_builtin("kernel/drivers/scsi/scsi_mod.ko\n");
        index.add_settings(settings);
        index.add_command_line(command_line);
        index
    }

    fn names(index: &Index, module: &str) -> Vec<String> {
        let steps = index.steps(module).unwrap();
        steps.into_iter().map(|step| step.name).collect()
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let index = index("", "");
        assert_eq!(
            names(&index, "virtio_net"),
            ["failover", "net_failover", "virtio_net"]
        );
        let disk = index.steps("sd_mod").unwrap();
        assert_eq!(disk.len(), 1, "scsi_mod is built in");
        assert_eq!(disk[0].file, Path::new("kernel/drivers/scsi/sd_mod.ko.xz"));
        assert_eq!(index.steps("floppy"), Err("floppy".into()));
    }

    #[test]
    fn soft_dependencies_go_before_and_after_and_may_be_missing_or_circular() {
        let index = index(
            "softdep ext4 pre: crc32c-generic nowhere post: sd_mod\nsoftdep sd_mod pre: ext4\n",
            "",
        );
        assert_eq!(
            names(&index, "ext4"),
            ["crc32c_generic", "mbcache", "ext4", "sd_mod"]
        );
    }

    #[test]
    fn devices_find_their_modules_and_the_admin_blocks_some() {
        let settings = "# comment\nalias virtio:d00000001v* virtio_net\nalias virtio:d*v* failover\n\
                        alias acpi*:PNP0A08:* ext4\noptions virtio-net napi_tx=1\n";
        let nic = "virtio:d00000001v00001AF4";
        let open = index(settings, "");
        assert_eq!(open.for_device(nic), ["virtio_net", "failover"]);
        assert_eq!(open.for_device("acpi:PNP0A08:PNP0A03:"), ["ext4"]);
        assert_eq!(open.for_device("pci:v1"), Vec::<String>::new());
        let blocked = index(
            settings,
            "modprobe.blacklist=virtio-net,x virtio_net.csum=0",
        );
        assert_eq!(blocked.for_device(nic), ["failover"]);
        assert_eq!(blocked.for_request("virtio-net"), ["virtio_net"]);
        let step = blocked.steps("virtio_net").unwrap().pop().unwrap();
        assert_eq!(step.options, "napi_tx=1 csum=0");
    }

    #[test]
    fn what_is_built_in_answers_for_its_devices() {
        let mut index = index("", "");
        index.add_built_in_aliases("scsi_mod.license=GPL\0scsi_mod.alias=scsi:t-0x00*\0");
        assert_eq!(index.for_device("scsi:t-0x00"), ["scsi_mod"]);
        assert!(index.tells_built_in() && index.is_built_in("scsi-mod"));
        assert!(index.is_module("virtio-net") && !index.is_module("scsi_mod"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(?s).{0,300}", command_line in ".{0,100}") {
            let mut index = Index::default();
            index.add_dependencies(&text);
            index.add_builtin(&text);
            index.add_settings(&text);
            index.add_command_line(&command_line);
            index.add_built_in_aliases(&text);
            for name in index.files.keys() {
                let _ = index.steps(name);
            }
            let _ = index.for_device(&command_line);
        }
    }
}
