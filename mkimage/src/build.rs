//! `mkimage build`: from options to one file that is whole or not there at all.

use crate::arch::Architecture;
use crate::command::{BuildOptions, Drivers};
use crate::elf;
use crate::input;
use crate::modules::{Kernel, Selection, Wanted, pack};
use crate::output;
use crate::tree::{Node, Tree};
use crate::weigh;
use anyhow::{Context, Result, bail};
use pitstop_protocol::job::beside::SIGNATURE;
use pitstop_protocol::job::{JobKey, JobKeys};
use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub fn run(options: &BuildOptions) -> Result<()> {
    let mut tree = Tree::new();
    skeleton(&mut tree)?;
    let (built, architecture) = add_init(&mut tree, &options.init)?;
    let missing = match &options.kernel_version {
        Some(version) => add_modules(&mut tree, options, version, architecture)?,
        None if options.modules.is_empty() => Vec::new(),
        None => bail!(
            "--module {} needs --kernel-version",
            options.modules.join(" --module ")
        ),
    };
    add_rescue(&mut tree, options, architecture)?;
    add_configuration(&mut tree, options, built)?;
    add_extras(&mut tree, options, architecture)?;

    let archive = tree.archive(u32::try_from(built).unwrap_or(0))?;
    let packed = output::write_whole(&options.output, |file| {
        options.compress.compress(&archive, architecture, file)
    })?;

    let mut told = weigh::table(&weigh::weigh(tree.contents())?);
    if !missing.is_empty() {
        let folders: Vec<String> = options
            .firmware
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        let folder = folders.join(", ");
        // Writing to a String cannot fail.
        let _ = writeln!(
            told,
            "not in {folder}: {} firmware files that modules name (--verbose lists them)",
            missing.len()
        );
        for name in missing.iter().filter(|_| options.verbose) {
            let _ = writeln!(told, "  {name}");
        }
    }
    let _ = writeln!(told, "{}: {}", options.output.display(), weigh::kib(packed));
    output::tell(&told);
    Ok(())
}

/// The folders and devices that must be there before anything is mounted.
fn skeleton(tree: &mut Tree) -> Result<()> {
    for folder in [
        "bin", "dev", "etc", "lib", "mnt", "proc", "run", "sbin", "sys", "usr/sbin", "var",
    ] {
        tree.folder(folder, 0o755)?;
    }
    tree.folder("root", 0o700)?;
    tree.folder("tmp", 0o1777)?;
    tree.add("dev/console", 0o600, Node::Device(5, 1))?;
    tree.add("dev/null", 0o666, Node::Device(1, 3))?;
    let text = |text: &str| Node::File(text.as_bytes().to_vec());
    // No password opens root: SSH takes keys alone, and the consoles ask for none.
    tree.add("etc/passwd", 0o644, text("root:x:0:0:root:/root:/bin/sh\n"))?;
    tree.add("etc/shadow", 0o600, text("root:*:19000:0:99999:7:::\n"))?;
    tree.add("etc/group", 0o644, text("root:x:0:\n"))?;
    tree.add("etc/shells", 0o644, text("/bin/sh\n"))?;
    Ok(())
}

/// Returns when the image counts as built: `SOURCE_DATE_EPOCH`, else the init's modification time (Unix seconds). And which
/// machines it is for: those of the init.
fn add_init(tree: &mut Tree, init: &Path) -> Result<(u64, Architecture)> {
    let data = input::read(init)?;
    let architecture = elf::require_static(&data, init)?;
    tree.add("init", 0o755, Node::File(data))?;
    let built = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH={text} is no Unix time"))?,
        Err(_) => u64::try_from(std::fs::metadata(init)?.mtime()).unwrap_or(0),
    };
    Ok((built, architecture))
}

/// The kernel unpacks them itself (`CONFIG_FW_LOADER_COMPRESS`).
pub const FIRMWARE_SUFFIXES: [&str; 3] = ["", ".xz", ".zst"];

