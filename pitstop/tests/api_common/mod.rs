//! A lab with a server, and requests of a program.
#![allow(dead_code, reason = "each test program uses a part of what they share")]

use super::common::{Answer, Server, run};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Output;

pub const LAB: &str = "version = 1\n[server]\nslots = 1\n[network.\"10.0.0.0/24\"]\n[group.lab]\nmatch = \"lab-*\"\nslots = 1\n\
    [host.\"lab-[1-3]\"]\nip = \"10.0.0.[11-13]\"\nmac = \"52:54:00:00:00:[11-13]\"\n\
    [host.other]\nip = \"10.0.0.20\"\npower = \"none\"\nuuid = \"4c4c4544-0038-4a10-804e-b7c04f503132\"\nserial = \"PF123\"\n";

/// What machines say of themselves on the share, in the words of the payload.
const MACHINE: &str = "version = 1\n[[machine]]\nuuid = \"4c4c4544-0038-4a10-804e-b7c04f503133\"\nserial = \"SER1\"\n\
    macs = [\"52:54:00:00:00:11\"]\n[[disk]]\ndevice = \"sda\"\nmodel = \"EVO 860\"\nserial = \"S3Z9NB0K\"\nwwn = \"\"\n\
    size = 1048576\nlogical-sector-size = 512\nphysical-sector-size = 512\n";

pub struct Lab {
    folder: tempfile::TempDir,
    pub server: Server,
    /// The address of the machine that was there before.
    first: String,
}

impl Lab {
    pub fn new() -> Self {
        Self::of(LAB, "10.0.0.11")
    }

    /// With this fleet file, and a machine at `first` that was there before.
    pub fn of(fleet: &str, first: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("fleet.toml"), fleet).unwrap();
        let share = folder.path().join("share").join(first);
        fs::create_dir_all(&share).unwrap();
        fs::write(share.join("machine.toml"), MACHINE).unwrap();
        let server = Server::start_in(folder.path(), &["--slot-timeout", "1h"]);
        Self {
            folder,
            server,
            first: first.to_owned(),
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.server.http)
    }

    /// A real image of a small disk.
    pub fn make_image(&self) {
        let disk = self.path().join("sda");
        let bytes: Vec<u8> = (0..1 << 20).map(|at: u32| (at / 7 % 251) as u8).collect();
        fs::write(&disk, bytes).unwrap();
        let image = self
            .path()
            .join("share")
            .join(&self.first)
            .join("sda.raw.gz");
        let output = run(&["backup", disk.to_str().unwrap(), image.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
    }

    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string);
        self.send(
            method,
            path,
            "Content-Type: application/json\r\n",
            body.as_deref(),
        )
    }

    pub fn send(&self, method: &str, path: &str, headers: &str, body: Option<&str>) -> Answer {
        let body = body.unwrap_or_default();
        let headers = format!("{headers}Content-Length: {}\r\n", body.len());
        self.server
            .request(method, &format!("/api/v1{path}"), &headers, body.as_bytes())
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, None);
        assert_eq!(answer.status, 200, "{path}: {answer:?} {}", answer.text());
        json(&answer)
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.ask("POST", path, Some(body));
        assert!(
            (200..300).contains(&answer.status),
            "{path}: {}",
            answer.text()
        );
        json(&answer)
    }

    /// The sentence of a refusal.
    pub fn refused(&self, method: &str, path: &str, body: Option<&Value>, status: u16) -> String {
        let answer = self.ask(method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        json(&answer)["error"].as_str().unwrap().to_owned()
    }

    /// The command, on the files.
    pub fn here(&self, words: &[&str]) -> Output {
        run(&[words, &["--root", self.path().to_str().unwrap()]].concat())
    }

    /// The command, by the server.
    pub fn there(&self, words: &[&str]) -> Output {
        run(&[&["--server", &self.url()], words].concat())
    }

    /// Says at the door of a job what its machine says.
    pub fn check_in(&self, job: &str, run: &str, says: &str) -> Value {
        let body = format!("{{\"version\":1,\"run\":\"{run}\",{says}}}");
        let length = format!("Content-Length: {}\r\n", body.len());
        let answer = self.server.request(
            "POST",
            &format!("/check-in/{job}"),
            &length,
            body.as_bytes(),
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
        json(&answer)
    }

    /// Reports lines of a run of a job.
    pub fn report(&self, job: &str, host_file: &str, run: &str, lines: &[&str]) {
        let path = self.path().join("hosts").join(host_file);
        let token = fs::read_to_string(path).unwrap();
        let token = token
            .lines()
            .find_map(|line| line.strip_prefix("report-token = "));
        let token = token.unwrap().trim_matches('"').to_owned();
        let mut body = String::new();
        for (seq, line) in (1..).zip(lines) {
            writeln!(body, "{{\"v\":1,\"run\":\"{run}\",\"seq\":{seq},\"time\":\"2026-11-28T21:30:0{seq}.000Z\",{line}}}").unwrap();
        }
        let headers = format!(
            "Authorization: Bearer {token}\r\nContent-Length: {}\r\n",
            body.len()
        );
        let answer =
            self.server
                .request("POST", &format!("/report/{job}"), &headers, body.as_bytes());
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
}

pub fn json(answer: &Answer) -> Value {
    let text = answer.text();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {answer:?} {text}"))
}

pub const BEGIN: &str = "\"type\":\"begin\",\"machine\":\"lab-1\",\"address\":\"10.0.0.11\",\"mac\":\"52:54:00:00:00:11\",\"pitstop\":\"1\"";
pub const PLAN: &str = "\"type\":\"plan\",\"action\":\"backup-again\",\"disks\":[{\"disk\":\"sda\",\"model\":\"EVO 860\",\"serial\":\"S3Z9NB0K\",\
    \"size\":1048576,\"will\":\"backup\",\"image\":\"10.0.0.11/sda.raw.gz\"}]";
pub const HALF: &str = "\"step\":1,\"disk\":\"sda\",\"type\":\"progress\",\"act\":\"backup\",\"done\":524288,\"total\":1048576,\"transferred\":1,\"elapsed-ms\":2000";
pub const LOG: &str = "\"type\":\"log\",\"level\":\"warning\",\"text\":\"slow\"";
pub const FAILED: &str = "\"type\":\"result\",\"verdict\":\"failed\",\"action\":\"backup-again\",\"reason\":\"no disk\",\"bytes\":0,\"elapsed-ms\":9,\"read-errors\":0";
