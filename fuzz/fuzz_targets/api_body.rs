//! Bodies that are sent to the API: read or refused, and what was read is written as one that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_api::{Moved, Order, PowerAsk, Retry, TokenOrder, UserChange, UserOrder};
use serde::{Serialize, de::DeserializeOwned};

fn same<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(bytes) else {
        return;
    };
    let written = serde_json::to_value(&read).expect("what was read can be written");
    let again: T = serde_json::from_value(written.clone()).expect("what was written can be read");
    assert_eq!(serde_json::to_value(&again).ok(), Some(written));
}

fuzz_target!(|bytes: &[u8]| {
    same::<Order>(bytes);
    same::<Retry>(bytes);
    same::<Moved>(bytes);
    same::<PowerAsk>(bytes);
    same::<UserOrder>(bytes);
    same::<UserChange>(bytes);
    same::<TokenOrder>(bytes);
});
