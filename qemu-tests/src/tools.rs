//! Running the system's programs. A missing one is an error that names its Debian package, never a skipped test.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Programs the tests use and the Debian packages that have them.
const PACKAGES: &[(&str, &str)] = &[
    ("aarch64-linux-gnu-objcopy", "binutils-aarch64-linux-gnu"),
    ("age", "age"),
    ("age-keygen", "age"),
    ("bsdcat", "libarchive-tools"),
    ("busybox", "busybox-static"),
    ("cp", "coreutils"),
    ("cryptsetup", "cryptsetup-bin"),
    ("debugfs", "e2fsprogs"),
    ("depmod", "kmod"),
    ("dnsmasq", "dnsmasq-base"),
    ("dhcpd", "isc-dhcp-server"),
    ("dropbear", "dropbear-bin"),
    ("dumpe2fs", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("extlinux", "extlinux"),
    ("ganesha.nfsd", "nfs-ganesha nfs-ganesha-vfs"),
    ("ip", "iproute2"),
    ("ipmi_sim", "openipmi ipmitool"),
    ("kea-dhcp4", "kea-dhcp4-server"),
    ("lvm", "lvm2"),
    ("mcopy", "mtools"),
    ("mke2fs", "e2fsprogs"),
    ("minisign", "minisign"),
    ("mkfs.vfat", "dosfstools"),
    ("mkfs.xfs", "xfsprogs"),
    ("mkswap", "util-linux"),
    ("mmd", "mtools"),
    ("mmdebstrap", "mmdebstrap"),
    ("modprobe", "kmod"),
    ("mount", "mount"),
    ("nginx", "nginx-light"),
    ("nsenter", "util-linux"),
    ("objcopy", "binutils"),
    ("openssl", "openssl"),
    ("parted", "parted"),
    ("qemu-system-aarch64", "qemu-system-arm qemu-efi-aarch64"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("resize2fs", "e2fsprogs"),
    ("rpcbind", "rpcbind"),
    ("setpriv", "util-linux"),
    ("sfdisk", "fdisk"),
    ("sgdisk", "gdisk"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("umount", "mount"),
    ("unshare", "util-linux"),
    ("xfs_growfs", "xfsprogs"),
    ("xfs_repair", "xfsprogs"),
    ("zcat", "gzip"),
];

/// Where administrators' programs are when `PATH` leaves them out.
const FOLDERS: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// The path of a program.
pub fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
    for folder in folders {
        let candidate = folder.join(program);
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    let package = PACKAGES
        .iter()
        .find(|(name, _)| *name == program)
        .map_or(program, |(_, package)| package);
    bail!("{program} is not installed: `apt-get install {package}`")
}

/// A file that a package brings; an error that names the package when it is not there.
pub fn packaged(path: &str, package: &str) -> Result<PathBuf> {
    let path = PathBuf::from(path);
    if path.exists() {
        return Ok(path);
    }
    bail!("{} is missing: `apt-get install {package}`", path.display())
}

/// A command that the kernel ends when the thread that starts it ends, however it ends: no test, and no demo
/// stopped by Ctrl-C, leaves a server or a machine running.
pub fn command(program: &str) -> Result<Command> {
    wrapped(&find(program)?)
}

/// As [`command`], for a program of ours.
pub fn wrapped(program: &Path) -> Result<Command> {
    let mut command = Command::new(find("setpriv")?);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    Ok(command)
}

/// Runs a program to its end and returns what it printed; an error has what it complained of.
pub fn run<A: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<String> {
    let mut command = Command::new(find(program)?);
    command.args(arguments).stdin(Stdio::null());
    output(&mut command)
}

/// Runs a prepared command to its end; see [`run`].
pub fn output(command: &mut Command) -> Result<String> {
    let said = format!("{command:?}");
    let result = command
        .output()
        .with_context(|| format!("running {said}"))?;
    let stdout = String::from_utf8_lossy(&result.stdout).into_owned();
    if !result.status.success() {
        let stderr = String::from_utf8_lossy(&result.stderr);
        bail!("{said}: {}\n{stdout}{stderr}", result.status);
    }
    Ok(stdout)
}
