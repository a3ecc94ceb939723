//! Jobs of many machines by command: set, listed, cancelled, repeated, waited for; and what strangers say at the door.

mod common;

use common::{Answer, Server, run, wait_until};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const LAB: &str = "version = 1\n[server]\nslots = 1\n[network.\"10.0.0.0/24\"]\n[group.lab]\nmatch = \"lab-*\"\n\
    [host.\"lab-[1-3]\"]\nip = \"10.0.0.[11-13]\"\n";
const RUN: &str = "20261128-213000-aaaa";

/// A root with a fleet file, and a server that may be running.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("fleet.toml"), LAB).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Nobody who speaks here is missed, however long a test may take to let it speak again.
    fn serve(&self) -> Server {
        Server::start_in(self.path(), &["--slot-timeout", "1h"])
    }

    fn run(&self, words: &[&str]) -> Output {
        run(&[words, &["--root", self.path().to_str().unwrap()]].concat())
    }

    fn does(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn jobs(&self, selector: &str) -> Vec<Value> {
        let json = self.does(&["job", "list", selector, "--json"]);
        serde_json::from_str(&json).unwrap()
    }

    /// The one open or last job of a machine.
    fn job(&self, machine: &str) -> Value {
        serde_json::from_str(&self.does(&["job", "show", machine, "--json"])).unwrap()
    }

    fn id(&self, machine: &str) -> String {
        self.job(machine)["id"].as_str().unwrap().to_owned()
    }

    fn state(&self, machine: &str) -> String {
        self.job(machine)["state"].as_str().unwrap().to_owned()
    }

    fn host_file(&self, name: &str) -> std::path::PathBuf {
        self.path().join("hosts").join(name)
    }
}

fn post(server: &Server, path: &str, body: &[u8]) -> Answer {
    let length = format!("Content-Length: {}\r\n", body.len());
    server.request("POST", path, &length, body)
}

