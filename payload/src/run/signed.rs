//! Machines that do signed jobs alone. Keys and signatures are minisign's own: the tests need that program.

use super::site::{Ended, MIB, Site, noise};
use super::*;
use pitstop_imaging::image::OpenedImage;
use pitstop_protocol::digest::Digest;
use pitstop_protocol::job::{After, Clock, JobKey, JobKeys};
use pitstop_transport::fetch::fake::FakeServer;
use pitstop_transport::share::DirectoryShare;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const MAC: &str = "52:54:00:12:34:56";
const IMAGE: &str = "10.0.2.15/sda.raw.gz";

/// Somebody with a key of his own.
pub(crate) struct Signer(tempfile::TempDir);

fn minisign(arguments: &[&str]) {
    let run = Command::new("minisign")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the package minisign is installed");
    assert!(run.status.success(), "{arguments:?}: {run:?}");
}

impl Signer {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signer = Self(folder);
        minisign(&[
            "-G",
            "-W",
            "-p",
            &signer.path("k.pub"),
            "-s",
            &signer.path("k.sec"),
        ]);
        signer
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn key(&self) -> JobKey {
        JobKey::parse(&fs::read(self.path("k.pub")).unwrap()).unwrap()
    }

    pub(crate) fn keys(&self) -> JobKeys {
        JobKeys::new(vec![self.key()]).unwrap()
    }

    pub(crate) fn sign(&self, file: &Path) {
        let file = file.display().to_string();
        minisign(&[
            "-S",
            "-W",
            "-s",
            &self.path("k.sec"),
            "-m",
            &file,
            "-t",
            "lab7: go",
        ]);
    }
}

/// A machine with a disk and its image, whose next job is to be signed.
struct Lab {
    site: Site,
    admin: Signer,
    now: Vec<u8>,
    stored: Vec<u8>,
}

impl Lab {
    fn new() -> Self {
        let stored = noise(1, 2 * MIB);
        let mut site = Site::with_disk(&stored);
        site.set("backup", "");
        site.succeeds("backup");
        let admin = Signer::new();
        site.rules.keys = JobKeys::new(vec![admin.key()]);
        let lab = Self {
            site,
            admin,
            now: noise(2, 2 * MIB),
            stored,
        };
        fs::write(lab.node(), &lab.now).unwrap();
        lab
    }

    fn node(&self) -> PathBuf {
        self.site.fake.dev().join("sda")
    }

    fn digest(&self) -> Digest {
        let share = DirectoryShare::open(&self.site.on_share("")).unwrap();
        let image = OpenedImage::open(share.image(IMAGE).unwrap()).unwrap();
        Digest::from(image.digest().unwrap())
    }

    /// The terms of a good restore.
    fn terms(&self) -> String {
        format!(
            "for = {{ mac = \"{MAC}\" }}\ndisks = [{{ serial = \"QM00001\" }}]\ndigests = {{ \"sda.raw.gz\" = \"{}\" }}\n\
             not-after = \"2099-01-01T00:00:00Z\"\nid = \"one\"\n",
            self.digest()
        )
    }

    fn set(&self, terms: &str) {
        self.site.set("restore", terms);
        self.admin.sign(&self.site.host_file());
    }

    /// The job fails for this reason, and the disk has what it had.
    fn refuses(&self, parts: &[&str]) -> Ended {
        let ended = self.site.run();
        self.is_refused(&ended, parts);
        ended
    }

