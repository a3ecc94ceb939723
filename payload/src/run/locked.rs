//! Encrypted images as machines make them, and as they meet them without a server that has keys.

use super::site::{Ended, MIB, Site, noise};
use pitstop_transport::fetch::fake::{FakeServer, Fault};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const CONFIGURATION: &str = "/hosts/0A00020F.toml";
const IMAGE: &str = "/share/10.0.2.15/sda.raw.gz.age";
const UPLOAD: &str = "PUT /share/10.0.2.15/sda.raw.gz.age.new.part";

struct Scene {
    site: Site,
    server: FakeServer,
    node: PathBuf,
    key: PathBuf,
    recipient: String,
}

fn tool(command: &mut Command) -> Vec<u8> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("the package age is installed");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output.stdout
}

impl Scene {
    fn new(content: &[u8]) -> Self {
        let (site, server) = (Site::new(), FakeServer::start());
        server.put("/share/pitstop-share", b"");
        let node = site.disk("sda", "QM00001", content);
        let key = site.root.path().join("key.txt");
        tool(Command::new("age-keygen").arg("-o").arg(&key));
        let public = tool(Command::new("age-keygen").arg("-y").arg(&key));
        let recipient = String::from_utf8(public).unwrap().trim().to_owned();
        Self {
            site,
            server,
            node,
            key,
            recipient,
        }
    }

    fn set(&self, action: &str, more: &str) {
        let share = self.server.url("/share");
        let text = format!("version = 1\naction = \"{action}\"\nshare = \"{share}\"\n{more}");
        self.server.put(CONFIGURATION, text.as_bytes());
    }

    fn encrypted(&self) -> String {
        format!("recipients = [\"{}\"]\n", self.recipient)
    }

    fn run(&self) -> Ended {
        let host = self.server.url("/hosts/");
        self.site.run_with(&format!("pitstop.host={host}"))
    }

    fn succeeds(&self, action: &str) -> String {
        let ended = self.run();
        let ok = format!("pitstop: result ok {action}");
        assert_eq!(ended.finish.result_line, ok, "{}", ended.console);
        ended.console
    }

    fn fails(&self, why: &str) {
        let line = self.run().finish.result_line;
        assert!(line.contains(why), "{why:?} is not in {line:?}");
    }

    /// What is in an image of the share, for who has age and gzip.
    fn inside(&self, image: &str) -> Vec<u8> {
        let file = self.site.root.path().join("image");
        fs::write(&file, self.server.get(image).unwrap()).unwrap();
        let mut age = Command::new("age");
        let packed = tool(age.arg("-d").arg("-i").arg(&self.key).arg(&file));
        fs::write(&file, packed).unwrap();
        tool(Command::new("zcat").arg("-f").arg(&file))
    }
}

fn is_age(image: Option<Vec<u8>>) -> bool {
    image.is_some_and(|image| image.starts_with(b"age-encryption.org/v1\n"))
}

#[test]
fn a_machine_encrypts_what_it_backs_up_and_begins_anew_where_the_upload_broke() {
    let content = noise(5, 8 * MIB);
    let scene = Scene::new(&content);
    scene.set("backup", &scene.encrypted());
    scene.server.fail(UPLOAD, Fault::HangUp(MIB));
    let console = scene.succeeds("backup");
    assert!(
        console.contains("the upload begins again (2 of 3)"),
        "{console}"
    );
    assert!(scene.inside(IMAGE) == content);
    assert!(scene.server.get("/share/10.0.2.15/sda.raw.gz").is_none());
    let about = scene.server.get(&format!("{IMAGE}.toml")).unwrap();
    assert!(String::from_utf8(about).unwrap().contains("QM00001"));

    // The folder has an image, and the next one keeps it.
    scene.set("backup", "");
    scene.fails("has an image of sda");
    fs::write(&scene.node, noise(6, 8 * MIB)).unwrap();
    scene.set("backup-again", &scene.encrypted());
    scene.succeeds("backup-again");
    assert!(scene.inside(IMAGE) == noise(6, 8 * MIB));
    assert!(scene.inside(&format!("{IMAGE}.old")) == content);
    // One that is plain again follows an encrypted one.
    scene.set("backup-again", "");
    scene.succeeds("backup-again");
    assert!(scene.server.get(IMAGE).is_none());
    assert!(is_age(scene.server.get(&format!("{IMAGE}.old"))));
    let plain = scene.server.get("/share/10.0.2.15/sda.raw.gz").unwrap();
    assert!(plain.starts_with(&[0x1f, 0x8b]));
    let half = |name: &String| name.contains(".part") || name.contains(".new");
    assert!(!scene.server.names().iter().any(half));
}

