//! The process that gives each device its driver: first those that are there (coldplug), then those that
//! appear, for as long as the machine is up. A driver that hangs or crashes takes only this process along.

use super::Modules;
use super::uevent;
use crate::console::{Consoles, boot_parameters};
use netlink_sys::protocols::NETLINK_KOBJECT_UEVENT;
use netlink_sys::{Socket, SocketAddr};
use pitstop_imaging::event::Reporter;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};
use std::{fs, io};

/// The group that the kernel itself sends to; 2 is udevd's.
const KERNEL_GROUP: u32 = 1;

/// Events of a whole bus may come at once.
const SOCKET_BYTES: u32 = 4 << 20;

/// Probing waits for hardware more than for the processor.
const LOADERS: usize = 4;

/// Runs until PID 1 ends it. Writes a line to standard output once all devices that were there at the
/// beginning have been dealt with.
pub fn run() -> ExitCode {
    let consoles = Consoles::open(&boot_parameters());
    let modules = match Modules::of_this_kernel() {
        Ok(modules) => modules,
        Err(error) => {
            consoles.error(format!("no drivers can be loaded: {error:#}"));
            return ExitCode::FAILURE;
        }
    };
    // Opened before the first look, so that no device falls in between.
    let socket = listen();
    // A driver makes devices of its own, a bus behind a bus: until a look finds nothing new.
    let mut known = BTreeSet::new();
    loop {
        let fresh = &present(Path::new("/sys")) - &known;
        if fresh.is_empty() {
            break;
        }
        consoles.debug(format!("{} kinds of devices ask for drivers", fresh.len()));
        coldplug(&modules, &fresh, &consoles);
        known.extend(fresh);
    }
    let mut out = io::stdout();
    // The worker waits for this line or for the end of the pipe.
    let _ = out.write_all(b"settled\n").and_then(|()| out.flush());
    match socket {
        Ok(socket) => follow(&socket, &modules, &consoles),
        Err(error) => {
            consoles.warn(format!(
                "devices that appear later get no driver: listening to the kernel: {error}"
            ));
            ExitCode::FAILURE
        }
    }
}

fn listen() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_KOBJECT_UEVENT)?;
    socket.set_rx_buf_sz(SOCKET_BYTES)?;
    socket.bind(&SocketAddr::new(0, KERNEL_GROUP))?;
    Ok(socket)
}

/// The `modalias` of every device of every bus, each once.
fn present(sysfs: &Path) -> BTreeSet<String> {
    let mut aliases = BTreeSet::new();
    for bus in entries(&sysfs.join("bus")) {
        for device in entries(&bus.join("devices")) {
            // A device without one needs none, and one that went away meanwhile neither.
            if let Ok(alias) = fs::read_to_string(device.join("modalias")) {
                let alias = alias.trim();
                if !alias.is_empty() {
                    aliases.insert(alias.to_owned());
                }
            }
        }
    }
    aliases
}

fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

fn coldplug(modules: &Modules, devices: &BTreeSet<String>, consoles: &Consoles) {
    let (sender, queue) = channel();
    for name in devices.iter().flat_map(|alias| modules.for_device(alias)) {
        // The receiver lives until the end of this function.
        let _ = sender.send(name);
    }
    drop(sender);
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        start_loaders(scope, &queue, modules, consoles);
    });
}

/// Each loads what the queue gives, until its other end is gone.
fn start_loaders<'scope>(
    scope: &'scope Scope<'scope, '_>,
    queue: &'scope Mutex<Receiver<String>>,
    modules: &'scope Modules,
    consoles: &'scope Consoles,
) {
    for _ in 0..LOADERS {
        scope.spawn(|| {
            while let Some(name) = next(queue) {
                load(modules, &name, consoles);
            }
        });
    }
}

fn next(queue: &Mutex<Receiver<String>>) -> Option<String> {
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    queue.recv().ok()
}

fn load(modules: &Modules, name: &str, consoles: &Consoles) {
    if let Err(error) = modules.load(name) {
        consoles.warn(format!("{error:#}"));
    }
}

/// Modules for the devices that appear, each in the background: a slow one does not hold up the others.
fn follow(socket: &Socket, modules: &Modules, consoles: &Consoles) -> ExitCode {
    let (sender, queue) = channel();
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        start_loaders(scope, &queue, modules, consoles);
        // Moved in, so that its end ends the loaders.
        let sender = sender;
        loop {
            let datagram = match socket.recv_from_full() {
                Ok((datagram, from)) if from.port_number() == 0 => datagram,
                // Only the kernel has port 0; others have no say.
                Ok(_) => continue,
                Err(error) if overrun(&error) => {
                    for name in present(Path::new("/sys"))
                        .iter()
                        .flat_map(|alias| modules.for_device(alias))
                    {
                        let _ = sender.send(name);
                    }
                    continue;
                }
                Err(error) => {
                    consoles.warn(format!("listening to the kernel for new devices: {error}"));
                    return ExitCode::FAILURE;
                }
            };
            let Some(event) = uevent::parse(&datagram) else {
                continue;
            };
            if let ("add" | "change", Some(alias)) = (event.action, event.modalias) {
                for name in modules.for_device(alias) {
                    let _ = sender.send(name);
                }
            }
        }
    })
}

/// More events came than the socket holds (ENOBUFS): what they said is looked up instead.
fn overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS) || error.kind() == io::ErrorKind::Interrupted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_buses_are_asked_and_equal_devices_once() {
        let sysfs = tempfile::tempdir().unwrap();
        for (device, alias) in [
            ("bus/pci/devices/0000:00:03.0", "pci:v1\n"),
            ("bus/pci/devices/0000:00:04.0", "pci:v1\n"),
            ("bus/virtio/devices/virtio0", "virtio:d1\n"),
            ("bus/cpu/devices/cpu0", "\n"),
        ] {
            let folder = sysfs.path().join(device);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("modalias"), alias).unwrap();
        }
        fs::create_dir_all(sysfs.path().join("bus/pci/devices/bare")).unwrap();
        let found: Vec<String> = present(sysfs.path()).into_iter().collect();
        assert_eq!(found, ["pci:v1", "virtio:d1"]);
    }
}
