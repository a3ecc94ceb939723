//! A root with machines, jobs, runs that were reported as machines report them, and images of small disks.

use crate::common::{self, Answer, Server};
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const FLEET: &str = "version = 1\n\
    [server]\nslots = 1\n\
    [base]\nattempts = 2\n\
    [network.\"10.0.0.0/24\"]\ndomain = \"lab.example\"\n\
    [group.lab]\nmatch = \"lab-*\"\npower = [\"true\"]\n\
    [host.\"lab-[1-6]\"]\nip = \"10.0.0.[11-16]\"\nmac = [\"52:54:00:00:00:1[1-6]\"]\n";

static RUNS: AtomicU32 = AtomicU32::new(1);

pub struct Lab {
    pub server: Server,
    folder: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        Self::of(FLEET)
    }

    /// A lab with this fleet file.
    pub fn of(fleet: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("fleet.toml"), fleet).unwrap();
        // Machines here say nothing between what a test lets them say, however long a browser takes.
        let server = Server::start_in(folder.path(), &["--slot-timeout", "1h"]);
        Self { server, folder }
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command of the admin that has to go well.
    pub fn does(&self, words: &[&str]) -> String {
        let root = ["--root", self.root().to_str().unwrap()];
        let output = common::run(&[words, &root].concat());
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn job_value(&self, machine: &str) -> Value {
        serde_json::from_str(&self.does(&["job", "show", machine, "--json"])).unwrap()
    }

    pub fn state(&self, machine: &str) -> String {
        self.job_value(machine)["state"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub fn set(&self, machine: &str, action: &str) -> Machine {
        self.does(&["host", "set", machine, action]);
        Machine::of(self, machine)
    }

    /// An image of a small disk with a partition, by the real program.
    pub fn image(&self, folder: &str) {
        let share = self.root().join("share").join(folder);
        fs::create_dir_all(&share).unwrap();
        let disk = self.root().join("disk.img");
        let file = fs::File::create(&disk).unwrap();
        file.set_len(64 << 20).unwrap();
        let table = "label: gpt\nsize=32MiB, name=root\nsize=16MiB, name=data\n";
        tool("sfdisk", &[disk.to_str().unwrap()], table);
        let offset = [
            "-q",
            "-F",
            "-L",
            "root",
            "-E",
            "offset=1048576",
            disk.to_str().unwrap(),
            "32M",
        ];
        tool("mkfs.ext4", &offset, "");
        let image = share.join("sda.raw.gz");
        let output = common::run(&["backup", disk.to_str().unwrap(), image.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
    }
}

fn tool(program: &str, arguments: &[&str], input: &str) {
    let mut child: Child = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success(), "{program}");
}

/// A machine that works for its job, as it talks to the server.
pub struct Machine {
    pub name: String,
    job: String,
    token: String,
    pub run: String,
    seq: u64,
}

impl Machine {
    /// The machine of the newest host file of `name`.
    pub fn of(lab: &Lab, name: &str) -> Self {
        let job = lab.job_value(name);
        let file = lab
            .root()
            .join("hosts")
            .join(job["host-file"].as_str().unwrap());
        let text: toml::Table = fs::read_to_string(&file).unwrap().parse().unwrap();
        let job = job["id"].as_str().unwrap().to_owned();
        // Whoever is made later has the newer run.
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        Self {
            name: name.to_owned(),
            token: text["report-token"].as_str().unwrap().to_owned(),
            run: format!("20261129-010000-{number:06x}"),
            job,
            seq: 0,
        }
    }

    fn post(&self, server: &Server, path: &str, body: &str) -> Answer {
        let headers = format!(
            "Content-Length: {}\r\nAuthorization: Bearer {}\r\n",
            body.len(),
            self.token
        );
        server.request("POST", path, &headers, body.as_bytes())
    }

    /// Checks in: `"state":"ready"`.
    pub fn check_in(&self, server: &Server, says: &str) -> String {
        let body = format!("{{\"version\":1,\"run\":\"{}\",{says}}}", self.run);
        let answer = self.post(server, &format!("/check-in/{}", self.job), &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text()
    }

    /// Reports one event: `"type":"log",…`.
    pub fn tell(&mut self, server: &Server, what: &str) {
        self.seq += 1;
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.000Z");
        let line = format!(
            "{{\"v\":1,\"run\":\"{}\",\"seq\":{},\"time\":\"{now}\",{what}}}\n",
            self.run, self.seq
        );
        let answer = self.post(server, &format!("/report/{}", self.job), &line);
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    /// It has its slot, has said who it is, and what it will do to which disk.
    pub fn begin(&mut self, server: &Server, action: &str) {
        self.check_in(server, "\"state\":\"ready\"");
        let number = self.name.trim_start_matches("lab-").to_owned();
        self.tell(
            server,
            &format!(
                "\"type\":\"begin\",\"machine\":\"{}\",\"address\":\"10.0.0.1{number}\",\"mac\":\"52:54:00:00:00:1{number}\",\
                 \"pitstop\":\"0.2.0\"",
                self.name
            ),
        );
        self.tell(server, &format!("\"type\":\"job\",\"action\":\"{action}\""));
        let will = action.trim_end_matches("-again");
        self.tell(
            server,
            &format!(
                "\"type\":\"plan\",\"action\":\"{action}\",\"disks\":[{{\"disk\":\"sda\",\"model\":\"QEMU HARDDISK\",\
                 \"serial\":\"QM0000{number}\",\"size\":67108864,\"will\":\"{will}\",\"image\":\"10.0.0.1{number}/sda.raw.gz\"}}]"
            ),
        );
    }

    pub fn log(&mut self, server: &Server, text: &str) {
        self.tell(
            server,
            &format!(
                "\"type\":\"log\",\"level\":\"info\",\"text\":{}",
                Value::from(text)
            ),
        );
    }

    /// So many percent of 64 MiB.
    pub fn progress(&mut self, server: &Server, act: &str, percent: u64) {
        let done = (67_108_864 * percent).div_ceil(100);
        self.tell(
            server,
            &format!(
                "\"step\":1,\"disk\":\"sda\",\"label\":\"QEMU HARDDISK\",\"type\":\"progress\",\"act\":\"{act}\",\
                 \"done\":{done},\"total\":67108864,\"transferred\":{done},\"elapsed-ms\":1000"
            ),
        );
    }

    /// Its last word; `reason` of a failure.
    pub fn end(&mut self, server: &Server, action: &str, reason: Option<&str>) {
        let verdict = match reason {
            Some(reason) => format!("\"verdict\":\"failed\",\"reason\":{}", Value::from(reason)),
            None => "\"verdict\":\"ok\"".into(),
        };
        self.tell(
            server,
            &format!(
                "\"type\":\"result\",{verdict},\"action\":\"{action}\",\"bytes\":67108864,\"elapsed-ms\":9000,\"read-errors\":0"
            ),
        );
        match reason {
            Some(reason) => self.check_in(
                server,
                &format!(
                    "\"state\":\"failed\",\"reason\":{},\"again\":false",
                    Value::from(reason)
                ),
            ),
            None => self.check_in(server, "\"state\":\"done\""),
        };
    }
}
