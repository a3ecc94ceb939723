//! Encrypted images and machines: whole runs, by the payload's own code, against the real server over TLS; and whoever tries to
//! have a key that is not theirs.

mod common;
mod store_common;

use common::{Server, fails, pitstop, run, text};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use pitstop_protocol::credentials::{Access, Credentials};
use pitstop_protocol::unlock::{Locked, UnlockAt, Unlocked, VERSION};
use pitstop_transport::fetch::{HttpClient, Posted, Roots, Settings, post};
use pitstop_transport::share::unlock::unlock;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use store_common::{Ended, Machine, as_loopback, noise};
use url::Url;

const MIB: usize = 1 << 20;
const HOST_FILE: &str = "hosts/0A00020F.toml";
const MACHINE: &str = "10.0.2.15";

/// A root with its authority, and keys of age-keygen's.
struct Lab {
    folder: tempfile::TempDir,
}

fn tool(command: &mut Command) -> Vec<u8> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output.stdout
}

impl Lab {
    fn new() -> Self {
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for folder in ["root", "ca"] {
            fs::create_dir(lab.folder.path().join(folder)).unwrap();
        }
        fs::write(
            lab.at("ca/lab.pem"),
            text(&run(&["tls", "ca", "--root", &lab.at("root")])),
        )
        .unwrap();
        for name in ["lab.txt", "other.txt"] {
            tool(Command::new("age-keygen").arg("-o").arg(lab.at(name)));
        }
        lab
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn recipient(&self, name: &str) -> String {
        let public = tool(Command::new("age-keygen").arg("-y").arg(self.at(name)));
        String::from_utf8(public).unwrap().trim().to_owned()
    }

    /// The server, with more arguments; it may be started again on the same port.
    fn serve(&self, listen: &str, more: &[&str]) -> Server {
        let keys = self.at("lab.txt");
        let arguments = [
            "--tls",
            "--tls-listen",
            listen,
            "--machine-access",
            "token",
            "--identities",
            &keys,
        ];
        let server = Server::start_in(
            Path::new(&self.at("root")),
            &[&arguments[..], more].concat(),
        );
        as_loopback(&server);
        server
    }

    /// Sets the job of a machine.
    fn set(&self, machine: &str, words: &[&str]) {
        let output = pitstop()
            .args(["host", "set", machine])
            .args(words)
            .args(["--force", "--retry-for", "60s", "--root", &self.at("root")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn host_file(&self) -> toml::Table {
        let text = fs::read_to_string(self.at(&format!("root/{HOST_FILE}"))).unwrap();
        toml::from_str(&text).unwrap()
    }

    /// Boots the machine, which trusts the lab's authority as one that `mkimage --ca` was made with does.
    fn boots(&self, machine: &Machine, server: &Server) -> Ended {
        let host = format!("https://{}/hosts/", server.https.unwrap());
        let authority = fs::read(self.at("ca/lab.pem")).unwrap();
        std::thread::scope(|scope| {
            let booted = scope.spawn(|| {
                // Its own /etc, that nobody else sees.
                unshare(CloneFlags::CLONE_NEWNS).expect("run the tests as root");
                let none = None::<&str>;
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(none, "/", none, private, none).unwrap();
                // What other tests have mounted is theirs alone.
                let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
                let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
                for point in points.filter(|point| point.starts_with("/tmp/")) {
                    let _ = umount2(point, MntFlags::MNT_DETACH);
                }
                mount(Some("tmpfs"), "/etc", Some("tmpfs"), MsFlags::empty(), none).unwrap();
                fs::create_dir_all("/etc/pitstop/ca").unwrap();
                fs::write("/etc/pitstop/ca/lab.pem", authority).unwrap();
                machine.run_by(&host)
            });
            booted.join().unwrap()
        })
    }

    fn succeeds(&self, machine: &Machine, server: &Server, action: &str) -> Ended {
        let ended = self.boots(machine, server);
        let ok = format!("pitstop: result ok {action}");
        assert_eq!(ended.line, ok, "{}", ended.console);
        ended
    }

    fn fails(&self, machine: &Machine, server: &Server, why: &str) {
        let ended = self.boots(machine, server);
        assert!(ended.line.contains("result failed"), "{}", ended.line);
        assert!(ended.line.contains(why), "{why:?} is not in {}", ended.line);
    }

    /// An image of a disk with this content in a folder of the share, for one of the keys.
    fn image(&self, folder: &str, content: &[u8], key: &str) -> String {
        let image = self.at(&format!("root/share/{folder}/sda.raw.gz.age"));
        fs::create_dir_all(Path::new(&image).parent().unwrap()).unwrap();
        fs::write(self.at("disk"), content).unwrap();
        let recipient = self.recipient(key);
        let disk = self.at("disk");
        text(&run(&[
            "backup",
            &disk,
            &image,
            "--force",
            "--recipient",
            &recipient,
        ]));
        image
    }

    fn settings(&self, access: Option<Access>) -> Settings {
        Settings {
            roots: Roots::Folder(self.at("ca").into()),
            access,
            ..Settings::default()
        }
    }
}

/// What a program asks that has a machine's job and more than it should.
struct Question<'a> {
    lab: &'a Lab,
    url: Url,
    job: String,
    token: Option<String>,
}

/// A status, and what was said with it.
#[derive(Debug)]
enum Told {
    Key(Vec<u8>),
    No(String),
}

impl<'a> Question<'a> {
    /// As the machine's own, of the job that it has now.
    fn of(lab: &'a Lab, server: &Server) -> Self {
        let file = lab.host_file();
        let report = file["report"].as_str().unwrap();
        Self {
            lab,
            url: format!("https://{}/unlock", server.https.unwrap())
                .parse()
                .unwrap(),
            job: report.rsplit('/').next().unwrap().to_owned(),
            token: Some(file["report-token"].as_str().unwrap().to_owned()),
        }
    }

    fn ask(&self, image: &str, head: &[u8]) -> Told {
        let locked = Locked {
            version: VERSION,
            job: self.job.parse().unwrap(),
            address: "10.0.2.15".parse().unwrap(),
            image: image.into(),
            head: String::from_utf8_lossy(head),
        };
        self.send(locked.to_bytes().unwrap())
    }

    fn send(&self, body: Vec<u8>) -> Told {
        let access = self.token.clone().map(|token| {
            let credentials = Credentials::Bearer { token };
            Access::new(credentials, [&self.url])
        });
        let http = HttpClient::new(self.lab.settings(access)).unwrap();
        let kind = "application/json";
        match post(&http, &self.url, kind, body, 4096).unwrap() {
            Posted::Answer(bytes) => {
                let unlocked = Unlocked::parse(&bytes).unwrap();
                Told::Key(unlocked.key.bytes().to_vec())
            }
            Posted::Refused(why) | Posted::NoSuchPlace(why) => Told::No(why),
        }
    }

    fn is_refused(&self, image: &str, head: &[u8], why: &str) {
        match self.ask(image, head) {
            Told::No(told) => assert!(told.contains(why), "{why:?} is not in {told:?}"),
            Told::Key(_) => panic!("{image}: the key was given"),
        }
    }
}

fn head(image: &str) -> Vec<u8> {
    let file = fs::read(image).unwrap();
    let mac = file.windows(5).position(|five| five == b"\n--- ").unwrap();
    let end = file[mac + 1..]
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap();
    file[..=mac + 1 + end].to_vec()
}

#[test]
fn a_machine_makes_an_encrypted_image_and_restores_it_and_no_key_is_written_down() {
    let lab = Lab::new();
    let server = lab.serve("127.0.0.1:0", &[]);
    let machine = Machine::new();
    let content = noise(1, 6 * MIB);
    let disk = machine.disk(&content);
    let recipient = lab.recipient("lab.txt");
    // What a machine left that lost its power: of another key, and of no use.
    let left = Path::new(&lab.at("root/share/10.0.2.15")).join("sda.raw.gz.age.new.part");
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    fs::write(&left, noise(9, 3 * MIB)).unwrap();
    lab.set(MACHINE, &["backup", "--recipient", &recipient]);
    lab.succeeds(&machine, &server, "backup");
    assert!(!left.exists());
    let image = lab.at("root/share/10.0.2.15/sda.raw.gz.age");
    let mut age = Command::new("age");
    let packed = tool(age.args(["-d", "-i", &lab.at("lab.txt"), &image]));
    fs::write(lab.at("plain.gz"), packed).unwrap();
    assert!(tool(Command::new("zcat").arg(lab.at("plain.gz"))) == content);

    fs::write(&disk, vec![0xee; 6 * MIB]).unwrap();
    lab.set(MACHINE, &["restore", "--verify"]);
    let question = Question::of(&lab, &server);
    let Told::Key(key) = question.ask("10.0.2.15/sda.raw.gz.age", b"") else {
        panic!("its own image's key is given");
    };
    let ended = lab.succeeds(&machine, &server, "restore");
    assert!(fs::read(&disk).unwrap() == content);
    assert!(
        ended.console.contains("has given its key"),
        "{}",
        ended.console
    );
    // The job is over.
    question.is_refused("10.0.2.15/sda.raw.gz.age", b"", "the job is over");

    // Who got it is known, and nothing has the key.
    let audit = fs::read_to_string(lab.at("root/people/audit.log")).unwrap();
    for told in [
        "key of an image",
        "10.0.2.15/sda.raw.gz.age",
        "\"done\"",
        "\"refused\"",
    ] {
        assert!(audit.contains(told), "{told} is not in {audit}");
    }
    let hex = key.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    let mut grep = Command::new("grep");
    let found = grep
        .args(["-r", "-l", "-i", "-e", &hex, &lab.at("root")])
        .output();
    assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
    assert!(!ended.console.contains(&hex));
}

#[test]
fn nobody_gets_the_key_of_another_image_or_for_another_job() {
    let lab = Lab::new();
    let server = lab.serve("127.0.0.1:0", &[]);
    let golden = lab.image("golden", &noise(2, MIB), "lab.txt");
    let secret = lab.image("secret", &noise(3, MIB), "lab.txt");
    lab.image("foreign", &noise(4, MIB), "other.txt");
    let golden_path = "golden/sda.raw.gz.age";

    lab.set(MACHINE, &["restore", "--image", "golden"]);
    let own = Question::of(&lab, &server);
    let Told::Key(key) = own.ask(golden_path, b"") else {
        panic!("its own image's key is given");
    };
    // Whatever the machine shows: on its own share the server looks for itself.
    let Told::Key(shown) = own.ask(golden_path, &head(&secret)) else {
        panic!("its own image's key is given");
    };
    assert_eq!(shown, key);
    own.is_refused(
        "secret/sda.raw.gz.age",
        &head(&golden),
        "no encrypted image that this job",
    );
    own.is_refused(
        "golden/../secret/sda.raw.gz.age",
        b"",
        "no encrypted image that this job",
    );
    own.is_refused("golden/none.raw.gz.age", b"", "none.raw.gz.age");
    let none = Question {
        token: None,
        ..Question::of(&lab, &server)
    };
    none.is_refused(golden_path, b"", "shows the report-token");
    let wrong = Question {
        token: Some("0".repeat(32)),
        ..Question::of(&lab, &server)
    };
    wrong.is_refused(golden_path, b"", "this is no token of a run");
    // Who tries to guess one is known to the admin.
    let audit = fs::read_to_string(lab.at("root/people/audit.log")).unwrap();
    let guess = audit.lines().last().unwrap();
    assert!(
        guess.contains("\"how\":\"nobody\"") && guess.contains("\"refused\""),
        "{guess}"
    );
    let no_job = Question {
        job: "20200101-000000-0000".into(),
        ..Question::of(&lab, &server)
    };
    no_job.is_refused(golden_path, b"", "this is no token of a run");
    for (body, why) in [
        (b"rubbish".to_vec(), "it asks for no key"),
        (vec![b' '; 200 << 10], "a question has at most"),
    ] {
        let Told::No(told) = own.send(body) else {
            panic!("a key was given for rubbish")
        };
        assert!(told.contains(why), "{told}");
    }
    // Plain http has no such door.
    let open = server.request("POST", "/unlock", "Content-Length: 0\r\n", b"");
    assert_eq!(open.status, 403, "{open:?}");

    // Cut short, with a thousand recipients, or of somebody else's key.
    let whole = fs::read(&golden).unwrap();
    let cut = &whole[..50];
    let text = String::from_utf8(head(&golden)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let stanzas = format!("{}\n{}\n", lines[1], lines[2]).repeat(1_000);
    let many = format!("{}\n{stanzas}{}\n", lines[0], lines[3]);
    for (bytes, why) in [
        (cut, "does not end"),
        (many.as_bytes(), "too many"),
        (&whole[..0], "is not encrypted by age"),
    ] {
        fs::write(&golden, bytes).unwrap();
        own.is_refused(golden_path, &head(&secret), why);
    }
    lab.set(MACHINE, &["restore", "--image", "foreign"]);
    own.is_refused(golden_path, b"", "over");
    let foreign = Question::of(&lab, &server);
    foreign.is_refused("foreign/sda.raw.gz.age", b"", "for other keys");
    // The token of the job before it is another machine's as far as this image goes.
    let mixed = Question {
        job: own.job.clone(),
        ..Question::of(&lab, &server)
    };
    mixed.is_refused("foreign/sda.raw.gz.age", b"", "this is no token of a run");
    // A job that writes images has no use for their keys.
    lab.set(MACHINE, &["backup-again", "--image", "secret"]);
    let backup = Question::of(&lab, &server);
    backup.is_refused(
        "secret/sda.raw.gz.age",
        b"",
        "no encrypted image that this job",
    );
}

#[test]
fn encryption_does_not_say_whose_an_image_is_and_a_digest_does() {
    let lab = Lab::new();
    let server = lab.serve("127.0.0.1:0", &[]);
    let machine = Machine::new();
    let untouched = vec![9; MIB];
    let disk = machine.disk(&untouched);
    let image = lab.image(MACHINE, &noise(5, MIB), "lab.txt");
    let shown = text(&run(&[
        "inspect",
        &image,
        "--json",
        "--identity",
        &lab.at("lab.txt"),
    ]));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let digest = shown["digest"].as_str().unwrap().to_owned();
    let meant = |digest: &str| {
        lab.set(MACHINE, &["restore"]);
        let file = lab.at(&format!("root/{HOST_FILE}"));
        let mut text = fs::read_to_string(&file).unwrap();
        writeln!(text, "digests = {{ \"sda.raw.gz.age\" = \"{digest}\" }}").unwrap();
        fs::write(&file, text).unwrap();
    };
    // Who owns the share knows the public key, as everybody does.
    lab.image(MACHINE, &noise(6, MIB), "lab.txt");
    meant(&digest);
    lab.fails(&machine, &server, "is not what the job was made for");
    assert!(fs::read(&disk).unwrap() == untouched);
    lab.set(MACHINE, &["restore", "--distribute", "swarm"]);
    lab.fails(
        &machine,
        &server,
        "would hand what is in it to other machines",
    );
    assert!(fs::read(&disk).unwrap() == untouched);
    // A byte that was changed is found where it is read.
    let mut bytes = fs::read(&image).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&image, bytes).unwrap();
    lab.set(MACHINE, &["restore"]);
    lab.fails(&machine, &server, "is damaged or was changed");
}

#[test]
fn of_a_share_elsewhere_the_machine_is_believed_only_where_somebody_allows_it() {
    let lab = Lab::new();
    let plain = Server::start();
    let share = format!("http://{}/share", plain.http);
    let content = noise(7, MIB);
    let image = lab.image("elsewhere", &content, "lab.txt");
    fs::create_dir(plain.path("share/golden")).unwrap();
    fs::rename(&image, plain.path("share/golden/sda.raw.gz.age")).unwrap();
    let machine = Machine::new();
    let disk = machine.disk(&vec![9; MIB]);
    let server = lab.serve("127.0.0.1:0", &[]);
    let set = || {
        lab.set(
            MACHINE,
            &["restore", "--image", "golden", "--share", &share],
        );
    };
    set();
    lab.fails(&machine, &server, "--unlock-elsewhere believes the machine");
    drop(server);
    let server = lab.serve("127.0.0.1:0", &["--unlock-elsewhere"]);
    set();
    lab.succeeds(&machine, &server, "restore");
    assert!(fs::read(&disk).unwrap() == content);
    // Also there for the job's image alone.
    set();
    let question = Question::of(&lab, &server);
    let header = head(plain.path("share/golden/sda.raw.gz.age").to_str().unwrap());
    question.is_refused(
        "other/sda.raw.gz.age",
        &header,
        "no encrypted image that this job",
    );
    question.is_refused(
        "golden/sda.raw.gz.age",
        b"rubbish",
        "is not encrypted by age",
    );
    assert!(matches!(
        question.ask("golden/sda.raw.gz.age", &header),
        Told::Key(_)
    ));
}

#[test]
fn an_encrypted_tree_is_opened_by_the_same_door() {
    let lab = Lab::new();
    let server = lab.serve("127.0.0.1:0", &[]);
    let root = lab.at("root");
    fs::create_dir_all(lab.at("system/etc")).unwrap();
    fs::write(lab.at("system/etc/motd"), "hello\n").unwrap();
    let (system, file) = (lab.at("system"), lab.at("1.tar.gz.age"));
    let recipient = lab.recipient("lab.txt");
    text(&run(&[
        "tree",
        "capture",
        &system,
        &file,
        "--recipient",
        &recipient,
    ]));
    fs::create_dir_all(lab.at("root/share/trees/web")).unwrap();
    fs::rename(&file, lab.at("root/share/trees/web/1.tar.gz.age")).unwrap();
    let about = format!("{file}.toml");
    fs::rename(about, lab.at("root/share/trees/web/1.toml")).unwrap();
    fs::write(lab.at("root/share/trees/web/current"), "1\n").unwrap();
    lab.set(MACHINE, &["run", "--tree", "web"]);
    // What is in it was read: it has no program to go on in.
    lab.fails(&Machine::new(), &server, "has no /sbin/init");

    // The command takes the key itself, and lists and removes the version as any other.
    let key = lab.at("lab.txt");
    let tree = |words: &[&str]| run(&[&["tree"], words, &["--root", &root]].concat());
    assert!(fails(&tree(&["inspect", "web"])).contains("--identity-file"));
    let shown = text(&tree(&[
        "cat",
        "web@1",
        "/etc/motd",
        "--identity-file",
        &key,
    ]));
    assert_eq!(shown, "hello\n");
    assert!(text(&tree(&["list"])).contains("web"));
    let again = fails(&tree(&["capture", &system, "web@1"]));
    assert!(again.contains("has a version 1 already"), "{again}");
    text(&tree(&["capture", &system, "web@2"]));
    text(&tree(&["prune", "web", "--keep", "1"]));
    assert!(!Path::new(&lab.at("root/share/trees/web/1.tar.gz.age")).exists());
}

#[test]
fn hooks_of_a_machine_get_their_secrets_and_no_log_has_them() {
    let lab = Lab::new();
    let server = lab.serve("127.0.0.1:0", &[]);
    let root = lab.at("root");
    let at = |path: &str| lab.at(&format!("root/share/{path}"));
    for folder in ["system/etc", "root/share/hooks", "root/share/secrets"] {
        fs::create_dir_all(lab.at(folder)).unwrap();
    }
    fs::write(lab.at("system/etc/motd"), "hello\n").unwrap();
    let capture = ["tree", "capture", &lab.at("system"), "web", "--root", &root];
    text(&run(&capture));
    fs::write(
        at("hooks/10-join.sh"),
        "#!/bin/sh\n. \"$PITSTOP_SECRETS\"\n",
    )
    .unwrap();
    fs::write(lab.at("web.env"), "TOKEN=s3cret-of-the-lab\n").unwrap();
    for (name, key) in [("web", "lab.txt"), ("other", "other.txt")] {
        let recipient = lab.recipient(key);
        let file = at(&format!("secrets/{name}.env.age"));
        let mut age = Command::new("age");
        tool(age.args(["-r", &recipient, "-o", &file, &lab.at("web.env")]));
    }
    let machine = Machine::new();
    machine.disk(&noise(1, 2 * MIB));
    let deploy = |secrets: &str| {
        let hook = "hooks/10-join.sh";
        let words = [
            "deploy",
            "--tree",
            "web",
            "--hook",
            hook,
            "--secrets",
            secrets,
        ];
        lab.set(MACHINE, &words);
    };
    deploy("secrets/web.env.age");
    let question = Question::of(&lab, &server);
    question.is_refused(
        "secrets/other.env.age",
        b"",
        "no encrypted image that this job",
    );
    // All else was read: this tree never was on a disk.
    let ended = lab.boots(&machine, &server);
    let why = "does not say how its disk was laid out";
    assert!(ended.line.contains(why), "{}", ended.line);
    let given = ended
        .console
        .lines()
        .any(|line| line.contains("secrets/web.env.age") && line.contains("has given its key"));
    assert!(given, "{}", ended.console);
    let audit = fs::read_to_string(lab.at("root/people/audit.log")).unwrap();
    assert!(audit.contains("secrets/web.env.age"), "{audit}");
    let mut grep = Command::new("grep");
    let found = grep.args(["-r", "-l", "s3cret-of-the-lab", &root]).output();
    assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
    assert!(!ended.console.contains("s3cret-of-the-lab"));
    // For another key the disk is not looked at.
    deploy("secrets/other.env.age");
    lab.fails(&machine, &server, "secrets/other.env.age");
}

#[test]
fn a_server_that_comes_back_goes_on_giving_keys() {
    let lab = Lab::new();
    let listen = format!("127.0.0.1:{}", pitstop_testing::ports::free_port());
    let server = lab.serve(&listen, &[]);
    lab.image("golden", &noise(8, MIB), "lab.txt");
    lab.set(MACHINE, &["restore", "--image", "golden"]);
    let question = Question::of(&lab, &server);
    let at = UnlockAt {
        url: question.url.clone(),
        job: question.job.parse().unwrap(),
        credentials: Credentials::Bearer {
            token: question.token.clone().unwrap(),
        },
    };
    drop(server);
    let locked = Locked {
        version: VERSION,
        job: at.job.clone(),
        address: "10.0.2.15".parse().unwrap(),
        image: "golden/sda.raw.gz.age".into(),
        head: "".into(),
    };
    let settings = lab.settings(None);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| unlock(&settings, &at, &locked));
        let server = lab.serve(&listen, &[]);
        asked.join().unwrap().unwrap();
        drop(server);
    });
}

