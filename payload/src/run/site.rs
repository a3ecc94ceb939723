//! A machine and its share on plain files, for tests: a folder as share, a fake sysfs, files as disks.

use super::*;
use pitstop_imaging::event::Event;
use pitstop_imaging::inventory::fake::{FakeDisk, FakeMachine};
use pitstop_imaging::render::sentence;
use pitstop_protocol::fake::lease;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

pub(in crate::run) const HOME: &str = "10.0.2.15";
/// What the machine tells of itself.
pub(in crate::run) const HOST_KEY: &str = "ssh-ed25519 AAAA";
pub(in crate::run) const MIB: usize = 1 << 20;

/// Everything a person at the console would read.
#[derive(Default)]
pub(in crate::run) struct Console(pub(in crate::run) Mutex<String>);

impl Reporter for Console {
    fn event(&self, event: &Event) {
        if let Some((level, text)) = sentence(event) {
            let line = format!("{}: {text}\n", level.word());
            self.0.lock().unwrap().push_str(&line);
        }
    }
}

pub(in crate::run) struct Site {
    pub(in crate::run) root: tempfile::TempDir,
    pub(in crate::run) fake: FakeMachine,
    pub(in crate::run) policies: Mutex<Vec<CrashPolicy>>,
    /// What the machine believes.
    pub(in crate::run) rules: Rules,
    pub(in crate::run) lease: Lease,
    /// Somebody has chosen to do a round again.
    pub(in crate::run) again: bool,
}

pub(in crate::run) struct Ended {
    pub(in crate::run) finish: Finish,
    pub(in crate::run) console: String,
}

impl Site {
    pub(in crate::run) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("share")).unwrap();
        fs::create_dir_all(root.path().join("hosts")).unwrap();
        fs::write(root.path().join("share/pitstop-share"), "").unwrap();
        let fake = FakeMachine::new();
        fake.write_proc("cpuinfo", "model name: Test\n");
        fake.write_proc("meminfo", "MemTotal: 1 kB\n");
        Self {
            root,
            fake,
            policies: Mutex::default(),
            rules: Rules::default(),
            lease: lease(),
            again: false,
        }
    }

    pub(in crate::run) fn with_disk(content: &[u8]) -> Self {
        let site = Self::new();
        site.disk("sda", "QM00001", content);
        site
    }

    pub(in crate::run) fn disk(&self, name: &str, serial: &str, content: &[u8]) -> PathBuf {
        let size = u64::try_from(content.len()).unwrap();
        let disk = FakeDisk::new(name, size)
            .model("QEMU HARDDISK")
            .serial(serial);
        self.fake.add_with(&disk, content)
    }

    pub(in crate::run) fn host_file(&self) -> PathBuf {
        self.root.path().join("hosts/0A00020F.toml")
    }

    pub(in crate::run) fn on_share(&self, path: &str) -> PathBuf {
        self.root.path().join("share").join(path)
    }

    pub(in crate::run) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.on_share(path)).unwrap_or_default()
    }

    pub(in crate::run) fn set(&self, action: &str, more: &str) {
        let share = self.root.path().join("share");
        self.set_on(&format!("file://{}", share.display()), action, more);
    }

    /// The same on another share.
    pub(in crate::run) fn set_on(&self, share: &str, action: &str, more: &str) {
        let mut text = format!("version = 1\naction = \"{action}\"\nshare = \"{share}\"\n{more}");
        if !more.contains("delete") {
            text = format!(
                "{text}delete = [\"file://{}\"]\n",
                self.host_file().display()
            );
        }
        fs::write(self.host_file(), text).unwrap();
    }

    pub(in crate::run) fn run(&self) -> Ended {
        self.run_with(&format!(
            "pitstop.host=file://{}",
            self.host_file().display()
        ))
    }

    pub(in crate::run) fn run_with(&self, parameters: &str) -> Ended {
        self.run_beside(parameters, &|_| {})
    }

    /// As [`run_with`](Self::run_with), while `meanwhile` happens at each step that a crash would matter for.
    pub(in crate::run) fn run_beside(
        &self,
        parameters: &str,
        meanwhile: &dyn Fn(&CrashPolicy),
    ) -> Ended {
        let mut machine = self.fake.machine();
        machine.command_line = format!("quiet {parameters}");
        let console = Arc::new(Console::default());
        let on_policy = |policy: &CrashPolicy| {
            self.policies.lock().unwrap().push(policy.clone());
            meanwhile(policy);
        };
        let options = Options {
            on_policy: &on_policy,
            disk_patience: Duration::from_millis(30),
            disks: None,
            mounts: self.root.path().join("mounts"),
            rules: self.rules.clone(),
            data: self.root.path().join("data"),
            again: self.again,
            host_key: HOST_KEY.into(),
        };
        let finish = run(&machine, &self.lease, console.clone(), &options);
        let console = console.0.lock().unwrap().clone();
        Ended { finish, console }
    }

    /// Runs `action` and expects the whole reason of its failure to contain each of `parts`; the job
    /// stays, both logs tell it, and nothing half-made is left.
    pub(in crate::run) fn fails(&self, action: &str, parts: &[&str]) -> Ended {
        let ended = self.run();
        let line = &ended.finish.result_line;
        assert!(
            line.starts_with(&format!("pitstop: result failed {action}: ")),
            "{line}"
        );
        for part in parts {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
        assert!(self.host_file().exists(), "the configuration stays");
        for log in [
            self.text("maintenance.log"),
            self.text("10.0.2.15/maintenance.log"),
        ] {
            assert!(log.contains(line.as_str()), "{line} is not in {log}");
        }
        self.nothing_half_made();
        ended
    }

    pub(in crate::run) fn succeeds(&self, action: &str) -> Ended {
        let ended = self.run();
        assert_eq!(
            ended.finish.result_line,
            format!("pitstop: result ok {action}"),
            "{}",
            ended.console
        );
        ended
    }

    pub(in crate::run) fn nothing_half_made(&self) {
        for name in names_below(&self.on_share("")) {
            let half = ["part", "new"].map(|end| Some(std::ffi::OsStr::new(end)));
            assert!(
                !half.contains(&name.extension()),
                "{} was left",
                name.display()
            );
        }
    }
}

pub(in crate::run) fn names_below(folder: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(names_below(&path));
        } else {
            names.push(path);
        }
    }
    names
}

/// Bytes that differ from chunk to chunk and do not compress away.
pub(in crate::run) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut output = blake3::Hasher::new();
    output.update(&seed.to_le_bytes());
    output.finalize_xof().fill(&mut bytes);
    bytes
}
