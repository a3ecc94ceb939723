//! `/inventory`: what machines are, and a search over it.

use crate::words::{self, machine_path, size};
use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pitstop_api::inventory::{Health, InventoryList, InventoryRow};

/// What was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    pub words: &'a str,
    /// What is wrong with it, with a mark at the place.
    pub wrong: Option<&'a str>,
}

/// A machine that was found.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    pub row: &'a InventoryRow,
    /// The id of its page, where it has one.
    pub page: Option<&'a str>,
}

/// The content of the page; without a list, what is wrong with the search.
pub fn content(list: Option<(&InventoryList, &[Row<'_>])>, asked: Asked<'_>) -> Markup {
    html! {
        div class="head" {
            h1 { "Inventory" }
            @if let Some((list, rows)) = list {
                p id="found" class="sub" { (words::count(rows.len())) " of " (list.known) " machines" }
            }
            form class="find push" role="search" action="/inventory" {
                label class="unseen" for="q" { "Search" }
                input id="q" type="search" name="q" value=(asked.words) placeholder="ram<8GiB disk.model~EVO"
                    autocapitalize="none" autocomplete="off" spellcheck="false" aria-describedby="how"
                    aria-invalid=[asked.wrong.map(|_| "true")];
                button { "Search" }
            }
        }
        @if let Some(wrong) = asked.wrong {
            pre id="wrong" class="note bad" role="alert" tabindex="0" { (wrong) }
        }
        p id="how" class="dim" {
            "As in " code { "ram<8GiB" } ", " code { "disk.health=failing" } ", " code { "group=lab3 last.when>30d" }
            ", or any word."
        }
        @if let Some((_, rows)) = list {
            div id="inventory" class="panel" {
                @if rows.is_empty() {
                    p class="empty" { "None. A machine says what it is at refresh-info, and at every backup and restore." }
                } @else { div class="scroll" tabindex="0" { (table(rows)) } }
            }
            p { a href={ "/api/v1/inventory?format=csv&q=" (utf8_percent_encode(asked.words, NON_ALPHANUMERIC)) } { "As a table (CSV)" } }
        }
    }
}

fn table(rows: &[Row<'_>]) -> Markup {
    html! {
        table class="cards" {
            caption class="unseen" { "Machines that were found, by name" }
            thead {
                tr {
                    th scope="col" { "Machine" }
                    th scope="col" { "Model" }
                    th scope="col" { "Serial" }
                    th scope="col" { "CPU" }
                    th scope="col" class="number" { "RAM" }
                    th scope="col" { "Disks" }
                    th scope="col" { "Last run" }
                }
            }
            tbody { @for row in rows { (one(*row)) } }
        }
    }
}

fn one(Row { row, page }: Row<'_>) -> Markup {
    html! {
        tr {
            th scope="row" {
                @if let Some(page) = page { a href=(machine_path(page)) { (row.name) } } @else { (row.name) }
                span class="why dim mono" { (row.address) }
            }
            td data-label="model" { (row.vendor) " " (row.model) }
            td class="mono" data-label="serial" { (row.serial) }
            td data-label="CPU" { (row.cpu) @if row.cores > 0 { ", " (row.cores) " cores" } }
            td class="number" data-label="RAM" { @if row.ram > 0 { (size(row.ram)) } }
            td data-label="disks" {
                (row.disks_text)
                @if row.health == Health::Failing { " " span class="tag failed" { "failing" } }
            }
            td data-label="last run" {
                @if let Some(last) = &row.last { (last.action) ": " (last.result) }
            }
        }
    }
}
