//! A room that restores an image while it is being made: a server, and the machines' own code, on disks that are files. The machine
//! whose image it is, is played here, so that it goes on when the test says so.

mod common;
mod relay_common;

use common::{Answer, PATIENCE, pitstop, run};
use flate2::Compression;
use flate2::write::GzEncoder;
use pitstop_imaging::event::{Event, Reporter};
use pitstop_imaging::inventory::fake::{FakeDisk, FakeMachine};
use pitstop_imaging::render::sentence;
use pitstop_payload::finish::Finish;
use pitstop_payload::load::Rules;
use pitstop_payload::run::{Options, run as run_payload};
use pitstop_protocol::machine::{BootSource, Lease};
use pitstop_testing::ports::free_port;
use relay_common::{MIB, Program};
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const FLEET: &str = "version = 1\n[network.\"10.0.0.0/24\"]\n[group.room]\nmatch = \"room-*\"\n\
    [host.golden]\nip = \"10.0.0.20\"\n[host.\"room-[1-2]\"]\nip = \"10.0.0.[21-22]\"\n";
const GOLDEN: &str = "hosts/0A000014.toml";
const IMAGE: &str = "share/10.0.0.20/sda.raw.gz";
/// Of the disk: three rounds of its image, the last with its end.
const SIZE: usize = 50 * MIB;

/// A server with a golden machine and a room that follows it.
struct Lab {
    folder: tempfile::TempDir,
    port: u16,
    tries: Mutex<u8>,
}

