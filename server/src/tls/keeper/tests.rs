use super::*;
use std::fs;

struct Scene {
    root: tempfile::TempDir,
    journal: Arc<Journal>,
    fleet: Arc<Watched>,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let journal = Arc::new(Journal::new(true));
        let fleet = Arc::new(Watched::new(root.path(), Arc::clone(&journal)));
        Self {
            root,
            journal,
            fleet,
        }
    }

    fn own(&self, given: &[&str]) -> Keeper {
        self.keeper(Source::Own {
            authority: Box::new(Authority::open_or_make(self.root.path()).unwrap()),
            given: given.iter().map(|name| name.parse().unwrap()).collect(),
            fleet: Arc::clone(&self.fleet),
        })
        .unwrap()
    }

    fn keeper(&self, source: Source) -> anyhow::Result<Keeper> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Keeper::new(source, provider, Arc::clone(&self.journal))
    }
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

#[test]
fn a_certificate_is_kept_until_it_is_due_and_then_renewed() {
    let scene = Scene::new();
    let first = scene.own(&["srv.example"]).facts();
    let keeper = scene.own(&["srv.example"]);
    assert_eq!(keeper.facts(), first);
    let now = Timestamp::now();
    keeper.look(now + days(59));
    assert_eq!(keeper.facts(), first);
    keeper.look(now + days(61));
    let second = keeper.facts();
    assert!(second.until > first.until + days(60), "{second:?}");
    assert_eq!(second.names, first.names);
    let last = scene.journal.last();
    assert!(last[0].contains("https has a new certificate"), "{last:?}");
}

#[test]
fn a_new_name_makes_a_new_certificate_at_once() {
    let scene = Scene::new();
    let first = scene.own(&[]);
    let name: Name = "late.example".parse().unwrap();
    assert!(!first.facts().is_for(&name));
    let keeper = scene.own(&["late.example"]);
    assert!(keeper.facts().is_for(&name));
    // What was there before is kept while the server runs.
    let Source::Own { authority, .. } = &keeper.source else {
        panic!("it is its own");
    };
    let other: BTreeSet<Name> = ["later.example".parse().unwrap()].into();
    keeper.renew(authority, &other, Timestamp::now()).unwrap();
    assert!(
        keeper.facts().is_for(&name) && keeper.facts().is_for(&"later.example".parse().unwrap())
    );
}

#[test]
fn the_end_of_the_authority_is_told_of_once_and_the_certificate_stays() {
    let scene = Scene::new();
    let keeper = scene.own(&[]);
    let Source::Own { authority, .. } = &keeper.source else {
        panic!("it is its own");
    };
    let until = authority.facts.until;
    for _ in 0..3 {
        keeper.look(until - days(100));
    }
    let told = |what: &str| {
        let lines = scene.journal.last();
        lines.iter().filter(|line| line.contains(what)).count()
    };
    assert_eq!(told("ends at"), 1, "{:?}", scene.journal.last());
    keeper.look(until + days(1));
    assert_eq!(told("a new one is made"), 1, "{:?}", scene.journal.last());
    assert!(keeper.facts().until <= until);
}

#[test]
fn the_admins_files_are_read_again_when_they_change_and_the_last_good_ones_stay() {
    let scene = Scene::new();
    let write = |name: &str| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let certificate = scene.root.path().join("own.pem");
        let key = scene.root.path().join("own.key");
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Source::Files { certificate, key }
    };
    let keeper = scene.keeper(write("one.example")).unwrap();
    let is_for = |name: &str| keeper.facts().is_for(&name.parse().unwrap());
    assert!(is_for("one.example"));
    write("two.example");
    keeper.look(Timestamp::now());
    assert!(is_for("two.example") && !is_for("one.example"));
    // A key that is not the certificate's: as in the middle of a change.
    let other = rcgen::KeyPair::generate().unwrap();
    fs::write(scene.root.path().join("own.key"), other.serialize_pem()).unwrap();
    keeper.look(Timestamp::now());
    assert!(is_for("two.example"));
    let lines = scene.journal.last();
    assert!(lines.last().unwrap().contains("own.key"), "{lines:?}");
    fs::remove_file(scene.root.path().join("own.pem")).unwrap();
    keeper.look(Timestamp::now());
    assert!(is_for("two.example"));
    let error = scene.keeper(Source::Files {
        certificate: scene.root.path().join("own.pem"),
        key: scene.root.path().join("own.key"),
    });
    let error = format!("{:#}", error.err().unwrap());
    assert!(error.contains("own.pem"), "{error}");
}
