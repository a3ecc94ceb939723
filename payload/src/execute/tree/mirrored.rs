//! Trees whose files come from servers near the machine.

use super::tests::Bench;
use super::*;
use crate::execute::broken;
use crate::system::fake::{LoopDisk, Part};
use pitstop_imaging::event::{Event, Reporter, Silent};
use pitstop_imaging::wishes::{Changes, Check, Initrd, Strangers};
use pitstop_protocol::job::{Mirror, UpdateOptions};
use pitstop_transport::fetch::fake::FakeServer;
use pitstop_transport::share::WithMirrors;
use std::fs;
use std::sync::{Arc, Mutex};

const MIB: u64 = 1 << 20;

#[derive(Default)]
struct Heard(Mutex<String>);

impl Reporter for Heard {
    fn event(&self, event: &Event) {
        if let Event::Message { text, .. } = event {
            let mut heard = self.0.lock().unwrap();
            heard.push_str(text);
            heard.push('\n');
        }
    }
}

fn update() -> Action {
    Action::Update(Box::new(UpdateOptions {
        tree: "web".parse().unwrap(),
        changes: Changes::Replace,
        strangers: Strangers::Keep,
        check: Check::Full,
        local: Vec::new(),
        exclude: Vec::new(),
        overrides: Vec::new(),
        hooks: Vec::new(),
        secrets: None,
        initrd: Initrd::Keep,
    }))
}

#[test]
fn a_tree_comes_from_mirrors_and_the_one_that_has_it_wrong_is_left_out() {
    let bench = Bench::new();
    let system = [Part {
        size: 32 * MIB,
        filesystem: "ext4",
        label: "root",
        files: &[
            ("etc/os-release", "PRETTY_NAME=\"Testix 1\"\n"),
            ("etc/fstab", "LABEL=root / ext4 defaults 0 1\n"),
        ],
    }];
    let _disk = LoopDisk::add(&bench.fake, "sda", &system);
    let mut random = fastrand::Rng::with_seed(3);
    let tool: String = (0..3 * MIB).map(|_| random.alphanumeric()).collect();
    bench.add(
        "2",
        &[
            ("etc/os-release", "PRETTY_NAME=\"Testix 2\"\n"),
            ("etc/fstab", "LABEL=root / ext4 defaults 0 1\n"),
            ("usr/bin/tool", &tool),
        ],
    );
    let path = "trees/web/2.tar.gz";
    let image = fs::read(bench.root.path().join(path)).unwrap();
    let mut wrong = image.clone();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    let (lies, right) = (FakeServer::start(), FakeServer::start());
    lies.put(&format!("/{path}"), &wrong);
    right.put(&format!("/{path}"), &image);
    let mirrors = [&lies, &right].map(|server| Mirror::read(server.url("/").as_str()).unwrap());
    let mut job = broken::job(update(), "m");
    job.transfer.mirrors = mirrors.to_vec();
    let heard = Arc::new(Heard::default());
    let settings = Settings {
        reporter: Listener(Some(heard.clone())),
        ..Settings::default()
    };
    let share = WithMirrors::new(Box::new(bench.share()), mirrors.to_vec(), settings);
    let plan = bench.with_share(&job, &share, heard.clone(), |work| {
        let prepared = work.plan().unwrap();
        work.walk(&prepared, &|| {}).unwrap();
        prepared.plan.to_string()
    });
    let [lies, right] = mirrors.map(|mirror| mirror.to_string());
    assert!(
        plan.contains(&format!("it comes from mirror {lies}")),
        "{plan}"
    );
    let heard = heard.0.lock().unwrap().clone();
    for told in [
        format!("mirror {lies}: its bytes "),
        format!("trees/web/2.tar.gz comes from mirror {right}"),
        format!(" from mirror {right}, "),
    ] {
        assert!(heard.contains(&told), "{told:?} is not in {heard}");
    }
    let machine = bench.fake.machine();
    let disks = pitstop_imaging::inventory::read(&machine).unwrap().disks;
    let access = crate::system::Access::Read;
    let system = crate::system::mount(&machine, &disks, &disks, access, &Silent).unwrap();
    assert!(fs::read_to_string(system.root().join("usr/bin/tool")).unwrap() == tool);
    assert_eq!(system.name, "Testix 2");
}