impl Lab {
    fn new() -> (Self, Program) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("fleet.toml"), FLEET).unwrap();
        let lab = Self {
            folder,
            port: free_port(),
            tries: Mutex::new(0),
        };
        let server = lab.serve();
        lab.does(&["host", "set", "golden", "backup"]);
        lab.does(&[
            "host", "set", "@room", "restore", "--from", "golden", "--follow",
        ]);
        (lab, server)
    }

    fn serve(&self) -> Program {
        let address = format!("127.0.0.1:{}", self.port);
        let mut command = pitstop();
        // golden says nothing between what a test lets it say, however long that takes.
        command.args(["serve", "--tftp", "off", "--slot-timeout", "1h"]);
        command.args(["--listen", &address]);
        // Else machines would be told what a VM calls this computer.
        command.args(["--url", &format!("http://{address}")]);
        command.arg("--root").arg(self.folder.path());
        let server = Program::start(command);
        server.wait_for("serving ");
        server
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn does(&self, words: &[&str]) -> String {
        let root = self.folder.path().to_str().unwrap();
        let output = run(&[words, &["--root", root]].concat());
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn job(&self, machine: &str) -> serde_json::Value {
        serde_json::from_str(&self.does(&["job", "show", machine, "--json"])).unwrap()
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        Answer::read(stream)
    }

    /// Waits until the server has found this round of what golden has sent.
    fn finds_round(&self, number: u32) {
        let began = Instant::now();
        loop {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
            write!(
                stream,
                "GET /{IMAGE}.new.part HTTP/1.1\r\nHost: x\r\nConnection: close\r\nPitstop-Round: {number}\r\n\r\n"
            )
            .unwrap();
            if Answer::read(stream).status == 200 {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "no round {number}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A disk of noise and its image, with what lies beside it.
    fn image(&self, name: &str) -> (Vec<u8>, Vec<u8>) {
        let mut raw = vec![0; SIZE];
        let mut noise = blake3::Hasher::new().update(name.as_bytes()).finalize_xof();
        noise.fill(&mut raw);
        raw[20 * MIB..22 * MIB].fill(0);
        fs::write(self.at(name), &raw).unwrap();
        let image = self.at(&format!("{name}.raw.gz"));
        let (disk, to) = (self.at(name), image.to_str().unwrap().to_owned());
        let made = run(&["backup", disk.to_str().unwrap(), &to, "--exact"]);
        assert!(made.status.success(), "{made:?}");
        (raw, fs::read(image).unwrap())
    }

    /// golden begins, and says what it will do.
    fn golden_begins(&self) -> Golden<'_> {
        let mut tries = self.tries.lock().unwrap();
        *tries += 1;
        let golden = Golden {
            lab: self,
            job: self.job("golden")["id"].as_str().unwrap().to_owned(),
            run: format!("20261128-213000-aaaa{:02}", *tries),
        };
        assert!(golden.says("\"state\":\"ready\"").contains("\"go\""));
        let file: toml::Table = fs::read_to_string(self.at(GOLDEN))
            .unwrap()
            .parse()
            .unwrap();
        let token = file["report-token"].as_str().unwrap();
        let (job, run) = (&golden.job, &golden.run);
        let line = format!(
            "{{\"v\":1,\"run\":\"{run}\",\"seq\":1,\"time\":\"2026-11-28T21:30:01.000Z\",\"type\":\"plan\",\"action\":\"backup\",\
             \"disks\":[{{\"disk\":\"sda\",\"model\":\"QEMU\",\"serial\":\"GOLDEN\",\"size\":{SIZE},\"sector\":512,\
             \"will\":\"backup\",\"image\":\"10.0.0.20/sda.raw.gz\"}}]}}\n"
        );
        let token = format!("Authorization: Bearer {token}\r\n");
        let answer = self.post(&format!("/report/{job}"), &token, &line);
        assert_eq!(answer.status, 204, "{answer:?}");
        fs::create_dir_all(self.at("share/10.0.0.20")).unwrap();
        golden
    }

    /// A machine of the room, on a larger disk with something on it.
    fn machine(&self, number: u8) -> Machine {
        let fake = FakeMachine::new();
        fake.write_proc("cpuinfo", "model name: Test\n");
        fake.write_proc("meminfo", "MemTotal: 1 kB\n");
        let size = SIZE + 2 * MIB;
        let disk = FakeDisk::new("sda", size as u64)
            .model("QEMU")
            .serial(&format!("ROOM{number}"));
        let disk = fake.add_with(&disk, &vec![0xee; size]);
        let console = Arc::new(Console::default());
        let mut machine = fake.machine();
        machine.command_line = format!("pitstop.host=http://127.0.0.1:{}/hosts/", self.port);
        let lease = Lease {
            interface: "eth0".into(),
            mac: [0x52, 0x54, 0, 0, 0, number],
            address: [10, 0, 0, 20 + number].into(),
            hostname: Some(format!("room-{number}")),
            boot: BootSource::default(),
        };
        let (mounts, told) = (self.at("mounts"), Arc::clone(&console));
        let thread = thread::spawn(move || {
            let options = Options {
                disk_patience: Duration::from_millis(30),
                data: mounts.join("data"),
                mounts,
                rules: Rules::default(),
                ..Options::default()
            };
            // Its disk goes with it.
            (run_payload(&machine, &lease, told, &options), fake)
        });
        Machine {
            thread,
            console,
            disk,
        }
    }
}

/// The machine that is backed up.
struct Golden<'a> {
    lab: &'a Lab,
    job: String,
    run: String,
}

impl Golden<'_> {
    fn says(&self, says: &str) -> String {
        let body = format!("{{\"version\":1,\"run\":\"{}\",{says}}}", self.run);
        let answer = self.lab.post(&format!("/check-in/{}", self.job), "", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text()
    }

    fn upload(&self) -> PathBuf {
        self.lab.at(&format!("{IMAGE}.new.part"))
    }

    /// So much of its image is on the server.
    fn has_sent(&self, bytes: &[u8]) {
        // It grows, and is no other file.
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.upload());
        let mut file = file.unwrap();
        let sent = usize::try_from(file.metadata().unwrap().len()).unwrap();
        file.write_all(&bytes[sent..]).unwrap();
    }

    /// All of it is there, under its name.
    fn ends(&self, image: &[u8], name: &str) {
        self.has_sent(image);
        let toml = self.lab.at(&format!("{name}.raw.gz.toml"));
        fs::copy(toml, self.lab.at(&format!("{IMAGE}.toml"))).unwrap();
        fs::rename(self.upload(), self.lab.at(IMAGE)).unwrap();
        fs::remove_file(self.lab.at(GOLDEN)).unwrap();
        self.says("\"state\":\"done\"");
    }

    fn fails(&self, again: bool) {
        fs::remove_file(self.upload()).unwrap();
        self.says(&format!(
            "\"state\":\"failed\",\"reason\":\"no disk\",\"again\":{again}"
        ));
    }
}

#[derive(Default)]
struct Console(Mutex<String>);

impl Reporter for Console {
    fn event(&self, event: &Event) {
        if let Some((level, text)) = sentence(event) {
            let line = format!("{}: {text}\n", level.word());
            self.0.lock().unwrap().push_str(&line);
        }
    }
}

struct Machine {
    thread: JoinHandle<(Finish, FakeMachine)>,
    console: Arc<Console>,
    disk: PathBuf,
}

impl Machine {
    fn sees(&self, words: &str) {
        let began = Instant::now();
        loop {
            let said = self.console.0.lock().unwrap().clone();
            if said.contains(words) {
                return;
            }
            let over = self.thread.is_finished() || began.elapsed() > PATIENCE;
            assert!(!over, "{words:?} is not in:\n{said}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn has_written(&self, mib: usize) {
        self.sees(&format!("{mib}.0 MiB of it are on this machine's disk"));
    }

    /// Nothing on it can boot.
    fn does_not_boot(&self) {
        let disk = fs::read(&self.disk).unwrap();
        assert!(disk[..MIB].iter().all(|byte| *byte == 0));
        assert!(disk[SIZE - MIB..SIZE].iter().all(|byte| *byte == 0));
    }

    fn ends(self) -> (String, Vec<u8>, String) {
        let (finish, _fake) = self.thread.join().unwrap();
        let console = self.console.0.lock().unwrap().clone();
        (finish.result_line, fs::read(self.disk).unwrap(), console)
    }

    fn has_all_of(self, raw: &[u8]) -> String {
        let (line, disk, console) = self.ends();
        assert_eq!(line, "pitstop: result ok restore", "{console}");
        assert!(disk[..SIZE] == *raw, "{console}");
        console
    }
}

#[test]
fn a_room_writes_what_is_there_before_the_backup_has_ended() {
    let (lab, server) = Lab::new();
    let (raw, image) = lab.image("first");
    let machines = [lab.machine(1), lab.machine(2)];
    for machine in &machines {
        machine.sees("waiting: golden is to be backed up first");
    }
    let golden = lab.golden_begins();
    // What of a member is there is nothing yet.
    golden.has_sent(&image[..17 * MIB]);
    for machine in &machines {
        // All of the first round but what could boot.
        machine.has_written(15);
        machine.does_not_boot();
        let disk = fs::read(&machine.disk).unwrap();
        assert!(disk[MIB..16 * MIB] == raw[MIB..16 * MIB]);
        assert!(disk[16 * MIB..SIZE - MIB].iter().all(|byte| *byte == 0xee));
    }
    golden.has_sent(&image[..36 * MIB]);
    for machine in &machines {
        machine.has_written(31);
        machine.does_not_boot();
    }
    // The server is told at one of the next questions.
    machines[1].sees("has a part of the image and does not boot");
    let state = lab.job("room-2");
    assert_eq!(state["state"], "queued");
    let why = state["reason"].as_str().unwrap();
    assert!(
        why.contains("has a part of the image and does not boot"),
        "{why}"
    );
    golden.ends(&image, "first");
    for machine in machines {
        let console = machine.has_all_of(&raw);
        assert!(!console.contains(" 0 B right already"), "{console}");
    }
    let said = server.said();
    let together = |line: &&str| line.contains(".new.part: ") && line.contains(" has all: ");
    let of_rounds: Vec<&str> = said.lines().filter(together).collect();
    assert!(!of_rounds.is_empty(), "{said}");
}

#[test]
fn a_backup_that_fails_halfway_leaves_disks_that_do_not_boot_and_all_say_so() {
    let (lab, _server) = Lab::new();
    let (raw, image) = lab.image("first");
    let golden = lab.golden_begins();
    golden.has_sent(&image[..36 * MIB]);
    lab.finds_round(1);
    let machines = [lab.machine(1), lab.machine(2)];
    for machine in &machines {
        // They come late, and begin with what came last.
        machine.has_written(16);
        let disk = fs::read(&machine.disk).unwrap();
        assert!(disk[MIB..10 * MIB].iter().all(|byte| *byte == 0xee));
        machine.sees("has a part of the image and does not boot");
    }
    golden.fails(false);
    for machine in machines {
        machine.does_not_boot();
        let (line, _, console) = machine.ends();
        for part in [
            "result failed restore: the backup of golden is failed: no disk",
            "has a part of 10.0.0.20/sda.raw.gz and does not boot",
        ] {
            assert!(line.contains(part), "{line}\n{console}");
        }
    }
    for machine in ["room-1", "room-2"] {
        let job = lab.job(machine);
        assert_eq!(job["state"], "failed");
        let why = job["reason"].as_str().unwrap();
        assert!(why.contains("does not boot"), "{why}");
    }
    // One that is started again has not written itself, and says it all the same.
    let (line, disk, console) = lab.machine(2).ends();
    for part in [
        "result failed restore: the backup of golden is failed: no disk",
        "an earlier try has written a part of the image to this machine's disk",
    ] {
        assert!(line.contains(part), "{line}\n{console}");
    }
    assert!(disk.iter().all(|byte| *byte == 0xee));
    // The next backup is of another state of the disk.
    drop(raw);
    let (raw, image) = lab.image("second");
    lab.does(&["job", "retry", "golden"]);
    let golden = lab.golden_begins();
    golden.has_sent(&image);
    golden.ends(&image, "second");
    lab.does(&["job", "retry", "@room"]);
    lab.machine(1).has_all_of(&raw);
}

#[test]
fn what_golden_sends_otherwise_in_the_end_is_what_the_room_gets() {
    let (lab, _server) = Lab::new();
    let (_, image) = lab.image("first");
    let golden = lab.golden_begins();
    golden.has_sent(&image[..36 * MIB]);
    lab.finds_round(1);
    let machine = lab.machine(1);
    machine.has_written(16);
    // It breaks off, and tries again with what its disk has by then.
    golden.fails(true);
    let (raw, image) = lab.image("second");
    let golden = lab.golden_begins();
    golden.has_sent(&image[..17 * MIB]);
    // What comes is written ahead again, from its first round on.
    machine.has_written(31);
    machine.does_not_boot();
    let disk = fs::read(&machine.disk).unwrap();
    assert!(disk[MIB..16 * MIB] == raw[MIB..16 * MIB]);
    golden.ends(&image, "second");
    machine.has_all_of(&raw);
}

#[test]
fn what_is_refused_of_the_whole_image_is_said_with_what_is_on_the_disk() {
    let (lab, _server) = Lab::new();
    let follow = ["host", "set", "@room", "restore", "--from", "golden"];
    lab.does(&[&follow[..], &["--follow", "--distribute", "swarm"]].concat());
    let (raw, image) = lab.image("first");
    let golden = lab.golden_begins();
    golden.has_sent(&image[..17 * MIB]);
    let machine = lab.machine(1);
    machine.has_written(15);
    // Somebody puts another program's image in its place, which has no index to prove anything by.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(&raw).unwrap();
    let foreign = gzip.finish().unwrap();
    fs::write(golden.upload(), &foreign).unwrap();
    fs::rename(golden.upload(), lab.at(IMAGE)).unwrap();
    fs::remove_file(lab.at(GOLDEN)).unwrap();
    golden.says("\"state\":\"done\"");
    machine.does_not_boot();
    let (line, _, console) = machine.ends();
    for part in [
        "result failed restore: ",
        "index",
        "has a part of 10.0.0.20/sda.raw.gz and does not boot",
    ] {
        assert!(line.contains(part), "{line}\n{console}");
    }
}

#[test]
fn a_server_that_starts_anew_meanwhile_fails_nobody() {
    let (lab, mut server) = Lab::new();
    let (raw, image) = lab.image("first");
    let golden = lab.golden_begins();
    golden.has_sent(&image[..17 * MIB]);
    let machines = [lab.machine(1), lab.machine(2)];
    for machine in &machines {
        machine.has_written(15);
    }
    server.kill();
    golden.has_sent(&image[..36 * MIB]);
    let _server = lab.serve();
    for machine in &machines {
        machine.has_written(31);
        machine.does_not_boot();
    }
    golden.ends(&image, "first");
    for machine in machines {
        machine.has_all_of(&raw);
    }
}
