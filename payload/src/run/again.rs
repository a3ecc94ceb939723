//! The last step: a run that meets its own finished work deletes the job, and nothing else.

use super::site::{Ended, MIB, Site, noise};
use pitstop_transport::fetch::fake::{FakeServer, Fault};
use std::fs;
use std::path::PathBuf;

const CONFIGURATION: &str = "/hosts/0A00020F.toml";
const SECOND: &str = "/pxe/0A00020F";
const IMAGE: &str = "/share/10.0.2.15/sda.raw.gz";
const UPLOAD: &str = "PUT /share/10.0.2.15/sda.raw.gz.new.part";
const ATTEMPTS: &str = "/share/10.0.2.15/attempts.toml";
const LAST_RUN: &str = "/share/10.0.2.15/last-run.toml";

/// A machine with one disk, and a server with its share.
struct Scene {
    site: Site,
    server: FakeServer,
    node: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let (site, server) = (Site::new(), FakeServer::start());
        server.put("/share/pitstop-share", b"");
        let node = site.disk("sda", "QM00001", &noise(1, MIB));
        Self { site, server, node }
    }

    fn set(&self, action: &str, more: &str) {
        let share = self.server.url("/share");
        let text = format!("version = 1\naction = \"{action}\"\nshare = \"{share}\"\n{more}");
        self.server.put(CONFIGURATION, text.as_bytes());
    }

    fn run(&self) -> Ended {
        let host = self.server.url("/hosts/");
        self.site.run_with(&format!("pitstop.host={host}"))
    }

    fn succeeds(&self, action: &str) -> Ended {
        let ended = self.run();
        let expected = format!("pitstop: result ok {action}");
        assert_eq!(ended.finish.result_line, expected, "{}", ended.console);
        assert!(self.server.get(CONFIGURATION).is_none());
        ended
    }

    fn fails(&self, parts: &[&str]) {
        let line = self.run().finish.result_line;
        for part in parts {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
        assert!(self.server.get(CONFIGURATION).is_some());
    }

    /// The work is done, and the server does not delete the configuration.
    fn does_not_delete(&self, action: &str) {
        let delete = format!("DELETE {CONFIGURATION}");
        self.server.fail(&delete, Fault::Status(403));
        self.fails(&[&format!("the {action} is done"), "0A00020F.toml", "403"]);
    }

    fn image(&self, suffix: &str) -> Option<Vec<u8>> {
        self.server.get(&format!("{IMAGE}{suffix}"))
    }

    /// The power failed between "in place" and the note of it.
    fn forget_the_note(&self) {
        let text = String::from_utf8(self.server.get(LAST_RUN).unwrap()).unwrap();
        let mut last: toml::Table = toml::from_str(&text).unwrap();
        assert!(last.remove("done").is_some(), "{text}");
        self.server.put(LAST_RUN, last.to_string().as_bytes());
    }
}

#[test]
fn a_backup_whose_deletion_failed_is_not_made_again() {
    for note in [true, false] {
        let scene = Scene::new();
        scene.set("backup", "");
        scene.does_not_delete("backup");
        let first = scene.image("").unwrap();
        if !note {
            scene.forget_the_note();
        }
        let ended = scene.succeeds("backup");
        assert!(
            ended.console.contains("only its configuration is left"),
            "{}",
            ended.console
        );
        assert!(scene.image("").unwrap() == first);
        let text = String::from_utf8(scene.server.get(LAST_RUN).unwrap()).unwrap();
        assert!(!text.contains("[done]"), "{text}");
        // The same job, set again, is another.
        scene.set("backup", "attempts = 2\n");
        scene.fails(&["has an image of sda", "use backup-again"]);
    }
}

#[test]
fn a_backup_again_whose_deletion_failed_keeps_the_true_old_image() {
    for note in [true, false] {
        let scene = Scene::new();
        scene.set("backup", "");
        scene.succeeds("backup");
        let first = scene.image("").unwrap();
        fs::write(&scene.node, noise(2, MIB)).unwrap();
        scene.set("backup-again", "");
        scene.does_not_delete("backup-again");
        let second = scene.image("").unwrap();
        if !note {
            scene.forget_the_note();
        }
        scene.succeeds("backup-again");
        assert!(scene.image("").unwrap() == second);
        assert!(scene.image(".old").unwrap() == first);
        // Asked for once more, with a configuration of the very same bytes.
        fs::write(&scene.node, noise(3, MIB)).unwrap();
        scene.set("backup-again", "");
        scene.succeeds("backup-again");
        assert!(scene.image(".old").unwrap() == second);
    }
}

#[test]
fn a_backup_again_that_is_set_again_is_made_though_its_first_try_fails() {
    let scene = Scene::new();
    scene.set("backup-again", "");
    scene.succeeds("backup-again");
    let first = scene.image("").unwrap();
    // The server's tags are of the content: it shows the very same configuration.
    fs::write(&scene.node, noise(2, MIB)).unwrap();
    scene.set("backup-again", "");
    scene.server.fail(UPLOAD, Fault::Status(507));
    scene.fails(&["result failed backup-again", "507"]);
    assert!(scene.image("").unwrap() == first);
    scene.succeeds("backup-again");
    assert!(scene.image("").unwrap() != first);
    assert!(scene.image(".old").unwrap() == first);
}

