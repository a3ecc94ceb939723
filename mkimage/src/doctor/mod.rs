//! `mkimage doctor`: which of a machine's cards and disk controllers an image drives, and what would drive the others. The
//! machine is not booted: a list of its PCI devices is enough.

mod devices;

use crate::arch::Architecture;
use crate::build::FIRMWARE_SUFFIXES;
use crate::command::DoctorOptions;
use crate::elf;
use crate::input;
use crate::list::{self, Contents};
use crate::modules::classes::Class;
use crate::modules::info::{Info, normal};
use crate::modules::{BUILTIN_ALIASES, Kernel, Wanted};
use anyhow::{Context, Result, ensure};
use devices::{Device, Role};
use pitstop_imaging::modules::firmware;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

/// The drivers of an image or a kernel.
struct Drivers {
    /// What messages call it.
    name: String,
    /// Pattern and module.
    aliases: Vec<(String, String)>,
}

impl Drivers {
    fn of(&self, device: &Device) -> BTreeSet<&str> {
        let fitting = self.aliases.iter().filter(|(alias, _)| device.fits(alias));
        fitting.map(|(_, module)| module.as_str()).collect()
    }
}

/// What becomes of a device.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Driven,
    Lacking,
}

pub fn run(options: &DoctorOptions) -> Result<ExitCode> {
    let image = Image::open(&options.image)?;
    let kernels = options
        .kernel_dir
        .iter()
        .map(|folder| kernels(folder, image.architecture))
        .collect::<Result<Vec<_>>>()?;
    let kernels: Vec<Drivers> = kernels.into_iter().flatten().collect();
    let text = std::fs::read_to_string(&options.machine)
        .with_context(|| format!("reading {}", options.machine.display()))?;
    let devices = devices::read(&text).with_context(|| options.machine.display().to_string())?;
    let mut lacking = 0_usize;
    for device in &devices {
        let Some(role) = device.role() else { continue };
        let (finding, line) = judge(device, role, &image, &kernels);
        say(&line)?;
        lacking += usize::from(finding == Finding::Lacking);
    }
    if lacking > 0 {
        say(&format!(
            "{lacking} of them cannot be used with {}",
            image.drivers.name
        ))?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn say(line: &str) -> Result<()> {
    writeln!(io::stdout(), "{line}").context("writing to standard output")
}

/// What is found of one device, in a sentence.
fn judge(device: &Device, role: Role, image: &Image, kernels: &[Drivers]) -> (Finding, String) {
    let mut line = format!("{role} {device}: ");
    let drivers = image.drivers.of(device);
    if drivers.is_empty() {
        // Writing to a String cannot fail, here and below.
        let _ = write!(line, "no driver in {}", image.drivers.name);
        if role == Role::Unknown {
            line.push_str(" goes by its number; a list by `lspci -nn` has its class too, by which AHCI, NVMe and USB controllers are known");
        }
        let mut others = kernels.iter().filter_map(|kernel| {
            let modules: Vec<&str> = kernel.of(device).into_iter().collect();
            (!modules.is_empty()).then(|| format!("{} has {}", kernel.name, modules.join(", ")))
        });
        match others.next() {
            Some(other) => {
                let _ = write!(line, "; {other}");
            }
            None if kernels.is_empty() => {
                line.push_str("; --kernel-dir looks in other kernels: a newer one may have it (KERNEL=backports)");
            }
            None => line.push_str(", and none in the other kernels"),
        }
        return (Finding::Lacking, line);
    }
    line.push_str(&drivers.iter().copied().collect::<Vec<_>>().join(", "));
    let mut finding = Finding::Driven;
    for module in drivers {
        let missing = image.missing_firmware(module);
        let Some(first) = missing.first() else {
            continue;
        };
        let packages: BTreeSet<&str> = missing
            .iter()
            .filter_map(|file| firmware::package(file))
            .collect();
        let from = match packages.first() {
            Some(package) => {
                format!(": make image FIRMWARE={package} (Debian's firmware-{package})")
            }
            None => String::new(),
        };
        let word = if firmware::is_needed(module) {
            finding = Finding::Lacking;
            "does nothing without"
        } else {
            "may want"
        };
        let _ = write!(
            line,
            "; {module} {word} firmware that is not in the image, {first}{}{from}",
            if missing.len() > 1 {
                format!(" and {} more", missing.len() - 1)
            } else {
                String::new()
            }
        );
    }
    (finding, line)
}

/// An initramfs that is looked at.
struct Image {
    architecture: Architecture,
    drivers: Drivers,
    contents: Contents,
}

impl Image {
    fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let contents = list::contents(&input::read(path)?)
            .with_context(|| format!("{name} is no initramfs"))?;
        let mut aliases = Vec::new();
        let mut has_modules = false;
        for (entry, data) in &contents {
            let file = entry.path.rsplit('/').next().unwrap_or_default();
            if entry.path.starts_with("lib/modules/")
                && ["modules.alias", BUILTIN_ALIASES].contains(&file)
            {
                has_modules = true;
                aliases.extend(String::from_utf8_lossy(data).lines().filter_map(alias));
            }
        }
        ensure!(
            has_modules,
            "{name} has no modules: a kernel with its drivers built in does not tell which they are"
        );
        let init = contents.iter().find(|(entry, _)| entry.path == "init");
        let (_, init) = init.with_context(|| format!("{name} has no init"))?;
        Ok(Self {
            architecture: elf::require_static(init, Path::new("init"))?,
            drivers: Drivers { name, aliases },
            contents,
        })
    }

    /// Files that a module names and the image has not.
    fn missing_firmware(&self, module: &str) -> Vec<String> {
        let is_it = |path: &str| {
            let file = path.rsplit('/').next().unwrap_or_default();
            path.starts_with("lib/modules/")
                && file.split(".ko").next().map(normal).as_deref() == Some(module)
                && file.contains(".ko")
        };
        let found = self.contents.iter().find(|(entry, _)| is_it(&entry.path));
        let Some(Ok((info, _))) = found.map(|(_, data)| Info::read(data)) else {
            return Vec::new();
        };
        let has = |name: &String| {
            FIRMWARE_SUFFIXES.iter().any(|suffix| {
                let path = format!("lib/firmware/{name}{suffix}");
                self.contents.iter().any(|(entry, _)| entry.path == path)
            })
        };
        info.firmware
            .into_iter()
            .filter(|name| !has(name))
            .collect()
    }
}

/// `alias pci:v0000… e1000e`
fn alias(line: &str) -> Option<(String, String)> {
    let mut words = line.strip_prefix("alias ")?.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.to_owned()))
}

/// The drivers of every kernel that lies in a folder, of the classes that go into images.
fn kernels(folder: &Path, architecture: Architecture) -> Result<Vec<Drivers>> {
    let versions = crate::modules::versions_in(folder);
    ensure!(
        !versions.is_empty(),
        "there is no kernel in {}/lib/modules",
        folder.display()
    );
    versions
        .iter()
        .map(|version| {
            let mut kernel = Kernel::open(folder, version, architecture)?;
            let classes: Vec<Class> = Class::ALL
                .into_iter()
                .filter(|class| class.is_on(architecture))
                .collect();
            let selection = kernel.select(&Wanted {
                classes: &classes,
                ..Wanted::default()
            })?;
            let indices = selection.indices.iter();
            let lines = indices
                .filter(|(name, _)| ["modules.alias", BUILTIN_ALIASES].contains(name))
                .flat_map(|(_, text)| text.lines());
            Ok(Drivers {
                name: format!("kernel {version}"),
                aliases: lines.filter_map(alias).collect(),
            })
        })
        .collect()
}
