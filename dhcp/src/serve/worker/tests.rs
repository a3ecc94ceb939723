use super::*;
use crate::leases::Leases;
use crate::question::tests::{MAC, datagram};
use crate::serve::Mode;
use crate::serve::keeper::Keeper;
use dhcproto::v4::MessageType;
use pitstop_fleet::boot::Chain;
use std::time::Instant;

const TWO: &str = "version = 1\n[network.\"10.0.0.0/24\"]\n[network.\"10.1.0.0/24\"]\n\
    [host.pc]\nmac = \"52:54:00:01:02:03\"\nip = \"10.1.0.7\"\n";

#[test]
fn of_two_networks_on_one_wire_a_machine_is_in_its_own() {
    let fleet = Fleet::parse(TWO.as_bytes(), "fleet.toml").unwrap();
    let nets = ["10.0.0.1/24", "10.1.0.1/24"].map(|net| net.parse().unwrap());
    let question = Question::read(&datagram(MessageType::Discover, &[], |_| {})).unwrap();
    assert_eq!(question.mac, MAC);
    let own = Some(Ipv4Addr::new(10, 1, 0, 1));
    assert_eq!(near(&nets, &fleet, &question), own);
    assert_eq!(near(&nets[..1], &fleet, &question), None);
    let stranger = datagram(MessageType::Discover, &[], |message| {
        message.set_chaddr(&[2; 6]);
    });
    let stranger = Question::read(&stranger).unwrap();
    assert_eq!(near(&nets, &fleet, &stranger), None);
}

#[tokio::test]
async fn a_disk_that_hangs_holds_up_only_what_waits_for_it() {
    let text = "version = 1\n[network.\"127.0.0.0/8\"]\nrange = \"127.0.9.1-127.0.9.9\"\n";
    let fleet = Arc::new(Fleet::parse(text.as_bytes(), "fleet.toml").unwrap());
    let root = tempfile::tempdir().unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&lines);
    let journal: Journal = Arc::new(move |line: &str| noted.lock().unwrap().push(line.to_owned()));
    // Nobody ever writes what is handed in.
    let (_keeper, store) = Keeper::new(root.path().to_owned(), Arc::clone(&journal));
    let shared = Arc::new(Shared {
        settings: Settings {
            mode: Mode::Server,
            listen: Ipv4Addr::LOCALHOST.into(),
            port: 80,
            url: None,
            interfaces: Vec::new(),
            root: root.path().to_owned(),
            chain: Chain::Plain,
        },
        fleet: Arc::new(move || Some(Arc::clone(&fleet))),
        journal,
        heard: Arc::new(|_, _, _| {}),
        lending: Some((Arc::new(Mutex::new(Lender::new(Leases::default()))), store)),
    });
    let socket = Socket::bind("lo", 0).unwrap();
    let mut worker = Worker::new("lo".into(), socket, Port::Dhcp, &shared);
    let from = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 68);
    let began = Instant::now();
    let ask = |kind, options: &[(u8, &[u8])], client: Ipv4Addr| {
        let bytes = datagram(kind, options, |message| {
            message.set_ciaddr(client);
        });
        Question::read(&bytes).unwrap()
    };
    let wanted = ask(
        MessageType::Request,
        &[(50, &[127, 0, 9, 1])],
        Ipv4Addr::UNSPECIFIED,
    );
    let told = ask(MessageType::Inform, &[], Ipv4Addr::LOCALHOST);
    let both = async {
        worker.asked(wanted, from).await;
        worker.asked(told, from).await;
    };
    let end = tokio::time::timeout(Duration::from_secs(60), both).await;
    assert!(end.is_ok(), "{:?}", began.elapsed());
    let lines = lines.lock().unwrap();
    assert!(
        lines.len() == 1 && lines[0].contains("told of the network"),
        "{lines:?}"
    );
}