#[test]
fn a_backup_that_was_done_is_known_by_what_lies_beside_it() {
    let scene = Scene::new(&noise(5, MIB));
    scene.set("backup", &scene.encrypted());
    let delete = format!("DELETE {CONFIGURATION}");
    scene.server.fail(&delete, Fault::Status(403));
    scene.fails("403");
    let first = scene.server.get(IMAGE).unwrap();
    scene.succeeds("backup");
    assert!(
        scene.server.get(IMAGE).unwrap() == first,
        "it is not made again"
    );
    // One that failed is, from its beginning.
    scene.set("backup-again", &scene.encrypted());
    scene.server.fail(UPLOAD, Fault::Status(507));
    scene.fails("507");
    let console = scene.succeeds("backup-again");
    assert!(console.contains("is sent from its beginning"), "{console}");
}

#[test]
fn without_a_server_that_has_keys_an_encrypted_image_is_refused_before_the_first_write() {
    let scene = Scene::new(&noise(5, MIB));
    scene.set("backup", &scene.encrypted());
    scene.succeeds("backup");
    let untouched = vec![9; MIB];
    fs::write(&scene.node, &untouched).unwrap();
    let report = scene.server.url("/report/20261128-212955-0f3a");
    for (more, why) in [
        (String::new(), "no server is known that could have its key"),
        (
            format!("report = \"{report}\"\nreport-token = \"t\"\n"),
            "keys are asked for over https alone",
        ),
    ] {
        scene.set("restore", &more);
        scene.fails(why);
    }
    // Beside a plain one it is not asked for; and a name alone encrypts nothing.
    scene.server.put(IMAGE, b"\x1f\x8b");
    scene.set("restore", "");
    scene.fails("is not encrypted by age, whatever its name says");
    assert!(fs::read(&scene.node).unwrap() == untouched);
}

#[test]
fn a_restore_opens_the_images_of_its_disks_and_no_others() {
    let (first, second) = (noise(5, MIB), noise(6, MIB));
    let scene = Scene::new(&first);
    let other = scene.site.disk("sdb", "QM00002", &second);
    scene.set("backup", "disks = [\"sda\"]\n");
    scene.succeeds("backup");
    scene.set(
        "backup",
        &format!("disks = [\"sdb\"]\n{}", scene.encrypted()),
    );
    scene.succeeds("backup");
    // Beside this one nothing lies that tells of which disk it is.
    let third = scene.site.disk("sdc", "QM00003", &second);
    let folder = "/share/10.0.2.15";
    let image = scene.server.get(&format!("{folder}/sdb.raw.gz.age"));
    let copy = format!("{folder}/sdc.raw.gz.age");
    scene.server.put(&copy, &image.unwrap());
    let untouched = vec![9; MIB];
    fs::write(&scene.node, &untouched).unwrap();
    scene.set("restore", "disks = [\"sda\"]\n");
    let console = scene.succeeds("restore");
    for locked in ["sdb", "sdc"] {
        let told = format!("{locked}.raw.gz.age stays locked");
        assert!(console.contains(&told), "{console}");
    }
    assert!(fs::read(&scene.node).unwrap() == first);
    // What the job is about is needed.
    fs::write(&scene.node, &untouched).unwrap();
    for more in ["disks = [\"sdb\"]\n", "disks = [\"sdc\"]\n", ""] {
        scene.set("restore", more);
        scene.fails("no server is known that could have its key");
    }
    assert!(fs::read(&scene.node).unwrap() == untouched);
    assert!(fs::read(&other).unwrap() == second);
    assert!(fs::read(&third).unwrap() == second);
}

#[test]
fn what_is_no_public_key_ends_the_run_before_anything_is_read() {
    let scene = Scene::new(&noise(5, MIB));
    let secret = fs::read_to_string(&scene.key).unwrap();
    let secret = secret.lines().last().unwrap();
    scene.set("backup", &format!("recipients = [\"{secret}\"]\n"));
    let ended = scene.run();
    let line = &ended.finish.result_line;
    assert!(line.contains("entry 1 is no public key"), "{line}");
    assert!(!ended.console.contains(secret), "{}", ended.console);
    assert!(scene.server.get(IMAGE).is_none());
}
