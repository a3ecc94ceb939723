//! A server, an image on its share, and machines that get it together: real programs, on the loopback or each in a
//! network of its own with a link of a given rate. Needs root, `ip` and `tc`; fails without them.
#![allow(dead_code, reason = "each test program uses a part of what they share")]

use super::common::{pitstop, run};
use pitstop_testing::running::Running;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long what takes seconds may take on a busy computer.
pub const PATIENCE: Duration = Duration::from_secs(300);

pub const MIB: usize = 1 << 20;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A disk of `data` MiB that do not compress and as many zeros in between, and its image on the share of `root`.
pub fn image(root: &Path, data: usize) -> Vec<u8> {
    let mut raw = vec![0; 2 * data * MIB];
    let mut noise = blake3::Hasher::new().update(b"relay").finalize_xof();
    for (number, piece) in raw.chunks_mut(4 * MIB).enumerate() {
        if number % 2 == 0 {
            noise.fill(piece);
        }
    }
    let disk = root.join("disk");
    fs::write(&disk, &raw).unwrap();
    let folder = root.join("share/golden");
    fs::create_dir_all(&folder).unwrap();
    let image = folder.join("sda.raw.gz");
    let made = run(&[
        "backup",
        disk.to_str().unwrap(),
        image.to_str().unwrap(),
        "--exact",
    ]);
    let errors = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{errors}");
    raw
}

/// Where [`tree`] puts the image.
pub const TREE: &str = "share/trees/web/1.tar.gz";

/// A tree with `data` files of a MiB that do not compress, and its image on the share of `root`.
pub fn tree(root: &Path, data: usize) -> Vec<u8> {
    let mut raw = vec![0; data * MIB];
    let mut noise = blake3::Hasher::new().update(b"tree").finalize_xof();
    noise.fill(&mut raw);
    let folder = root.join("golden");
    fs::create_dir_all(folder.join("noise")).unwrap();
    for (number, piece) in raw.chunks(MIB).enumerate() {
        fs::write(folder.join(format!("noise/{number}")), piece).unwrap();
    }
    for (file, text) in [("etc/fstab", ""), ("sbin/init", "#!/bin/sh\n")] {
        let file = folder.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let all = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.join("sbin/init"), all).unwrap();
    fs::create_dir_all(root.join("share")).unwrap();
    let made = run(&[
        "tree",
        "import",
        folder.to_str().unwrap(),
        "web@1",
        "--share",
        root.join("share").to_str().unwrap(),
    ]);
    let errors = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{errors}");
    raw
}

/// Whether a folder has the files of [`tree`].
pub fn has_tree(folder: &Path, raw: &[u8]) -> bool {
    let mut pieces = raw.chunks(MIB).enumerate();
    pieces.all(|(number, piece)| {
        let file = fs::read(folder.join(format!("noise/{number}")));
        file.is_ok_and(|file| file == piece)
    })
}

/// A program whose words are kept.
pub struct Program {
    child: Running,
    said: Arc<Mutex<String>>,
}