/// Returns the firmware files that the modules name and nobody has.
fn add_modules(
    tree: &mut Tree,
    options: &BuildOptions,
    version: &str,
    architecture: Architecture,
) -> Result<Vec<String>> {
    let mut kernel = Kernel::open(&options.kernel_dir, version, architecture)?;
    let mut classes: Vec<_> = options
        .drivers
        .iter()
        .flat_map(|driver: &Drivers| driver.classes())
        .filter(|class| class.is_on(architecture))
        .collect();
    classes.sort_unstable();
    classes.dedup();
    let mut extra = options.modules.clone();
    extra.extend(modules_for(&options.programs, &kernel));
    let selection = kernel.select(&Wanted {
        classes: &classes,
        extra: &extra,
        without: &options.without,
        compress: !options.plain_modules,
    })?;
    let folder = format!("lib/modules/{}", kernel.version);
    for (path, data) in pack::read_all(&selection.modules)? {
        tree.add(&format!("{folder}/{path}"), 0o644, Node::File(data))?;
    }
    for (name, content) in &selection.indices {
        tree.add(
            &format!("{folder}/{name}"),
            0o644,
            Node::File(content.clone().into_bytes()),
        )?;
    }
    add_firmware(tree, &selection, &options.firmware)
}

/// Programs that can do nothing without modules of the kernel, and these. A cipher has several: the plain ones, and those that use
/// what a processor has for it. What a capture reads of arrays, volumes and LUKS it sees through loop devices.
const PROGRAM_MODULES: [(&str, &str); 10] = [
    ("mdadm", "raid1"),
    ("mdadm", "loop"),
    ("lvm", "dm_mod"),
    ("lvm", "loop"),
    ("cryptsetup", "loop"),
    ("cryptsetup", "dm_crypt"),
    ("cryptsetup", "xts"),
    ("cryptsetup", "ecb"),
    ("cryptsetup", "aesni_intel"),
    ("cryptsetup", "aes_ce_blk"),
];

/// What the programs need, if the kernel has it as a module.
fn modules_for(programs: &[PathBuf], kernel: &Kernel) -> Vec<String> {
    let is_there = |name: &str| {
        let mut names = programs.iter().filter_map(|program| program.file_name());
        names.any(|program| program == name)
    };
    let needed = PROGRAM_MODULES.iter();
    needed
        .filter(|(program, module)| is_there(program) && kernel.has(module))
        .map(|(_, module)| (*module).to_owned())
        .collect()
}

fn add_firmware(
    tree: &mut Tree,
    selection: &Selection,
    folders: &[PathBuf],
) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for name in &selection.firmware {
        let mut places = folders.iter().flat_map(|folder| {
            FIRMWARE_SUFFIXES.map(|suffix| (suffix, folder.join(format!("{name}{suffix}"))))
        });
        let found = places
            .find(|(_, file)| file.is_file())
            .map(|(suffix, file)| (format!("lib/firmware/{name}{suffix}"), file));
        match found {
            Some((inside, file)) => tree.add_file(&inside, 0o644, &file)?,
            None => missing.push(name.clone()),
        }
    }
    Ok(missing)
}

fn add_rescue(tree: &mut Tree, options: &BuildOptions, architecture: Architecture) -> Result<()> {
    if let Some(busybox) = &options.busybox {
        let data = input::read(busybox)?;
        let built_for = elf::require_static(&data, busybox)?;
        elf::require(architecture, built_for, busybox)?;
        tree.add("bin/busybox", 0o755, Node::File(data))?;
        // The other commands are linked by `busybox --install` when a shell is wanted.
        tree.add("bin/sh", 0o777, Node::Link("busybox".into()))?;
    }
    if let Some(dropbear) = &options.dropbear {
        add_program(tree, dropbear, Some("/usr/sbin/dropbear"), architecture)?;
    }
    if !options.authorized_keys.is_empty() {
        let mut keys = Vec::new();
        for file in &options.authorized_keys {
            let text = input::text(file)?;
            if !text
                .lines()
                .any(|line| line.contains("ssh-") || line.contains("ecdsa-"))
            {
                bail!("{} holds no SSH public key", file.display());
            }
            keys.extend_from_slice(text.trim_end().as_bytes());
            keys.push(b'\n');
        }
        tree.folder("root/.ssh", 0o700)?;
        tree.add("root/.ssh/authorized_keys", 0o600, Node::File(keys))?;
    }
    Ok(())
}

