use super::*;
use crate::fetch::Listener;
use crate::fetch::fake::{FakeServer, Fault, patient};
use crate::share::HttpShare;
use crate::share::Share as _;
use pitstop_imaging::image::members::seal;
use pitstop_protocol::credentials::{Access, Credentials};

const PATH: &str = "golden/sda.raw.gz";

/// What has the end of an image: nothing here looks at chunks.
fn image(seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; 600_000];
    let hasher = blake3::Hasher::new_keyed(&[seed; 32]);
    hasher.finalize_xof().fill(&mut bytes);
    let tail = seal(&[seed; 5000], bytes.len() as u64);
    bytes.extend(tail);
    bytes
}

fn by_digest(image: &[u8]) -> String {
    let size = image.len() as u64;
    let footer = parse_footer(&image[image.len() - FOOTER..], size).unwrap();
    format!("/{}", image_path(Digest(footer.hash), "sda.raw.gz"))
}

fn share(bytes: &[u8]) -> FakeServer {
    let server = FakeServer::start();
    server.put(&format!("/share/{PATH}"), bytes);
    server
}

fn mirror(server: &FakeServer) -> Mirror {
    Mirror::read(server.url("/").as_str()).unwrap()
}

fn open(share: &FakeServer, mirrors: &[Mirror]) -> Box<dyn ImageSource> {
    open_with(share, mirrors, patient().settings().clone())
}

fn open_with(share: &FakeServer, mirrors: &[Mirror], settings: Settings) -> Box<dyn ImageSource> {
    let http = HttpClient::new(settings).unwrap();
    let own = HttpShare::new(&share.url("/share/"), &http);
    let own = own.image(PATH).unwrap();
    let credentials = Credentials::Bearer {
        token: "s3cret".into(),
    };
    let urls: Vec<_> = mirrors.iter().map(|mirror| mirror.at("x")).collect();
    let settings = Settings {
        access: Some(Access::new(credentials, &urls)),
        reporter: Listener::default(),
        ..http.settings().clone()
    };
    Mirrored::of(own, &[PATH.to_owned()], mirrors, &settings).unwrap()
}