#[test]
fn images_of_which_half_are_in_place_are_completed() {
    let scene = Scene::new();
    scene.site.disk("sdb", "B", &noise(7, MIB));
    let of_sdb = "/share/10.0.2.15/sdb.raw.gz";
    scene.set("backup", "");
    scene.succeeds("backup");
    let first = scene.image("").unwrap();
    fs::write(&scene.node, noise(2, MIB)).unwrap();
    scene.set("backup-again", "");
    scene.does_not_delete("backup-again");
    scene.forget_the_note();
    // As if the power had failed when the first of both was in place.
    for end in ["", ".toml"] {
        let old = scene.server.get(&format!("{of_sdb}.old{end}")).unwrap();
        scene.server.put(&format!("{of_sdb}{end}"), &old);
    }
    let ended = scene.succeeds("backup-again");
    assert!(
        ended
            .console
            .contains("sda.raw.gz of an earlier try of this job is replaced"),
        "{}",
        ended.console
    );
    assert!(scene.image(".old").unwrap() == first, "the true old image");
}

#[test]
fn a_restore_whose_deletion_failed_leaves_the_disk_alone_and_one_that_is_asked_again_does_not() {
    let scene = Scene::new();
    scene.set("backup", "");
    scene.succeeds("backup");
    scene.set("restore", "");
    scene.does_not_delete("restore");
    let changed = noise(9, MIB);
    fs::write(&scene.node, &changed).unwrap();
    scene.succeeds("restore");
    assert!(fs::read(&scene.node).unwrap() == changed);

    scene.set("restore", "");
    scene.succeeds("restore");
    assert!(fs::read(&scene.node).unwrap() == noise(1, MIB));
    scene.set("restore", "");
    scene.does_not_delete("restore");
    fs::write(&scene.node, &changed).unwrap();
    // Changed by the admin: another job.
    scene.set("restore", "# again\n");
    scene.succeeds("restore");
    assert!(fs::read(&scene.node).unwrap() == noise(1, MIB));
}

#[test]
fn a_wipe_whose_deletion_failed_does_not_wipe_what_was_installed_since() {
    let scene = Scene::new();
    scene.set("wipe", "method = \"zero\"\n");
    scene.does_not_delete("wipe");
    assert!(fs::read(&scene.node).unwrap() == vec![0; MIB]);
    fs::write(&scene.node, noise(4, MIB)).unwrap();
    scene.succeeds("wipe");
    assert!(fs::read(&scene.node).unwrap() == noise(4, MIB));
}

#[test]
fn a_job_that_its_last_try_has_done_is_ended_by_the_next() {
    let scene = Scene::new();
    scene.set("wipe", "method = \"zero\"\n");
    scene.does_not_delete("wipe");
    fs::write(&scene.node, noise(4, MIB)).unwrap();
    // As if it had been the last try, and had lost its power before the deletion.
    let text = String::from_utf8(scene.server.get(ATTEMPTS).unwrap()).unwrap();
    let last = text.replace("begun = 1", "begun = 3");
    assert_ne!(last, text);
    scene.server.put(ATTEMPTS, last.as_bytes());
    let ended = scene.succeeds("wipe");
    let told = "only its configuration is left";
    assert!(ended.console.contains(told), "{}", ended.console);
    assert!(fs::read(&scene.node).unwrap() == noise(4, MIB));
    assert!(scene.server.get(ATTEMPTS).is_none());
}

#[test]
fn of_two_configurations_the_host_file_goes_last_and_the_next_run_deletes_the_rest() {
    let scene = Scene::new();
    scene.server.put(SECOND, b"boot the payload");
    let delete = format!(
        "delete = [\"{}\", \"{}\"]\n",
        scene.server.url(CONFIGURATION),
        scene.server.url(SECOND)
    );
    scene.set("backup", &delete);
    scene.does_not_delete("backup");
    assert!(scene.server.get(SECOND).is_none());
    let first = scene.image("").unwrap();
    scene.succeeds("backup");
    assert!(scene.image("").unwrap() == first);
}

#[test]
fn a_job_that_deletes_nothing_is_done_at_every_boot() {
    let scene = Scene::new();
    scene.set("wipe", "method = \"zero\"\ndelete = []\n");
    let host = format!("pitstop.host={}", scene.server.url(CONFIGURATION));
    for _ in 0..2 {
        fs::write(&scene.node, noise(4, MIB)).unwrap();
        let ended = scene.site.run_with(&host);
        assert_eq!(ended.finish.result_line, "pitstop: result ok wipe");
        assert!(fs::read(&scene.node).unwrap() == vec![0; MIB]);
    }
}

#[test]
fn a_job_that_is_set_while_the_one_before_is_at_work_stays() {
    let scene = Scene::new();
    let next = b"version = 1\naction = \"restore\"\nimage = \"new\"\n";
    let host = format!("pitstop.host={}", scene.server.url("/hosts/"));
    for replaced in [true, false] {
        scene.set("backup-again", "");
        let ended = scene.site.run_beside(&host, &|policy| {
            if replaced && policy.attempt == 1 {
                scene.server.put(CONFIGURATION, next);
            }
        });
        let line = &ended.finish.result_line;
        assert_eq!(line, "pitstop: result ok backup-again", "{}", ended.console);
        assert_eq!(scene.server.get(CONFIGURATION).is_some(), replaced);
        assert_eq!(ended.console.contains("another job's"), replaced);
    }
}