#[test]
fn a_server_gives_keys_over_https_to_known_machines_or_does_not_start() {
    let lab = Lab::new();
    let key = lab.at("lab.txt");
    let serve = |words: &[&str]| {
        let all = [
            "serve",
            "--root",
            &lab.at("root"),
            "--listen",
            "127.0.0.1:0",
            "--tftp",
            "off",
        ];
        run(&[&all[..], words].concat())
    };
    let tls = ["--tls", "--tls-listen", "127.0.0.1:0", "--identities", &key];
    let token = ["--machine-access", "token"];
    let without_tls = serve(&[&tls[3..], &token[..]].concat());
    assert!(fails(&without_tls).contains("wants --tls"));
    assert!(fails(&serve(&tls)).contains("wants --machine-access token"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let both = [&tls[..], &token[..]].concat();
    assert!(fails(&serve(&both)).contains("chmod 600"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, "rubbish s3cret\n").unwrap();
    let error = fails(&serve(&both));
    assert!(
        error.contains("line 1 is no secret key") && !error.contains("s3cret"),
        "{error}"
    );
}

#[test]
fn a_machine_has_the_passphrase_of_its_deploy_from_its_server_and_no_log_has_it() {
    let lab = Lab::new();
    let server = lab.serve("127.0.0.1:0", &[]);
    let machine = Machine::new();
    machine.disk(&noise(1, 6 * MIB));
    fs::create_dir_all(lab.at("tree/etc")).unwrap();
    fs::write(lab.at("tree/etc/fstab"), "").unwrap();
    let (tree, share) = (lab.at("tree"), lab.at("root/share"));
    text(&run(&["tree", "import", &tree, "web", "--share", &share]));
    fs::create_dir_all(lab.at("root/share/10.0.2.15")).unwrap();
    let layout = "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"luks\"\nsize = \"fill\"\n\
                  [[luks]]\nname = \"system\"\non = 1\nfilesystem = \"ext4\"\nmount = \"/\"\n";
    fs::write(lab.at("root/share/10.0.2.15/luks.toml"), layout).unwrap();
    fs::write(lab.at("plain"), "correct horse\n").unwrap();
    let encrypt = |recipient: &str| {
        let to = lab.at("root/share/10.0.2.15/luks.key.age");
        let mut age = Command::new("age");
        tool(age.args(["-r", recipient, "-o", &to, &lab.at("plain")]));
    };
    encrypt(&lab.recipient("lab.txt"));
    let job = ["deploy", "--tree", "web", "--layout", "luks.toml"];
    lab.set(
        MACHINE,
        &[&job[..], &["--luks-key", "luks.key.age"]].concat(),
    );
    let question = Question::of(&lab, &server);
    question.is_refused("10.0.2.15/other.key.age", b"", "no encrypted image");
    // It has all that it needs, and its disk is none that could be encrypted here.
    let ended = lab.boots(&machine, &server);
    let why = "is a file, and arrays, LUKS and volumes are made on disks";
    assert!(ended.line.contains(why), "{}", ended.line);
    let given = "/share is encrypted: https://";
    assert!(ended.console.contains(given), "{}", ended.console);
    assert!(!ended.console.contains("horse"), "{}", ended.console);
    let mut grep = Command::new("grep");
    let found = grep.args(["-r", "-l", "horse", &lab.at("root")]).output();
    assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");

    encrypt(&lab.recipient("other.txt"));
    lab.fails(&machine, &server, "reading the passphrase for LUKS");
}
