use super::*;

fn table(most: usize) -> Arc<Table> {
    Arc::new(Table::new(most, Arc::new(Journal::new(true))))
}

fn admit(table: &Arc<Table>, peer: [u8; 4]) -> Option<Guest> {
    match table.admit(peer.into()) {
        Admission::Granted(guest) => Some(guest),
        Admission::Refused | Admission::Later => None,
    }
}

#[test]
fn who_never_asked_anything_goes_first_and_who_is_at_work_stays() {
    let table = table(4);
    let working = admit(&table, [1; 4]).unwrap();
    let work = working.connection.begin();
    let idle = admit(&table, [2; 4]).unwrap();
    drop(idle.connection.begin());
    let silent = admit(&table, [3; 4]).unwrap();
    let other = admit(&table, [4; 4]).unwrap();
    other.connection.moved.store(u64::MAX, Ordering::Relaxed);
    let unwanted = |guest: &Guest| guest.connection.unwanted.load(Ordering::Relaxed);
    let _fifth = admit(&table, [5; 4]).unwrap();
    assert!(unwanted(&silent) && !unwanted(&idle) && !unwanted(&working));
    // Its place is free although its socket may not be closed yet.
    drop(silent);
    assert_eq!(table.open().len(), 4);
    drop(work);
    drop(working);
    assert_eq!(table.open().len(), 3);
    assert!(table.journal.last()[0].contains("a silent one of 3.3.3.3 is closed"));
}

#[test]
fn one_address_does_not_take_all_places() {
    let table = table(8);
    let mut mine: Vec<Guest> = (0..4).filter_map(|_| admit(&table, [1; 4])).collect();
    let works: Vec<AtWork> = mine.iter().map(|guest| guest.connection.begin()).collect();
    assert!(admit(&table, [1; 4]).is_none());
    assert!(admit(&table, [2; 4]).is_some());
    drop(works);
    mine.extend(admit(&table, [1; 4]));
    let unwanted = |guest: &&Guest| guest.connection.unwanted.load(Ordering::Relaxed);
    assert_eq!((mine.len(), mine.iter().filter(unwanted).count()), (5, 1));
}

#[test]
fn when_all_are_at_work_the_next_one_waits() {
    let table = table(2);
    let guests: Vec<Guest> = (1..3).filter_map(|ip| admit(&table, [ip; 4])).collect();
    let _works: Vec<AtWork> = guests
        .iter()
        .map(|guest| guest.connection.begin())
        .collect();
    assert!(matches!(table.admit([9; 4].into()), Admission::Later));
    drop(guests);
    assert!(matches!(table.admit([9; 4].into()), Admission::Granted(_)));
}

#[tokio::test]
async fn who_waits_for_a_place_gets_that_of_the_first_who_falls_silent() {
    let table = table(2);
    let guests: Vec<Guest> = (1..3).filter_map(|ip| admit(&table, [ip; 4])).collect();
    let mut works: Vec<AtWork> = guests
        .iter()
        .map(|guest| guest.connection.begin())
        .collect();
    let waiting = Arc::clone(&table);
    let guest = tokio::spawn(async move { guest(&waiting, [9; 4].into()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!guest.is_finished());
    works.pop();
    assert!(guest.await.unwrap().is_some());
}

#[test]
fn who_only_crawls_makes_room_when_all_are_at_work() {
    let mut table = Table::new(3, Arc::new(Journal::new(true)));
    table.crawls_for = Duration::ZERO;
    let table = Arc::new(table);
    let guests: Vec<Guest> = (1..4).filter_map(|ip| admit(&table, [ip; 4])).collect();
    let _works: Vec<AtWork> = guests
        .iter()
        .map(|guest| guest.connection.begin())
        .collect();
    let connection = |at: usize| &guests[at].connection;
    connection(0).bytes.store(1 << 30, Ordering::Relaxed);
    connection(2).bytes.store(1 << 30, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(20));
    let _fourth = admit(&table, [9; 4]).unwrap();
    let unwanted = |at: usize| connection(at).unwanted.load(Ordering::Relaxed);
    assert!(unwanted(1) && !unwanted(0) && !unwanted(2));
    let line = &table.journal.last()[0];
    assert!(
        line.contains("a crawling one of 2.2.2.2 is closed"),
        "{line}"
    );
    // A minute has to pass before somebody crawls.
    let minute = Duration::from_secs(60);
    let came = connection(1).came;
    assert_eq!(connection(1).crawl(came + 59_999, minute), None);
    assert_eq!(connection(1).crawl(came + 60_000, minute), Some(0));
    connection(1).bytes.store(61, Ordering::Relaxed);
    assert_eq!(connection(1).crawl(came + 61_000, minute), Some(1));
    connection(1).bytes.store(61 * CRAWL, Ordering::Relaxed);
    assert_eq!(connection(1).crawl(came + 61_000, minute), None);
}
