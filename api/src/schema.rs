//! Schemas of values that other crates define: their words come from there.

use pitstop_jobs::{Order, Power, State, Verdict};
use pitstop_protocol::event;
use serde::Serialize;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

fn words<T: Serialize>(all: &[T]) -> Object {
    // A word always has a form in JSON.
    let words = all
        .iter()
        .filter_map(|word| serde_json::to_value(word).ok());
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words))
        .build()
}

pub fn job_state() -> Object {
    words(&State::ALL)
}

pub fn job_verdict() -> Object {
    words(&[Verdict::Ok, Verdict::Failed, Verdict::Lost, Verdict::Missed])
}

pub fn job_order() -> Object {
    words(&[Order::Given, Order::Name, Order::LastDone])
}

pub fn job_power() -> Object {
    words(&[Power::Cycle, Power::On])
}

pub fn verdict() -> Object {
    use event::Verdict::{Cancelled, Failed, Ok};
    words(&[Ok, Failed, Cancelled])
}