fn say(server: &Server, job: &str, number: u8, says: &str) -> String {
    let body = format!("{{\"version\":1,\"run\":\"{RUN}{number:02}\",{says}}}");
    let answer = post(server, &format!("/check-in/{job}"), body.as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text()
}

const READY: &str = "\"state\":\"ready\"";

#[test]
fn a_selector_becomes_jobs_that_take_turns_and_are_waited_for() {
    let lab = Lab::new();
    let server = lab.serve();
    let set = [
        "host",
        "set",
        "@lab",
        "backup",
        "--image",
        "{group}/{hostname}",
    ];
    let said = lab.does(&set);
    assert!(said.starts_with("MACHINE"), "{said}");
    assert!(said.contains("lab/lab-2"), "{said}");
    assert_eq!(lab.jobs("@lab").len(), 3);
    let text = fs::read_to_string(lab.host_file("0A00000C.toml")).unwrap();
    let second = lab.id("lab-2");
    assert!(text.contains("image = \"lab/lab-2\"\n"), "{text}");
    assert!(text.contains(&format!("/check-in/{second}\"\n")), "{text}");
    assert!(
        text.contains(&format!("/report/{second}\"\nreport-token = ")),
        "{text}"
    );
    let job = lab.job("lab-2");
    assert!(job["set-by"].as_str().unwrap().contains('@'), "{job}");
    assert!(job.get("text").is_none(), "secrets may be in it");

    let first = lab.id("lab-1");
    assert!(say(&server, &first, 1, READY).contains("\"go\""));
    let waits = say(&server, &second, 2, READY);
    assert!(waits.contains("\"place\":1,\"of\":1"), "{waits}");
    assert_eq!(
        (lab.state("lab-1"), lab.state("lab-2")),
        ("running".into(), "queued".into())
    );

    fs::remove_file(lab.host_file("0A00000B.toml")).unwrap();
    say(&server, &first, 1, "\"state\":\"done\"");
    assert!(say(&server, &second, 2, READY).contains("\"go\""));
    say(
        &server,
        &second,
        2,
        "\"state\":\"failed\",\"reason\":\"no disk\",\"again\":false",
    );
    lab.does(&["job", "wait", "lab-1"]);
    let error = lab.fails(&["job", "wait", "lab-1", "lab-2"]);
    assert!(
        error.contains("1 of 2 jobs are not done: lab-2 is failed"),
        "{error}"
    );
    let error = lab.fails(&["job", "wait", "@lab", "--timeout", "1s"]);
    assert!(
        error.contains("after 1s 2 of 3 jobs are not done"),
        "{error}"
    );

    let history = lab.does(&["job", "history", "@lab", "--json"]);
    let history: Vec<Value> = serde_json::from_str(&history).unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(
        (&history[1]["state"], &history[1]["reason"]),
        (&"failed".into(), &"no disk".into())
    );
    assert!(lab.does(&["job", "list"]).contains("no disk"));
}

#[test]
fn jobs_are_cancelled_repeated_and_superseded() {
    let lab = Lab::new();
    let server = lab.serve();
    lab.does(&["host", "set", "@lab", "backup", "--image", "{hostname}"]);
    let (first, second) = (lab.id("lab-1"), lab.id("lab-2"));
    say(&server, &first, 1, READY);
    say(&server, &second, 2, READY);
    let said = lab.does(&["job", "cancel", &second]);
    assert!(
        said.contains("reboots without having touched anything"),
        "{said}"
    );
    assert!(!lab.host_file("0A00000C.toml").exists());
    let told = say(&server, &second, 2, READY);
    assert!(
        told.contains("\"cancelled\"") && told.contains("cancelled by"),
        "{told}"
    );
    let said = lab.does(&["host", "clear", "lab-1"]);
    assert!(
        said.contains(&first) && said.contains("goes on to its end"),
        "{said}"
    );

    let error = lab.fails(&["job", "cancel", "lab-1"]);
    assert!(error.contains("is cancelled, not open"), "{error}");
    lab.does(&["job", "retry", "@lab"]);
    assert_eq!(lab.state("lab-1"), "waiting");
    assert!(lab.host_file("0A00000B.toml").exists());
    assert_ne!(lab.id("lab-1"), first);
    let error = lab.fails(&["job", "retry", "lab-1"]);
    assert!(
        error.contains("is waiting, not failed or cancelled"),
        "{error}"
    );
    let error = lab.fails(&["job", "retry", &first]);
    assert!(error.contains("wait for it, or cancel it first"), "{error}");

    let third = lab.id("lab-3");
    let said = lab.does(&["host", "set", "lab-3", "refresh-info"]);
    assert!(
        said.contains("replaces    the job it had: backup"),
        "{said}"
    );
    let old: Value = serde_json::from_str(&lab.does(&["job", "show", &third, "--json"])).unwrap();
    assert_eq!(old["state"], "superseded");
    assert_eq!(old["superseded-by"].as_str().unwrap(), lab.id("lab-3"));
    assert!(say(&server, &third, 3, READY).contains("took its place"));
}

#[test]
fn a_job_that_is_due_is_set_by_the_server_alone() {
    let lab = Lab::new();
    drop(lab.serve());
    let set = ["host", "set", "lab-1", "refresh-info", "--at", "+1s"];
    let said = lab.does(&set);
    assert!(said.contains("pitstop serve must run then"), "{said}");
    assert!(!lab.host_file("0A00000B.toml").exists());
    let every = [
        "host",
        "set",
        "lab-2",
        "refresh-info",
        "--every",
        "0 0 29 2 *",
    ];
    lab.does(&every);
    assert_eq!(lab.state("lab-1"), "scheduled");
    assert!(lab.does(&["job", "list"]).contains("every 0 0 29 2 *"));
    let _server = lab.serve();
    wait_until("the job is due", || lab.host_file("0A00000B.toml").exists());
    assert_eq!(
        (lab.state("lab-1"), lab.state("lab-2")),
        ("waiting".into(), "scheduled".into())
    );
    lab.does(&["job", "cancel", "lab-2"]);
    let error = lab.fails(&["job", "wait", "lab-2", "--timeout", "1s"]);
    assert!(error.contains("no job to wait for"), "{error}");
}

#[test]
fn the_machine_of_a_job_for_later_is_switched_when_it_is_due() {
    let lab = Lab::new();
    let acts = lab.path().join("acts");
    let shell = format!("echo $1 $2 >> '{}'", acts.display());
    let power =
        format!("[base]\npower = [\"sh\", \"-c\", {shell:?}, \"sh\", \"{{name}}\", \"{{act}}\"]\n");
    fs::write(lab.path().join("fleet.toml"), format!("{LAB}{power}")).unwrap();
    drop(lab.serve());
    let set = ["host", "set", "lab-1", "refresh-info", "--at", "+1s"];
    lab.does(&[&set[..], &["--power", "cycle"]].concat());
    assert!(!acts.exists(), "it was switched before its time");
    let server = lab.serve();
    let begun = || fs::read_to_string(&acts).unwrap_or_default();
    wait_until("the machine is switched", || {
        begun() == "lab-1 pxe\nlab-1 cycle\n"
    });
    wait_until("the journal tells", || {
        server
            .get("/journal")
            .text()
            .contains("lab-1: switched for its job")
    });
    // Set at once, it is the command that switches.
    lab.does(&["host", "set", "lab-2", "refresh-info", "--power", "on"]);
    assert!(begun().ends_with("lab-2 pxe\nlab-2 on\n"), "{}", begun());
    assert_eq!(lab.job("lab-2")["power"], Value::Null);
}

#[test]
fn without_a_server_the_files_tell() {
    let lab = Lab::new();
    let share = lab.path().join("share/10.0.0.11");
    fs::create_dir_all(&share).unwrap();
    let set = [
        "host",
        "set",
        "@lab",
        "refresh-info",
        "--url",
        "http://10.0.2.2:8080",
    ];
    lab.does(&set);
    let text = fs::read_to_string(lab.host_file("0A00000B.toml")).unwrap();
    assert!(!text.contains("check-in"), "{text}");
    let log = "2099-11-28T21:30:00+00:00: 10.0.0.11: error: pitstop: result failed refresh-info: no\x1b[2J disk\n";
    fs::write(share.join("maintenance.log"), log).unwrap();
    assert_eq!(lab.state("lab-1"), "failed");
    fs::remove_file(lab.host_file("0A00000C.toml")).unwrap();
    lab.does(&["job", "wait", "lab-2"]);
    let log = lab.does(&["job", "log", "lab-1"]);
    assert!(
        log.contains("result failed") && !log.contains('\x1b'),
        "{log:?}"
    );
    assert!(lab.fails(&["job", "log", "lab-3"]).contains("there is no"));
}

#[test]
fn slots_and_order_of_one_command_are_kept() {
    let lab = Lab::new();
    fs::write(
        lab.path().join("fleet.toml"),
        LAB.replace("slots = 1", "slots = 9"),
    )
    .unwrap();
    let server = lab.serve();
    lab.does(&[
        "host",
        "set",
        "lab-3",
        "lab-1",
        "lab-2",
        "refresh-info",
        "--slots",
        "1",
        "--order",
        "name",
    ]);
    say(&server, &lab.id("lab-2"), 2, READY);
    let third = say(&server, &lab.id("lab-3"), 3, READY);
    assert!(third.contains("\"place\":1,\"of\":1"), "{third}");
    let first = say(&server, &lab.id("lab-1"), 1, READY);
    assert!(first.contains("\"place\":1,\"of\":2"), "{first}");
    say(&server, &lab.id("lab-2"), 2, "\"state\":\"done\"");
    assert!(say(&server, &lab.id("lab-1"), 1, READY).contains("\"go\""));
}

#[test]
fn who_sits_at_no_terminal_is_asked_nothing() {
    let lab = Lab::new();
    drop(lab.serve());
    let mut command = Command::new(env!("CARGO_BIN_EXE_pitstop"));
    command.args([
        "host", "set", "@lab", "wipe", "--method", "zero", "--disk", "sda",
    ]);
    command.arg("--root").arg(lab.path()).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(lab.jobs("@lab").len(), 3);
}

#[test]
fn at_a_terminal_no_means_no() {
    let lab = Lab::new();
    drop(lab.serve());
    let ask = |answer: &str| {
        let line = format!(
            "{} host set @lab wipe --method zero --disk sda --root {}",
            env!("CARGO_BIN_EXE_pitstop"),
            lab.path().display()
        );
        // script(1) gives the command a terminal.
        let mut child = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), answer.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let no = ask("n\n");
    let said = String::from_utf8_lossy(&no.stdout);
    assert_eq!(no.status.code(), Some(1), "{said}");
    assert!(said.contains("disks lose what is on them? [y/N]"), "{said}");
    assert!(said.contains("nothing was set"), "{said}");
    assert_eq!(lab.jobs("@lab").len(), 0);
    assert!(ask("yes\n").status.success());
    assert_eq!(lab.jobs("@lab").len(), 3);
}

#[test]
fn what_makes_no_sense_at_the_door_is_refused() {
    let lab = Lab::new();
    let server = lab.serve();
    lab.does(&["host", "set", "lab-1", "refresh-info"]);
    let door = format!("/check-in/{}", lab.id("lab-1"));
    for (body, status) in [
        (&b""[..], 400),
        (b"{}", 400),
        (b"\xff\xfe", 400),
        (
            br#"{"version":9,"run":"20261128-213000-aaaa01","state":"ready"}"#,
            400,
        ),
        (
            br#"{"version":1,"run":"../../etc/passwd","state":"ready"}"#,
            400,
        ),
        (&vec![b'['; 16 << 10], 400),
        (&vec![b' '; 100_000], 413),
    ] {
        let answer = post(&server, &door, body);
        assert_eq!(answer.status, status, "{answer:?}");
    }
    let ready = br#"{"version":1,"run":"20261128-213000-aaaa01","state":"ready"}"#;
    for (path, status) in [
        ("/check-in/20261128-213000-ffffff", 404),
        ("/check-in/nobody", 404),
        ("/check-in/%2e%2e%2fhosts", 400),
        ("/check-in/", 405),
    ] {
        let answer = post(&server, path, ready);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    assert_eq!(server.get(&door).status, 405);
    assert_eq!(
        server.get("/jobs/").status,
        404,
        "jobs are nobody's to read"
    );
    assert_eq!(lab.state("lab-1"), "waiting");
}

#[test]
fn a_wrong_command_line_sets_nothing() {
    let lab = Lab::new();
    drop(lab.serve());
    for (words, why) in [
        (&["--at", "yesterday"][..], "is not a time"),
        (&["--at", "2020-01-01 22:00"], "is past"),
        (&["--every", "0 22 * *"], "is not five fields"),
        (&["--every", "0 0 30 2 *"], "never comes"),
        (
            &["--every", "0 22 * * *", "--at", "22:00"],
            "cannot be used with",
        ),
        (&["--slots", "0"], "0 is not in"),
        (&["--order", "fastest"], "given, name and last-done"),
    ] {
        let output = lab.run(&[&["host", "set", "lab-1", "backup"], words].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {error}");
        assert!(error.contains(why), "{words:?}: {error}");
    }
    for words in [
        &["job", "show", "lab-1"][..],
        &["job", "wait", "@lab"],
        &["job", "cancel", "@lab"],
        &["job", "retry", "20261128-213000-ffffff"],
        &["job", "wait", "nobody"],
    ] {
        let error = lab.fails(words);
        assert!(
            error.contains("no ") || error.contains("nobody"),
            "{words:?}: {error}"
        );
    }
    assert_eq!(lab.jobs("@lab").len(), 0);
    // A job's file that makes no sense hides no other.
    lab.does(&["host", "set", "lab-1", "refresh-info"]);
    fs::write(
        lab.path().join("jobs/20261128-213000-ffff.toml"),
        "version = \x1b",
    )
    .unwrap();
    let output = lab.run(&["job", "list"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("lab-1"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("20261128-213000-ffff.toml"));
}

#[test]
fn every_open_job_is_waited_for_and_a_file_that_is_no_job_is_no_good_end() {
    let lab = Lab::new();
    fs::create_dir_all(lab.path().join("share")).unwrap();
    let untracked = ["--url", "http://10.0.2.2:8080"];
    let set = ["host", "set", "lab-1", "refresh-info"];
    lab.does(&[&set[..], &untracked, &["--at", "+2h"]].concat());
    lab.does(&[&set[..], &untracked].concat());
    let now = lab.job("lab-1");
    assert_eq!(now["state"], "waiting");
    fs::remove_file(lab.host_file("0A00000B.toml")).unwrap();
    let error = lab.fails(&["job", "wait", "lab-1", "--timeout", "1s"]);
    assert!(error.contains("lab-1 is scheduled"), "{error}");
    let id = now["id"].as_str().unwrap();
    lab.does(&["job", "cancel", &lab.id("lab-1")]);
    lab.does(&["job", "wait", id]);
    fs::write(lab.path().join("jobs/20261128-120000-ffff.toml"), "x").unwrap();
    let error = lab.fails(&["job", "wait", id]);
    assert!(error.contains("20261128-120000-ffff.toml"), "{error}");
}

#[test]
fn all_are_set_again_or_none() {
    let lab = Lab::new();
    fs::create_dir_all(lab.path().join("share")).unwrap();
    let set = ["host", "set", "@lab", "refresh-info"];
    let untracked = ["--url", "http://10.0.2.2:8080"];
    lab.does(&[&set[..], &untracked].concat());
    let [first, second] = ["lab-1", "lab-2"].map(|name| lab.id(name));
    lab.does(&["job", "cancel", &first, &second]);
    lab.does(&[&["host", "set", "lab-2", "refresh-info"][..], &untracked].concat());
    let error = lab.fails(&["job", "retry", &first, &second]);
    assert!(error.contains("wait for it, or cancel it first"), "{error}");
    assert_eq!(lab.state("lab-1"), "cancelled");
}

#[test]
fn a_room_follows_the_backup_of_one_of_its_machines() {
    let lab = Lab::new();
    let server = lab.serve();
    let set = ["host", "set", "@lab", "restore", "--from", "lab-1"];
    let follow = [&set[..], &["--follow"]].concat();
    let error = lab.fails(&follow);
    assert!(error.contains("lab-1 has no backup to follow"), "{error}");
    assert!(error.contains("pitstop host set lab-1 backup"), "{error}");
    let url = ["--url", "http://10.0.0.9"];
    lab.does(&[&["host", "set", "lab-1", "backup"][..], &url].concat());
    let error = lab.fails(&follow);
    assert!(error.contains("tells no server how it goes"), "{error}");
    lab.does(&["host", "set", "lab-1", "backup"]);
    // Nothing is there yet.
    assert!(lab.fails(&set).contains("there is no image of any disk in"));
    for (more, why) in [
        (&["--image", "x"][..], "name the same thing"),
        (&["--every", "0 22 * * *"], "goes with --at"),
        (
            &["--share", "http://10.0.0.9/share"],
            "would restore from http://10.0.0.9/share",
        ),
        (
            &["--url", "http://10.0.0.9"],
            "start pitstop serve on the root",
        ),
    ] {
        let error = lab.fails(&[&follow[..], more].concat());
        assert!(error.contains(why), "{more:?}: {error}");
    }
    let of_itself = [
        "host", "set", "lab-1", "restore", "--from", "lab-1", "--follow",
    ];
    assert!(
        lab.fails(&of_itself)
            .contains("name those that get its image")
    );
    let no_restore = ["host", "set", "lab-2", "backup", "--from", "lab-1"];
    assert!(lab.fails(&no_restore).contains("backup takes none"));

    let said = lab.does(&follow);
    let golden = lab.id("lab-1");
    assert!(
        said.contains(&format!(
            "each waits until lab-1 is backed up (job {golden})"
        )),
        "{said}"
    );
    assert_eq!(
        lab.job("lab-1")["action"],
        "backup",
        "it does not follow itself"
    );
    let text = fs::read_to_string(lab.host_file("0A00000C.toml")).unwrap();
    assert!(text.contains("image = \"10.0.0.11\"\n"), "{text}");
    assert_eq!(lab.job("lab-2")["follows"], *golden);
    let second = lab.id("lab-2");
    let waits = say(&server, &second, 2, READY);
    assert!(
        waits.contains("\"why\":\"lab-1 is to be backed up first\""),
        "{waits}"
    );
    // The one slot is the backup's.
    assert!(say(&server, &golden, 1, READY).contains("\"go\""));
    assert!(say(&server, &second, 2, READY).contains("is being backed up"));
    let list = lab.does(&["job", "list", "lab-2"]);
    assert!(
        list.contains("queued") && list.contains("lab-1 is being backed up"),
        "{list}"
    );
    say(
        &server,
        &golden,
        1,
        "\"state\":\"failed\",\"reason\":\"no disk\",\"again\":false",
    );
    wait_until("the one that did not come is given up", || {
        lab.state("lab-3") == "failed"
    });
    let error = lab.fails(&["job", "wait", "lab-2", "lab-3"]);
    assert!(error.contains("2 of 2 jobs are not done"), "{error}");
    // Whoever sets the backup again need not tell the others.
    lab.does(&["job", "retry", "lab-1"]);
    assert!(say(&server, &second, 2, READY).contains("is to be backed up first"));
    let golden = lab.id("lab-1");
    assert!(say(&server, &golden, 3, READY).contains("\"go\""));
    fs::remove_file(lab.host_file("0A00000B.toml")).unwrap();
    say(&server, &golden, 3, "\"state\":\"done\"");
    assert!(say(&server, &second, 2, READY).contains("\"go\""));
    say(
        &server,
        &second,
        2,
        "\"state\":\"failed\",\"reason\":\"no disk\",\"again\":false",
    );
    // Another day the image of this one would be an old one.
    lab.does(&["host", "set", "lab-1", "backup-again"]);
    lab.does(&["job", "retry", "lab-2"]);
    let golden = lab.id("lab-1");
    assert_eq!(lab.job("lab-2")["follows"], *golden);
    let second = lab.id("lab-2");
    assert!(say(&server, &second, 4, READY).contains("is to be backed up first"));
}

#[test]
fn a_job_that_is_withdrawn_before_its_time_is_not_its_machines_last() {
    let lab = Lab::new();
    let server = lab.serve();
    let wipe = ["host", "set", "lab-1", "wipe", "--method", "zero"];
    lab.does(&[&wipe[..], &["--disk", "sda", "--at", "+6d", "--yes"]].concat());
    lab.does(&["job", "cancel", "lab-1"]);
    lab.does(&["host", "set", "lab-1", "backup"]);
    let backup = lab.id("lab-1");
    assert!(say(&server, &backup, 1, READY).contains("\"go\""));
    let failed = "\"state\":\"failed\",\"reason\":\"disk died\",\"again\":false";
    say(&server, &backup, 1, failed);
    assert_eq!(lab.job("lab-1")["action"], "backup");
    lab.does(&["job", "retry", "lab-1"]);
    let text = fs::read_to_string(lab.host_file("0A00000B.toml")).unwrap();
    assert!(text.contains("action = \"backup\""), "{text}");
}

#[test]
fn a_machine_at_work_is_not_switched_off_and_tells_its_own_end() {
    let lab = Lab::new();
    let log = lab.path().join("switched");
    let power = format!(
        "[\"sh\", \"-c\", \"echo $1 >> {}\", \"sh\", \"{{act}}\"]",
        log.display()
    );
    let fleet = format!(
        "version = 1\n[network.\"10.0.0.0/24\"]\n[host.a]\nip = \"10.0.0.11\"\npower = {power}\n[host.b]\nip = \"10.0.0.12\"\n"
    );
    fs::write(lab.path().join("fleet.toml"), fleet).unwrap();
    let server = lab.serve();
    lab.does(&[
        "host", "set", "a", "wipe", "--method", "zero", "--disk", "sda", "--yes",
    ]);
    let first = lab.id("a");
    assert!(say(&server, &first, 1, READY).contains("\"go\""));
    let run = format!("{RUN}01");
    for words in [
        &["host", "set", "a", "rescue", "--power", "cycle"][..],
        &["power", "a", "off"],
        &["power", "a", "cycle"],
    ] {
        let error = lab.fails(words);
        for part in ["a is at work: wipe", &first, &run, "--force"] {
            assert!(error.contains(part), "{words:?}: {error}");
        }
    }
    let ask = |force: &str| {
        let body = format!("{{\"machines\":[\"a\"],\"act\":\"cycle\"{force}}}");
        let headers = format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
        server.request("POST", "/api/v1/power", &headers, body.as_bytes())
    };
    let refused = ask("");
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.text().contains("a is at work: wipe"), "{refused:?}");
    assert!(!log.exists());
    assert_eq!(lab.id("a"), first, "nothing is set that is refused");

    let said = lab.does(&["host", "set", "a", "rescue"]);
    assert!(
        said.contains(&format!("at work     wipe, job {first}")),
        "{said}"
    );
    assert_eq!(lab.id("a"), first);
    let said = lab.does(&["host", "set", "a,b", "rescue"]);
    let after = format!(", after the wipe that it is at (job {first})\n");
    assert_eq!(said.matches(&after).count(), 1, "{said}");
    say(&server, &first, 1, "\"state\":\"done\"");
    let history = lab.does(&["job", "history", &first]);
    assert!(history.contains("done"), "{history}");
    assert_eq!(lab.job("a")["action"], "rescue");
    assert!(lab.host_file("0A00000B.toml").exists());

    // Who is asked for by force, and who is at nothing.
    lab.does(&["host", "set", "a", "backup"]);
    let backup = lab.id("a");
    assert!(say(&server, &backup, 2, READY).contains("\"go\""));
    let forced = ask(",\"force\":true");
    assert_eq!(forced.status, 200, "{forced:?}");
    lab.does(&["job", "cancel", "a"]);
    lab.fails(&["power", "a", "off"]);
    lab.does(&["power", "a", "off", "--force"]);
    say(&server, &backup, 2, "\"state\":\"done\"");
    lab.does(&["power", "a", "off"]);
    assert_eq!(fs::read_to_string(log).unwrap(), "cycle\noff\noff\n");
}

#[test]
fn a_job_under_an_old_address_is_given_to_no_other_machine() {
    let lab = Lab::new();
    let write = |a: u8, b: u8| {
        let host = |name: &str, ip: u8, card: u8| {
            format!("[host.{name}]\nip = \"10.0.0.{ip}\"\nmac = \"52:54:00:00:0c:0{card}\"\n")
        };
        let text = format!(
            "version = 1\n[network.\"10.0.0.0/24\"]\n{}{}",
            host("a", a, 1),
            host("b", b, 2)
        );
        fs::write(lab.path().join("fleet.toml"), text).unwrap();
    };
    write(11, 12);
    let server = lab.serve();
    lab.does(&[
        "host", "set", "a", "wipe", "--method", "zero", "--disk", "sda", "--yes",
    ]);
    let wipe = lab.id("a");
    let asks = |card: u8, ip: u8| {
        let path = format!("/ipxe?mac=52:54:00:00:0c:0{card}&ip=10.0.0.{ip}");
        server.get(&path).text().contains("0A00000B.toml")
    };
    assert!(asks(1, 11));
    // Its address from another DHCP server, and a stranger.
    assert!(!asks(2, 11) && !asks(9, 11));
    write(12, 11);
    assert!(!asks(2, 11) && !asks(2, 50));
    let checked = lab.run(&["fleet", "check"]);
    let told = String::from_utf8(checked.stderr).unwrap();
    for part in [&wipe, "10.0.0.11, which is b's", "a has 10.0.0.12 now"] {
        assert!(told.contains(part), "{told}");
    }
    // Its host file is still there when it has failed.
    assert!(say(&server, &wipe, 1, READY).contains("\"go\""));
    let failed = "\"state\":\"failed\",\"reason\":\"no disk\",\"again\":false";
    say(&server, &wipe, 1, failed);
    assert_eq!(lab.state("a"), "failed");
    assert!(lab.host_file("0A00000B.toml").exists());
    assert!(!asks(2, 11) && !asks(9, 11));
    let checked = lab.run(&["fleet", "check"]);
    let told = String::from_utf8(checked.stderr).unwrap();
    assert!(told.contains("pitstop host clear a"), "{told}");
    lab.does(&["host", "set", "a", "rescue"]);
    assert_eq!(lab.job("a")["action"], "rescue");
    assert!(!lab.host_file("0A00000B.toml").exists());
    assert_eq!(lab.run(&["fleet", "check"]).stderr, b"");
    // Back again: the next job of a goes where that of b waits.
    lab.does(&["host", "set", "b", "refresh-info"]);
    write(11, 12);
    let told = lab.does(&["host", "set", "a", "rescue"]);
    assert!(told.contains("warning     b's job"), "{told}");
    let removed = lab.run(&["fleet", "remove", "a"]);
    let told = String::from_utf8(removed.stderr).unwrap();
    assert!(told.contains("pitstop job cancel"), "{told}");
}
