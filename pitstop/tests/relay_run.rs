//! Machines without systems of their own that go on in one tree, and have it from each other: a server, and the machines' own code, each
//! with mounts of its own. As root.

mod common;
mod relay_common;

use common::{Answer, pitstop, run, wait_until};
use pitstop_deploy::disk::apart;
use pitstop_imaging::event::{Event, Reporter};
use pitstop_imaging::inventory::fake::FakeMachine;
use pitstop_imaging::render::sentence;
use pitstop_payload::run::{Options, run as run_payload};
use pitstop_protocol::machine::{BootSource, Lease};
use pitstop_testing::ports::free_port;
use relay_common::{Program, TREE, has_tree, tree};
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const FLEET: &str = "version = 1\n[network.\"10.0.0.0/24\"]\n[group.room]\nmatch = \"room-*\"\n\
    [host.\"room-[1-2]\"]\nip = \"10.0.0.[21-22]\"\n";
/// Enough for a place in a chain.
const DATA: usize = 12;

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

/// Boots machine `number`. Returns what it said, and calls `look` with where it goes on.
fn boots(root: &Path, port: u16, number: u8, look: impl FnOnce(&Path) + Send) -> String {
    let fake = FakeMachine::new();
    fake.write_proc("cpuinfo", "model name: Test\n");
    fake.write_proc(
        "meminfo",
        "MemTotal: 2097152 kB\nMemAvailable: 1048576 kB\n",
    );
    let mut machine = fake.machine();
    machine.command_line = format!("pitstop.host=http://127.0.0.1:{port}/hosts/");
    let lease = Lease {
        interface: "eth0".into(),
        mac: [0x52, 0x54, 0, 0, 0, number],
        address: [10, 0, 0, 20 + number].into(),
        hostname: Some(format!("room-{number}")),
        boot: BootSource::default(),
    };
    let console = Arc::new(Console::default());
    let mounts = root.join(format!("mounts-{number}"));
    let went_on = apart(|| {
        let options = Options {
            disk_patience: Duration::from_millis(30),
            data: mounts.join("data"),
            mounts,
            ..Options::default()
        };
        let finish = run_payload(&machine, &lease, console.clone(), &options);
        assert_eq!(finish.result_line, "pitstop: result ok run");
        look(&finish.root.unwrap());
        Ok(())
    });
    let said = console.0.lock().unwrap().clone();
    went_on.unwrap_or_else(|error| panic!("machine {number}: {error:#}\n{said}"));
    said
}

/// How many machines are to get the tree, as the server knows.
fn wanted(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "HEAD /{TREE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let answer = Answer::read(stream);
    let told = answer.header("pitstop-relay-wanted");
    told.unwrap_or_default().to_owned()
}

#[test]
fn machines_that_run_one_tree_have_it_from_each_other_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("fleet.toml"), FLEET).unwrap();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let mut command = pitstop();
    command.args(["serve", "--tftp", "off", "--listen", &address]);
    // Else machines would be told what a VM calls this computer.
    command.args(["--url", &format!("http://{address}")]);
    command.arg("--root").arg(root);
    let server = Program::start(command);
    server.wait_for("serving ");
    let raw = tree(root, DATA);
    let set = run(&[
        "host",
        "set",
        "@room",
        "run",
        "--tree",
        "web",
        "--identity",
        "keep",
        "--root",
        root.to_str().unwrap(),
    ]);
    assert!(set.status.success(), "{set:?}");
    wait_until("two jobs are known", || wanted(port) == "2");
    // The second time both jobs were done before, and are there for every boot.
    for _ in 0..2 {
        thread::scope(|scope| {
            let machines = [1, 2].map(|number| {
                let raw = &raw;
                scope.spawn(move || {
                    boots(root, port, number, |at| {
                        assert!(has_tree(at, raw));
                        let name = fs::read_to_string(at.join("etc/hostname")).unwrap();
                        assert_eq!(name, format!("room-{number}\n"));
                    })
                })
            });
            for machine in machines {
                let said = machine.join().unwrap();
                let shared = "is shared with other machines that get it too: window 32.0 MiB";
                assert!(said.contains(shared), "{said}");
            }
        });
    }
    server.wait_for("relay of /share/trees/web/1.tar.gz: 127.0.0.1 has all: ");
    // Where the tree was put together, in mounts that are gone with the machines.
    fs::remove_dir("/pitstop-root").unwrap();
}