impl Program {
    pub fn start(mut command: Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Running::new(child);
        let said = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        for stream in streams {
            let said = Arc::clone(&said);
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let mut said = said.lock().unwrap();
                    said.push_str(&line);
                    said.push('\n');
                }
            });
        }
        Self { child, said }
    }

    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub fn wait_for(&self, words: &str) {
        let began = Instant::now();
        while !self.said().contains(words) {
            assert!(
                began.elapsed() < PATIENCE,
                "{words:?} is not in:\n{}",
                self.said()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn kill(&mut self) {
        self.child.end();
    }

    /// Waits for the end; whether it is well.
    pub fn ends_well(&mut self) -> bool {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            assert!(began.elapsed() < PATIENCE, "no end of:\n{}", self.said());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// `pitstop restore URL DISK --distribute swarm` by `run`.
pub fn restore(run: impl Fn(&str) -> Command, url: &str, disk: &Path) -> Program {
    let mut command = run(env!("CARGO_BIN_EXE_pitstop"));
    command.args(["restore", url]).arg(disk);
    command.args(["--distribute", "swarm"]);
    Program::start(command)
}

/// `pitstop tree extract URL DIR --distribute swarm` by `run`.
pub fn unpack(run: impl Fn(&str) -> Command, url: &str, folder: &Path) -> Program {
    let mut command = run(env!("CARGO_BIN_EXE_pitstop"));
    command.args(["tree", "extract", url]).arg(folder);
    command.args(["--distribute", "swarm"]);
    Program::start(command)
}

pub fn serve(run: impl Fn(&str) -> Command, root: &Path, address: &str) -> Program {
    let mut command = run(env!("CARGO_BIN_EXE_pitstop"));
    command.args(["serve", "--tftp", "off", "--listen", address]);
    command.arg("--root").arg(root);
    let server = Program::start(command);
    server.wait_for("serving ");
    server
}

pub fn here(program: &str) -> Command {
    let mut command = if program == env!("CARGO_BIN_EXE_pitstop") {
        pitstop()
    } else {
        Command::new(program)
    };
    command.env_remove("PITSTOP_ROOT");
    command
}

fn tool(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("`{program}` is needed for this test: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments} (root?): {errors}"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A switch and what is plugged into it: each in a namespace, with the same rate in both directions.
pub struct Room {
    pub root: tempfile::TempDir,
    /// The switch first, then the server, then the machines.
    places: Vec<String>,
    what: What,
}

/// What the machines of a room get.
enum What {
    Disk(Vec<u8>),
    Tree(Vec<u8>),
}

impl What {
    /// Below the root.
    fn image(&self) -> &'static str {
        match self {
            Self::Disk(_) => "share/golden/sda.raw.gz",
            Self::Tree(_) => TREE,
        }
    }
}

impl Room {
    /// A server and machines at `rates` Mbit/s, and an image of `data` MiB.
    pub fn new(rates: &[u32], data: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let what = What::Disk(image(root.path(), data));
        Self::with(rates, root, what)
    }

    /// The same with a tree.
    pub fn of_tree(rates: &[u32], data: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let what = What::Tree(tree(root.path(), data));
        Self::with(rates, root, what)
    }

    fn with(rates: &[u32], root: tempfile::TempDir, what: What) -> Self {
        let mut lab = Self {
            root,
            places: Vec::new(),
            what,
        };
        let switch = lab.place();
        tool("ip", &format!("-n {switch} link add br0 type bridge"));
        tool("ip", &format!("-n {switch} link set br0 up"));
        for (number, rate) in std::iter::once(&100).chain(rates).enumerate() {
            lab.plug(&switch, number + 1, *rate);
        }
        lab
    }

    fn place(&mut self) -> String {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pitrelay-{}-{number}", std::process::id());
        tool("ip", &format!("netns add {name}"));
        self.places.push(name.clone());
        tool("ip", &format!("-n {name} link set lo up"));
        name
    }

    fn plug(&mut self, switch: &str, number: usize, rate: u32) {
        let place = self.place();
        let port = format!("p{number}");
        let pair = format!("-n {switch} link add {port} type veth peer name eth0 netns {place}");
        tool("ip", &pair);
        tool("ip", &format!("-n {switch} link set {port} master br0 up"));
        tool(
            "ip",
            &format!("-n {place} addr add 10.78.0.{number}/24 dev eth0"),
        );
        tool("ip", &format!("-n {place} link set eth0 up"));
        for (place, device) in [(switch, port.as_str()), (place.as_str(), "eth0")] {
            let shape = format!("root tbf rate {rate}mbit burst 64kb latency 20ms");
            tool("tc", &format!("-n {place} qdisc add dev {device} {shape}"));
        }
    }

    /// Programs at the server, 0, or a machine, from 1.
    fn at(&self, number: usize) -> impl Fn(&str) -> Command {
        let place = self.places[number + 1].clone();
        move |program| {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &place, program]);
            command.env_remove("PITSTOP_ROOT");
            command
        }
    }

    pub fn serve(&self) -> Program {
        serve(self.at(0), self.root.path(), "10.78.0.1:8080")
    }

    pub fn disk(&self, machine: usize) -> PathBuf {
        self.root.path().join(format!("target-{machine}"))
    }

    /// Has a machine get the image.
    pub fn restore(&self, machine: usize) -> Program {
        let url = format!("http://10.78.0.1:8080/{}", self.what.image());
        match self.what {
            What::Disk(_) => restore(self.at(machine), &url, &self.disk(machine)),
            What::Tree(_) => unpack(self.at(machine), &url, &self.disk(machine)),
        }
    }

    /// Waits until a machine has some of the image.
    pub fn wait_until_has(&self, machine: usize, mib: u64) {
        use std::os::unix::fs::MetadataExt;
        let began = Instant::now();
        let written = |path: PathBuf| fs::metadata(path).map_or(0, |it| it.blocks() * 512);
        let disk = self.disk(machine);
        let has = || match &self.what {
            What::Disk(_) => written(disk.clone()),
            What::Tree(raw) => {
                let files = 0..raw.len() / MIB;
                let each = files.map(|number| written(disk.join(format!("noise/{number}"))));
                each.sum()
            }
        };
        while has() < mib << 20 {
            assert!(
                began.elapsed() < PATIENCE,
                "machine {machine} has {}",
                has()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn is_right(&self, machine: usize) -> bool {
        match &self.what {
            What::Disk(raw) => fs::read(self.disk(machine)).unwrap() == *raw,
            What::Tree(raw) => has_tree(&self.disk(machine), raw),
        }
    }

    /// Bytes that left the server, as parts of the image's size.
    pub fn left_server(&self) -> f64 {
        let place = &self.places[1];
        let file = "/sys/class/net/eth0/statistics/tx_bytes";
        let bytes: f64 = tool("ip", &format!("netns exec {place} cat {file}"))
            .trim()
            .parse()
            .unwrap();
        let image = fs::metadata(self.root.path().join(self.what.image())).unwrap();
        let size = u32::try_from(image.len()).unwrap();
        bytes / f64::from(size)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for place in &self.places {
            let _ = Command::new("ip").args(["netns", "del", place]).status();
        }
    }
}
