//! The store does it, and its answer is lost or says something else.

use super::*;

#[test]
fn a_new_object_whose_answer_was_lost_is_told_from_somebody_elses() {
    let moto = Moto::start();
    let faults = Faults::default();
    let share = share(proxy(moto.port, &faults));
    let new = |data: &[u8]| {
        let mut pending = share.create("x").unwrap();
        pending.write_all(data).unwrap();
        pending.finish_new()
    };
    // In one request, and in parts.
    for (length, step) in [(1000, "PUT /lab/room/x"), (LARGE, COMPLETE)] {
        let data = bytes(length);
        let orders = |orders: &[Fault]| {
            let mut faults = faults.lock().unwrap();
            faults.clear();
            faults.extend(orders.iter().map(|fault| (step, *fault)));
        };
        orders(&[Fault::AnswerLost, Fault::Unmet]);
        new(&data).unwrap_or_else(|e| panic!("{step}: {e:#}"));
        assert!(faults.lock().unwrap().is_empty(), "{step}");
        assert!(get(&share, "x") == data, "{step}");
        // Its request never arrived, and another was faster.
        moto.put("room/x", b"faster");
        orders(&[Fault::Cut, Fault::Unmet]);
        let error = new(&data).unwrap_err();
        assert!(error.is::<Changed>(), "{step}: {error:#}");
        assert_eq!(get(&share, "x"), b"faster");
        share.remove("x").unwrap();
    }
}

#[test]
fn a_new_object_is_ones_own_however_often_the_store_was_asked_for_it() {
    let moto = Moto::start();
    let faults = Faults::default();
    let share = share(proxy(moto.port, &faults));
    for orders in [
        // The object is right, and what the store says of it is not.
        &[Fault::WrongTag][..],
        // A store that knows no conditions loses the answer to who asks without.
        &[Fault::Unknown, Fault::AnswerLost, Fault::Unmet],
    ] {
        let orders = orders.iter().map(|fault| ("PUT /lab/room/x", *fault));
        faults.lock().unwrap().extend(orders);
        let mut pending = share.create("x").unwrap();
        pending.write_all(b"ours").unwrap();
        pending.finish_new().unwrap();
        assert!(faults.lock().unwrap().is_empty());
        assert_eq!(get(&share, "x"), b"ours");
        share.remove("x").unwrap();
    }
}

#[test]
fn an_object_that_a_store_in_trouble_has_made_all_the_same_is_made() {
    let moto = Moto::start();
    let faults = Faults::default();
    let share = share(proxy(moto.port, &faults));
    let data = bytes(LARGE);
    let done = (COMPLETE, Fault::DoneInTrouble);
    faults.lock().unwrap().push_back(done);
    put(&share, "x", &data).unwrap();
    assert!(faults.lock().unwrap().is_empty());
    assert!(get(&share, "x") == data);
}