    fn is_refused(&self, ended: &Ended, parts: &[&str]) {
        let line = &ended.finish.result_line;
        assert!(
            line.starts_with("pitstop: result failed restore: "),
            "{line}"
        );
        for part in parts {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
        assert!(
            fs::read(self.node()).unwrap() == self.now,
            "the disk was written: {line}"
        );
        assert!(self.site.host_file().exists(), "the configuration stays");
        assert!(!ended.finish.shells, "a failure opens no shell");
    }

    fn restores(&self) -> Ended {
        let ended = self.site.succeeds("restore");
        assert!(
            fs::read(self.node()).unwrap() == self.stored,
            "{}",
            ended.console
        );
        ended
    }
}

#[test]
fn a_signed_job_is_done_once_and_never_again() {
    let lab = Lab::new();
    let terms = lab.terms();
    lab.set(&terms);
    let ended = lab.restores();
    assert!(
        ended.console.contains("the host file is signed: lab7: go"),
        "{}",
        ended.console
    );
    let note = lab.site.text("signed-jobs/one.toml");
    assert!(note.contains("finished = ") && note.contains(MAC), "{note}");

    // Set again, as whoever kept the file would do; the server remembers nothing.
    fs::write(lab.node(), &lab.now).unwrap();
    lab.set(&terms);
    let ended = lab.refuses(&["the job one was done at 2", "give it another id"]);
    assert_eq!(ended.finish.then, After::Reboot);
    let log = lab.site.text("maintenance.log");
    assert!(
        log.contains("the job one was done at"),
        "the share's log tells it: {log}"
    );

    lab.set(&terms.replace("\"one\"", "\"two\""));
    lab.restores();
}

#[test]
fn what_is_not_signed_by_the_key_is_not_done() {
    let lab = Lab::new();
    let terms = lab.terms();
    lab.site.set("restore", &terms);
    lab.refuses(&["it is not signed: there is no ", "0A00020F.toml.minisig"]);

    let stranger = Signer::new();
    stranger.sign(&lab.site.host_file());
    lab.refuses(&["signed with another key"]);

    let signature = lab.site.host_file().with_extension("toml.minisig");
    for wrong in ["", "<html>", "untrusted comment: x\nAAAA\n"] {
        fs::write(&signature, wrong).unwrap();
        lab.refuses(&["no minisign signature"]);
    }

    // The signature of an older file.
    lab.set(&terms);
    lab.site.set("restore", &terms.replace("2099", "2098"));
    let ended = lab.refuses(&["was changed after signing"]);
    // What it says of shares and policies may be anybody's.
    assert!(
        !lab.site.text("maintenance.log").contains("after signing"),
        "{}",
        ended.console
    );
    assert_eq!(ended.finish.then, After::Reboot);

    let policy = format!("{terms}on-failure = \"rescue\"\n");
    lab.site.set("restore", &policy);
    let ended = lab.refuses(&["was changed after signing"]);
    assert_eq!(
        ended.finish.then,
        After::Reboot,
        "a forged policy counts for nothing"
    );

    lab.set(&terms);
    lab.restores();
}

#[test]
fn an_image_that_has_to_be_signed_is_not_written_without() {
    let mut lab = Lab::new();
    let about = lab.site.on_share(&format!("{IMAGE}.toml"));
    let all = lab.terms();
    let terms: String = all
        .lines()
        .filter(|line| !line.starts_with("digests"))
        .flat_map(|line| [line, "\n"])
        .collect();
    // The signature stands for the digest that a signed job else needs.
    lab.set(&terms);
    lab.refuses(&["key \"digests\": a signed job needs it"]);
    let terms = format!("{terms}signed = true\n");
    lab.set(&terms);
    lab.refuses(&["sda.raw.gz.toml is not signed: there is no "]);
    Signer::new().sign(&about);
    lab.refuses(&["sda.raw.gz.toml: it is signed with another key"]);
    // The right key's, of another image; of the right chunks, on a disk that says something else.
    let right = fs::read_to_string(&about).unwrap();
    lab.admin.sign(&about);
    for (from, to, why) in [
        ("blake3 = \"", "blake3 = \"0", "it is of another image"),
        ("size = ", "size = 1", "something else of the disk"),
    ] {
        fs::write(&about, right.replacen(from, to, 1)).unwrap();
        lab.refuses(&["was changed after signing"]);
        lab.admin.sign(&about);
        lab.refuses(&[why]);
    }
    fs::write(&about, &right).unwrap();
    lab.admin.sign(&about);
    lab.restores();

    // A key of images asks for a signature whatever the job says, and jobs need not be signed for it.
    fs::write(lab.node(), &lab.now).unwrap();
    lab.site.rules.image_keys = Some(Signer::new().keys());
    lab.site.rules.keys = None;
    lab.site.set("restore", "signed = false\n");
    let ended = lab.site.run();
    let line = ended.finish.result_line;
    assert!(line.contains("signed with another key"), "{line}");
    lab.site.rules.image_keys = Some(lab.admin.keys());
    lab.restores();
    lab.site.rules.image_keys = None;
    lab.site.set("restore", "signed = true\n");
    let line = lab.site.run().finish.result_line;
    assert!(
        line.contains("key \"signed\": the job asks for a signed image, and there is no key here"),
        "{line}"
    );
}

#[test]
fn digests_say_which_of_all_signed_images_is_meant() {
    let mut lab = Lab::new();
    let digests = format!("digests = {{ \"sda.raw.gz\" = \"{}\" }}\n", lab.digest());
    lab.admin.sign(&lab.site.on_share(&format!("{IMAGE}.toml")));
    lab.site.rules.keys = None;
    lab.site.rules.image_keys = Some(lab.admin.keys());
    lab.site.set("restore", &digests);
    lab.restores();
    fs::write(lab.node(), &lab.now).unwrap();
    // A signed image under a name that the job does not have, in the place of the one that it has.
    for end in ["", ".toml", ".toml.minisig"] {
        let from = lab.site.on_share(&format!("{IMAGE}{end}"));
        let to = lab.site.on_share(&format!("10.0.2.15/sda.gz{end}"));
        fs::rename(from, to).unwrap();
    }
    lab.site.set("restore", &digests);
    let why = "the job's digests do not name sda.gz";
    lab.site.fails("restore", &[why]);
    assert!(fs::read(lab.node()).unwrap() == lab.now);
    lab.site.set("restore", "");
    lab.restores();
}

#[test]
fn a_job_of_another_machine_or_another_time_is_not_done() {
    let mut lab = Lab::new();
    let terms = lab.terms();
    for (from, to, why) in [
        (
            MAC,
            "52:54:00:12:34:99",
            "key \"for\": it is for another machine, with MAC address 52:54:00:12:34:99",
        ),
        (
            "for = { mac",
            "for = { serial = \"PF1\", mac",
            "serial number PF1; this machine tells none",
        ),
        (
            "2099-01-01",
            "2020-01-01",
            "key \"not-after\": the job has expired: it was to be done by 2020-01-01T00:00:00Z",
        ),
        (
            "QM00001",
            "QM00002",
            "the disk with serial QM00002 is not in this machine",
        ),
    ] {
        lab.set(&terms.replace(from, to));
        lab.refuses(&[why]);
    }
    lab.set(&terms);
    lab.site.rules.clock = Clock::Behind;
    lab.refuses(&["clock is wrong", "name a time server"]);
    lab.site.rules.clock = Clock::Plausible;
    lab.restores();
}

#[test]
fn a_job_without_its_terms_is_not_done_even_if_it_is_signed() {
    let lab = Lab::new();
    let terms = lab.terms();
    for (key, why) in [
        ("for", "key \"for\""),
        ("disks", "key \"disks\""),
        ("digests", "key \"digests\""),
        ("not-after", "key \"not-after\""),
        ("id", "key \"id\""),
    ] {
        // A key that is missing has no line to point at.
        let rest: Vec<&str> = terms
            .lines()
            .filter(|line| !line.starts_with(key))
            .collect();
        lab.set(&format!("{}\n", rest.join("\n")));
        lab.refuses(&[why, "a signed job"]);
    }
    lab.set(&terms.replace("{ serial = \"QM00001\" }", "\"sda\""));
    lab.refuses(&["\"sda\" is a kernel's name"]);
}

#[test]
fn an_image_that_is_not_the_signed_one_is_not_written() {
    let lab = Lab::new();
    let terms = lab.terms();
    let image = lab.site.on_share(IMAGE);
    let signed = fs::read(&image).unwrap();
    lab.set(&terms);

    // Another good image of the same disk.
    let other = Site::with_disk(&noise(3, 2 * MIB));
    other.set("backup", "");
    other.succeeds("backup");
    fs::copy(other.on_share(IMAGE), &image).unwrap();
    lab.refuses(&["sda.raw.gz is not what the job was made for: its digest is blake3:"]);

    // No index, no digest; its description is nobody's word.
    let packed = Command::new("gzip")
        .arg("-c")
        .arg(lab.node())
        .output()
        .unwrap();
    fs::write(&image, packed.stdout).unwrap();
    lab.refuses(&["sda.raw.gz has no index"]);

    // The bytes of one chunk: what is written is what was signed, or nothing.
    let mut changed = signed.clone();
    changed[signed.len() / 4] ^= 1;
    fs::write(&image, &changed).unwrap();
    let ended = lab.site.run();
    assert!(
        ended
            .finish
            .result_line
            .starts_with("pitstop: result failed restore: ")
    );
    // Zeros are what a restore begins with: a disk that is not whole must not boot.
    let disk = fs::read(lab.node()).unwrap();
    let mut bytes = disk.iter().zip(lab.now.iter().zip(&lab.stored));
    assert!(bytes.all(|(found, (before, stored))| [0, *before, *stored].contains(found)));
    fs::write(lab.node(), &lab.now).unwrap();

    // An image under another name that claims the disk.
    fs::rename(&image, lab.site.on_share("10.0.2.15/sdb.raw.gz")).unwrap();
    fs::write(lab.site.on_share("10.0.2.15/sdb.raw.gz"), &signed).unwrap();
    lab.refuses(&["digests do not name sdb.raw.gz"]);
    fs::remove_file(lab.site.on_share("10.0.2.15/sdb.raw.gz")).unwrap();

    fs::write(&image, &signed).unwrap();
    lab.restores();
}

#[test]
fn the_command_line_says_where_the_file_is_and_nothing_else() {
    let lab = Lab::new();
    lab.set(&lab.terms());
    let host = format!("pitstop.host=file://{}", lab.site.host_file().display());
    let share = lab.site.on_share("");
    for more in [
        "pitstop.action=restore",
        "pitstop.action=wipe",
        "testbox-action-restore",
        "pitstop.share=file:///elsewhere",
        "pitstop.delete=file:///elsewhere",
    ] {
        let ended = lab.site.run_with(&format!("{host} {more}"));
        let line = &ended.finish.result_line;
        assert!(
            line.contains("is not taken: this initramfs does signed jobs alone"),
            "{more}: {line}"
        );
        assert!(fs::read(lab.node()).unwrap() == lab.now, "{more}");
    }
    // Without any host file, and for a shell.
    for line in [
        &format!(
            "pitstop.action=restore pitstop.share=file://{}",
            share.display()
        ),
        "pitstop.action=rescue",
    ] {
        let ended = lab.site.run_with(line);
        assert!(
            ended.finish.result_line.contains("is not taken"),
            "{}",
            ended.finish.result_line
        );
        assert_eq!(
            (ended.finish.then, ended.finish.shells),
            (After::Reboot, false),
            "{line}"
        );
    }
    let bad = lab.site.run_with(&format!("{host} pitstop.nonsense=1"));
    assert!(
        bad.finish.result_line.contains("unknown parameter"),
        "{}",
        bad.finish.result_line
    );
    lab.restores();
}

#[test]
fn what_lies_beside_tells_where_to_report_and_nothing_else() {
    let lab = Lab::new();
    lab.set(&lab.terms());
    let beside = lab.site.host_file().with_extension("toml.unsigned");
    fs::write(&beside, "disks = [\"sda\"]\naction = \"wipe\"\n").unwrap();
    let ended = lab.restores();
    assert!(
        ended
            .console
            .contains("0A00020F.toml.unsigned is passed over"),
        "{}",
        ended.console
    );
    // A list on the share leaves disks out, and brings none in.
    fs::write(lab.node(), &lab.now).unwrap();
    lab.set(&lab.terms().replace("\"one\"", "\"two\""));
    lab.site.disk("sdb", "QM00009", &noise(7, MIB));
    fs::write(lab.site.on_share("10.0.2.15/disk-devices.lst"), "sdb\n").unwrap();
    lab.refuses(&["sda"]);
}

#[test]
fn a_share_that_cannot_note_the_id_gets_nothing_done() {
    let lab = Lab::new();
    lab.set(&lab.terms());
    // Where the folder of notes should be is a file.
    fs::write(lab.site.on_share("signed-jobs"), "").unwrap();
    lab.refuses(&["signed-jobs"]);
    fs::remove_file(lab.site.on_share("signed-jobs")).unwrap();
    fs::create_dir(lab.site.on_share("signed-jobs")).unwrap();
    fs::write(lab.site.on_share("signed-jobs/one.toml"), "finished").unwrap();
    lab.refuses(&["signed-jobs/one.toml", "no note of a job"]);
}

#[test]
fn a_signed_rescue_has_a_shell() {
    let lab = Lab::new();
    lab.site.set("rescue", &lab.terms());
    lab.admin.sign(&lab.site.host_file());
    let ended = lab.site.run();
    assert_eq!(
        ended.finish.result_line, "pitstop: result ok rescue",
        "{}",
        ended.console
    );
    assert!(ended.finish.shells && ended.finish.then == After::Rescue);
}

#[test]
fn terms_hold_too_where_nobody_asks_for_a_signature() {
    let mut lab = Lab::new();
    lab.site.rules.keys = None;
    for (from, to, why) in [
        (MAC, "52:54:00:12:34:99", "it is for another machine"),
        ("2099-01-01", "2020-01-01", "has expired"),
    ] {
        lab.site.set("restore", &lab.terms().replace(from, to));
        let ended = lab.site.fails("restore", &[why]);
        assert!(ended.finish.shells);
    }
    lab.site.set("restore", &lab.terms());
    lab.restores();
    lab.site.set("restore", &lab.terms());
    lab.site.fails("restore", &["the job one was done at"]);
}

#[test]
fn a_layout_that_is_not_the_signed_one_is_not_made() {
    let lab = Lab::new();
    let layout = "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"lvm\"\nsize = \"fill\"\n";
    let file = lab.site.on_share("10.0.2.15/l.toml");
    fs::write(&file, layout).unwrap();
    let old = lab.digest().to_string();
    let terms = lab.terms().replace("sda.raw.gz", "l.toml");
    let terms = terms.replace(&old, &Digest::of(layout.as_bytes()).to_string());
    lab.site
        .set("partition", &format!("{terms}layout = \"l.toml\"\n"));
    lab.admin.sign(&lab.site.host_file());
    fs::write(&file, layout.replace("lvm", "swap")).unwrap();
    let ended = lab.site.run();
    let line = &ended.finish.result_line;
    assert!(
        line.contains("l.toml is not what the job was made for"),
        "{line}"
    );
    assert!(fs::read(lab.node()).unwrap() == lab.now);
}

/// Over HTTP, the host file and the share on one server.
fn serve(text: &str) -> (FakeServer, String) {
    let server = FakeServer::start();
    server.put("/share/pitstop-share", b"");
    server.put(
        "/hosts/0A00020F.toml",
        text.replace("SERVER", server.url("").as_str().trim_end_matches('/'))
            .as_bytes(),
    );
    let host = format!("pitstop.host={}", server.url("/hosts/"));
    (server, host)
}

#[test]
fn the_admin_hears_of_a_refusal_on_the_server_that_sent_the_file_and_nobody_else() {
    let lab = Lab::new();
    let (elsewhere, _) = serve("");
    let other = format!(
        "http://localhost:{}/share",
        elsewhere.url("").port().unwrap()
    );
    for (share, is_told) in [("SERVER/share", true), (other.as_str(), false)] {
        let text = format!(
            "version = 1\naction = \"wipe\"\nmethod = \"zero\"\nshare = \"{share}\"\nfailure-delay = \"2s\"\nattempts = 1\n\
             on-failure = \"poweroff\"\n"
        );
        let (server, host) = serve(&text);
        let ended = lab.site.run_with(&host);
        let line = &ended.finish.result_line;
        assert!(
            line.starts_with("pitstop: result failed wipe: host file "),
            "{line}"
        );
        assert_eq!(ended.finish.then, After::Reboot);
        assert_eq!(ended.finish.wait, Duration::from_secs(2));
        let log = server.get("/share/maintenance.log").unwrap_or_default();
        let log = String::from_utf8(log).unwrap();
        assert_eq!(log.contains("it is not signed"), is_told, "{share}: {log}");
        assert!(
            server.get("/share/10.0.2.15/attempts.toml").is_none(),
            "no try of any job"
        );
    }
    assert!(elsewhere.get("/share/maintenance.log").is_none());
}

#[test]
fn a_file_that_is_replaced_while_it_is_read_is_read_again() {
    let lab = Lab::new();
    lab.set(&lab.terms());
    let text = fs::read_to_string(lab.site.host_file()).unwrap();
    let (server, host) = serve(&text);
    let old = Signer::new();
    old.sign(&lab.site.host_file());
    let signature = lab.site.host_file().with_extension("toml.minisig");
    server.put(
        "/hosts/0A00020F.toml.minisig",
        &fs::read(&signature).unwrap(),
    );
    lab.admin.sign(&lab.site.host_file());
    let new = fs::read(&signature).unwrap();
    server.replaced_by("/hosts/0A00020F.toml.minisig", &new);
    let ended = lab.site.run_with(&host);
    assert_eq!(
        ended.finish.result_line, "pitstop: result ok restore",
        "{}",
        ended.console
    );
    assert!(
        ended.console.contains("was replaced while it was read"),
        "{}",
        ended.console
    );
}

#[test]
fn a_line_that_nobody_understands_tells_only_what_is_signed() {
    let lab = Lab::new();
    let text = "version = 1\naction = \"wipe\"\nmethod = \"zero\"\nshare = \"SERVER/share\"\n";
    let (server, host) = serve(text);
    let ended = lab.site.run_with(&format!("{host} pitstop.nonsense=1"));
    assert!(
        ended.finish.result_line.contains("unknown parameter"),
        "{}",
        ended.finish.result_line
    );
    assert!(server.get("/share/maintenance.log").is_none());
}