fn whole(source: &dyn ImageSource) -> Vec<u8> {
    let mut bytes = Vec::new();
    source
        .stream_from(0)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

fn gave(source: &dyn ImageSource) -> Vec<u64> {
    source.places().iter().map(|place| place.bytes).collect()
}

#[test]
fn the_first_that_has_this_very_image_gives_its_chunks_and_sees_no_token() {
    let bytes = image(1);
    let share = share(&bytes);
    let away = Mirror::read("http://127.0.0.1:1").unwrap();
    let lacks = FakeServer::start();
    // Of the same size, under the right name and even under the digest.
    let other = FakeServer::start();
    other.put(&format!("/{PATH}"), &image(2));
    other.put(&by_digest(&bytes), &image(2));
    let right = FakeServer::start();
    right.put(&by_digest(&bytes), &bytes);
    let mirrors = [away, mirror(&lacks), mirror(&other), mirror(&right)];
    let source = open(&share, &mirrors);
    assert!(whole(&*source) == bytes);
    let mut part = vec![0; 1000];
    source.read_exact_at(&mut part, 5000).unwrap();
    assert!(part == bytes[5000..6000]);
    let data = 600_000 + 1000;
    let tail = bytes.len() as u64 - 600_000;
    assert_eq!(gave(&*source), [data, 0, 0, 0, tail]);
    assert_eq!(source.places()[0].name, format!("mirror {}", mirrors[3]));
    for server in [&lacks, &other, &right] {
        assert!(!server.log().is_empty());
        assert_eq!(server.seen("authorization"), Vec::<String>::new());
    }
}

#[test]
fn a_copy_of_the_share_on_a_plain_server_will_do() {
    let bytes = image(1);
    let share = share(&bytes);
    let plain = FakeServer::start();
    plain.put(&format!("/copies/{PATH}"), &bytes);
    let below = Mirror::read(plain.url("/copies").as_str()).unwrap();
    let source = open(&share, &[below]);
    assert!(whole(&*source) == bytes);
    assert_eq!(gave(&*source)[0], 600_000);
}

#[test]
fn where_one_breaks_off_the_next_goes_on_and_then_the_share() {
    let bytes = image(1);
    let share = share(&bytes);
    let (first, second) = (FakeServer::start(), FakeServer::start());
    for server in [&first, &second] {
        server.put(&by_digest(&bytes), &bytes);
    }
    let source = open(&share, &[mirror(&first), mirror(&second)]);
    let mut stream = source.stream_from(0).unwrap();
    let mut read = vec![0; 100_000];
    stream.read_exact(&mut read).unwrap();
    first.down(true);
    let mut rest = vec![0; 300_000];
    second.fail("GET", Fault::Cut(200_000));
    first.fail("GET", Fault::Cut(0));
    // What was on its way still comes.
    drop(stream);
    let mut stream = source.stream_from(100_000).unwrap();
    stream.read_exact(&mut rest).unwrap();
    read.append(&mut rest);
    second.down(true);
    drop(stream);
    let mut stream = source.stream_from(400_000).unwrap();
    stream.read_to_end(&mut rest).unwrap();
    read.append(&mut rest);
    assert!(read == bytes);
    let places = source.places();
    assert_eq!(places[0].name, "the share");
    assert!(places.iter().all(|place| place.bytes > 0), "{places:?}");
    assert_eq!(
        places.iter().map(|place| place.bytes).sum::<u64>(),
        bytes.len() as u64
    );
}

#[test]
fn one_that_falls_silent_loses_its_turn() {
    let bytes = image(1);
    let share = share(&bytes);
    let silent = FakeServer::start();
    silent.put(&by_digest(&bytes), &bytes);
    let settings = Settings {
        stall: Duration::from_secs(5),
        ..patient().settings().clone()
    };
    let source = open_with(&share, &[mirror(&silent)], settings);
    assert_eq!(
        source.places()[0].name,
        format!("mirror {}", mirror(&silent))
    );
    for _ in 0..20 {
        silent.fail("GET", Fault::Stall(100));
    }
    assert!(whole(&*source) == bytes);
    assert_eq!(source.places()[0].name, "the share");
}

#[test]
fn one_that_is_getting_the_image_is_asked_again() {
    let bytes = image(1);
    let share = share(&bytes);
    let fills = FakeServer::start();
    fills.put(&by_digest(&bytes), &bytes);
    for _ in 0..1000 {
        fills.fail("HEAD", Fault::Busy);
    }
    let source = open(&share, &[mirror(&fills)]);
    assert_eq!(source.places()[0].name, "the share");
    let mut part = [0; 100];
    let mut read = |at: u64| {
        source.read_exact_at(&mut part, at).unwrap();
        assert!(part == bytes[usize::try_from(at).unwrap()..][..100]);
        gave(&*source)
    };
    read(100);
    assert!(fills.log().iter().all(|asked| asked.starts_with("HEAD")));
    fills.behave();
    let began = std::time::Instant::now();
    while read(1000)[0] == 0 || source.places()[0].name == "the share" {
        assert!(began.elapsed() < Duration::from_secs(60), "not asked again");
    }
}

#[test]
fn whoever_gave_what_is_wrong_gives_nothing_more() {
    let bytes = image(1);
    let share = share(&bytes);
    let (lies, right) = (FakeServer::start(), FakeServer::start());
    let mut wrong = bytes.clone();
    wrong[50_000] ^= 1;
    lies.put(&by_digest(&bytes), &wrong);
    right.put(&by_digest(&bytes), &bytes);
    let source = open(&share, &[mirror(&lies), mirror(&right)]);
    let read = |at: u64| {
        let mut part = vec![0; 10_000];
        source.read_exact_at(&mut part, at).unwrap();
        part == bytes[usize::try_from(at).unwrap()..][..10_000]
    };
    assert!(read(0) && !read(45_000));
    assert!(source.came_wrong(45_000..55_000));
    assert!(read(45_000));
    assert_eq!(gave(&*source), [10_000, 20_000, 0]);
    // The share is the last that can be asked.
    assert!(source.came_wrong(45_000..55_000));
    assert!(read(45_000));
    assert!(!source.came_wrong(45_000..55_000));
}

#[test]
fn what_has_no_index_comes_from_the_share() {
    let bytes = vec![7; 10_000];
    let share = share(&bytes);
    let plain = FakeServer::start();
    plain.put(&format!("/{PATH}"), &bytes);
    let source = open(&share, &[mirror(&plain)]);
    assert!(whole(&*source) == bytes);
    assert!(plain.log().is_empty() && source.places().is_empty());
}