fn add_keys(tree: &mut Tree, folder: &str, keys: &[(Vec<u8>, JobKey)]) -> Result<()> {
    for (number, (data, _)) in keys.iter().enumerate() {
        let inside = format!("etc/pitstop/{folder}/{number:02}.pub");
        tree.add(&inside, 0o644, Node::File(data.clone()))?;
    }
    Ok(())
}

fn add_configuration(tree: &mut Tree, options: &BuildOptions, built: u64) -> Result<()> {
    tree.add(
        "etc/pitstop/build-time",
        0o644,
        Node::File(format!("{built}\n").into_bytes()),
    )?;
    if let Some(param) = options
        .params
        .iter()
        .find(|param| param.contains('\n') || param.is_empty())
    {
        bail!("--param {param:?} is no kernel parameter");
    }
    if !options.params.is_empty() {
        let line = options.params.join(" ") + "\n";
        tree.add("etc/pitstop/params", 0o644, Node::File(line.into_bytes()))?;
    }
    let line = input::parameters("--param", &options.params.join(" "))?;
    let image_keys = input::keys("--image-key", &options.image_key)?;
    add_keys(tree, "image-keys", &image_keys)?;
    let keys = input::keys("--job-key", &options.job_key)?;
    add_keys(tree, "job-keys", &keys)?;
    let keys = JobKeys::new(keys.into_iter().map(|(_, key)| key).collect());
    if keys.is_some() {
        input::no_job(&line)?;
    }
    if let Some(file) = &options.host_file {
        let data = input::host_file(file, &line)?;
        if let Some(keys) = &keys {
            let signature = input::signature(file, &data, keys)?;
            tree.add(
                &format!("etc/pitstop/host.toml{SIGNATURE}"),
                0o600,
                Node::File(signature),
            )?;
        }
        tree.add("etc/pitstop/host.toml", 0o600, Node::File(data))?;
    }
    for (number, file) in options.ca.iter().enumerate() {
        let data = input::certificates(file)?;
        let inside = format!("etc/pitstop/ca/{number:02}.pem");
        tree.add(&inside, 0o644, Node::File(data))?;
    }
    if let Some(file) = &options.pci_ids {
        tree.add_file("usr/share/misc/pci.ids", 0o644, file)?;
    }
    Ok(())
}

fn add_extras(tree: &mut Tree, options: &BuildOptions, architecture: Architecture) -> Result<()> {
    for program in &options.programs {
        add_program(tree, program, None, architecture)?;
    }
    for spec in &options.files {
        let parts: Vec<&str> = spec.split(':').collect();
        let (source, dest, mode) = match parts.as_slice() {
            [source, dest] => (source, dest, None),
            [source, dest, mode] => (source, dest, Some(mode)),
            _ => bail!("--file {spec:?}: write SOURCE:/DEST or SOURCE:/DEST:MODE"),
        };
        let mode = match mode {
            Some(mode) => u32::from_str_radix(mode, 8)
                .ok()
                .filter(|mode| *mode <= 0o7777)
                .with_context(|| format!("--file {spec:?}: {mode:?} is no octal mode"))?,
            None => {
                std::fs::metadata(source)
                    .with_context(|| format!("reading {source}"))?
                    .permissions()
                    .mode()
                    & 0o777
            }
        };
        tree.add_file(dest, mode, Path::new(source))?;
    }
    Ok(())
}

/// A program at its own path (or at `dest`), with every library it needs at theirs.
fn add_program(
    tree: &mut Tree,
    program: &Path,
    dest: Option<&str>,
    architecture: Architecture,
) -> Result<()> {
    let program = std::path::absolute(program)?;
    for (inside, source) in elf::with_libraries(&program, architecture)? {
        let inside = if source == program {
            dest.unwrap_or(&inside).to_owned()
        } else {
            inside
        };
        tree.add_file(&inside, 0o755, &source)?;
    }
    Ok(())
}
